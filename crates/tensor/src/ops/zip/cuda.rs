//! [`Zip`] on a CUDA device.

use super::{Zip, ZipKernels};
use crate::cuda::{Cuda, CudaBuffer, Strided, elements};
use crate::{Result, Shape};

pub(crate) const KERNELS: &[&str] = &["zip_add", "zip_sub", "zip_mul", "zip_div", "add_assign"];

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
}
