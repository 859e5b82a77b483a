//! Picking elements by index, and the opposite.

use std::sync::Arc;

use smallvec::smallvec;

use crate::tape::{Grads, Op, Recorded};
use crate::{Array, Backend, Result, Shape, Storage, Tape, Tensor, TensorError};

mod cpu;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;
#[cfg(test)]
mod tests;

/// Kernels of picking and putting back runs of elements.
pub trait IndexingKernels: Storage {
    /// The runs of `run` elements numbered `indices`, one after the other.
    ///
    /// # Errors
    /// Device errors.
    fn take(&self, x: &Self::Buffer, indices: &[u32], run: usize) -> Result<Self::Buffer>;

    /// The opposite of `take`: a buffer of `len` zeros to which each run of `x` is added at its place.
    ///
    /// # Errors
    /// Device errors.
    fn put(&self, x: &Self::Buffer, indices: &[u32], run: usize, len: usize) -> Result<Self::Buffer>;
}

struct Take {
    indices: Arc<[u32]>,
    run: usize,
}

impl<B: Backend> Op<B> for Take {
    fn name(&self) -> &'static str {
        "take"
    }

    fn backward(&self, r: &Recorded<'_, B>, grad: &Tensor<B>) -> Result<Grads<B>> {
        Ok(smallvec![Some(grad.put(&self.indices, self.run, r.inputs[0].shape())?)])
    }
}

struct Put {
    indices: Arc<[u32]>,
    run: usize,
}

impl<B: Backend> Op<B> for Put {
    fn name(&self) -> &'static str {
        "put"
    }

    fn backward(&self, r: &Recorded<'_, B>, grad: &Tensor<B>) -> Result<Grads<B>> {
        Ok(smallvec![Some(grad.take(&self.indices, self.run, r.inputs[0].shape())?)])
    }
}

fn check_indices(op: &'static str, indices: &[u32], len: usize) -> Result<()> {
    match indices.iter().find(|&&i| i as usize >= len) {
        Some(&index) => Err(TensorError::Index { op, index: index as usize, len }),
        None => Ok(()),
    }
}

impl<B: Backend> Tensor<B> {
    pub(crate) fn take(&self, indices: &Arc<[u32]>, run: usize, shape: Shape) -> Result<Self> {
        let buffer = self.backend().take(&self.array.buffer, indices, run)?;
        let op = Take { indices: Arc::clone(indices), run };
        Tape::record(op, &[self], Array::new(self.backend(), buffer, shape))
    }

    fn put(&self, indices: &Arc<[u32]>, run: usize, shape: Shape) -> Result<Self> {
        let buffer = self.backend().put(&self.array.buffer, indices, run, shape.len())?;
        let op = Put { indices: Arc::clone(indices), run };
        Tape::record(op, &[self], Array::new(self.backend(), buffer, shape))
    }

    /// The slabs numbered `indices` along the first axis: `[n, ..] → [indices.len(), ..]`, as from an
    /// embedding table. An index may occur any number of times.
    ///
    /// # Errors
    /// [`TensorError::Index`] for an index of `n` or more, [`TensorError::Unsuitable`] for a scalar.
    pub fn gather(&self, indices: &[u32]) -> Result<Self> {
        let shape = self.shape();
        let Some(&len) = shape.first() else {
            return Err(self.unsuitable("gather", "it takes slabs of a first axis"));
        };
        check_indices("gather", indices, len)?;
        self.take(&indices.into(), shape.stride(0), shape.with_axis(0, indices.len()))
    }

    /// One element of each row: `[.., n] → [.., 1]`, element `indices[i]` of row `i`.
    ///
    /// # Errors
    /// [`TensorError::Index`] for an index of `n` or more, [`TensorError::Unsuitable`] when there is not one
    /// index a row, or when there are 2³² elements or more.
    pub fn gather_last(&self, indices: &[u32]) -> Result<Self> {
        let (rows, cols) = self.shape().rows_cols();
        self.row_length("gather_last")?;
        if indices.len() != rows {
            return Err(
                self.unsuitable("gather_last", format!("{} indices were given for its rows", indices.len()))
            );
        }
        check_indices("gather_last", indices, cols)?;
        if u32::try_from(self.shape().len()).is_err() {
            return Err(self.unsuitable("gather_last", "it has more elements than 32-bit indices reach"));
        }
        let flat: Arc<[u32]> = indices.iter().zip(0_u32..).map(|(&i, row)| row * cols as u32 + i).collect();
        self.take(&flat, 1, self.shape().with_axis(self.shape().rank() - 1, 1))
    }

    /// Rows that are 1 at their class and 0 elsewhere: `[classes.len(), width]`, plain.
    ///
    /// # Errors
    /// [`TensorError::Index`] for a class of `width` or more.
    pub fn one_hot(backend: &B, classes: &[u32], width: usize) -> Result<Self> {
        check_indices("one_hot", classes, width)?;
        let mut values = vec![num_traits::Zero::zero(); classes.len() * width];
        for (row, &class) in classes.iter().enumerate() {
            values[row * width + class as usize] = num_traits::One::one();
        }
        Self::from_vec(backend, values, [classes.len(), width])
    }
}
