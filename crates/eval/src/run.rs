//! A whole run in one value: the model, the task and the training.

use plastica_model::ModelConfig;
use plastica_tasks::TaskConfig;
use serde::{Deserialize, Serialize};

use crate::{EvalError, TrainingConfig};

/// Everything that determines a run: the same configuration gives the same bits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// The model. Its input and output widths follow from the task.
    pub model: ModelConfig,
    /// The task.
    pub task: TaskConfig,
    /// The training.
    pub training: TrainingConfig,
}

impl RunConfig {
    /// The published configuration of a task, for the published rule's first seed and detached credit.
    ///
    /// # Errors
    /// [`EvalError::Task`] for a name that is no sequence task's.
    pub fn published(task: &str, rule: plastica_rules::Rule) -> Result<Self, EvalError> {
        let task_config = TaskConfig::from_name(task)?;
        let mut config = Self {
            model: ModelConfig { rule, ..ModelConfig::default() },
            task: task_config,
            training: TrainingConfig::new(1, 1),
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
            config.training = published.config.training.clone();
            if let Some(&seed) = published.rule(rule.name()).and_then(|r| r.seeds.first()) {
                config.training.seed = seed;
            }
        }
        config.fit_to_task()?;
        Ok(config)
    }

    /// Sets the model's input and output widths to the task's.
    ///
    /// # Errors
    /// [`EvalError::Task`] when the task contradicts itself.
    pub fn fit_to_task(&mut self) -> Result<(), EvalError> {
        let source = self.task.build()?;
        self.model.input_dim = source.input_width();
        self.model.output_dim = source.output_width();
        Ok(())
    }

    /// Checks every part, and the parts against each other.
    ///
    /// # Errors
    /// That of the first part that won't do.
    pub fn validate(&self) -> Result<(), EvalError> {
        let source = self.task.build()?;
        self.model.validate()?;
        self.training.validate()?;
        let widths = [
            ("model.input_dim", self.model.input_dim, source.input_width()),
            ("model.output_dim", self.model.output_dim, source.output_width()),
        ];
        for (field, value, width) in widths {
            if value != width {
                let expected = format!("{width}, the width of {}", source.name());
                return Err(EvalError::Config { field, value: value.to_string(), expected });
            }
        }
        Ok(())
    }
}
