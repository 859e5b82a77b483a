//! Training and evaluation of one run.

use std::collections::BTreeMap;

use plastica_model::{Diagnostics, EpisodeOutput, Learner, Noise, Parameters};
use plastica_tasks::{DataFolder, EpisodeBatch, EpisodeSource, TaskWidths, Usage};
use plastica_tensor::optim::{AdamW, AdamWSettings, clip_global_norm};
use plastica_tensor::{Array, Backend, Element};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::evaluation::Evaluating;
use crate::shard::{Shard, add, breadth, in_shards, steps_kept, train_shard};
use crate::tensors::EpisodeTensors;
use crate::{
    EpochRecord, EvalError, Evaluation, RunConfig, SequenceObjective, StepTrace, Tally, Whereabouts,
};

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

/// A run under way: parameters, optimiser, generators, position. All but configuration and source is what a
/// [`Snapshot`](crate::Snapshot) holds.
pub struct Trainer<B: Backend> {
    pub(crate) config: RunConfig,
    source: Box<dyn EpisodeSource>,
    evaluation_source: Box<dyn EpisodeSource>,
    objective: SequenceObjective,
    pub(crate) parameters: Parameters<B>,
    pub(crate) optimiser: AdamW<B>,
    pub(crate) training_episodes: ChaCha8Rng,
    pub(crate) evaluation_episodes: ChaCha8Rng,
    pub(crate) dropout: ChaCha8Rng,
    pub(crate) position: Position,
}

