//! Steps of sequences on a CUDA device.

use cudarc::driver::DeviceRepr;

use super::StepKernels;
use crate::cuda::{Cuda, CudaBuffer, Parts, elements, over};
use crate::{Result, Storage};

pub(crate) const KERNELS: &[&str] = &["place_steps", "split_steps"];

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

    fn split_steps(
        &self,
        x: &CudaBuffer,
        batch: usize,
        steps: usize,
        width: usize,
    ) -> Result<Vec<CudaBuffer>> {
        let len = batch * width;
        let parts = (0..steps).map(|_| self.build(len, |_| Ok(()))).collect::<Result<Vec<_>>>()?;
        for (i, some) in parts.chunks(Parts::MOST).enumerate() {
            let given = Parts::of(&some.iter().collect::<Vec<_>>());
            let sizes = ((i * Parts::MOST) as u32, steps as u32, width as u32, len as u32);
            // SAFETY: split_steps(parts, x, first, steps, width, len) writes `len` elements of each part, as many as they have and
            // nobody shares, and reads as many of the steps of x from `first` on that there are parts of
            unsafe {
                let arguments = (given, x.slice(), sizes.0, sizes.1, sizes.2, sizes.3);
                self.launch("split_steps", over(len, some.len()), arguments)?;
            }
        }
        Ok(parts)
    }
}
