//! Softmax on the CPU, a row at a time.

use super::SoftmaxKernels;
use crate::Result;
use crate::cpu::simd::kernel;
use crate::cpu::{Cpu, CpuBuffer, CpuElement};
use crate::ops::reduce::sum;

impl<E: CpuElement> SoftmaxKernels for Cpu<E> {
    fn softmax(&self, x: &CpuBuffer<E>, cols: usize) -> Result<CpuBuffer<E>> {
        let x = x.as_slice();
        Ok(CpuBuffer::build(x.len(), |out| softmax_rows(x, cols, out)))
    }

    fn log_softmax(&self, x: &CpuBuffer<E>, cols: usize) -> Result<CpuBuffer<E>> {
        let x = x.as_slice();
        Ok(CpuBuffer::build(x.len(), |out| log_softmax_rows(x, cols, out)))
    }
}

/// Writes `exp(x − max)` of a row, returns max and the sum.
#[inline(always)]
pub(crate) fn exponentials<E: CpuElement, const FUSED: bool>(x: &[E], y: &mut [E]) -> (E, E) {
    let top = maximum(x);
    for (y, &x) in y.iter_mut().zip(x) {
        *y = (x - top).exp_in_loop::<FUSED>();
    }
    (top, sum(y))
}

kernel! {
    fn softmax_rows<E>(x: &[E], cols: usize, out: &mut [E]) {
        for (x, y) in x.chunks_exact(cols).zip(out.chunks_exact_mut(cols)) {
            let (_, sum) = exponentials::<E, FUSED>(x, y);
            let scale = E::one() / sum;
            for y in y {
                *y *= scale;
            }
        }
    }
}

kernel! {
    fn log_softmax_rows<E>(x: &[E], cols: usize, out: &mut [E]) {
        for (x, y) in x.chunks_exact(cols).zip(out.chunks_exact_mut(cols)) {
            let (top, sum) = exponentials::<E, FUSED>(x, y);
            let shift = top + sum.ln();
            for (y, &x) in y.iter_mut().zip(x) {
                *y = x - shift;
            }
        }
    }
}

/// The row's largest element; a NaN in it wins, so that it shows in the result.
#[inline(always)]
fn maximum<E: CpuElement>(row: &[E]) -> E {
    row.iter().fold(E::neg_infinity(), |top, &x| if x > top || x.is_nan() { x } else { top })
}
