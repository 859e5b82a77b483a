//! Linear layers on the CPU.

use super::LinearKernels;
use crate::Result;
use crate::cpu::simd::kernel;
use crate::cpu::{Cpu, CpuBuffer, CpuElement};
use crate::ops::matmul::rows_times_transposed;

impl<E: CpuElement> LinearKernels for Cpu<E> {
    fn linear(
        &self,
        x: &CpuBuffer<E>,
        weight: &CpuBuffer<E>,
        bias: &CpuBuffer<E>,
        rows: usize,
        inp: usize,
        out: usize,
    ) -> Result<CpuBuffer<E>> {
        let mut y = rows_times_transposed(x, weight, (rows, inp, out));
        add_row(y.make_mut(), bias.as_slice());
        Ok(y)
    }

    fn sum_of_outer_products(
        &self,
        pairs: &[(&CpuBuffer<E>, &CpuBuffer<E>)],
        out: usize,
        inp: usize,
    ) -> Result<CpuBuffer<E>> {
        if let &[(g, x)] = pairs {
            return Ok(tall_product(g.as_slice(), x.as_slice(), out, inp));
        }
        let (g, x): (Vec<_>, Vec<_>) = pairs.iter().copied().unzip();
        Ok(tall_product(join(&g).as_slice(), join(&x).as_slice(), out, inp))
    }

    fn sum_of_rows(&self, parts: &[&CpuBuffer<E>], width: usize) -> Result<CpuBuffer<E>> {
        Ok(CpuBuffer::build(width, |sum| {
            sum.fill(E::zero());
            parts.iter().for_each(|part| add_rows(sum, part.as_slice()));
        }))
    }
}

kernel! {
    /// Adds `row` to each row of y.
    fn add_row<E>(y: &mut [E], row: &[E]) {
        for y in y.chunks_exact_mut(row.len().max(1)) {
            for (y, &x) in y.iter_mut().zip(row) {
                *y += x;
            }
        }
    }
}

kernel! {
    /// Adds each row of x to `sum`.
    fn add_rows<E>(sum: &mut [E], x: &[E]) {
        for row in x.chunks_exact(sum.len().max(1)) {
            for (sum, &x) in sum.iter_mut().zip(row) {
                *sum += x;
            }
        }
    }
}

/// Buffers one after the other.
fn join<E: CpuElement>(parts: &[&CpuBuffer<E>]) -> CpuBuffer<E> {
    CpuBuffer::build(parts.iter().map(|part| part.as_slice().len()).sum(), |joined| {
        let mut rest = joined;
        for part in parts {
            let (here, next) = rest.split_at_mut(part.as_slice().len());
            here.copy_from_slice(part.as_slice());
            rest = next;
        }
    })
}

/// `gᵀ x`: g `[rows, out]`, x `[rows, inp]`.
fn tall_product<E: CpuElement>(g: &[E], x: &[E], out: usize, inp: usize) -> CpuBuffer<E> {
    let rows = g.len() / out.max(1);
    if rows == 0 || out * inp == 0 {
        return CpuBuffer::zeros(out * inp);
    }
    CpuBuffer::build(out * inp, |c| {
        // SAFETY: gᵀ is out × rows with strides (1, out), x rows × inp and contiguous, c out × inp, contiguous
        // and borrowed mutably, thus apart
        unsafe {
            E::gemm(
                (out, rows, inp),
                (g.as_ptr(), 1, out as isize),
                (x.as_ptr(), inp as isize, 1),
                E::zero(),
                (c.as_mut_ptr(), inp as isize, 1),
            );
        }
    })
}
