//! [`Map`] on the CPU.

use super::{Map, MapKernels};
use crate::Result;
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
            Map::Exp => x.map(E::exp),
            Map::Ln => x.map(E::ln),
            Map::Sqrt => x.map(E::sqrt),
            Map::Sigmoid => x.map(|x| one / (one + (-x).exp())),
            Map::Relu => x.map(|x| if x <= zero { zero } else { x }),
            Map::Positive => x.map(|x| flag(x > zero)),
            Map::Gelu => x.map(|x| x * x.normal_cdf()),
            Map::GeluSlope => x.map(|x| x.normal_cdf() + x * x.normal_density()),
            Map::NormalDensity => x.map(E::normal_density),
        })
    }
}
