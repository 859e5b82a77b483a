//! [`Zip`] on a CUDA device.

use super::{Zip, ZipKernels};
use crate::cuda::{Cuda, CudaBuffer, Parts, Strided, elements};
use crate::ops::onto::OntoKernels;
use crate::{Result, Shape};

pub(crate) const KERNELS: &[&str] = &["zip_add", "zip_sub", "zip_mul", "zip_div", "add_assign", "add_all"];

/// What a sum waits for: more would hold more memory, and save little.
const ADDENDS: usize = 16;

impl ZipKernels for Cuda {
    fn zip(
        &self,
        f: Zip,
        (a, a_shape): (&CudaBuffer, &Shape),
        (b, b_shape): (&CudaBuffer, &Shape),
        out: &Shape,
    ) -> Result<CudaBuffer> {
        let kernel = match f {
            Zip::Add => "zip_add",
            Zip::Sub => "zip_sub",
            Zip::Mul => "zip_mul",
            Zip::Div => "zip_div",
        };
        let (len, walk) = (out.len(), Strided::broadcast(out, [a_shape, b_shape]));
        self.build(len, |out| {
            let arguments = (out, a.slice(), b.slice(), walk, len as u32);
            // SAFETY: zip_*(out, a, b, walk, len) writes `len` elements, as many as `out` has, and reads where
            // the walk leads, which stays inside of operands that broadcast to `out`
            unsafe { self.launch(kernel, elements(len), arguments) }
        })
    }

    fn add_assign(&self, sum: &mut CudaBuffer, x: &CudaBuffer) -> Result<()> {
        let len = x.len().min(sum.len());
        let arguments = (sum.make_mut()?, x.slice(), len as u32);
        // SAFETY: add_assign(sum, x, len) stays inside of the shorter one's `len` elements
        unsafe { self.launch("add_assign", elements(len), arguments) }
    }

    fn add_all(&self, sum: &mut CudaBuffer, others: &[&CudaBuffer]) -> Result<()> {
        for some in others.chunks(Parts::MOST) {
            let len = some.iter().fold(sum.len(), |len, x| len.min(x.len()));
            // where somebody shares the elements, what is written is a new buffer
            let shared = sum.renew()?;
            let to = sum.own()?;
            let first = shared.as_ref().map_or(to, CudaBuffer::address);
            let arguments = (to, first, Parts::of(some), some.len() as u32, len as u32);
            // SAFETY: add_all(sum, first, parts, count, len) reads and writes no more than the shortest's `len` elements
            unsafe { self.launch("add_all", elements(len), arguments)? };
        }
        Ok(())
    }

    fn addends(&self) -> usize {
        ADDENDS
    }

    fn onto(&self) -> Option<&dyn OntoKernels<Self>> {
        Some(self)
    }
}
