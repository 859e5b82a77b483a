//! The seam between outputs and figures: what is minimised, and what is reported.

use plastica_tasks::{EpisodeBatch, LossKind, Phase, Targets};
use plastica_tensor::{Backend, Element, Tensor, TensorError};

use crate::{EvalError, Tally};

/// From outputs and targets to a loss and metrics.
pub trait Objective<B: Backend>: Send + Sync {
    /// The training loss of a batch, a scalar: over its episodes and steps, the sum.
    ///
    /// # Errors
    /// When outputs `[B, T, output_dim]` and targets don't fit.
    fn loss(&self, outputs: &Tensor<B>, batch: &EpisodeBatch) -> Result<Tensor<B>, EvalError>;

    /// Adds the batch's measurements to a tally.
    ///
    /// # Errors
    /// When outputs `[B, T, output_dim]` and targets don't fit.
    fn measure(&self, outputs: &Tensor<B>, batch: &EpisodeBatch, tally: &mut Tally) -> Result<(), EvalError>;
}

/// The objective of all tasks. In the sequence tasks every step counts in the loss, and `loss` is the mean over all
/// steps; where only queries count ([`LossKind::QueryCrossEntropy`]), the loss is the sum over the recall phase's steps,
/// and `loss` and `accuracy` are means over those.
///
/// In the sequence tasks, classes are scored by cross-entropy in nats, and reported as
/// - `recall_accuracy`, as published: over every step from ⌊T/2⌋ on, blanks included, so that an empty answer
///   already scores 0.69 in the published setting;
/// - `recall_accuracy_strict`: over the recall phase's steps alone.
///
/// Values are scored by squared error, the mean over the outputs, and reported as `query_loss`: over the
/// recall phase's steps. Where the mapping changes inside the episode ([`EpisodeBatch::shifts`]), that is told apart:
/// - `query_loss_before` and `query_loss_after`: queries before and from the change;
/// - `query_loss_new_K` and `query_loss_shift_K` for K of 1, 2, 4, 8 and 16: an episode's Kth query, and its Kth from
///   the change, so that the two say how fast a mapping is learned, and how fast another one in its place.
#[derive(Debug, Clone, Copy)]
pub struct SequenceObjective {
    /// How a step is scored.
    pub loss: LossKind,
}

impl SequenceObjective {
    /// A scalar of a batch's losses: Σ over episodes and steps.
    fn step_losses<B: Backend>(
        &self,
        outputs: &Tensor<B>,
        batch: &EpisodeBatch,
    ) -> Result<Tensor<B>, EvalError> {
        let expected = [batch.batch, batch.steps, batch.output_width];
        if outputs.shape()[..] != expected {
            let rule = format!("the batch's targets are of outputs {expected:?}, [B, T, output_width]");
            return Err(TensorError::Unsuitable { op: "objective", shape: outputs.shape(), rule }.into());
        }
        Ok(match &batch.targets {
            Targets::Classes(classes) => outputs.cross_entropy(classes)?,
            Targets::Values(values) => {
                let shape = [batch.batch, batch.steps, batch.output_width];
                let values = values.iter().map(|&v| B::Elem::of(f64::from(v))).collect();
                let target = Tensor::from_vec(outputs.backend(), values, shape)?;
                let squares = outputs.sub(&target)?.square()?;
                squares.sum_axis(2)?.scale(1.0 / batch.output_width as f64)?
            }
        })
    }
}

impl<B: Backend> Objective<B> for SequenceObjective {
    fn loss(&self, outputs: &Tensor<B>, batch: &EpisodeBatch) -> Result<Tensor<B>, EvalError> {
        let losses = self.step_losses(outputs, batch)?;
        if self.loss != LossKind::QueryCrossEntropy {
            return Ok(losses.sum()?);
        }
        let counts = |&phase: &Phase| B::Elem::of(if phase == Phase::Recall { 1.0 } else { 0.0 });
        let counts = batch.phases.iter().map(counts).collect();
        let counts = Tensor::from_vec(outputs.backend(), counts, [batch.steps, 1])?;
        Ok(losses.mul(&counts)?.sum()?)
    }

