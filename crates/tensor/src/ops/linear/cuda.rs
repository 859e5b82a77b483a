//! Linear layers on a CUDA device: products by cuBLAS, which add to the repeated bias.

use cudarc::driver::DevicePtr;

use super::LinearKernels;
use crate::cuda::{Cuda, CudaBuffer, Parts, elements, over};
use crate::ops::matmul::MatMulSizes;
use crate::{Result, Storage};

pub(crate) const KERNELS: &[&str] = &["repeat_row", "join"];

impl LinearKernels for Cuda {
    fn linear(
        &self,
        x: &CudaBuffer,
        weight: &CudaBuffer,
        bias: &CudaBuffer,
        rows: usize,
        inp: usize,
        out: usize,
    ) -> Result<CudaBuffer> {
        let len = rows * out;
        self.build(len, |y| {
            // SAFETY: repeat_row(out, row, width, len) writes `len` elements, as many as `y` has, and reads `width`
            unsafe {
                self.launch("repeat_row", elements(len), (&mut *y, bias.slice(), out as u32, len as u32))?;
            }
            let sizes =
                MatMulSizes { batch: 1, m: rows, k: inp, n: out, transpose_a: false, transpose_b: true };
            if len * inp == 0 {
                return Ok(());
            }
            self.add_products((x.slice(), rows * inp), (weight.slice(), inp * out), (y, len), sizes, 1.0)
        })
    }

    fn sum_of_outer_products(
        &self,
        pairs: &[(&CudaBuffer, &CudaBuffer)],
        out: usize,
        inp: usize,
    ) -> Result<CudaBuffer> {
        let (g, x): (Vec<_>, Vec<_>) = pairs.iter().copied().unzip();
        let (g, x) = (self.joined(&g)?, self.joined(&x)?);
        let rows = g.len().checked_div(out).unwrap_or(0);
        if rows * out * inp == 0 {
            return self.full(out * inp, 0.0);
        }
        let sizes = MatMulSizes { batch: 1, m: out, k: rows, n: inp, transpose_a: true, transpose_b: false };
        self.build(out * inp, |sum| {
            self.products((g.slice(), out * rows), (x.slice(), rows * inp), (sum, out * inp), sizes)
        })
    }

    fn sum_of_rows(&self, parts: &[&CudaBuffer], width: usize) -> Result<CudaBuffer> {
        let rows = self.joined(parts)?;
        match rows.len().checked_div(width) {
            None | Some(0) => self.full(width, 0.0),
            Some(count) => self.sum_middle(rows, 1, count, width),
        }
    }
}

impl Cuda {
    /// `before + grad W`: grad `[rows, out]`, W `[out, inp]`.
    pub(crate) fn linear_back_onto(
        &self,
        grad: &CudaBuffer,
        weight: &CudaBuffer,
        mut before: CudaBuffer,
        [rows, out, inp]: [usize; 3],
    ) -> Result<CudaBuffer> {
        if rows * out * inp > 0 {
            let sizes =
                MatMulSizes { batch: 1, m: rows, k: out, n: inp, transpose_a: false, transpose_b: false };
            let (grad, weight) = ((grad.slice(), rows * out), (weight.slice(), out * inp));
            self.add_products(grad, weight, (before.make_mut()?, rows * inp), sizes, 1.0)?;
        }
        Ok(before)
    }

    /// Buffers one after the other.
    pub(crate) fn joined(&self, parts: &[&CudaBuffer]) -> Result<CudaBuffer> {
        if let &[part] = parts {
            return Ok(part.clone());
        }
        let total = parts.iter().map(|part| part.len()).sum();
        self.build(total, |out| {
            let mut start = 0;
            for alike in parts.chunk_by(|a, b| a.len() == b.len()) {
                let len = alike[0].len();
                for some in alike.chunks(Parts::MOST) {
                    let here = *out.device_ptr() + 4 * start as u64;
                    let arguments = (here, Parts::of(some), len as u32);
                    // SAFETY: join(out, parts, len) reads `len` elements of each part, which is what they have, and
                    // writes them one after the other, where `out` has room for all
                    unsafe { self.launch("join", over(len.div_ceil(4), some.len()), arguments)? };
                    start += len * some.len();
                }
            }
            Ok(())
        })
    }
}
