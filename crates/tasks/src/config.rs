//! The description of a task, as a configuration file holds it.

use serde::{Deserialize, Serialize};

use crate::{Copying, CueReward, EpisodeSource, Regression, TaskError, suggest::nearest};

/// Any of the tasks with its parameters.
///
/// Serialised as a table whose `name` says which task it is, beside that task's own fields; a field
/// left out has its published value, and a field that the task does not have is an error.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case")]
pub enum TaskConfig {
    /// `copying`: repeat a sequence of tokens after a delay.
    Copying(Copying),
    /// `cue-reward`: recall the reward that came with a cue.
    CueReward(CueReward),
    /// `regression`: predict a linear function from examples of it.
    Regression(Regression),
}

impl TaskConfig {
    /// The names of all tasks.
    pub const NAMES: [&'static str; 3] = [Copying::NAME, CueReward::NAME, Regression::NAME];

    /// The task of this name, in its published setting.
    ///
    /// # Errors
    ///
    /// [`TaskError::UnknownTask`] for a name that is not in [`NAMES`](TaskConfig::NAMES).
    pub fn from_name(name: &str) -> Result<Self, TaskError> {
        match name {
            Copying::NAME => Ok(TaskConfig::Copying(Copying::default())),
            CueReward::NAME => Ok(TaskConfig::CueReward(CueReward::default())),
            Regression::NAME => Ok(TaskConfig::Regression(Regression::default())),
            _ => {
                Err(TaskError::UnknownTask { name: name.to_owned(), suggestion: nearest(name, &Self::NAMES) })
            }
        }
    }

    /// The task's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            TaskConfig::Copying(_) => Copying::NAME,
            TaskConfig::CueReward(_) => CueReward::NAME,
            TaskConfig::Regression(_) => Regression::NAME,
        }
    }

    /// Whether every field is in its range.
    ///
    /// # Errors
    ///
    /// [`TaskError::InvalidField`], for the first field that is not.
    pub fn validate(&self) -> Result<(), TaskError> {
        match self {
            TaskConfig::Copying(task) => task.validate(),
            TaskConfig::CueReward(task) => task.validate(),
            TaskConfig::Regression(task) => task.validate(),
        }
    }

    /// The source of this task's episodes.
    ///
    /// # Errors
    ///
    /// Those of [`validate`](TaskConfig::validate).
    pub fn build(&self) -> Result<Box<dyn EpisodeSource>, TaskError> {
        Ok(match self {
            TaskConfig::Copying(task) => Box::new(task.build()?),
            TaskConfig::CueReward(task) => Box::new(task.build()?),
            TaskConfig::Regression(task) => Box::new(task.build()?),
        })
    }
}
