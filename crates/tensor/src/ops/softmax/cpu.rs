//! Softmax on the CPU, a row at a time.

use super::SoftmaxKernels;
use crate::Result;
use crate::cpu::simd::kernel;
use crate::cpu::{Cpu, CpuBuffer, CpuElement};
use crate::ops::reduce::fold;

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

/// Elements of a row that are taken at once; a row's last block is filled up with what changes nothing.
const LANES: usize = 16;

/// Writes `exp(x − max)` of a row, returns max and the sum.
#[inline(always)]
pub(crate) fn exponentials<E: CpuElement, const FUSED: bool>(x: &[E], y: &mut [E]) -> (E, E) {
    let top = maximum(x);
    let ((x, x_rest), (y, y_rest)) = (x.as_chunks::<LANES>(), y.as_chunks_mut::<LANES>());
    let mut sums = [E::zero(); LANES];
    for (x, y) in x.iter().zip(y) {
        for ((sum, y), &x) in sums.iter_mut().zip(y).zip(x) {
            *y = (x - top).exp_in_loop::<FUSED>();
            *sum += *y;
        }
    }
    let mut last = [E::neg_infinity(); LANES];
    last[..x_rest.len()].copy_from_slice(x_rest);
    for x in &mut last {
        *x = (*x - top).exp_in_loop::<FUSED>();
    }
    y_rest.copy_from_slice(&last[..x_rest.len()]);
    for (sum, &y) in sums.iter_mut().zip(y_rest.iter()) {
        *sum += y;
    }
    (top, fold(sums))
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
    let larger = |top: E, x: E| if x > top || x.is_nan() { x } else { top };
    let (blocks, rest) = row.as_chunks::<LANES>();
    let mut tops = [E::neg_infinity(); LANES];
    for block in blocks {
        for (top, &x) in tops.iter_mut().zip(block) {
            *top = larger(*top, x);
        }
    }
    for (top, &x) in tops.iter_mut().zip(rest) {
        *top = larger(*top, x);
    }
    let mut top = tops[0];
    for &x in &tops[1..] {
        top = larger(top, x);
    }
    top
}
