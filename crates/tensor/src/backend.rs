//! The seam between tensors and the hardware: who stores numbers, and who computes with them.
//!
//! A backend is a cheap handle (a unit for the CPU, a device for CUDA) that owns opaque buffers. The
//! kernels of an operation are a trait of their own, declared beside the operation, so that an
//! operation's definition, its CPU kernel and its CUDA kernel stand together; [`Backend`] is the sum
//! of them all. No array library appears in any signature.

use std::fmt::Debug;

use crate::Result;
use crate::ops::{
    attention::AttentionKernels, conv_block::ConvBlockKernels, convolution::ConvolutionKernels,
    fast::FastKernels, history::HistoryKernels, indexing::IndexingKernels, layer_norm::LayerNormKernels,
    layout::LayoutKernels, linear::LinearKernels, map::MapKernels, matmul::MatMulKernels,
    normalize::NormalizeKernels, outer::OuterKernels, pooling::PoolingKernels, rank_one::RankOneKernels,
    reduce::ReduceKernels, softmax::SoftmaxKernels, steps::StepKernels, zip::ZipKernels,
};
use crate::optim::OptimiserKernels;

/// A floating-point element: `f32` (every backend) or `f64` (the CPU, for gradient checks).
pub trait Element:
    num_traits::Float
    + num_traits::NumAssign
    + std::iter::Sum
    + Default
    + Debug
    + std::fmt::Display
    + Send
    + Sync
    + 'static
{
    /// The type's name, as in messages: `f32`.
    const NAME: &'static str;

    /// The nearest value to `x`.
    fn of(x: f64) -> Self;

    /// This value, widened.
    fn wide(self) -> f64;
}

impl Element for f32 {
    const NAME: &'static str = "f32";

    #[inline]
    fn of(x: f64) -> Self {
        x as f32
    }

    #[inline]
    fn wide(self) -> f64 {
        f64::from(self)
    }
}

impl Element for f64 {
    const NAME: &'static str = "f64";

    #[inline]
    fn of(x: f64) -> Self {
        x
    }

    #[inline]
    fn wide(self) -> f64 {
        self
    }
}

/// Where numbers live: buffers of one element type on one device.
pub trait Storage: Clone + Debug + Send + Sync + 'static {
    /// The element type.
    type Elem: Element;
    /// A flat run of elements on the device. Cloning shares it; kernels write only buffers that
    /// nobody shares.
    type Buffer: Clone + Debug + Send + Sync + 'static;

    /// The device's name, as in messages and records.
    fn name(&self) -> String;

    /// Moves host values to the device.
    ///
    /// # Errors
    /// [`TensorError::Device`](crate::TensorError::Device), when it has no memory left or is lost.
    fn upload(&self, values: Vec<Self::Elem>) -> Result<Self::Buffer>;

    /// Copies a buffer to the host.
    ///
    /// # Errors
    /// [`TensorError::Device`](crate::TensorError::Device), when the device is lost.
    fn download(&self, buffer: &Self::Buffer) -> Result<Vec<Self::Elem>>;

    /// A buffer of `len` equal values.
    ///
    /// # Errors
    /// [`TensorError::Device`](crate::TensorError::Device), when it has no memory left or is lost.
    fn full(&self, len: usize, value: Self::Elem) -> Result<Self::Buffer>;

    /// Waits until all work that was queued is done, as a measurement of time must.
    ///
    /// # Errors
    /// [`TensorError::Device`](crate::TensorError::Device), when the device is lost.
    fn synchronize(&self) -> Result<()> {
        Ok(())
    }

    /// How many times as much work it takes at once as one core does. Who cuts a batch into parts cuts it by this, so
    /// that it is part of the result: sums over the batch are grouped by it.
    fn breadth(&self) -> usize {
        1
    }
}

/// Everything a device must be able to compute: the sum of the operations' kernel traits.
pub trait Backend:
    Storage
    + MapKernels
    + ZipKernels
    + ReduceKernels
    + MatMulKernels
    + LayoutKernels
    + SoftmaxKernels
    + NormalizeKernels
    + AttentionKernels
    + FastKernels
    + HistoryKernels
    + IndexingKernels
    + LayerNormKernels
    + LinearKernels
    + StepKernels
    + ConvBlockKernels
    + ConvolutionKernels
    + PoolingKernels
    + OuterKernels
    + RankOneKernels
    + OptimiserKernels
{
}

impl<T> Backend for T where
    T: Storage
        + MapKernels
        + ZipKernels
        + ReduceKernels
        + MatMulKernels
        + LayoutKernels
        + SoftmaxKernels
        + NormalizeKernels
        + AttentionKernels
        + FastKernels
        + HistoryKernels
        + HistoryKernels
        + IndexingKernels
        + LayerNormKernels
        + LinearKernels
        + StepKernels
        + ConvBlockKernels
        + ConvolutionKernels
        + PoolingKernels
        + OuterKernels
        + RankOneKernels
        + RankOneKernels
        + OptimiserKernels
{
}
