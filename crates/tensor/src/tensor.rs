//! Tensors: arrays that a tape may be watching.

use crate::tape::NodeId;
use crate::{Array, Backend, Result, Shape, Tape};

/// An array, and its place on a [`Tape`] if it is tracked. Cloning shares both.
///
/// The methods that compute stand with their operations, in [`ops`](crate::ops). An operation whose
/// inputs are all plain records nothing.
pub struct Tensor<B: Backend> {
    pub(crate) array: Array<B>,
    pub(crate) node: Option<(Tape<B>, NodeId)>,
}

impl<B: Backend> Clone for Tensor<B> {
    fn clone(&self) -> Self {
        Self { array: self.array.clone(), node: self.node.clone() }
    }
}

impl<B: Backend> std::fmt::Debug for Tensor<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let tracked = if self.is_tracked() { "tracked" } else { "plain" };
        write!(f, "Tensor({}, {tracked})", self.shape())
    }
}

impl<B: Backend> From<Array<B>> for Tensor<B> {
    fn from(array: Array<B>) -> Self {
        Self { array, node: None }
    }
}

impl<B: Backend> Tensor<B> {
    /// A plain tensor of the given values, row-major.
    ///
    /// # Errors
    /// When there are more or fewer values than the shape holds.
    pub fn from_vec(backend: &B, values: Vec<B::Elem>, shape: impl Into<Shape>) -> Result<Self> {
        Array::from_vec(backend, values, shape).map(Self::from)
    }

    /// A plain tensor of zeros.
    ///
    /// # Errors
    /// When the device has no memory left or is lost.
    pub fn zeros(backend: &B, shape: impl Into<Shape>) -> Result<Self> {
        Array::zeros(backend, shape).map(Self::from)
    }

    /// The lengths of the axes.
    pub fn shape(&self) -> Shape {
        self.array.shape
    }

    /// The backend that holds the values.
    pub fn backend(&self) -> &B {
        &self.array.backend
    }

    /// The value, without its history.
    pub fn array(&self) -> &Array<B> {
        &self.array
    }

    /// Whether a tape watches this tensor.
    pub fn is_tracked(&self) -> bool {
        self.node.is_some()
    }

    /// The same value as a constant: no derivative flows through it.
    #[must_use]
    pub fn detach(&self) -> Self {
        Self::from(self.array.clone())
    }

    /// The values, row-major, on the host.
    ///
    /// # Errors
    /// When the device is lost.
    pub fn to_vec(&self) -> Result<Vec<B::Elem>> {
        self.array.to_vec()
    }

    /// The only value of a tensor that has one.
    ///
    /// # Errors
    /// [`TensorError::Unsuitable`](crate::TensorError::Unsuitable) when it has more, or none.
    pub fn item(&self) -> Result<B::Elem> {
        match self.to_vec()?[..] {
            [value] => Ok(value),
            _ => Err(self.unsuitable("item", "only a tensor of one element is a number")),
        }
    }

    /// An error about this tensor's shape.
    pub(crate) fn unsuitable(&self, op: &'static str, rule: impl Into<String>) -> crate::TensorError {
        crate::TensorError::Unsuitable { op, shape: self.shape(), rule: rule.into() }
    }

    /// An error about this tensor's shape beside another's.
    pub(crate) fn incompatible(
        &self,
        op: &'static str,
        other: &Self,
        rule: &'static str,
    ) -> crate::TensorError {
        crate::TensorError::Incompatible { op, shapes: Box::new([self.shape(), other.shape()]), rule }
    }
}
