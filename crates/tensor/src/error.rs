//! What can go wrong in this crate, in one enum.

use crate::Shape;

/// An error of a tensor operation, an optimiser or a backend.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TensorError {
    /// Two operands whose shapes don't go together.
    #[error("{op}: shapes {} and {} don't go together: {rule}", shapes[0], shapes[1])]
    Incompatible {
        /// The operation.
        op: &'static str,
        /// Shapes of the first operand and the second, boxed so that a result stays small.
        shapes: Box<[Shape; 2]>,
        /// What would have been right.
        rule: &'static str,
    },
    /// One operand of a shape that the operation cannot take.
    #[error("{op}: a tensor of shape {shape} won't do: {rule}")]
    Unsuitable {
        /// The operation.
        op: &'static str,
        /// The operand's shape.
        shape: Shape,
        /// What would have been right.
        rule: String,
    },
    /// A host array whose length is not its shape's.
    #[error("{len} values were given for shape {shape}, which holds {}", shape.len())]
    Length {
        /// Number of values given.
        len: usize,
        /// The shape they were given for.
        shape: Shape,
    },
    /// More dimensions than a shape can have.
    #[error("a shape of {rank} dimensions was asked for; at most {} are supported", Shape::MAX_RANK)]
    Rank {
        /// Number of dimensions asked for.
        rank: usize,
    },
    /// An index outside of the axis it indexes.
    #[error("{op}: index {index} is outside of an axis of length {len}")]
    Index {
        /// The operation.
        op: &'static str,
        /// The offending index.
        index: usize,
        /// Length of the axis.
        len: usize,
    },
    /// Operands recorded on two different tapes.
    #[error("{op}: its operands are tracked by two different tapes; detach one of them or use one tape")]
    MixedTapes {
        /// The operation.
        op: &'static str,
    },
    /// A derivative was asked of, or with respect to, a value that no tape tracks.
    #[error("{what} is not tracked by a tape: make it a leaf with Tape::leaf before computing with it")]
    Untracked {
        /// Which value.
        what: &'static str,
    },
    /// A derivative that an operation does not have.
    #[error("{op} has no {what}; use {instead}")]
    NoDerivative {
        /// The operation.
        op: &'static str,
        /// Which derivative.
        what: &'static str,
        /// What has it.
        instead: &'static str,
    },
    /// A setting outside of its range.
    #[error("{name} = {value} won't do: {rule}")]
    Setting {
        /// Name of the setting.
        name: &'static str,
        /// The value given, as text.
        value: String,
        /// What would have been right.
        rule: &'static str,
    },
    /// The device behind a backend failed.
    #[error("{device}: {message}")]
    Device {
        /// Name of the device.
        device: String,
        /// What it reported, and what can be done.
        message: String,
    },
}

/// This crate's result.
pub type Result<T, E = TensorError> = std::result::Result<T, E>;
