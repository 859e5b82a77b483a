//! A whole run in one value: the model, the task and the training.

use plastica_model::{EncoderConfig, ModelConfig, ModelKind, Positions};
use plastica_tasks::{EpisodeSource, TaskConfig, TaskWidths};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use crate::{EvalError, TrainingConfig, VERSION};

/// Everything that determines a run: the same configuration gives the same bits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// The model. Its input and output widths, and whether it has an encoder and of what images, follow from the task.
    pub model: ModelConfig,
    /// The task.
    pub task: TaskConfig,
    /// The training.
    pub training: TrainingConfig,
}

impl RunConfig {
    /// The published configuration of a task, for the published rule's first seed and detached credit. A task that is not the
    /// paper's has the budget of copying, and seed 0.
    ///
    /// # Errors
    /// [`EvalError::Task`] for a name that is no task's.
    pub fn published(task: &str, rule: plastica_rules::Rule) -> Result<Self, EvalError> {
        let task_config = TaskConfig::from_name(task)?;
        let mut config = Self {
            model: ModelConfig { rule, ..ModelConfig::default() },
            task: task_config,
            training: TrainingConfig::new(2, 50),
        };
        if let Some(published) = crate::published().task(task) {
            let model = &published.config.model;
            config.model = ModelConfig {
                model_dim: model.model_dim,
                num_heads: model.num_heads,
                num_layers: model.num_layers,
                ffn_dim: model.ffn_dim,
                aux_dim: model.aux_dim,
                dropout: model.dropout,
                eta0: model.eta0,
                max_norm: model.max_norm,
                ..config.model
            };
            config.model.encoder = model
                .embedding_dim
                .map(|embedding_dim| EncoderConfig { embedding_dim, ..EncoderConfig::default() });
            config.training = published.config.training.clone();
            if let Some(&seed) = published.rule(rule.name()).and_then(|r| r.seeds.first()) {
                config.training.seed = seed;
            }
        }
        config.fit_to_task()?;
        Ok(config)
    }

    /// By what a run of this configuration and crate version is known again: 32 hexadecimal digits (xxh3, 128 bits).
    ///
    /// # Errors
    /// [`EvalError::Unserialisable`] for a configuration that JSON cannot hold.
    pub fn fingerprint(&self) -> Result<String, EvalError> {
        let text = serde_json::to_vec(&(VERSION, self))
            .map_err(|e| EvalError::Unserialisable { message: e.to_string() })?;
        Ok(format!("{:032x}", xxh3_128(&text)))
    }

    /// Sets the model's input and output widths, and its encoder's images, to the task's.
    ///
    /// # Errors
    /// [`EvalError::Task`] when the task contradicts itself.
    pub fn fit_to_task(&mut self) -> Result<(), EvalError> {
        self.fit_to(self.task.widths()?);
        Ok(())
    }

    /// Sets the model's input and output widths, and its encoder's images, to those of a source of episodes.
    pub fn fit_to_source(&mut self, source: &dyn EpisodeSource) {
        self.fit_to(TaskWidths::of(source));
    }

    fn fit_to(&mut self, widths: TaskWidths) {
        let encoder = self.model.encoder.take().unwrap_or_default();
        self.model.encoder = widths.image.map(|image| EncoderConfig { image, ..encoder });
        self.model.input_dim = self.embedding_dim() + widths.input;
        self.model.output_dim = widths.output;
    }

    /// Width of the embedding in front of the task's inputs; 0 without an encoder.
    fn embedding_dim(&self) -> usize {
        self.model.encoder.as_ref().map_or(0, |encoder| encoder.embedding_dim)
    }

    /// Checks every part, and the parts against each other.
    ///
    /// # Errors
    /// That of the first part that won't do.
    pub fn validate(&self) -> Result<(), EvalError> {
        self.validate_for(self.task.widths()?)
    }

    /// Checks the model and the training, and the model against the widths of episodes.
    ///
    /// # Errors
    /// That of the first part that won't do.
    pub fn validate_for(&self, widths: TaskWidths) -> Result<(), EvalError> {
        self.model.validate()?;
        self.training.validate()?;
        let image = |shape: Option<[usize; 3]>| {
            shape.map_or_else(|| "none".to_owned(), |[c, h, w]| format!("[{c}, {h}, {w}]"))
        };
        if self.training.prototypical_loss > 0.0
            && (self.model.encoder.is_none() || self.model.kind == ModelKind::Prototypical)
        {
            let expected = "0 but for a plastic Transformer behind an encoder".to_owned();
            let value = self.training.prototypical_loss.to_string();
            return Err(EvalError::Config { field: "training.prototypical_loss", value, expected });
        }
        if self.training.credit.window().is_some() && self.model.encoder.is_some() {
            let expected =
                "truncated(k) where there is an encoder, which sees all images of an episode at once";
            let (value, expected) = (self.training.credit.to_string(), expected.to_owned());
            return Err(EvalError::Config { field: "training.credit", value, expected });
        }
        let (ours, theirs) = (self.model.encoder.as_ref().map(|e| e.image), widths.image);
        if ours != theirs {
            let expected = format!("{}, as the images of {}", image(theirs), self.task.name());
            return Err(EvalError::Config { field: "model.encoder.image", value: image(ours), expected });
        }
        if self.model.positions == Positions::Learned && widths.steps > self.model.max_positions {
            let expected =
                format!("at least {}, the steps of an episode of {}", widths.steps, self.task.name());
            let value = self.model.max_positions.to_string();
            return Err(EvalError::Config { field: "model.max_positions", value, expected });
        }
        let widths = [
            ("model.input_dim", self.model.input_dim, self.embedding_dim() + widths.input),
            ("model.output_dim", self.model.output_dim, widths.output),
        ];
        for (field, value, width) in widths {
            if value != width {
                let expected = format!("{width}, the width of {}", self.task.name());
                return Err(EvalError::Config { field, value: value.to_string(), expected });
            }
        }
        Ok(())
    }
}
