//! Steps of sequences on a CUDA device.

use cudarc::driver::DeviceRepr;

use super::StepKernels;
use crate::cuda::{Cuda, CudaBuffer, elements};
use crate::{Result, Storage};

pub(crate) const KERNELS: &[&str] = &["place_steps"];

/// Most parts of one launch.
const MOST: usize = 64;

/// As in `kernels.cu`.
#[derive(Clone, Copy)]
#[repr(C)]
struct StepParts {
    at: [u64; MOST],
    step: [u32; MOST],
}

// SAFETY: it is laid out as in C, has no padding and holds numbers and addresses only
unsafe impl DeviceRepr for StepParts {}

impl StepKernels for Cuda {
    fn place_steps(
        &self,
        parts: &[(usize, &CudaBuffer)],
        batch: usize,
        steps: usize,
        width: usize,
    ) -> Result<CudaBuffer> {
        let len = batch * steps * width;
        if parts.is_empty() {
            return self.full(len, 0.0);
        }
        self.build(len, |out| {
            for (i, some) in parts.chunks(MOST).enumerate() {
                let mut given = StepParts { at: [0; MOST], step: [0; MOST] };
                for ((at, step), (t, part)) in given.at.iter_mut().zip(&mut given.step).zip(some) {
                    (*at, *step) = (part.address(), *t as u32);
                }
                let (count, more) = (some.len() as u32, u32::from(i > 0));
                let arguments = (&mut *out, given, count, steps as u32, width as u32, len as u32, more);
                // SAFETY: place_steps(out, parts, count, steps, width, len, more) reads and writes `len` elements of
                // `out`, and `batch * width` of each part, which is what they have
                unsafe { self.launch("place_steps", elements(len), arguments)? };
            }
            Ok(())
        })
    }
}
