//! Training and evaluation of one run.

use std::collections::BTreeMap;

use plastica_model::{
    Diagnostics, EncoderStatistics, EpisodeOutput, Learner, ModelConfig, Noise, Parameters,
};
use plastica_rules::Credit;
use plastica_tasks::{
    DataFolder, EpisodeBatch, EpisodeSource, Phase, Targets, TaskWidths, Usage, nearest_neighbour,
};
use plastica_tensor::cpu::ordered_map;
use plastica_tensor::optim::{AdamW, AdamWSettings, clip_global_norm};
use plastica_tensor::{Array, Backend, Element, GradMode, Tape, grad};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::objective::argmax;
use crate::tensors::EpisodeTensors;
use crate::{EpochRecord, EvalError, Objective, RunConfig, SequenceObjective, StepTrace, Tally};

/// Episodes that one worker takes through forward and backward at once. It is part of the result: a different
/// number would add gradients up in a different order.
const SHARD: usize = 8;

/// Pixels of images that a shard has at most, unless one episode has more: what an encoder keeps for its backward is some
/// 500 bytes a pixel. Part of the result likewise.
const SHARD_PIXELS: usize = 8 * 80 * 32 * 32;

/// Episodes that an evaluation holds in memory at once.
const EVALUATION_BATCH: usize = 64;

/// The streams of a run's one generator.
#[derive(Debug, Clone, Copy)]
enum Stream {
    Initialisation,
    TrainingEpisodes,
    EvaluationEpisodes,
    Dropout,
}

fn stream(seed: u64, stream: Stream) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stream as u64);
    rng
}

/// A run under way: parameters, optimiser, generators, position.
pub struct Trainer<B: Backend> {
    config: RunConfig,
    source: Box<dyn EpisodeSource>,
    evaluation_source: Box<dyn EpisodeSource>,
    objective: SequenceObjective,
    parameters: Parameters<B>,
    optimiser: AdamW<B>,
    training_episodes: ChaCha8Rng,
    evaluation_episodes: ChaCha8Rng,
    dropout: ChaCha8Rng,
    step: usize,
    epoch: usize,
}

/// What an evaluation found.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// Metrics by name.
    pub metrics: BTreeMap<String, f64>,
    /// Plasticity along the sequence, means over episodes; `None` for rule none.
    pub trace: Option<StepTrace>,
}

impl<B: Backend> Trainer<B> {
    /// A run at its beginning.
    ///
    /// # Errors
    /// When the configuration is not valid.
    pub fn new(config: &RunConfig, backend: &B) -> Result<Self, EvalError> {
        config.validate()?;
        let data = DataFolder::shared();
        let training = config.task.build_with(data, Usage::Training)?;
        Self::with_sources(config, [training, config.task.build_with(data, Usage::Test)?], backend)
    }

    /// A run at its beginning on sources of one's own, to train on and to evaluate on, whatever the configuration's task is.
    ///
    /// # Errors
    /// When the model or the training is not valid, or the model does not fit the sources.
    pub fn with_sources(
        config: &RunConfig,
        [source, evaluation_source]: [Box<dyn EpisodeSource>; 2],
        backend: &B,
    ) -> Result<Self, EvalError> {
        for source in [&source, &evaluation_source] {
            config.validate_for(TaskWidths::of(source.as_ref()))?;
        }
        let seed = config.training.seed;
        let parameters = Parameters::init(&config.model, backend, &mut stream(seed, Stream::Initialisation))?;
        let weight_decay = config.training.weight_decay;
        Ok(Self {
            objective: SequenceObjective { loss: source.loss() },
            source,
            evaluation_source,
            parameters,
            optimiser: AdamW::new(AdamWSettings { weight_decay, ..AdamWSettings::default() })?,
            training_episodes: stream(seed, Stream::TrainingEpisodes),
            evaluation_episodes: stream(seed, Stream::EvaluationEpisodes),
            dropout: stream(seed, Stream::Dropout),
            step: 0,
            epoch: 0,
            config: config.clone(),
        })
    }

    /// The run's configuration.
    pub fn config(&self) -> &RunConfig {
        &self.config
    }

    /// The parameters as they stand.
    pub fn parameters(&self) -> &Parameters<B> {
        &self.parameters
    }

    /// Epochs done.
    pub fn epoch(&self) -> usize {
        self.epoch
    }

    /// Trains for an epoch and evaluates. `advanced` is told of the episodes done, training and evaluation alike.
    ///
    /// # Errors
    /// [`EvalError::Diverged`] when the loss or the gradient is no longer finite.
    pub fn epoch_step(
        &mut self,
        advanced: &mut dyn FnMut(usize),
    ) -> Result<(EpochRecord, Evaluation), EvalError> {
        let mut training = Tally::default();
        let mut left = self.config.training.dataset_size;
        while left > 0 {
            let count = left.min(self.config.training.batch_size);
            let batch = self.source.sample(&mut self.training_episodes, count)?;
            training.merge(&self.train_batch(&batch)?);
            advanced(count);
            left -= count;
        }
        let episodes = self.config.training.eval_episodes();
        let source = self.evaluation_source.as_ref();
        let evaluation = evaluate(
            &self.config.model,
            &self.parameters,
            source,
            &mut self.evaluation_episodes,
            episodes,
            advanced,
        )?;
        self.epoch += 1;
        let mut metrics = evaluation.metrics.clone();
        let trained = summarise(&training).into_iter().map(|(name, value)| (format!("train_{name}"), value));
        metrics.extend(trained);
        Ok((EpochRecord { epoch: self.epoch, metrics }, evaluation))
    }

