//! [`Map`] on the CPU.

use super::{Map, MapKernels};
use crate::Result;
use crate::cpu::simd::{fma, kernel};
use crate::cpu::{Cpu, CpuBuffer, CpuElement};

impl<E: CpuElement> MapKernels for Cpu<E> {
    fn map(&self, f: Map<E>, x: &CpuBuffer<E>) -> Result<CpuBuffer<E>> {
        let (zero, one) = (E::zero(), E::one());
        let flag = |on: bool| if on { one } else { zero };
        Ok(match f {
            Map::Scale(c) => x.map(|x| c * x),
            Map::Shift(c) => x.map(|x| c + x),
            // a NaN stays one, so that it shows
            Map::AtMost(c) => x.map(|x| if x >= c { c } else { x }),
            Map::Below(c) => x.map(|x| flag(x < c)),
            Map::Exp => over(x, exp),
            Map::Ln => x.map(E::ln),
            Map::Sqrt => x.map(E::sqrt),
            Map::Sigmoid => over(x, sigmoid),
            Map::Relu => x.map(|x| if x <= zero { zero } else { x }),
            Map::Positive => x.map(|x| flag(x > zero)),
            Map::Gelu => over(x, gelu),
            Map::GeluSlope => over(x, gelu_slope),
            Map::NormalDensity => over(x, normal_density),
        })
    }
}

fn over<E: CpuElement>(x: &CpuBuffer<E>, f: impl Fn(&[E], &mut [E])) -> CpuBuffer<E> {
    CpuBuffer::build(x.as_slice().len(), |out| f(x.as_slice(), out))
}

kernel! {
    fn exp<E>(x: &[E], out: &mut [E]) {
        for (out, &x) in out.iter_mut().zip(x) {
            *out = x.exp_in_loop::<FUSED>();
        }
    }
}

kernel! {
    fn sigmoid<E>(x: &[E], out: &mut [E]) {
        for (out, &x) in out.iter_mut().zip(x) {
            *out = E::one() / (E::one() + (-x).exp_in_loop::<FUSED>());
        }
    }
}

kernel! {
    fn gelu<E>(x: &[E], out: &mut [E]) {
        for (out, &x) in out.iter_mut().zip(x) {
            *out = x * x.normal_in_loop::<FUSED>().0;
        }
    }
}

kernel! {
    fn gelu_slope<E>(x: &[E], out: &mut [E]) {
        for (out, &x) in out.iter_mut().zip(x) {
            let (cdf, density) = x.normal_in_loop::<FUSED>();
            *out = fma::<E, FUSED>(x, density, cdf);
        }
    }
}

kernel! {
    fn normal_density<E>(x: &[E], out: &mut [E]) {
        for (out, &x) in out.iter_mut().zip(x) {
            *out = x.normal_in_loop::<FUSED>().1;
        }
    }
}
