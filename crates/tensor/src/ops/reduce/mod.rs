//! Sums over axes, and their opposite, repetition along axes.

use smallvec::smallvec;

use crate::tape::{Grads, Op, Recorded};
use crate::{Array, Backend, Result, Shape, Storage, Tape, Tensor};

mod cpu;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;
#[cfg(test)]
mod tests;

pub(crate) use cpu::{dot, fold, sum, sum_of};

/// Kernels of sums and repetition.
pub trait ReduceKernels: Storage {
    /// Sums `x`, of shape `from`, over the axes along which `to` broadcasts to `from`.
    ///
    /// # Errors
    /// Device errors.
    fn sum_to(&self, x: &Self::Buffer, from: &Shape, to: &Shape) -> Result<Self::Buffer>;

    /// Repeats `x`, of shape `from`, to shape `to`.
    ///
    /// # Errors
    /// Device errors.
    fn broadcast_to(&self, x: &Self::Buffer, from: &Shape, to: &Shape) -> Result<Self::Buffer>;
}

struct SumTo;

impl<B: Backend> Op<B> for SumTo {
    fn name(&self) -> &'static str {
        "sum_to"
    }

    fn backward(&self, r: &Recorded<'_, B>, grad: &Tensor<B>) -> Result<Grads<B>> {
        Ok(smallvec![Some(grad.broadcast_to(r.inputs[0].shape())?)])
    }
}

struct BroadcastTo;

impl<B: Backend> Op<B> for BroadcastTo {
    fn name(&self) -> &'static str {
        "broadcast_to"
    }

    fn backward(&self, r: &Recorded<'_, B>, grad: &Tensor<B>) -> Result<Grads<B>> {
        Ok(smallvec![Some(grad.sum_to(r.inputs[0].shape())?)])
    }
}

impl<B: Backend> Tensor<B> {
    /// Sums over the axes along which `shape` would be repeated to become this tensor's: the opposite of
    /// [`Tensor::broadcast_to`].
    ///
    /// # Errors
    /// [`TensorError::Unsuitable`](crate::TensorError::Unsuitable) when `shape` does not broadcast to this tensor's.
    pub fn sum_to(&self, shape: impl Into<Shape>) -> Result<Self> {
        let (from, to) = (self.shape(), shape.into());
        if from == to {
            return Ok(self.clone());
        }
        if from.repeated_axes(&to).is_none() {
            return Err(self.unsuitable("sum_to", format!("{to} does not broadcast to it")));
        }
        let buffer = self.backend().sum_to(&self.array.buffer, &from, &to)?;
        Tape::record(SumTo, &[self], Array::new(self.backend(), buffer, to))
    }

    /// Repeats along axes of length 1 and along new leading axes.
    ///
    /// # Errors
    /// [`TensorError::Unsuitable`](crate::TensorError::Unsuitable) when this tensor's shape does not broadcast to `shape`.
    pub fn broadcast_to(&self, shape: impl Into<Shape>) -> Result<Self> {
        let (from, to) = (self.shape(), shape.into());
        if from == to {
            return Ok(self.clone());
        }
        if to.repeated_axes(&from).is_none() {
            return Err(self.unsuitable("broadcast_to", format!("it does not broadcast to {to}")));
        }
        let buffer = self.backend().broadcast_to(&self.array.buffer, &from, &to)?;
        Tape::record(BroadcastTo, &[self], Array::new(self.backend(), buffer, to))
    }

    /// The sum of all elements, a scalar.
    ///
    /// # Errors
    /// Device errors.
    pub fn sum(&self) -> Result<Self> {
        self.sum_to(Shape::SCALAR)
    }

    /// The mean of all elements, a scalar.
    ///
    /// # Errors
    /// Device errors.
    pub fn mean(&self) -> Result<Self> {
        self.sum()?.scale(1.0 / self.shape().len() as f64)
    }

    /// The sum over `axis`, which stays with length 1.
    ///
    /// # Errors
    /// [`TensorError::Index`](crate::TensorError::Index) when there is no such axis.
    pub fn sum_axis(&self, axis: usize) -> Result<Self> {
        self.check_axis("sum_axis", axis)?;
        self.sum_to(self.shape().with_axis(axis, 1))
    }

    pub(crate) fn check_axis(&self, op: &'static str, axis: usize) -> Result<()> {
        let len = self.shape().rank();
        if axis < len { Ok(()) } else { Err(crate::TensorError::Index { op, index: axis, len }) }
    }
}