    /// One optimiser step on a batch: shards in parallel, their gradients added up in order. An encoder's running statistics
    /// take in the shards' in order, too.
    ///
    /// # Errors
    /// [`EvalError::Diverged`] when the loss or the gradient is no longer finite.
    pub fn train_batch(&mut self, batch: &EpisodeBatch) -> Result<Tally, EvalError> {
        let keys: Vec<u64> = (0..batch.batch).map(|_| self.dropout.next_u64()).collect();
        let (model, parameters) = (&self.config.model, &self.parameters);
        let (objective, credit) = (self.objective, self.config.training.credit);
        // the gradient of a batch is that of its episodes' mean loss
        let weight = 1.0 / batch.batch as f64;
        let shards = in_shards(batch, |shard, range| {
            let noise = Noise::new(model.dropout, model.num_layers, &keys[range]);
            train_shard(model, parameters, credit, objective, &shard, noise, weight)
        })?;
        let mut shards = shards.into_iter();
        let Some(Shard { mut gradients, mut tally, statistics }) = shards.next() else {
            return Ok(Tally::default());
        };
        let mut seen = vec![statistics];
        for shard in shards {
            tally.merge(&shard.tally);
            seen.push(shard.statistics);
            for (sum, gradient) in gradients.iter_mut().zip(shard.gradients) {
                match (sum, gradient) {
                    (Some(sum), Some(gradient)) => sum.add_assign(&gradient)?,
                    (sum @ None, gradient) => *sum = gradient,
                    (Some(_), None) => {}
                }
            }
        }
        let schedule = self.config.training.schedule;
        let lr = self.config.training.lr
            * schedule.factor(self.step as u64, self.config.training.total_steps() as u64);
        let norm = clip_global_norm(&mut gradients, self.config.training.clip_norm)?;
        if !norm.is_finite() || !tally.mean("loss").is_finite() {
            return Err(self.diverged(&tally, &gradients)?);
        }
        for statistics in seen.iter().flatten() {
            self.parameters.update_running_statistics(statistics)?;
        }
        self.optimiser.step(self.parameters.arrays_mut(), &gradients, lr)?;
        self.step += 1;
        Ok(tally)
    }

    /// Says where a step left the numbers.
    fn diverged(&self, tally: &Tally, gradients: &[Option<Array<B>>]) -> Result<EvalError, EvalError> {
        let mut parameter = None;
        for (name, gradient) in self.parameters.names().iter().zip(gradients) {
            let Some(gradient) = gradient else { continue };
            if gradient.to_vec()?.iter().any(|g| !g.wide().is_finite()) {
                parameter = Some(name.clone());
                break;
            }
        }
        Ok(EvalError::Diverged {
            step: self.step,
            loss: tally.mean("loss"),
            parameter: parameter.unwrap_or_else(|| "none: the loss alone".into()),
            plastic_norm: tally.largest("plastic_norm"),
        })
    }
}

/// Applies `f` to a batch's shards in parallel, results in order.
fn in_shards<R: Send>(
    batch: &EpisodeBatch,
    f: impl Fn(EpisodeBatch, std::ops::Range<usize>) -> Result<R, EvalError> + Send + Sync,
) -> Result<Vec<R>, EvalError> {
    let size = shard_size(batch);
    let ranges: Vec<_> =
        (0..batch.batch).step_by(size).map(|start| start..(start + size).min(batch.batch)).collect();
    match &ranges[..] {
        [whole] => Ok(vec![f(batch.clone(), whole.clone())?]),
        _ => ordered_map(ranges, |range| f(batch.select(range.clone()), range)),
    }
}

/// Episodes of a shard: fewer where their images are large.
fn shard_size(batch: &EpisodeBatch) -> usize {
    let pixels = batch.images.as_ref().map_or(0, |images| {
        let [_, height, width] = images.shape;
        batch.steps * height * width
    });
    SHARD_PIXELS.checked_div(pixels).map_or(SHARD, |fit| fit.clamp(1, SHARD))
}

/// Has a model read a batch.
fn read<B: Backend>(
    model: &Learner<B>,
    backend: &B,
    batch: &EpisodeBatch,
    noise: Option<Noise>,
) -> Result<EpisodeOutput<B>, EvalError> {
    Ok(model.read(&EpisodeTensors::of(batch, backend)?.episodes(), noise)?)
}