    fn measure(&self, outputs: &Tensor<B>, batch: &EpisodeBatch, tally: &mut Tally) -> Result<(), EvalError> {
        let outputs = outputs.detach();
        let losses: Vec<f64> =
            self.step_losses(&outputs, batch)?.to_vec()?.into_iter().map(Element::wide).collect();
        let steps = batch.steps;
        let recalled = |i: usize| batch.phases[i % steps] == Phase::Recall;
        let queries_alone = self.loss == LossKind::QueryCrossEntropy;
        let counted = losses.iter().copied().enumerate().filter(|&(i, _)| !queries_alone || recalled(i));
        tally.add("loss", counted.map(|(_, loss)| loss));
        match &batch.targets {
            Targets::Values(_) => {
                measure_shifts(&losses, batch, tally);
                tally.add(
                    "query_loss",
                    losses.into_iter().enumerate().filter(|&(i, _)| recalled(i)).map(|(_, l)| l),
                );
            }
            Targets::Classes(classes) => {
                let logits = outputs.to_vec()?;
                let right = |i: usize| {
                    let row = &logits[i * batch.output_width..][..batch.output_width];
                    if argmax(row) == Some(classes[i] as usize) { 1.0 } else { 0.0 }
                };
                let strict = (0..classes.len()).filter(|&i| recalled(i)).map(right);
                if queries_alone {
                    tally.add("accuracy", strict);
                } else {
                    let late = |&i: &usize| counts_as_recalled(i % steps, steps);
                    tally.add("recall_accuracy", (0..classes.len()).filter(late).map(right));
                    tally.add("recall_accuracy_strict", strict);
                }
            }
        }
        Ok(())
    }
}

/// Whether the published `recall_accuracy` counts a step of a sequence of `steps`.
fn counts_as_recalled(step: usize, steps: usize) -> bool {
    step >= steps / 2
}

/// What an answer of blanks alone scores as `recall_accuracy`: the share of steps that it counts and that ask for nothing.
pub(crate) fn empty_answer_score(phases: &[Phase]) -> f64 {
    let counted = || (0..phases.len()).filter(|&step| counts_as_recalled(step, phases.len()));
    counted().filter(|&step| phases[step] != Phase::Recall).count() as f64 / counted().count() as f64
}

/// Places of queries, counted from an episode's beginning and from its change of mapping, that have a metric of their own.
const PLACES: [(usize, &str, &str); 5] = [
    (1, "query_loss_new_1", "query_loss_shift_1"),
    (2, "query_loss_new_2", "query_loss_shift_2"),
    (4, "query_loss_new_4", "query_loss_shift_4"),
    (8, "query_loss_new_8", "query_loss_shift_8"),
    (16, "query_loss_new_16", "query_loss_shift_16"),
];

/// Queries' losses by where they stand to a change of mapping; nothing in tasks that have none.
fn measure_shifts(losses: &[f64], batch: &EpisodeBatch, tally: &mut Tally) {
    let Some(shifts) = &batch.shifts else { return };
    for (losses, &shift) in losses.chunks_exact(batch.steps.max(1)).zip(shifts) {
        let queries = || (0..batch.steps).filter(|&step| batch.phases[step] == Phase::Recall);
        let before = |&step: &usize| step < shift as usize;
        let after = |&step: &usize| step >= shift as usize;
        tally.add("query_loss_before", queries().filter(before).map(|step| losses[step]));
        tally.add("query_loss_after", queries().filter(after).map(|step| losses[step]));
        for (place, new, shifted) in PLACES {
            // a name without a value would have no mean
            if let Some(step) = queries().filter(before).nth(place - 1) {
                tally.add(new, [losses[step]]);
            }
            if let Some(step) = queries().filter(after).nth(place - 1) {
                tally.add(shifted, [losses[step]]);
            }
        }
    }
}

