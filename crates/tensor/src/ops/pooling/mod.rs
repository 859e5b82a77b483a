//! Max-pooling. The largest element of a window is an element taken by its index, so once the indices
//! are known, value and derivatives are those of taking (`take` and `put` in
//! [`indexing`](super::indexing)); pooling needs no derivative of its own.

use crate::{Backend, Result, Storage, Tensor};

mod cpu;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;
#[cfg(test)]
mod tests;

/// Kernels of pooling.
pub trait PoolingKernels: Storage {
    /// Index into `x`, `planes` planes of `height × width`, of the largest element of each 2 × 2 window, the
    /// first of equals; a NaN is larger than anything. An odd last row or column is in no window.
    ///
    /// # Errors
    /// Device errors.
    fn largest_of_windows(
        &self,
        x: &Self::Buffer,
        planes: usize,
        height: usize,
        width: usize,
    ) -> Result<Vec<u32>>;
}

impl<B: Backend> Tensor<B> {
    /// The largest element of each 2 × 2 window of the last two axes, stride 2:
    /// `[.., H, W] → [.., ⌊H/2⌋, ⌊W/2⌋]`. Of equal elements, the first has the derivative.
    ///
    /// # Errors
    /// [`TensorError::Unsuitable`](crate::TensorError::Unsuitable) when there is no window, or 2³² elements or
    /// more.
    pub fn max_pool2d(&self) -> Result<Self> {
        let shape = self.shape();
        let Some((planes, &[height, width])) =
            shape.split_last_chunk::<2>().filter(|(_, hw)| hw.iter().all(|&n| n >= 2))
        else {
            return Err(self.unsuitable("max_pool2d", "its windows need two last axes of at least 2"));
        };
        if u32::try_from(shape.len()).is_err() {
            return Err(self.unsuitable("max_pool2d", "it has more elements than 32-bit indices reach"));
        }
        let planes = planes.iter().product();
        let indices = self.backend().largest_of_windows(&self.array.buffer, planes, height, width)?;
        let rank = shape.rank();
        self.take(&indices.into(), 1, shape.with_axis(rank - 2, height / 2).with_axis(rank - 1, width / 2))
    }
}
