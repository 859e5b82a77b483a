//! Softmax on a CUDA device, a group of threads a row.

use super::SoftmaxKernels;
use crate::Result;
use crate::cuda::{Cuda, CudaBuffer, groups};

pub(crate) const KERNELS: &[&str] = &["softmax", "log_softmax"];

impl SoftmaxKernels for Cuda {
    fn softmax(&self, x: &CudaBuffer, cols: usize) -> Result<CudaBuffer> {
        self.by_rows("softmax", x, cols)
    }

    fn log_softmax(&self, x: &CudaBuffer, cols: usize) -> Result<CudaBuffer> {
        self.by_rows("log_softmax", x, cols)
    }
}

impl Cuda {
    fn by_rows(&self, kernel: &'static str, x: &CudaBuffer, cols: usize) -> Result<CudaBuffer> {
        let rows = x.len() / cols;
        self.build(x.len(), |out| {
            let arguments = (out, x.slice(), rows as u32, cols as u32);
            // SAFETY: both kernels, (out, x, rows, cols), read and write `rows` rows of `cols` elements, as
            // many as `out` and `x` have
            unsafe { self.launch(kernel, groups(rows, cols), arguments) }
        })
    }
}
