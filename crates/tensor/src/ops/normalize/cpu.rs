//! Standardising rows on the CPU.

use super::NormalizeKernels;
use crate::Result;
use crate::cpu::{Cpu, CpuBuffer, CpuElement};
use crate::ops::reduce::{dot, sum};

impl<E: CpuElement> NormalizeKernels for Cpu<E> {
    fn normalize(&self, x: &CpuBuffer<E>, cols: usize, eps: f64) -> Result<CpuBuffer<E>> {
        let x = x.as_slice();
        Ok(CpuBuffer::build(x.len(), |out| {
            for (x, out) in x.chunks_exact(cols).zip(out.chunks_exact_mut(cols)) {
                standardise(x, eps, out);
            }
        }))
    }

    fn normalize_slope(
        &self,
        x: &CpuBuffer<E>,
        g: &CpuBuffer<E>,
        cols: usize,
        eps: f64,
    ) -> Result<CpuBuffer<E>> {
        let (x, g) = (x.as_slice(), g.as_slice());
        let n = E::of(cols as f64);
        let mut hat = vec![E::zero(); cols];
        Ok(CpuBuffer::build(x.len(), |out| {
            for ((x, g), out) in
                x.chunks_exact(cols).zip(g.chunks_exact(cols)).zip(out.chunks_exact_mut(cols))
            {
                let r = standardise(x, eps, &mut hat);
                let (mean, along) = (sum(g) / n, dot(g, &hat) / n);
                for ((out, &g), &hat) in out.iter_mut().zip(g).zip(&hat) {
                    *out = r * (g - mean - hat * along);
                }
            }
        }))
    }
}

/// Writes the standardised row, returns `1/sqrt(variance + eps)`.
fn standardise<E: CpuElement>(x: &[E], eps: f64, out: &mut [E]) -> E {
    let n = E::of(x.len() as f64);
    let mean = sum(x) / n;
    for (out, &x) in out.iter_mut().zip(x) {
        *out = x - mean;
    }
    let r = E::one() / (dot(out, out) / n + E::of(eps)).sqrt();
    for out in out {
        *out *= r;
    }
    r
}
