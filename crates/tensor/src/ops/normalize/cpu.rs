//! Standardising groups of elements on the CPU.

use super::{Groups, NormalizeKernels};
use crate::Result;
use crate::cpu::{Cpu, CpuBuffer, CpuElement};
use crate::ops::reduce::{dot, sum, sum_of};

impl<E: CpuElement> NormalizeKernels for Cpu<E> {
    fn normalize(&self, x: &CpuBuffer<E>, groups: Groups, eps: f64) -> Result<CpuBuffer<E>> {
        let x = x.as_slice();
        Ok(CpuBuffer::build(x.len(), |out| {
            for group in 0..groups.count {
                standardise(x, groups, group, eps, out);
            }
        }))
    }

    fn normalize_slope(
        &self,
        x: &CpuBuffer<E>,
        g: &CpuBuffer<E>,
        groups: Groups,
        eps: f64,
    ) -> Result<CpuBuffer<E>> {
        let (x, g, n) = (x.as_slice(), g.as_slice(), E::of(groups.size() as f64));
        Ok(CpuBuffer::build(x.len(), |out| {
            for group in 0..groups.count {
                // the output holds x̂ until it is done with
                let r = standardise(x, groups, group, eps, out);
                let (mut mean, mut along) = (E::zero(), E::zero());
                for at in groups.runs(group) {
                    mean += sum(&g[at.clone()]);
                    along += dot(&g[at.clone()], &out[at]);
                }
                (mean, along) = (mean / n, along / n);
                for at in groups.runs(group) {
                    for (out, &g) in out[at.clone()].iter_mut().zip(&g[at]) {
                        *out = r * (g - mean - *out * along);
                    }
                }
            }
        }))
    }

    fn moments(&self, x: &CpuBuffer<E>, groups: Groups) -> Result<(CpuBuffer<E>, CpuBuffer<E>)> {
        let (x, n) = (x.as_slice(), E::of(groups.size() as f64));
        let means = CpuBuffer::build(groups.count, |means| {
            for (group, mean) in means.iter_mut().enumerate() {
                *mean = mean_of(x, groups, group);
            }
        });
        let variances = CpuBuffer::build(groups.count, |variances| {
            for (group, (variance, &mean)) in variances.iter_mut().zip(means.as_slice()).enumerate() {
                let squares = |run| sum_of(run, |x| (x - mean) * (x - mean));
                *variance = groups.runs(group).map(|at| squares(&x[at])).sum::<E>() / n;
            }
        });
        Ok((means, variances))
    }
}

fn mean_of<E: CpuElement>(x: &[E], groups: Groups, group: usize) -> E {
    groups.runs(group).map(|at| sum(&x[at])).sum::<E>() / E::of(groups.size() as f64)
}

/// Writes the standardised group, returns `1/sqrt(variance + eps)`.
fn standardise<E: CpuElement>(x: &[E], groups: Groups, group: usize, eps: f64, out: &mut [E]) -> E {
    let mean = mean_of(x, groups, group);
    let mut squares = E::zero();
    for at in groups.runs(group) {
        let out = &mut out[at.clone()];
        for (out, &x) in out.iter_mut().zip(&x[at]) {
            *out = x - mean;
        }
        squares += dot(out, out);
    }
    let r = E::one() / (squares / E::of(groups.size() as f64) + E::of(eps)).sqrt();
    for at in groups.runs(group) {
        for out in &mut out[at] {
            *out *= r;
        }
    }
    r
}