/// How far a run has come, and what it measured on the way.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Position {
    /// The devices that it was on, in order.
    #[serde(default)]
    pub devices: Vec<String>,
    /// Optimiser steps made.
    pub step: usize,
    /// The epochs done.
    pub history: Vec<EpochRecord>,
    /// Plasticity along the sequence in the last epoch's evaluation.
    pub trace: Option<StepTrace>,
    /// Episodes that this epoch has trained on, and what they measured.
    pub trained: usize,
    pub training: Tally,
    /// This epoch's evaluation, empty until all its training is done.
    pub evaluating: Evaluating,
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
            position: Position { devices: vec![backend.name()], ..Position::default() },
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
        self.position.history.len()
    }

    /// Epochs of the whole run, as far as it is known: fewer than the configured ones when the loss stood still before.
    pub fn epochs(&self) -> usize {
        self.config.training.epochs_after(&self.position.history)
    }

    /// Whether there is nothing left to train.
    pub fn is_finished(&self) -> bool {
        self.epoch() >= self.epochs()
    }

    /// What the epochs done have measured, in order.
    pub fn history(&self) -> &[EpochRecord] {
        &self.position.history
    }

    /// The devices that the run was on, in order; this one is the last.
    pub fn devices(&self) -> &[String] {
        &self.position.devices
    }

    /// Plasticity along the sequence in the last evaluation; `None` before the first, and for rule none.
    pub fn trace(&self) -> Option<&StepTrace> {
        self.position.trace.as_ref()
    }

    /// Episodes done, training and evaluation together.
    pub fn episodes(&self) -> usize {
        let training = &self.config.training;
        let epoch = training.dataset_size.saturating_add(training.eval_episodes());
        let this = self.position.trained.saturating_add(self.position.evaluating.episodes());
        self.epoch().saturating_mul(epoch).saturating_add(this)
    }

    /// Trains for an epoch and evaluates, or for what is left of one. `advanced` is told of the episodes done, training and
    /// evaluation alike.
    ///
    /// # Errors
    /// [`EvalError::Diverged`] when the loss or the gradient is no longer finite, [`EvalError::EvaluationDiverged`] when the loss
    /// of the evaluation is not.
    pub fn epoch_step(
        &mut self,
        advanced: &mut dyn FnMut(usize),
    ) -> Result<(EpochRecord, Evaluation), EvalError> {
        loop {
            if let Some(epoch) = self.advance(advanced)? {
                return Ok(epoch);
            }
        }
    }

    /// The smallest part of an epoch: one optimiser step, or, after an epoch's last, one batch of its evaluation. Gives the
    /// epoch when that was the end of it. A [`snapshot`](Self::snapshot) can be taken before and after.
    ///
    /// # Errors
    /// Those of [`epoch_step`](Self::epoch_step).
    pub fn advance(
        &mut self,
        advanced: &mut dyn FnMut(usize),
    ) -> Result<Option<(EpochRecord, Evaluation)>, EvalError> {
        let left = self.config.training.dataset_size.saturating_sub(self.position.trained);
        if left > 0 {
            let count = left.min(self.config.training.batch_size);
            let batch = self.source.sample(&mut self.training_episodes, count)?;
            let measured = self.train_batch(&batch)?;
            self.position.training.merge(&measured);
            self.position.trained += count;
            advanced(count);
            return Ok(None);
        }
        let episodes = self.config.training.eval_episodes();
        let (model, source, rng) =
            (&self.config.model, self.evaluation_source.as_ref(), &mut self.evaluation_episodes);
        let evaluating = &mut self.position.evaluating;
        if self.config.training.plateau.is_some() && evaluating.episodes() == 0 {
            // losses are held against each other: all of them are of the same episodes
            *rng = stream(self.config.training.seed, Stream::EvaluationEpisodes);
        }
        advanced(evaluating.advance(model, &self.parameters, source, rng, episodes)?);
        if evaluating.episodes() < episodes {
            return Ok(None);
        }
        let evaluation = std::mem::take(evaluating).finish();
        let mut metrics = evaluation.metrics.clone();
        let training = std::mem::take(&mut self.position.training);
        let trained = summarise(&training).into_iter().map(|(name, value)| (format!("train_{name}"), value));
        metrics.extend(trained);
        if self.config.training.plateau.is_some() {
            metrics.insert("steps".to_owned(), self.position.step as f64);
        }
        let record = EpochRecord { epoch: self.epoch() + 1, metrics };
        self.position.trained = 0;
        self.position.trace.clone_from(&evaluation.trace);
        self.position.history.push(record.clone());
        Ok(Some((record, evaluation)))
    }

    /// One optimiser step on a batch: the shards' gradients are added up in order, and an encoder's running statistics take in
    /// the shards' in order, too.
    ///
    /// # Errors
    /// [`EvalError::Diverged`] when the loss or the gradient is no longer finite.
    pub fn train_batch(&mut self, batch: &EpisodeBatch) -> Result<Tally, EvalError> {
        let keys: Vec<u64> = (0..batch.batch).map(|_| self.dropout.next_u64()).collect();
        let (config, parameters, objective) = (&self.config, &self.parameters, self.objective);
        // the gradient of a batch is that of its episodes' mean loss
        let weight = 1.0 / batch.batch as f64;
        let steps = steps_kept(&config.model, config.training.credit, batch.steps);
        let shards = in_shards(batch, steps, breadth(parameters), |shard, range| {
            let noise = Noise::new(config.model.dropout, config.model.num_layers, &keys[range]);
            train_shard(config, parameters, objective, &shard, noise, weight)
        })?;
        let mut shards = shards.into_iter();
        let Some(Shard { mut gradients, mut tally, statistics }) = shards.next() else {
            return Ok(Tally::default());
        };
        let mut seen = vec![statistics];
        for shard in shards {
            tally.merge(&shard.tally);
            seen.push(shard.statistics);
            add(&mut gradients, shard.gradients)?;
        }
        let lr = self.config.training.lr_at(self.position.step, &self.position.history);
        let norm = clip_global_norm(&mut gradients, self.config.training.clip_norm)?;
        if !norm.is_finite() || !tally.mean("loss").is_finite() {
            return Err(self.diverged(&tally, &gradients, batch, &keys)?);
        }
        for statistics in seen.iter().flatten() {
            self.parameters.update_running_statistics(statistics)?;
        }
        self.optimiser.step(self.parameters.arrays_mut(), &gradients, lr)?;
        self.position.step += 1;
        Ok(tally)
    }

    /// Says where a step left the numbers.
    fn diverged(
        &self,
        tally: &Tally,
        gradients: &[Option<Array<B>>],
        batch: &EpisodeBatch,
        keys: &[u64],
    ) -> Result<EvalError, EvalError> {
        let mut parameter = None;
        for (name, gradient) in self.parameters.names().iter().zip(gradients) {
            let Some(gradient) = gradient else { continue };
            if gradient.to_vec()?.iter().any(|g| !g.wide().is_finite()) {
                parameter = Some(name.clone());
                break;
            }
        }
        Ok(EvalError::Diverged {
            step: self.position.step,
            loss: tally.mean("loss"),
            parameter: parameter.unwrap_or_else(|| "none: the loss alone".into()),
            plastic_norm: tally.largest("plastic_norm"),
            at: Whereabouts::locate(&self.config.model, &self.parameters, batch, keys)?.map(Box::new),
        })
    }
}

/// Has a model read a batch in evaluation.
pub(crate) fn read<B: Backend>(
    model: &Learner<B>,
    backend: &B,
    batch: &EpisodeBatch,
) -> Result<EpisodeOutput<B>, EvalError> {
    Ok(model.read(&EpisodeTensors::of(batch, backend)?.episodes(), None)?)
}

/// Rows `[B, T]` of η, gate, clip and norm, on the host.
pub(crate) type Traced = [Vec<f64>; 4];

pub(crate) fn measure_plasticity<B: Backend>(
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
pub(crate) fn summarise(tally: &Tally) -> BTreeMap<String, f64> {
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
