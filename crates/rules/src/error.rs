//! What can go wrong in this crate, in one enum.

use plastica_tensor::TensorError;

/// An error of a plasticity rule or of fast weights.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RuleError {
    /// A name that no rule has.
    #[error("unknown rule '{name}': it is one of none, hebbian, gradient")]
    UnknownRule {
        /// The name given.
        name: String,
    },
    /// A credit that cannot be read.
    #[error("unknown credit '{text}': it is one of detached, full, truncated(k) with k at least 1")]
    UnknownCredit {
        /// The text given.
        text: String,
    },
    /// A setting outside of its range.
    #[error("{field} = {value} won't do: {rule}")]
    Setting {
        /// The field.
        field: &'static str,
        /// The value given.
        value: f64,
        /// What would have been right.
        rule: &'static str,
    },
    /// A rule that needs the gradient of the internal loss, at a layer that was given none.
    #[error(
        "the {rule} rule needs the gradient of the internal loss at each plastic layer's output, and was given none"
    )]
    NoInternalGradient {
        /// The rule.
        rule: &'static str,
    },
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

/// This crate's result.
pub type Result<T, E = RuleError> = std::result::Result<T, E>;
