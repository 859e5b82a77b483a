//! A batch in parts: how many episodes a worker takes at once, and what it does with them in training.

use std::num::NonZeroUsize;
use std::ops::Range;

use plastica_model::{
    EncoderStatistics, Learner, ModelConfig, Noise, Parameters, PlasticTransformer, SequenceOutput,
    prototypical_logits,
};
use plastica_rules::Credit;
use plastica_tasks::EpisodeBatch;
use plastica_tensor::cpu::ordered_map;
use plastica_tensor::{Array, Backend, GradMode, Tape, Tensor, grad};

use crate::tensors::EpisodeTensors;
use crate::trainer::measure_plasticity;
use crate::{EvalError, Objective, RunConfig, SequenceObjective, Tally};

/// Episodes that one core takes through forward and backward at once, for its cache's sake. It is part of the result: a
/// different number would add gradients up in a different order. The limits below are a core's, too; a broader device takes
/// [`breadth`](plastica_tensor::Storage::breadth) times as much, and has no such limit as this.
const SHARD: usize = 8;

/// Pixels of images that a shard has at most, unless one episode has more: what an encoder keeps for its backward is some
/// 500 bytes a pixel. Part of the result likewise.
const SHARD_PIXELS: usize = 8 * 80 * 32 * 32;

/// Steps that a shard has at most, its episodes' together, unless one episode has more: what is kept of each for the
/// backward is some 100 kB. Part of the result likewise.
const SHARD_STEPS: usize = SHARD * 2048;

/// How many pairs of a step and one that it sees count as a step, of up to [`SHARD_BLOCKS`] blocks, under a rule with an
/// internal loss and credit: its own way back through attention is kept as well, in every block.
const PAIRS_A_STEP: usize = 256;

/// Blocks of which that is so: a shard of more blocks has fewer steps.
const SHARD_BLOCKS: usize = 2;

/// Applies `f` to a batch's shards, results in order: in parallel on cores, and one after the other on a broader device, which
/// one fills and whose memory then holds the work of no more than one. `steps_kept` is what an episode's steps count as.
pub(crate) fn in_shards<R: Send>(
    batch: &EpisodeBatch,
    steps_kept: usize,
    breadth: usize,
    f: impl Fn(EpisodeBatch, Range<usize>) -> Result<R, EvalError> + Send + Sync,
) -> Result<Vec<R>, EvalError> {
    let size = shard_size(batch, steps_kept, breadth);
    let ranges: Vec<_> =
        (0..batch.batch).step_by(size).map(|start| start..(start + size).min(batch.batch)).collect();
    match &ranges[..] {
        [whole] => Ok(vec![f(batch.clone(), whole.clone())?]),
        _ if breadth > 1 => ranges.into_iter().map(|range| f(batch.select(range.clone()), range)).collect(),
        _ => ordered_map(ranges, |range| f(batch.select(range.clone()), range)),
    }
}

/// How many steps an episode of `steps` counts as, by what a training step keeps of it.
pub(crate) fn steps_kept(model: &ModelConfig, credit: Credit, steps: usize) -> usize {
    if !model.rule.needs_internal_gradient() || credit == Credit::Detached {
        return steps;
    }
    // before the end of a window, its own steps see all earlier ones
    let kept = credit.window().map_or(steps, |window| window.get().min(steps));
    let pairs = kept.saturating_mul(steps).saturating_mul(model.num_layers.div_ceil(SHARD_BLOCKS));
    steps.max(pairs / PAIRS_A_STEP)
}

/// Episodes of a shard: fewer where they are long, or their images are large.
fn shard_size(batch: &EpisodeBatch, steps_kept: usize, breadth: usize) -> usize {
    let pixels = batch.images.as_ref().map_or(0, |images| {
        let [_, height, width] = images.shape;
        batch.steps * height * width
    });
    let fit = |most: usize, of_one: usize| (most * breadth).checked_div(of_one).unwrap_or(usize::MAX);
    let episodes = if breadth > 1 { usize::MAX } else { SHARD };
    fit(SHARD_PIXELS, pixels).min(fit(SHARD_STEPS, steps_kept)).clamp(1, episodes)
}

