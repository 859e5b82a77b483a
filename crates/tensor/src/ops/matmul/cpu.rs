//! Matrix products on the CPU: matrixmultiply, and loops of our own for a single row or column, where a
//! blocked product would spend its time packing.

use rayon::prelude::*;

use super::skinny;
use super::{MatMulKernels, MatMulSizes};
use crate::Result;
use crate::cpu::simd::{fma, kernel};
use crate::cpu::{Cpu, CpuBuffer, CpuElement};
use crate::ops::reduce::fold;

/// Multiply-adds from which one product is split over threads, by rows in chunks of fixed size: the split
/// does not depend on how many threads there are, so neither do the bits.
const PARALLEL_WORK: usize = 1 << 25;
const PARALLEL_ROWS: usize = 128;

/// Rows up to which a product goes without packing.
const SKINNY_ROWS: usize = 256;

/// `x Wᵀ`, x `[rows, k]`, W `[n, k]`: for weights, whose transpose is kept beside them for as long as they
/// stay the same.
pub(crate) fn rows_times_transposed<E: CpuElement>(
    x: &CpuBuffer<E>,
    weight: &CpuBuffer<E>,
    (rows, k, n): (usize, usize, usize),
) -> CpuBuffer<E> {
    let x = x.as_slice();
    if rows * n == 0 || k == 0 {
        return CpuBuffer::zeros(rows * n);
    }
    CpuBuffer::build(rows * n, |c| match rows {
        ..=SKINNY_ROWS => skinny::rows_times_matrix(x, weight.transposed(n, k), c, k, n),
        _ => {
            let s = MatMulSizes { batch: 1, m: rows, k, n, transpose_a: false, transpose_b: true };
            matrix_matrix(x, weight.as_slice(), s, c);
        }
    })
}

impl<E: CpuElement> MatMulKernels for Cpu<E> {
    fn matmul(&self, a: &CpuBuffer<E>, b: &CpuBuffer<E>, s: MatMulSizes) -> Result<CpuBuffer<E>> {
        let len = s.batch * s.m * s.n;
        if len == 0 || s.k == 0 {
            return Ok(CpuBuffer::zeros(len));
        }
        if s.batch == 1 && (2..=SKINNY_ROWS).contains(&s.m) && !s.transpose_a && s.transpose_b {
            // most likely a weight, whose transpose is there already
            return Ok(rows_times_transposed(a, b, (s.m, s.k, s.n)));
        }
        let (a, b) = (a.as_slice(), b.as_slice());
        Ok(CpuBuffer::build(len, |c| {
            let products =
                c.chunks_exact_mut(s.m * s.n).zip(a.chunks_exact(s.m * s.k)).zip(b.chunks_exact(s.k * s.n));
            for ((c, a), b) in products {
                if s.m == 1 {
                    vector_matrix(a, b, s.k, s.n, s.transpose_b, c);
                } else if s.n == 1 {
                    // c = A b is cᵀ = bᵀ Aᵀ
                    vector_matrix(b, a, s.k, s.m, !s.transpose_a, c);
                } else if s.m <= SKINNY_ROWS && !s.transpose_a && !s.transpose_b {
                    skinny::rows_times_matrix(a, b, c, s.k, s.n);
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
        dots(x, b, k, c);
    } else {
        skinny::rows_times_matrix(x, b, c, k, n);
    }
}

kernel! {
    /// Each row's dot product with `x`.
    fn dots<E>(x: &[E], rows: &[E], k: usize, c: &mut [E]) {
        let mut blocks = rows.chunks_exact(4 * k).zip(c.chunks_exact_mut(4));
        for (rows, c) in &mut blocks {
            let (a, b) = rows.split_at(2 * k);
            let ((r0, r1), (r2, r3)) = (a.split_at(k), b.split_at(k));
            c.copy_from_slice(&dot_of_four::<E, FUSED>(x, [r0, r1, r2, r3]));
        }
        let done = c.len() / 4 * 4;
        for (row, c) in rows[done * k..].chunks_exact(k).zip(&mut c[done..]) {
            *c = dot_of_four::<E, FUSED>(x, [row; 4])[0];
        }
    }
}

/// Four rows' dot products with `x`, whose elements are loaded once for all.
#[inline(always)]
pub(crate) fn dot_of_four<E: CpuElement, const FUSED: bool>(x: &[E], rows: [&[E]; 4]) -> [E; 4] {
    let mut lanes = [[E::zero(); 16]; 4];
    let (x, x_rest) = x.as_chunks::<16>();
    let rows = rows.map(|r| r.as_chunks::<16>());
    for (i, x) in x.iter().enumerate() {
        for (lanes, (row, _)) in lanes.iter_mut().zip(&rows) {
            for ((lane, &x), &w) in lanes.iter_mut().zip(x).zip(&row[i]) {
                *lane = fma::<E, FUSED>(x, w, *lane);
            }
        }
    }
    for (lanes, (_, rest)) in lanes.iter_mut().zip(&rows) {
        for ((lane, &x), &w) in lanes.iter_mut().zip(x_rest).zip(*rest) {
            *lane = fma::<E, FUSED>(x, w, *lane);
        }
    }
    lanes.map(fold)
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
