//! Norms of changes of rank one, on the CPU.

use super::RankOneKernels;
use crate::Result;
use crate::cpu::simd::{fma, kernel};
use crate::cpu::{Cpu, CpuBuffer, CpuElement};
use crate::ops::reduce::fold;

impl<E: CpuElement> RankOneKernels for Cpu<E> {
    fn rank_one_norms(&self, pairs: &[(&CpuBuffer<E>, &CpuBuffer<E>)], batch: usize) -> Result<CpuBuffer<E>> {
        Ok(CpuBuffer::build(batch, |sums| {
            sums.fill(E::zero());
            for (p, q) in pairs {
                add_products(p.as_slice(), q.as_slice(), sums);
            }
        }))
    }

    fn rank_one_norms_back(
        &self,
        p: &CpuBuffer<E>,
        q: &CpuBuffer<E>,
        grad: &CpuBuffer<E>,
    ) -> Result<[CpuBuffer<E>; 2]> {
        let (p, q, g) = (p.as_slice(), q.as_slice(), grad.as_slice());
        let scaled =
            |t: &[E], other: &[E]| CpuBuffer::build(t.len(), |out| scale_rows_by_norms(t, other, g, out));
        Ok([scaled(p, q), scaled(q, p)])
    }
}

#[inline(always)]
fn squared_norm<E: CpuElement, const FUSED: bool>(row: &[E]) -> E {
    let mut lanes = [E::zero(); 16];
    let (blocks, rest) = row.as_chunks::<16>();
    for block in blocks {
        for (lane, &x) in lanes.iter_mut().zip(block) {
            *lane = fma::<E, FUSED>(x, x, *lane);
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(rest) {
        *lane = fma::<E, FUSED>(x, x, *lane);
    }
    fold(lanes)
}

kernel! {
    fn add_products<E>(p: &[E], q: &[E], sums: &mut [E]) {
        let rows = sums.len().max(1);
        let (out, inp) = (p.len() / rows, q.len() / rows);
        for (b, sum) in sums.iter_mut().enumerate() {
            let p = squared_norm::<E, FUSED>(&p[b * out..(b + 1) * out]);
            *sum += p * squared_norm::<E, FUSED>(&q[b * inp..(b + 1) * inp]);
        }
    }
}

kernel! {
    /// `out = 2 g ‖other‖² t` by rows, g a row each.
    fn scale_rows_by_norms<E>(t: &[E], other: &[E], g: &[E], out: &mut [E]) {
        let rows = g.len().max(1);
        let (width, others) = (t.len() / rows, other.len() / rows);
        for (b, &g) in g.iter().enumerate() {
            let factor = (g + g) * squared_norm::<E, FUSED>(&other[b * others..(b + 1) * others]);
            let row = b * width..(b + 1) * width;
            for (out, &x) in out[row.clone()].iter_mut().zip(&t[row]) {
                *out = factor * x;
            }
        }
    }
}
