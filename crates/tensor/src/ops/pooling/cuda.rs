//! Pooling on a CUDA device.

use super::PoolingKernels;
use crate::cuda::{Cuda, CudaBuffer, elements};
use crate::{Result, Storage};

pub(crate) const KERNELS: &[&str] = &["largest_of_windows"];

impl PoolingKernels for Cuda {
    fn largest_of_windows(
        &self,
        x: &CudaBuffer,
        planes: usize,
        height: usize,
        width: usize,
    ) -> Result<Vec<u32>> {
        let len = planes * (height / 2) * (width / 2);
        let indices = self.build(len, |out| {
            let arguments = (out, x.slice(), height as u32, width as u32, len as u32);
            // SAFETY: largest_of_windows(out, x, height, width, len) writes `len` indices, which are as long
            // as the elements of `out`, and reads as many windows of `x`
            unsafe { self.launch("largest_of_windows", elements(len), arguments) }
        })?;
        Ok(self.download(&indices)?.into_iter().map(f32::to_bits).collect())
    }
}
