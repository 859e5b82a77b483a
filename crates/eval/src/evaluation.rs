//! Evaluation: a model's metrics on fresh episodes, without dropout.

use std::collections::BTreeMap;

use plastica_model::{Learner, ModelConfig, Parameters};
use plastica_tasks::{EpisodeBatch, EpisodeSource, Phase, Targets, nearest_neighbour};
use plastica_tensor::Backend;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::objective::argmax;
use crate::shard::{breadth, in_shards};
use crate::trainer::{Traced, measure_plasticity, read, summarise};
use crate::{EvalError, Objective, SequenceObjective, StepTrace, Tally, Whereabouts};

/// Episodes that an evaluation holds in memory at once.
const EVALUATION_BATCH: usize = 64;

/// What an evaluation found.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// Metrics by name.
    pub metrics: BTreeMap<String, f64>,
    /// Plasticity along the sequence, means over episodes; `None` for rule none.
    pub trace: Option<StepTrace>,
}

/// Evaluates parameters on `episodes` fresh episodes, without dropout.
///
/// # Errors
/// When the parameters are not the configured model's, and [`EvalError::EvaluationDiverged`] when the loss is no finite number.
pub fn evaluate<B: Backend>(
    config: &ModelConfig,
    parameters: &Parameters<B>,
    source: &dyn EpisodeSource,
    rng: &mut ChaCha8Rng,
    episodes: usize,
    advanced: &mut dyn FnMut(usize),
) -> Result<Evaluation, EvalError> {
    let mut evaluating = Evaluating::default();
    while evaluating.episodes() < episodes {
        advanced(evaluating.advance(config, parameters, source, rng, episodes)?);
    }
    Ok(evaluating.finish())
}

/// An evaluation under way.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Evaluating {
    episodes: usize,
    tally: Tally,
    /// Sums over the episodes so far.
    trace: Option<StepTrace>,
}

impl Evaluating {
    /// Episodes evaluated.
    pub(crate) fn episodes(&self) -> usize {
        self.episodes
    }

    /// Evaluates the next batch on the way to `episodes`; says how many it had.
    pub(crate) fn advance<B: Backend>(
        &mut self,
        config: &ModelConfig,
        parameters: &Parameters<B>,
        source: &dyn EpisodeSource,
        rng: &mut ChaCha8Rng,
        episodes: usize,
    ) -> Result<usize, EvalError> {
        let objective = SequenceObjective { loss: source.loss() };
        let count = episodes.saturating_sub(self.episodes).min(EVALUATION_BATCH);
        let batch = source.sample(rng, count)?;
        let shards = in_shards(&batch, batch.steps, breadth(parameters), |shard, _| {
            evaluate_shard(config, parameters, objective, &shard)
        })?;
        let mut here = Tally::default();
        for (measured, _) in &shards {
            here.merge(measured);
        }
        if !here.mean("loss").is_finite() {
            return Err(diverged(config, parameters, &batch, &here)?);
        }
        for (measured, traced) in shards {
            self.tally.merge(&measured);
            if let Some(traced) = traced {
                self.trace.get_or_insert_with(|| StepTrace::empty(&batch.phases)).add(&traced);
            }
        }
        self.episodes += count;
        Ok(count)
    }

    pub(crate) fn finish(mut self) -> Evaluation {
        if let Some(trace) = &mut self.trace {
            trace.divide(self.episodes as f64);
        }
        Evaluation { metrics: summarise(&self.tally), trace: self.trace }
    }
}

/// Says where a batch's evaluation left the numbers.
fn diverged<B: Backend>(
    config: &ModelConfig,
    parameters: &Parameters<B>,
    batch: &EpisodeBatch,
    tally: &Tally,
) -> Result<EvalError, EvalError> {
    let without_dropout = ModelConfig { dropout: 0.0, ..config.clone() };
    let at = Whereabouts::locate(&without_dropout, parameters, batch, &vec![0; batch.batch])?;
    let (loss, plastic_norm) = (tally.mean("loss"), tally.largest("plastic_norm"));
    Ok(EvalError::EvaluationDiverged { loss, plastic_norm, at: at.map(Box::new) })
}

fn evaluate_shard<B: Backend>(
    config: &ModelConfig,
    parameters: &Parameters<B>,
    objective: SequenceObjective,
    batch: &EpisodeBatch,
) -> Result<(Tally, Option<Traced>), EvalError> {
    let Some(first) = parameters.arrays().first() else { unreachable!("every model has a parameter") };
    let model = Learner::new(config, parameters)?;
    let result = read(&model, first.backend(), batch)?;
    let mut tally = Tally::default();
    objective.measure(&result.outputs, batch, &mut tally)?;
    measure_nearest_neighbour(batch, &mut tally);
    let traced = measure_plasticity(result.diagnostics.as_ref(), &mut tally)?;
    Ok((tally, traced))
}

/// What the nearest support image, by pixels, would have answered to a batch's queries.
fn measure_nearest_neighbour(batch: &EpisodeBatch, tally: &mut Tally) {
    let (Some(answers), Targets::Classes(classes)) = (nearest_neighbour(batch), &batch.targets) else {
        return;
    };
    let queries = |&i: &usize| batch.phases[i % batch.steps] == Phase::Recall;
    let right = |(i, answer): (usize, u32)| if classes[i] == answer { 1.0 } else { 0.0 };
    tally.add("accuracy_nearest_neighbour", (0..classes.len()).filter(queries).zip(answers).map(right));
}

/// A model's answers to the queries of a batch of classes, `[B, queries]`, row-major: without dropout, by running
/// statistics. A NaN among a step's outputs is an answer of no class, `u32::MAX`.
///
/// # Errors
/// When the parameters are not the configured model's, or the batch is of other widths.
pub fn answer_queries<B: Backend>(
    config: &ModelConfig,
    parameters: &Parameters<B>,
    batch: &EpisodeBatch,
) -> Result<Vec<u32>, EvalError> {
    let Some(first) = parameters.arrays().first() else { unreachable!("every model has a parameter") };
    let model = Learner::new(config, parameters)?;
    let outputs = read(&model, first.backend(), batch)?.outputs.to_vec()?;
    let rows = outputs.chunks_exact(config.output_dim).enumerate();
    let queries = rows.filter(|(i, _)| batch.phases[i % batch.steps] == Phase::Recall);
    Ok(queries.map(|(_, row)| argmax(row).map_or(u32::MAX, |class| class as u32)).collect())
}
