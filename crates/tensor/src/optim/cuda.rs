//! The optimiser's kernels on a CUDA device.

use cudarc::driver::DeviceRepr;

use super::adamw::{AdamWStep, AdamWUpdate, OptimiserKernels};
use crate::cuda::{Cuda, CudaBuffer, elements, groups, over};
use crate::{Result, Storage};

pub(crate) const KERNELS: &[&str] = &["adamw", "sum_of_squares", "scale_assign"];

/// Elements of which one group of threads adds up the squares.
const CHUNK: usize = 4096;

/// Most parameters of one launch.
const MOST: usize = 48;

/// [`AdamWStep`] as in `kernels.cu`.
#[derive(Clone, Copy, Default)]
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

impl Constants {
    fn of(step: AdamWStep) -> Self {
        Self {
            beta1: step.beta1 as f32,
            beta2: step.beta2 as f32,
            rest1: (1.0 - step.beta1) as f32,
            rest2: (1.0 - step.beta2) as f32,
            eps: step.eps as f32,
            keep: step.keep as f32,
            rate: step.rate as f32,
            root_scale: step.root_scale as f32,
        }
    }
}

/// One parameter's update, as in `kernels.cu`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Update {
    parameter: u64,
    gradient: u64,
    first: u64,
    second: u64,
    constants: Constants,
    len: u64,
}

/// As in `kernels.cu`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Updates([Update; MOST]);

// SAFETY: it is laid out as in C, has no padding and holds numbers and addresses only
unsafe impl DeviceRepr for Updates {}

impl OptimiserKernels for Cuda {
    fn adamw(
        &self,
        parameter: &mut CudaBuffer,
        gradient: &CudaBuffer,
        first: &mut CudaBuffer,
        second: &mut CudaBuffer,
        step: AdamWStep,
    ) -> Result<()> {
        self.adamw_all(vec![AdamWUpdate { parameter, gradient, first, second, step }])
    }

    fn adamw_all(&self, mut updates: Vec<AdamWUpdate<'_, CudaBuffer>>) -> Result<()> {
        for some in updates.chunks_mut(MOST) {
            let mut given = Updates([Update::default(); MOST]);
            let (mut longest, count) = (0, some.len());
            for (given, update) in given.0.iter_mut().zip(some) {
                *given = Update {
                    parameter: update.parameter.own()?,
                    gradient: update.gradient.address(),
                    first: update.first.own()?,
                    second: update.second.own()?,
                    constants: Constants::of(update.step),
                    len: update.parameter.len() as u64,
                };
                longest = longest.max(update.parameter.len());
            }
            // SAFETY: adamw(updates) reads and writes `len` elements of an update's parameter and moments and reads as many of
            // its gradient, all four of which are as long; there is a row of blocks for each update given
            unsafe { self.launch("adamw", over(longest.div_ceil(4), count), (given,))? };
        }
        Ok(())
    }

    fn sum_of_squares(&self, x: &CudaBuffer) -> Result<f64> {
        self.sum_of_all_squares(&[x])
    }

    fn sum_of_all_squares(&self, all: &[&CudaBuffer]) -> Result<f64> {
        let chunks: usize = all.iter().map(|x| x.len().div_ceil(CHUNK)).sum();
        // a double takes the place of two elements
        let sums = self.build(2 * chunks, |_| Ok(()))?;
        let mut done = 0;
        for x in all {
            let (len, chunks) = (x.len(), x.len().div_ceil(CHUNK));
            let arguments = (sums.address() + 8 * done as u64, x.slice(), CHUNK as u32, len as u32);
            // SAFETY: sum_of_squares(out, x, chunk, len) reads `len` elements, as many as `x` has, and writes a
            // double, thus two elements, for each chunk; a device's buffers are aligned for any type
            unsafe { self.launch("sum_of_squares", groups(chunks, CHUNK), arguments)? };
            done += chunks;
        }
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
