//! Matrix products on the CPU: matrixmultiply, and loops of our own for a single row or column, where a
//! blocked product would spend its time packing.

use rayon::prelude::*;

use super::{MatMulKernels, MatMulSizes};
use crate::Result;
use crate::cpu::{Cpu, CpuBuffer, CpuElement};
use crate::ops::reduce::dot;

/// Multiply-adds from which one product is split over threads, by rows in chunks of fixed size: the split
/// does not depend on how many threads there are, so neither do the bits.
const PARALLEL_WORK: usize = 1 << 25;
const PARALLEL_ROWS: usize = 128;

impl<E: CpuElement> MatMulKernels for Cpu<E> {
    fn matmul(&self, a: &CpuBuffer<E>, b: &CpuBuffer<E>, s: MatMulSizes) -> Result<CpuBuffer<E>> {
        let (a, b) = (a.as_slice(), b.as_slice());
        let len = s.batch * s.m * s.n;
        if len == 0 || s.k == 0 {
            return Ok(CpuBuffer::zeros(len));
        }
        Ok(CpuBuffer::build(len, |c| {
            let products =
                c.chunks_exact_mut(s.m * s.n).zip(a.chunks_exact(s.m * s.k)).zip(b.chunks_exact(s.k * s.n));
            for ((c, a), b) in products {
                if s.m == 1 {
                    vector_matrix(a, b, s.k, s.n, s.transpose_b, c);
                } else if s.n == 1 {
                    // c = A b is cᵀ = bᵀ Aᵀ
                    vector_matrix(b, a, s.k, s.m, !s.transpose_a, c);
                } else {
                    matrix_matrix(a, b, s, c);
                }
            }
        }))
    }
}

/// `c = x B`, B stored `[k, n]`, or `[n, k]` if transposed.
fn vector_matrix<E: CpuElement>(x: &[E], b: &[E], k: usize, n: usize, transposed: bool, c: &mut [E]) {
    if transposed {
        for (c, row) in c.iter_mut().zip(b.chunks_exact(k)) {
            *c = dot(row, x);
        }
    } else {
        c.fill(E::zero());
        for (&x, row) in x.iter().zip(b.chunks_exact(n)) {
            for (c, &b) in c.iter_mut().zip(row) {
                *c += x * b;
            }
        }
    }
}

fn matrix_matrix<E: CpuElement>(a: &[E], b: &[E], s: MatMulSizes, c: &mut [E]) {
    let (ra, ca) = if s.transpose_a { (1, s.m) } else { (s.k, 1) };
    let (rb, cb) = if s.transpose_b { (1, s.k) } else { (s.n, 1) };
    let rows = |first: usize, c: &mut [E]| {
        let a = &a[first * ra..];
        let sizes = (c.len() / s.n, s.k, s.n);
        // SAFETY: `a` holds rows `first..` of an m × k matrix with strides (ra, ca), `b` a k × n one with
        // strides (rb, cb), and `c` is the contiguous rows of the result, borrowed mutably, thus apart
        unsafe {
            E::gemm(
                sizes,
                (a.as_ptr(), ra as isize, ca as isize),
                (b.as_ptr(), rb as isize, cb as isize),
                E::zero(),
                (c.as_mut_ptr(), s.n as isize, 1),
            );
        }
    };
    if s.m * s.k * s.n < PARALLEL_WORK {
        rows(0, c);
    } else {
        c.par_chunks_mut(PARALLEL_ROWS * s.n).enumerate().for_each(|(i, c)| rows(i * PARALLEL_ROWS, c));
    }
}
