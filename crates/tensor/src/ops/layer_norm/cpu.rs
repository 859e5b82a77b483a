//! Layer normalisation on the CPU: a row at a time, in one visit.

use super::{LayerNormGrad, LayerNormKernels};
use crate::Result;
use crate::cpu::simd::{fma, kernel};
use crate::cpu::{Cpu, CpuBuffer, CpuElement};
use crate::ops::reduce::{dot, sum};

impl<E: CpuElement> LayerNormKernels for Cpu<E> {
    fn layer_norm(
        &self,
        x: &CpuBuffer<E>,
        gamma: &CpuBuffer<E>,
        beta: &CpuBuffer<E>,
        cols: usize,
        eps: f64,
    ) -> Result<CpuBuffer<E>> {
        let x = x.as_slice();
        let (gamma, beta) = (gamma.as_slice(), beta.as_slice());
        Ok(CpuBuffer::build(x.len(), |out| forward(x, gamma, beta, cols, E::of(eps), out)))
    }

    fn layer_norm_grad(
        &self,
        x: &CpuBuffer<E>,
        gamma: &CpuBuffer<E>,
        grad: &CpuBuffer<E>,
        cols: usize,
        eps: f64,
        parameters: bool,
    ) -> Result<LayerNormGrad<CpuBuffer<E>>> {
        let (x, gamma, grad) = (x.as_slice(), gamma.as_slice(), grad.as_slice());
        let mut sums = CpuBuffer::zeros(if parameters { 2 * cols } else { 0 });
        let dx = CpuBuffer::build(x.len(), |dx| {
            backward(x, gamma, grad, cols, E::of(eps), dx, sums.make_mut());
        });
        let parameters = parameters.then(|| {
            let (d_gamma, d_beta) = sums.as_slice().split_at(cols);
            let copy = |part: &[E]| CpuBuffer::build(cols, |out| out.copy_from_slice(part));
            (copy(d_gamma), copy(d_beta))
        });
        Ok(LayerNormGrad { x: dx, parameters })
    }
}

/// Mean and 1/sqrt(variance + eps) of a row.
#[inline(always)]
fn moments<E: CpuElement>(x: &[E], eps: E, centred: &mut [E]) -> E {
    let n = E::of(x.len() as f64);
    let mean = sum(x) / n;
    for (c, &x) in centred.iter_mut().zip(x) {
        *c = x - mean;
    }
    E::one() / (dot(centred, centred) / n + eps).sqrt()
}

kernel! {
    fn forward<E>(x: &[E], gamma: &[E], beta: &[E], cols: usize, eps: E, out: &mut [E]) {
        for (x, out) in x.chunks_exact(cols).zip(out.chunks_exact_mut(cols)) {
            let r = moments(x, eps, out);
            for ((out, &gamma), &beta) in out.iter_mut().zip(gamma).zip(beta) {
                *out = fma::<E, FUSED>(*out * r, gamma, beta);
            }
        }
    }
}

kernel! {
    /// `sums` is dγ then dβ, or empty.
    fn backward<E>(x: &[E], gamma: &[E], grad: &[E], cols: usize, eps: E, dx: &mut [E], sums: &mut [E]) {
        let n = E::of(cols as f64);
        let half = sums.len() / 2;
        let (d_gamma, d_beta) = sums.split_at_mut(half);
        for ((x, g), dx) in x.chunks_exact(cols).zip(grad.chunks_exact(cols)).zip(dx.chunks_exact_mut(cols)) {
            let r = moments(x, eps, dx);
            let (mut mean, mut along) = ([E::zero(); 16], [E::zero(); 16]);
            for ((dx, g), gamma) in dx.chunks_mut(16).zip(g.chunks(16)).zip(gamma.chunks(16)) {
                for ((((dx, &g), &gamma), mean), along) in
                    dx.iter_mut().zip(g).zip(gamma).zip(&mut mean).zip(&mut along)
                {
                    *dx *= r;
                    let h = g * gamma;
                    *mean += h;
                    *along = fma::<E, FUSED>(h, *dx, *along);
                }
            }
            for (((dg, db), &g), &hat) in d_gamma.iter_mut().zip(d_beta.iter_mut()).zip(g).zip(&*dx) {
                *dg = fma::<E, FUSED>(g, hat, *dg);
                *db += g;
            }
            let (mean, along) = (sum(&mean) / n, sum(&along) / n);
            for ((dx, &g), &gamma) in dx.iter_mut().zip(g).zip(gamma) {
                *dx = r * (fma::<E, FUSED>(g, gamma, -mean) - *dx * along);
            }
        }
    }
}
