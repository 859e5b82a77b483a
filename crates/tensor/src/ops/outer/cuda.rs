//! The fast-weight update on a CUDA device: one pass over F.

use cudarc::driver::DevicePtr;

use super::{OuterKernels, OuterSizes};
use crate::Result;
use crate::cuda::{Cuda, CudaBuffer, elements};

pub(crate) const KERNELS: &[&str] = &["decay_outer"];

impl OuterKernels for Cuda {
    fn decay_outer(
        &self,
        f: Option<&CudaBuffer>,
        eta: &CudaBuffer,
        alpha: &CudaBuffer,
        p: &CudaBuffer,
        q: &CudaBuffer,
        OuterSizes { batch, out: units, inp: inputs }: OuterSizes,
    ) -> Result<CudaBuffer> {
        let len = batch * units * inputs;
        self.build(len, |out| {
            let f = f.map_or(0, |f| *f.slice().device_ptr());
            let (eta, alpha, p, q) = (eta.slice(), alpha.slice(), p.slice(), q.slice());
            let arguments = (out, f, eta, alpha, p, q, units as u32, inputs as u32, len as u32);
            // SAFETY: decay_outer(out, f, eta, alpha, p, q, units, inputs, len) reads and writes inside of the
            // lengths that `OuterKernels` gives, and nothing of `f` if that is null
            unsafe { self.launch("decay_outer", elements(len), arguments) }
        })
    }
}