/// How broad the device is that the parameters are on.
pub(crate) fn breadth<B: Backend>(parameters: &Parameters<B>) -> usize {
    parameters.arrays().first().map_or(1, |array| array.backend().breadth())
}

/// What came of a shard.
pub(crate) struct Shard<B: Backend> {
    pub gradients: Vec<Option<Array<B>>>,
    pub tally: Tally,
    pub statistics: Option<EncoderStatistics<B>>,
}

/// Forward and backward of a shard: the gradient of `weight` times its summed loss, and its measurements.
pub(crate) fn train_shard<B: Backend>(
    config: &RunConfig,
    parameters: &Parameters<B>,
    objective: SequenceObjective,
    batch: &EpisodeBatch,
    noise: Noise,
    weight: f64,
) -> Result<Shard<B>, EvalError> {
    if let Some(window) = config.training.credit.window() {
        return train_windows(config, parameters, objective, batch, noise, (window, weight));
    }
    let Some(first) = parameters.arrays().first() else { unreachable!("every model has a parameter") };
    let tape = Tape::new();
    let (model, leaves) = Learner::tracked(&config.model, parameters, config.training.credit, &tape)?;
    let tensors = EpisodeTensors::of(batch, first.backend())?;
    let result = model.read(&tensors.episodes(), Some(noise))?;
    let mut loss = objective.loss(&result.outputs, batch)?;
    if let (Some(embeddings), share @ f64::MIN_POSITIVE..) =
        (&result.embeddings, config.training.prototypical_loss)
    {
        let logits = prototypical_logits(embeddings, tensors.episodes().inputs, batch.output_width)?;
        loss = loss.add(&objective.loss(&logits, batch)?.scale(share)?)?;
    }
    let gradients = gradients(&loss.scale(weight)?, &leaves)?;
    let mut tally = Tally::default();
    objective.measure(&result.outputs, batch, &mut tally)?;
    measure_plasticity(result.diagnostics.as_ref(), &mut tally)?;
    Ok(Shard { gradients, tally, statistics: result.statistics })
}

/// The same where no outer gradient crosses a window's edge: window after window, each on a tape of its own, which is
/// taken back and forgotten at the window's end. The model is a Transformer without an encoder in front of it, as
/// [`RunConfig::validate`] sees to.
fn train_windows<B: Backend>(
    config: &RunConfig,
    parameters: &Parameters<B>,
    objective: SequenceObjective,
    batch: &EpisodeBatch,
    noise: Noise,
    (window, weight): (NonZeroUsize, f64),
) -> Result<Shard<B>, EvalError> {
    let Some(first) = parameters.arrays().first() else { unreachable!("every model has a parameter") };
    let (mut state, mut noise) = (None, Some(noise));
    let mut sums: Vec<Option<Array<B>>> = vec![None; parameters.arrays().len()];
    let mut pieces = Vec::with_capacity(batch.steps / window + 1);
    for start in (0..batch.steps).step_by(window.get()) {
        let part = batch.select_steps(start..batch.steps.min(start + window.get()));
        let tape = Tape::new();
        let (model, leaves) =
            PlasticTransformer::tracked(&config.model, parameters, config.training.credit, &tape)?;
        let state = state.get_or_insert_with(|| match noise.take() {
            Some(noise) => model.init_training_state(batch.batch, noise),
            None => unreachable!("a sequence begins once"),
        });
        let tensors = EpisodeTensors::of(&part, first.backend())?;
        let SequenceOutput { outputs, diagnostics } = model.forward(tensors.episodes().inputs, state)?;
        let loss = objective.loss(&outputs, &part)?.scale(weight)?;
        add(&mut sums, gradients(&loss, &leaves)?)?;
        pieces.push(SequenceOutput { outputs: outputs.detach(), diagnostics });
    }
    let whole = SequenceOutput::join(pieces)?;
    let mut tally = Tally::default();
    objective.measure(&whole.outputs, batch, &mut tally)?;
    measure_plasticity(whole.diagnostics.as_ref(), &mut tally)?;
    Ok(Shard { gradients: sums, tally, statistics: None })
}

