//! What can go wrong in this crate, in one enum.

use std::path::PathBuf;

use plastica_rules::RuleError;
use plastica_tensor::{Shape, TensorError};

/// An error of a model, its configuration or its checkpoint.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A field of the configuration outside of its range, or at odds with another.
    #[error("model.{field} = {value} won't do: {rule}")]
    Config {
        /// The field.
        field: &'static str,
        /// The value given.
        value: String,
        /// What would have been right.
        rule: String,
    },
    /// Parameters that lack one that the configuration asks for.
    #[error("parameter '{name}' of shape {shape} is missing")]
    MissingParameter {
        /// The parameter.
        name: String,
        /// The shape it should have.
        shape: Shape,
    },
    /// A parameter that the configuration knows nothing of.
    #[error("parameter '{name}' belongs to no part of the configured model")]
    SurplusParameter {
        /// The parameter.
        name: String,
    },
    /// A parameter of another shape than the configuration asks for.
    #[error("parameter '{name}' has shape {found:?}, where the configuration asks for {expected}")]
    ParameterShape {
        /// The parameter.
        name: String,
        /// The shape it has.
        found: Vec<usize>,
        /// The shape it should have.
        expected: Shape,
    },
    /// An input of another shape than the model reads.
    #[error("the model was given an input of shape {found}: it reads {expected}")]
    Input {
        /// The shape given.
        found: Shape,
        /// What would have been right.
        expected: String,
    },
    /// A state that was made for another model, or given noise or fast weights for another batch.
    #[error("state.{field} = {value} won't do: {rule}")]
    State {
        /// What of the state.
        field: String,
        /// The number it has.
        value: usize,
        /// What would have been right.
        rule: String,
    },
    /// A checkpoint that cannot be read or written.
    #[error("checkpoint {}: {message}", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what would have been right.
        message: String,
    },
    /// A plasticity rule failed.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

/// This crate's result.
pub type Result<T, E = ModelError> = std::result::Result<T, E>;
