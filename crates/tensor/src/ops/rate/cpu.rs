//! Learning rates on the CPU.

use super::{RateConstants, RateKernels};
use crate::Result;
use crate::cpu::simd::kernel;
use crate::cpu::{Cpu, CpuBuffer, CpuElement};

impl<E: CpuElement> RateKernels for Cpu<E> {
    fn rates(
        &self,
        constants: RateConstants<E>,
        g: &CpuBuffer<E>,
        s: &CpuBuffer<E>,
    ) -> Result<[CpuBuffer<E>; 3]> {
        let len = g.as_slice().len();
        let (mut gate, mut clip) = (CpuBuffer::build(len, |_| ()), CpuBuffer::build(len, |_| ()));
        let eta = CpuBuffer::build(len, |eta| {
            forward(constants, g.as_slice(), s.as_slice(), eta, gate.make_mut(), clip.make_mut());
        });
        Ok([eta, gate, clip])
    }

    fn rates_back(
        &self,
        constants: RateConstants<E>,
        g: &CpuBuffer<E>,
        s: &CpuBuffer<E>,
        grad: &CpuBuffer<E>,
    ) -> Result<[CpuBuffer<E>; 2]> {
        let len = g.as_slice().len();
        let mut ds = CpuBuffer::build(len, |_| ());
        let dg = CpuBuffer::build(len, |dg| {
            backward(constants, g.as_slice(), s.as_slice(), grad.as_slice(), dg, ds.make_mut());
        });
        Ok([dg, ds])
    }
}

/// sigmoid(g), n, and `most / (n + ε)`, as the operations one by one round them.
#[inline(always)]
fn parts<E: CpuElement, const FUSED: bool>(k: RateConstants<E>, g: E, s: E) -> [E; 3] {
    let gate = E::one() / (E::one() + (-g).exp_in_loop::<FUSED>());
    let norm = (k.floor + k.share * s).sqrt();
    [gate, norm, k.most / (k.floor + norm)]
}

kernel! {
    fn forward<E>(k: RateConstants<E>, g: &[E], s: &[E], eta: &mut [E], gate: &mut [E], clip: &mut [E]) {
        for (i, (&g, &s)) in g.iter().zip(s).enumerate() {
            let [asked, _, ratio] = parts::<E, FUSED>(k, g, s);
            // a NaN stays one, so that it shows
            let kept = if ratio >= E::one() { E::one() } else { ratio };
            (eta[i], gate[i], clip[i]) = (k.largest * (asked * kept), asked, kept);
        }
    }
}

kernel! {
    fn backward<E>(k: RateConstants<E>, g: &[E], s: &[E], grad: &[E], dg: &mut [E], ds: &mut [E]) {
        let half = E::of(0.5);
        for (i, ((&g, &s), &grad)) in g.iter().zip(s).zip(grad).enumerate() {
            let [gate, norm, ratio] = parts::<E, FUSED>(k, g, s);
            let clip = if ratio >= E::one() { E::one() } else { ratio };
            let below = if ratio < E::one() { E::one() } else { E::zero() };
            let by_part = k.largest * grad;
            dg[i] = (by_part * clip) * (gate - gate * gate);
            let by_norm = -((by_part * gate * below) * ratio / (k.floor + norm));
            ds[i] = k.share * (half * (by_norm / norm));
        }
    }
}