/// The loss's gradient by each leaf, `None` where it does not depend on one.
fn gradients<B: Backend>(loss: &Tensor<B>, leaves: &[Tensor<B>]) -> Result<Vec<Option<Array<B>>>, EvalError> {
    let gradients = grad(loss, &leaves.iter().collect::<Vec<_>>(), GradMode::Plain)?;
    Ok(gradients.into_iter().map(|gradient| gradient.map(|g| g.array().clone())).collect())
}

/// Adds gradients to others, parameter by parameter.
pub(crate) fn add<B: Backend>(
    sums: &mut [Option<Array<B>>],
    gradients: Vec<Option<Array<B>>>,
) -> Result<(), EvalError> {
    for (sum, gradient) in sums.iter_mut().zip(gradients) {
        match (sum, gradient) {
            (Some(sum), Some(gradient)) => sum.add_assign(&gradient)?,
            (sum @ None, gradient) => *sum = gradient,
            (Some(_), None) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use plastica_rules::Rule;
    use plastica_tasks::{Copying, TaskConfig};
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn shards_are_a_batch_in_order_and_one_after_the_other_on_a_broad_device() {
        use std::sync::atomic::{AtomicUsize, Ordering};

        let source = TaskConfig::Copying(Copying::default()).build().unwrap();
        let batch = source.sample(&mut ChaCha8Rng::seed_from_u64(1), 7).unwrap();
        for breadth in [1, 16] {
            let (under_way, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
            // of which three episodes fit
            let steps_kept = breadth * SHARD_STEPS / 3;
            let shards = in_shards(&batch, steps_kept, breadth, |shard, range| {
                most.fetch_max(under_way.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                assert_eq!(shard.inputs, batch.select(range.clone()).inputs);
                std::thread::sleep(std::time::Duration::from_millis(5));
                under_way.fetch_sub(1, Ordering::SeqCst);
                Ok(range)
            });
            assert_eq!(shards.unwrap(), [0..3, 3..6, 6..7]);
            assert!(breadth == 1 || most.into_inner() == 1);
        }
    }

    #[test]
    fn long_episodes_of_deep_models_are_in_smaller_shards() {
        let check = |rule: Rule, credit: &str, num_layers: usize, delay: usize, want: usize| {
            let source = TaskConfig::Copying(Copying { delay, ..Copying::default() }).build().unwrap();
            let batch = source.sample(&mut ChaCha8Rng::seed_from_u64(1), 1).unwrap();
            let model = ModelConfig { rule, num_layers, ..ModelConfig::default() };
            let steps = steps_kept(&model, credit.parse().unwrap(), batch.steps);
            let size = shard_size(&batch, steps, 1);
            assert_eq!(size, want, "{rule} {credit}, {num_layers} blocks, delay {delay}");
        };
        for rule in Rule::ALL {
            check(rule, "full", 2, 20, SHARD);
            check(rule, "full", 8, 20, SHARD);
            check(rule, "full", 2, 1013, if rule.needs_internal_gradient() { 4 } else { SHARD });
            check(rule, "detached", 8, 2037, SHARD);
            check(rule, "windowed(32)", 8, 1013, SHARD);
        }
        check(Rule::Hebbian, "full", 8, 4085, 4);
        check(Rule::Hebbian, "full", 8, 100_000, 1);
        for rule in [Rule::Gradient, Rule::Hybrid] {
            check(rule, "full", 8, 1013, 1);
            check(rule, "full", 8, 100_000, 1);
            check(rule, "truncated(32)", 8, 1013, 1);
            check(rule, "windowed(512)", 8, 1013, 2);
        }
    }
}
