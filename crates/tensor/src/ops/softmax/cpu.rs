//! Softmax on the CPU, a row at a time.

use super::SoftmaxKernels;
use crate::Result;
use crate::cpu::{Cpu, CpuBuffer, CpuElement};
use crate::ops::reduce::sum;

impl<E: CpuElement> SoftmaxKernels for Cpu<E> {
    fn softmax(&self, x: &CpuBuffer<E>, cols: usize) -> Result<CpuBuffer<E>> {
        Ok(by_rows(x, cols, |x, y| {
            let top = maximum(x);
            for (y, &x) in y.iter_mut().zip(x) {
                *y = (x - top).exp();
            }
            let scale = E::one() / sum(y);
            for y in y {
                *y *= scale;
            }
        }))
    }

    fn log_softmax(&self, x: &CpuBuffer<E>, cols: usize) -> Result<CpuBuffer<E>> {
        Ok(by_rows(x, cols, |x, y| {
            let top = maximum(x);
            for (y, &x) in y.iter_mut().zip(x) {
                *y = (x - top).exp();
            }
            let shift = top + sum(y).ln();
            for (y, &x) in y.iter_mut().zip(x) {
                *y = x - shift;
            }
        }))
    }
}

/// Writes each output row from the input row beside it.
pub(crate) fn by_rows<E: CpuElement>(
    x: &CpuBuffer<E>,
    cols: usize,
    f: impl Fn(&[E], &mut [E]),
) -> CpuBuffer<E> {
    let x = x.as_slice();
    CpuBuffer::build(x.len(), |out| {
        for (x, out) in x.chunks_exact(cols).zip(out.chunks_exact_mut(cols)) {
            f(x, out);
        }
    })
}

/// The row's largest element; a NaN in it wins, so that it shows in the result.
fn maximum<E: CpuElement>(row: &[E]) -> E {
    row.iter().fold(E::neg_infinity(), |top, &x| if x > top || x.is_nan() { x } else { top })
}
