//! The optimiser's kernels on a CUDA device.

use cudarc::driver::DeviceRepr;

use super::adamw::{AdamWStep, OptimiserKernels};
use crate::cuda::{Cuda, CudaBuffer, elements, groups};
use crate::{Result, Storage};

pub(crate) const KERNELS: &[&str] = &["adamw", "sum_of_squares", "scale_assign"];

/// Elements of which one group of threads adds up the squares.
const CHUNK: usize = 4096;

/// [`AdamWStep`] as in `kernels.cu`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Constants {
    beta1: f32,
    beta2: f32,
    rest1: f32,
    rest2: f32,
    eps: f32,
    keep: f32,
    rate: f32,
    root_scale: f32,
}

// SAFETY: it is laid out as in C, has no padding and holds numbers only, so it can be handed to a kernel
unsafe impl DeviceRepr for Constants {}

impl OptimiserKernels for Cuda {
    fn adamw(
        &self,
        parameter: &mut CudaBuffer,
        gradient: &CudaBuffer,
        first: &mut CudaBuffer,
        second: &mut CudaBuffer,
        step: AdamWStep,
    ) -> Result<()> {
        let constants = Constants {
            beta1: step.beta1 as f32,
            beta2: step.beta2 as f32,
            rest1: (1.0 - step.beta1) as f32,
            rest2: (1.0 - step.beta2) as f32,
            eps: step.eps as f32,
            keep: step.keep as f32,
            rate: step.rate as f32,
            root_scale: step.root_scale as f32,
        };
        let len = parameter.len();
        let (parameter, first, second) = (parameter.make_mut()?, first.make_mut()?, second.make_mut()?);
        let arguments = (parameter, gradient.slice(), first, second, constants, len as u32);
        // SAFETY: adamw(parameter, gradient, first, second, constants, len) reads and writes `len` elements of
        // each, as many as all four have, a gradient and moments being as long as their parameter
        unsafe { self.launch("adamw", elements(len), arguments) }
    }

    fn sum_of_squares(&self, x: &CudaBuffer) -> Result<f64> {
        let (len, chunks) = (x.len(), x.len().div_ceil(CHUNK));
        // a double takes the place of two elements
        let sums = self.build(2 * chunks, |out| {
            let arguments = (out, x.slice(), CHUNK as u32, len as u32);
            // SAFETY: sum_of_squares(out, x, chunk, len) reads `len` elements, as many as `x` has, and writes a
            // double, thus two elements, for each chunk; a device's buffers are aligned for any type
            unsafe { self.launch("sum_of_squares", groups(chunks, CHUNK), arguments) }
        })?;
        let halves = self.download(&sums)?;
        let sums =
            halves.as_chunks::<2>().0.iter().map(|[low, high]| {
                f64::from_bits(u64::from(high.to_bits()) << 32 | u64::from(low.to_bits()))
            });
        Ok(sums.sum())
    }

    fn scale_assign(&self, x: &mut CudaBuffer, c: f64) -> Result<()> {
        let len = x.len();
        // SAFETY: scale_assign(x, c, len) reads and writes `len` elements, as many as `x` has
        unsafe { self.launch("scale_assign", elements(len), (x.make_mut()?, c as f32, len as u32)) }
    }
}
