//! Fast weights as a history, on the CPU.

use smallvec::{SmallVec, smallvec};

use super::{Changes, HistoryKernels};
use crate::Result;
use crate::cpu::simd::{fma, kernel};
use crate::cpu::{Cpu, CpuBuffer, CpuElement};
use crate::ops::fast::{Change, FastSizes};
use crate::ops::matmul::dot_of_four;

/// Elements of y that stay in registers over the changes.
const BLOCK: usize = 64;

impl<E: CpuElement> HistoryKernels for Cpu<E> {
    fn uniform(&self, x: &CpuBuffer<E>) -> Result<Option<E>> {
        let x = x.as_slice();
        let Some(&first) = x.first() else { return Ok(None) };
        Ok(x.chunks(1024).all(|block| all_are(block, first)).then_some(first))
    }

    fn append_change(
        &self,
        changes: &mut Changes<CpuBuffer<E>>,
        change: Change<'_, CpuBuffer<E>>,
        t: usize,
        capacity: usize,
        FastSizes { batch, out, inp }: FastSizes,
    ) -> Result<()> {
        let place = |all: &mut CpuBuffer<E>, rows: &CpuBuffer<E>, width: usize| {
            let all = all.make_mut();
            for (episode, row) in rows.as_slice().chunks_exact(width.max(1)).enumerate() {
                all[(episode * capacity + t) * width..][..width].copy_from_slice(row);
            }
        };
        place(&mut changes.p, change.p, out);
        place(&mut changes.q, change.q, inp);
        let weights = changes.weights.make_mut().chunks_exact_mut((capacity + 1) * capacity);
        for (weights, &eta) in weights.zip(change.eta.as_slice()).take(batch) {
            let (before, after) = weights.split_at_mut((t + 1) * capacity);
            for (after, &before) in after[..t].iter_mut().zip(&before[t * capacity..]) {
                *after = (E::one() - eta) * before;
            }
            after[t] = eta;
        }
        Ok(())
    }

    fn read_changes(
        &self,
        changes: &Changes<CpuBuffer<E>>,
        [alpha, beta]: [E; 2],
        x: &CpuBuffer<E>,
        y: &mut CpuBuffer<E>,
        t: usize,
        capacity: usize,
        FastSizes { out, inp, .. }: FastSizes,
    ) -> Result<()> {
        if t == 0 {
            return Ok(());
        }
        let rows = x.as_slice().chunks_exact(inp).zip(y.make_mut().chunks_exact_mut(out));
        for (episode, (x, y)) in rows.enumerate() {
            let p = &changes.p.as_slice()[episode * capacity * out..][..t * out];
            let q = &changes.q.as_slice()[episode * capacity * inp..][..t * inp];
            let weights = &changes.weights.as_slice()[(episode * (capacity + 1) + t) * capacity..][..t];
            read(p, q, weights, x, y, alpha, beta);
        }
        Ok(())
    }
}

kernel! {
    /// Whether every element equals `value`; a loop without branches.
    fn all_are<E>(x: &[E], value: E) -> bool {
        x.iter().fold(true, |all, &x| all & (x == value))
    }
}

kernel! {
    /// `y += Σ_s w_s (α q_s·x + β) p_s` of one episode.
    fn read<E>(p: &[E], q: &[E], weights: &[E], x: &[E], y: &mut [E], alpha: E, beta: E) {
        let mut factors: SmallVec<[E; 64]> = smallvec![E::zero(); weights.len()];
        for (factors, q) in factors.chunks_mut(4).zip(q.chunks(4 * x.len())) {
            let row = |i: usize| q.get(i * x.len()..(i + 1) * x.len()).unwrap_or(x);
            let dots = dot_of_four::<E, FUSED>(x, [row(0), row(1), row(2), row(3)]);
            factors.copy_from_slice(&dots[..factors.len()]);
        }
        for (factor, &weight) in factors.iter_mut().zip(weights) {
            *factor = weight * (alpha * *factor + beta);
        }
        let width = y.len();
        let (blocks, rest) = y.as_chunks_mut::<BLOCK>();
        let done = blocks.len() * BLOCK;
        for (i, y) in blocks.iter_mut().enumerate() {
            let mut sums = *y;
            for (p, &factor) in p.chunks_exact(width).zip(&factors) {
                for (sum, &p) in sums.iter_mut().zip(&p[i * BLOCK..]) {
                    *sum = fma::<E, FUSED>(factor, p, *sum);
                }
            }
            *y = sums;
        }
        for (p, &factor) in p.chunks_exact(width).zip(&factors) {
            for (y, &p) in rest.iter_mut().zip(&p[done..]) {
                *y = fma::<E, FUSED>(factor, p, *y);
            }
        }
    }
}