/// What came of a shard.
struct Shard<B: Backend> {
    gradients: Vec<Option<Array<B>>>,
    tally: Tally,
    statistics: Option<EncoderStatistics<B>>,
}

/// Forward and backward of a shard: the gradient of `weight` times its summed loss, and its measurements.
fn train_shard<B: Backend>(
    config: &ModelConfig,
    parameters: &Parameters<B>,
    credit: Credit,
    objective: SequenceObjective,
    batch: &EpisodeBatch,
    noise: Noise,
    weight: f64,
) -> Result<Shard<B>, EvalError> {
    let Some(first) = parameters.arrays().first() else { unreachable!("every model has a parameter") };
    let tape = Tape::new();
    let (model, leaves) = Learner::tracked(config, parameters, credit, &tape)?;
    let result = read(&model, first.backend(), batch, Some(noise))?;
    let loss = objective.loss(&result.outputs, batch)?.scale(weight)?;
    let gradients = grad(&loss, &leaves.iter().collect::<Vec<_>>(), GradMode::Plain)?;
    let mut tally = Tally::default();
    objective.measure(&result.outputs, batch, &mut tally)?;
    measure_plasticity(result.diagnostics.as_ref(), &mut tally)?;
    let gradients = gradients.into_iter().map(|g| g.map(|g| g.array().clone())).collect();
    Ok(Shard { gradients, tally, statistics: result.statistics })
}

/// Evaluates parameters on `episodes` fresh episodes, without dropout.
///
/// # Errors
/// When the parameters are not the configured model's.
pub fn evaluate<B: Backend>(
    config: &ModelConfig,
    parameters: &Parameters<B>,
    source: &dyn EpisodeSource,
    rng: &mut ChaCha8Rng,
    episodes: usize,
    advanced: &mut dyn FnMut(usize),
) -> Result<Evaluation, EvalError> {
    let objective = SequenceObjective { loss: source.loss() };
    let mut tally = Tally::default();
    let mut trace: Option<StepTrace> = None;
    let mut left = episodes;
    while left > 0 {
        let batch = source.sample(rng, left.min(EVALUATION_BATCH))?;
        let shards = in_shards(&batch, |shard, _| evaluate_shard(config, parameters, objective, &shard))?;
        for (measured, traced) in shards {
            tally.merge(&measured);
            if let Some(traced) = traced {
                trace.get_or_insert_with(|| StepTrace::empty(&batch.phases)).add(&traced);
            }
        }
        advanced(batch.batch);
        left -= batch.batch;
    }
    if let Some(trace) = &mut trace {
        trace.divide(episodes as f64);
    }
    Ok(Evaluation { metrics: summarise(&tally), trace })
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
    let outputs = read(&model, first.backend(), batch, None)?.outputs.to_vec()?;
    let rows = outputs.chunks_exact(config.output_dim).enumerate();
    let queries = rows.filter(|(i, _)| batch.phases[i % batch.steps] == Phase::Recall);
    Ok(queries.map(|(_, row)| argmax(row).map_or(u32::MAX, |class| class as u32)).collect())
}

/// Rows `[B, T]` of η, gate, clip and norm, on the host.
type Traced = [Vec<f64>; 4];

fn evaluate_shard<B: Backend>(
    config: &ModelConfig,
    parameters: &Parameters<B>,
    objective: SequenceObjective,
    batch: &EpisodeBatch,
) -> Result<(Tally, Option<Traced>), EvalError> {
    let Some(first) = parameters.arrays().first() else { unreachable!("every model has a parameter") };
    let model = Learner::new(config, parameters)?;
    let result = read(&model, first.backend(), batch, None)?;
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

fn measure_plasticity<B: Backend>(
    diagnostics: Option<&Diagnostics<B>>,
    tally: &mut Tally,
) -> Result<Option<Traced>, EvalError> {
    let Some(d) = diagnostics else {
        // an ordinary Transformer learns at rate 0 while it reads, and has no fast weights
        tally.add("eta", [0.0]);
        tally.add("plastic_norm", [0.0]);
        return Ok(None);
    };
    let mut rows = [const { Vec::new() }; 4];
    let named = [("eta", &d.eta), ("gate", &d.gate), ("clip", &d.clip), ("plastic_norm", &d.plastic_norm)];
    for (row, (name, values)) in rows.iter_mut().zip(named) {
        *row = values.to_vec()?.into_iter().map(Element::wide).collect();
        tally.add(name, row.iter().copied());
    }
    Ok(Some(rows))
}

/// Means of everything measured, and the deviations that the published logs have too.
fn summarise(tally: &Tally) -> BTreeMap<String, f64> {
    let mut metrics = BTreeMap::new();
    for name in tally.names() {
        match name {
            "eta" | "gate" | "clip" | "plastic_norm" => {
                metrics.insert(format!("{name}_mean"), tally.mean(name));
                metrics.insert(format!("{name}_std"), tally.sd(name));
            }
            _ => {
                metrics.insert(name.to_owned(), tally.mean(name));
            }
        }
    }
    metrics
}
