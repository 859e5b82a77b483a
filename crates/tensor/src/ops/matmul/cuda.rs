//! Matrix products on a CUDA device, by cuBLAS in full single precision. cuBLAS stores columns one after the
//! other, so our matrices are their transposes to it, and it is asked for `Cᵀ = op(B)ᵀ op(A)ᵀ`.

use cudarc::cublas::sys::cublasOperation_t::{CUBLAS_OP_N, CUBLAS_OP_T};
use cudarc::cublas::{Gemm, GemmConfig, StridedBatchedConfig};
use cudarc::driver::{DevicePtr, DevicePtrMut};

use super::{MatMulKernels, MatMulSizes};
use crate::cuda::{Cuda, CudaBuffer};
use crate::{Result, Storage};

impl MatMulKernels for Cuda {
    fn matmul(&self, a: &CudaBuffer, b: &CudaBuffer, s: MatMulSizes) -> Result<CudaBuffer> {
        let len = s.batch * s.m * s.n;
        if len == 0 || s.k == 0 {
            return self.full(len, 0.0);
        }
        self.build(len, |out| {
            self.products((a.slice(), s.m * s.k), (b.slice(), s.k * s.n), (out, s.m * s.n), s)
        })
    }
}

impl Cuda {
    /// A batch of matrix products, no size of which is 0. Each operand comes with how many elements lie
    /// between neighbours of the batch: none for one that they all share.
    pub(crate) fn products(
        &self,
        a: (&impl DevicePtr<f32>, usize),
        b: (&impl DevicePtr<f32>, usize),
        c: (&mut impl DevicePtrMut<f32>, usize),
        s: MatMulSizes,
    ) -> Result<()> {
        self.add_products(a, b, c, s, 0.0)
    }

    /// The same, added to `keep` times what is in `c`.
    pub(crate) fn add_products(
        &self,
        (a, stride_a): (&impl DevicePtr<f32>, usize),
        (b, stride_b): (&impl DevicePtr<f32>, usize),
        (c, stride_c): (&mut impl DevicePtrMut<f32>, usize),
        s: MatMulSizes,
        keep: f32,
    ) -> Result<()> {
        let reach = |stride: usize, rows: usize, cols: usize| (s.batch - 1) * stride + rows * cols;
        assert!(s.batch * s.m * s.k * s.n > 0 && stride_c >= s.m * s.n);
        assert!(a.len() >= reach(stride_a, s.m, s.k) && b.len() >= reach(stride_b, s.k, s.n));
        assert!(c.len() >= reach(stride_c, s.m, s.n));
        let gemm = GemmConfig {
            transa: if s.transpose_b { CUBLAS_OP_T } else { CUBLAS_OP_N },
            transb: if s.transpose_a { CUBLAS_OP_T } else { CUBLAS_OP_N },
            m: s.n as i32,
            n: s.m as i32,
            k: s.k as i32,
            alpha: 1.0,
            lda: if s.transpose_b { s.k } else { s.n } as i32,
            ldb: if s.transpose_a { s.m } else { s.k } as i32,
            beta: keep,
            ldc: s.n as i32,
        };
        let blas = self.blas()?;
        let done = if s.batch == 1 {
            // SAFETY: the matrices that the sizes describe are inside of the operands, as just asserted, and
            // `c` is borrowed mutably, thus apart from `a` and `b`
            unsafe { blas.gemm(gemm, b, a, c) }
        } else {
            let batch = StridedBatchedConfig {
                gemm,
                batch_size: s.batch as i32,
                stride_a: stride_b as i64,
                stride_b: stride_a as i64,
                stride_c: stride_c as i64,
            };
            // SAFETY: likewise, for all of the batch; the results don't overlap
            unsafe { blas.gemm_strided_batched(batch, b, a, c) }
        };
        self.checked("a matrix product", done)
    }
}