/// The place of the largest element, the first of equals; `None` when one is NaN.
pub(crate) fn argmax<E: Element>(row: &[E]) -> Option<usize> {
    let mut best = 0;
    for (i, value) in row.iter().enumerate() {
        if value.is_nan() {
            return None;
        }
        if *value > row[best] {
            best = i;
        }
    }
    (!row.is_empty()).then_some(best)
}

#[cfg(test)]
mod tests {
    use plastica_tasks::TaskConfig;
    use plastica_tensor::Cpu;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn batch(task: &str) -> EpisodeBatch {
        let source = TaskConfig::from_name(task).unwrap().build().unwrap();
        source.sample(&mut ChaCha8Rng::seed_from_u64(3), 4).unwrap()
    }

    fn measure(objective: SequenceObjective, outputs: Vec<f64>, batch: &EpisodeBatch) -> Tally {
        let shape = [batch.batch, batch.steps, batch.output_width];
        let outputs = Tensor::from_vec(&Cpu::<f64>::new(), outputs, shape).unwrap();
        let mut tally = Tally::default();
        objective.measure(&outputs, batch, &mut tally).unwrap();
        let loss = objective.loss(&outputs, batch).unwrap().item().unwrap();
        let steps = (batch.batch * batch.steps) as f64;
        assert!((loss / steps - tally.mean("loss")).abs() < 1e-12, "the loss is the sum over steps");
        tally
    }

    #[test]
    fn an_empty_answer_already_scores_eleven_sixteenths_by_the_published_metric_and_nothing_by_the_strict() {
        let batch = batch("copying");
        let mut blank = vec![0.0; batch.batch * batch.steps * 10];
        blank.iter_mut().step_by(10).for_each(|logit| *logit = 5.0);
        let tally = measure(SequenceObjective { loss: LossKind::CrossEntropy }, blank, &batch);
        assert_eq!(tally.mean("recall_accuracy"), 11.0 / 16.0);
        assert_eq!(empty_answer_score(&batch.phases), 11.0 / 16.0);
        assert_eq!(tally.mean("recall_accuracy_strict"), 0.0);
    }

    #[test]
    fn the_targets_themselves_score_everything() {
        let copying = batch("copying");
        let Targets::Classes(classes) = &copying.targets else { unreachable!("copying classifies") };
        let answers = Tensor::one_hot(&Cpu::<f64>::new(), classes, 10).unwrap().scale(50.0).unwrap();
        let tally =
            measure(SequenceObjective { loss: LossKind::CrossEntropy }, answers.to_vec().unwrap(), &copying);
        assert_eq!((tally.mean("recall_accuracy"), tally.mean("recall_accuracy_strict")), (1.0, 1.0));
        assert!(tally.mean("loss") < 1e-12);
    }

    #[test]
    fn queries_alone_count_where_the_task_says_so() {
        // two episodes of one shown step and two queries, three classes
        let batch = EpisodeBatch {
            batch: 2,
            steps: 3,
            input_width: 1,
            output_width: 3,
            inputs: vec![0.0; 6],
            images: None,
            shifts: None,
            targets: Targets::Classes(vec![0, 1, 2, 2, 1, 0]),
            phases: vec![Phase::Shown, Phase::Recall, Phase::Recall],
        };
        let objective = SequenceObjective { loss: LossKind::QueryCrossEntropy };
        let score = |shown: f64| {
            // right in three of four queries, by a logit of 2
            let mut logits = vec![0.0; 18];
            for (step, class) in [(1, 1), (2, 2), (4, 1), (5, 1)] {
                logits[3 * step + class] = 2.0;
            }
            logits[0] = shown;
            let outputs = Tensor::from_vec(&Cpu::<f64>::new(), logits, [2, 3, 3]).unwrap();
            let mut tally = Tally::default();
            objective.measure(&outputs, &batch, &mut tally).unwrap();
            (objective.loss(&outputs, &batch).unwrap().item().unwrap(), tally)
        };
        let (loss, tally) = score(0.0);
        let normaliser = (2.0_f64.exp() + 2.0).ln();
        assert!((loss - (4.0 * normaliser - 6.0)).abs() < 1e-12, "the sum over queries, not {loss}");
        assert!((tally.mean("loss") - loss / 4.0).abs() < 1e-12);
        assert_eq!(tally.mean("accuracy"), 0.75);
        assert_eq!(tally.names().collect::<Vec<_>>(), ["accuracy", "loss"]);
        assert_eq!(score(9.0), (loss, tally), "what is answered to a shown step is nothing to it");
    }

