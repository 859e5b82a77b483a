//! What can go wrong in this crate, in one enum.

use plastica_tensor::{Shape, TensorError};

/// An error of a plasticity rule or of fast weights.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RuleError {
    /// A name that no rule has.
    #[error(
        "unknown rule '{name}': it is one of {}, or one of your own, once plastica_rules::register knows it",
        crate::Rule::names()
    )]
    UnknownRule {
        /// The name given.
        name: String,
    },
    /// A rule of one's own under a name that it cannot have.
    #[error("a rule can't be named '{name}': {expected}")]
    RuleName {
        /// The name.
        name: &'static str,
        /// What is wrong with it.
        expected: &'static str,
    },
    /// A rule of one's own with a parameter under a name that it cannot have.
    #[error("rule '{rule}' can't have a parameter named '{name}': its layers have one of that name already")]
    RuleParameter {
        /// The rule.
        rule: &'static str,
        /// The parameter.
        name: &'static str,
    },
    /// A rule of one's own on a backend that is not one of `plastica-tensor`'s.
    #[error(
        "rule '{rule}' was registered for the backends of plastica-tensor, and {backend} is none of them"
    )]
    OtherBackend {
        /// The rule.
        rule: &'static str,
        /// The backend's type.
        backend: &'static str,
    },
    /// A credit that cannot be read.
    #[error(
        "unknown credit '{text}': it is one of detached, full, truncated(k) and windowed(k) with k at least 1"
    )]
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
    /// A rule's parameter that a layer has not.
    #[error("the rule asks for its parameter number {index} of a layer that has {given} for it")]
    NoParameter {
        /// The parameter's number, from 0.
        index: usize,
        /// Parameters of the rule at the layer.
        given: usize,
    },
    /// Gates that are neither one for all layers nor one for each.
    #[error("gates of shape {gates} for {layers} plastic layers: they must be [B], or [B, {layers}]")]
    Gates {
        /// Shape of the gates' pre-activations.
        gates: Shape,
        /// Number of layers.
        layers: usize,
    },
    /// A fast weight matrix and a fast bias that don't belong together.
    #[error(
        "fast weights of shape {weight} and a fast bias of shape {bias}: they must be [B, out, in] and [B, out]"
    )]
    FastWeights {
        /// Shape of F.
        weight: Shape,
        /// Shape of c.
        bias: Shape,
    },
    /// Layers, what they saw and their fast weights, in different numbers.
    #[error(
        "{layers} plastic layers, {traces} traces and {fast} sets of fast weights were given: each layer has one of each"
    )]
    Layers {
        /// Number of layers.
        layers: usize,
        /// Number of traces.
        traces: usize,
        /// Number of sets of fast weights.
        fast: usize,
    },
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

/// This crate's result.
pub type Result<T, E = RuleError> = std::result::Result<T, E>;
