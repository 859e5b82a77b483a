//! Softmax and its logarithm, over the last axis.

use smallvec::smallvec;

use crate::tape::{Grads, Op, Recorded};
use crate::{Array, Backend, Result, Storage, Tape, Tensor};

mod cpu;

pub(crate) use cpu::exponentials;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;
#[cfg(test)]
mod tests;

/// Kernels over rows of `cols` elements.
pub trait SoftmaxKernels: Storage {
    /// `exp(x) / Σ exp(x)` of each row, shifted by the row's maximum so that nothing overflows.
    ///
    /// # Errors
    /// Device errors.
    fn softmax(&self, x: &Self::Buffer, cols: usize) -> Result<Self::Buffer>;

    /// `x − ln Σ exp(x)` of each row, shifted likewise.
    ///
    /// # Errors
    /// Device errors.
    fn log_softmax(&self, x: &Self::Buffer, cols: usize) -> Result<Self::Buffer>;
}

struct Softmax;

impl<B: Backend> Op<B> for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn backward(&self, r: &Recorded<'_, B>, grad: &Tensor<B>) -> Result<Grads<B>> {
        // dx = y ∘ (g − ⟨g, y⟩)
        let y = r.output;
        let inner = grad.mul(y)?.sum_axis(y.shape().rank() - 1)?;
        Ok(smallvec![Some(grad.sub(&inner)?.mul(y)?)])
    }
}

struct LogSoftmax;

impl<B: Backend> Op<B> for LogSoftmax {
    fn name(&self) -> &'static str {
        "log_softmax"
    }

    fn backward(&self, r: &Recorded<'_, B>, grad: &Tensor<B>) -> Result<Grads<B>> {
        // dx = g − softmax(x) Σ g
        let y = r.output;
        let total = grad.sum_axis(y.shape().rank() - 1)?;
        Ok(smallvec![Some(grad.sub(&y.exp()?.mul(&total)?)?)])
    }
}

impl<B: Backend> Tensor<B> {
    /// Softmax over the last axis.
    ///
    /// # Errors
    /// [`TensorError::Unsuitable`](crate::TensorError::Unsuitable) for a scalar or rows of no elements.
    pub fn softmax(&self) -> Result<Self> {
        let cols = self.row_length("softmax")?;
        let buffer = self.backend().softmax(&self.array.buffer, cols)?;
        Tape::record(Softmax, &[self], Array::new(self.backend(), buffer, self.shape()))
    }

    /// Logarithm of the softmax over the last axis.
    ///
    /// # Errors
    /// [`TensorError::Unsuitable`](crate::TensorError::Unsuitable) for a scalar or rows of no elements.
    pub fn log_softmax(&self) -> Result<Self> {
        let cols = self.row_length("log_softmax")?;
        let buffer = self.backend().log_softmax(&self.array.buffer, cols)?;
        Tape::record(LogSoftmax, &[self], Array::new(self.backend(), buffer, self.shape()))
    }

    /// Length of the last axis, which must be there and not empty.
    pub(crate) fn row_length(&self, op: &'static str) -> Result<usize> {
        match self.shape().last() {
            Some(&cols) if cols > 0 => Ok(cols),
            _ => Err(self.unsuitable(op, "it works on rows, which need a last axis of at least one element")),
        }
    }
}