    #[test]
    fn query_loss_is_the_squared_error_of_the_queries_alone() {
        let batch = batch("regression");
        let Targets::Values(values) = &batch.targets else { unreachable!("regression predicts values") };
        // right while shown, off by a half in the queries
        let off = |i: usize| if batch.phases[i % batch.steps] == Phase::Recall { 0.5 } else { 0.0 };
        let outputs = values.iter().enumerate().map(|(i, &v)| f64::from(v) + off(i)).collect();
        let tally = measure(SequenceObjective { loss: LossKind::SquaredError }, outputs, &batch);
        assert!((tally.mean("query_loss") - 0.25).abs() < 1e-12);
        assert!((tally.mean("loss") - 0.125).abs() < 1e-12);
    }

    #[test]
    fn queries_before_and_after_a_change_of_mapping_are_told_apart() {
        let batch = batch("concept-shift");
        let shifts = batch.shifts.clone().unwrap();
        let Targets::Values(values) = &batch.targets else { unreachable!("concept shift predicts values") };
        // right before the change; from there on, the Kth query is off by 1/K
        let off = |i: usize| {
            let (shift, step) = (shifts[i / batch.steps] as usize, i % batch.steps);
            let query = batch.phases[step] == Phase::Recall;
            if query && step >= shift { 1.0 / ((step - shift) / 2 + 1) as f64 } else { 0.0 }
        };
        let outputs = values.iter().enumerate().map(|(i, &v)| f64::from(v) + off(i)).collect();
        let tally = measure(SequenceObjective { loss: LossKind::SquaredError }, outputs, &batch);
        assert_eq!((tally.mean("query_loss_before"), tally.mean("query_loss_new_8")), (0.0, 0.0));
        for place in [1, 2, 4, 8] {
            let found = tally.mean(&format!("query_loss_shift_{place}"));
            assert!((found - f64::from(place).powi(-2)).abs() < 1e-6, "{place}: {found}");
        }
        assert!(tally.names().all(|name| tally.mean(name).is_finite()), "no name without a value");
        let (after, all) = (tally.mean("query_loss_after"), tally.mean("query_loss"));
        assert!(after > all && all > 0.0, "{after} {all}");
    }

    #[test]
    fn outputs_of_another_shape_are_refused() {
        let cpu = Cpu::<f64>::new();
        for (task, loss) in [("copying", LossKind::CrossEntropy), ("regression", LossKind::SquaredError)] {
            let batch = batch(task);
            let (b, t, o) = (batch.batch, batch.steps, batch.output_width);
            for shape in [[b + 1, t, o], [b, t - 1, o], [b, t, o + 1], [b, t, o + 7]] {
                let outputs = Tensor::zeros(&cpu, shape).unwrap();
                let objective = SequenceObjective { loss };
                let message = objective.loss(&outputs, &batch).unwrap_err().to_string();
                assert!(message.contains(&format!("are of outputs [{b}, {t}, {o}]")), "{message}");
                assert!(objective.measure(&outputs, &batch, &mut Tally::default()).is_err());
            }
        }
    }

    #[test]
    fn a_nan_is_no_answer() {
        assert_eq!(argmax(&[0.0, f64::NAN]), None);
        assert_eq!(argmax(&[1.0, 3.0, 3.0]), Some(1));
    }
}
