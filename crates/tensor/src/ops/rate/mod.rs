//! The learning rate that a gate asks for, turned down where a change would be too large: `η = η0 sigmoid(g) clip`,
//! `clip = min(1, most / (n + ε))`, `n = sqrt(c s + ε)`, of a pre-activation g and a squared norm s.
//!
//! One operation for what would be ten on a handful of numbers, at every step of a sequence: there and back, what they cost
//! is their count.

use smallvec::smallvec;

use crate::ops::map::Map;
use crate::tape::{Grads, Op, Recorded};
use crate::{Array, Backend, Element, Result, Storage, Tape, Tensor};

mod cpu;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;
#[cfg(test)]
mod tests;

/// The constants of a learning rate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RateConstants<E = f64> {
    /// η0, the largest rate.
    pub largest: E,
    /// The norm from which the rate is turned down.
    pub most: E,
    /// c, what the squared norm is multiplied by.
    pub share: E,
    /// ε, so that the root has a derivative at zero, and the quotient a value.
    pub floor: E,
}

impl RateConstants {
    fn to<E: Element>(self) -> RateConstants<E> {
        let Self { largest, most, share, floor } = self;
        let [largest, most, share, floor] = [largest, most, share, floor].map(E::of);
        RateConstants { largest, most, share, floor }
    }
}

/// Kernels of learning rates, g and s having as many elements.
pub trait RateKernels: Storage {
    /// η, sigmoid(g) and clip of each element.
    ///
    /// # Errors
    /// Device errors.
    fn rates(
        &self,
        constants: RateConstants<Self::Elem>,
        g: &Self::Buffer,
        s: &Self::Buffer,
    ) -> Result<[Self::Buffer; 3]>;

    /// The derivatives by g and s, given that by η.
    ///
    /// # Errors
    /// Device errors.
    fn rates_back(
        &self,
        constants: RateConstants<Self::Elem>,
        g: &Self::Buffer,
        s: &Self::Buffer,
        grad: &Self::Buffer,
    ) -> Result<[Self::Buffer; 2]>;
}

/// What a rate is made of, in plain operations.
struct Parts<B: Backend> {
    gate: Tensor<B>,
    norm: Tensor<B>,
    /// `most / (n + ε)`
    ratio: Tensor<B>,
    clip: Tensor<B>,
}

impl<B: Backend> Parts<B> {
    fn of(constants: RateConstants, g: &Tensor<B>, s: &Tensor<B>) -> Result<Self> {
        let RateConstants { most, share, floor, .. } = constants;
        let norm = s.scale(share)?.shift(floor)?.sqrt()?;
        let ratio = Tensor::zeros(s.backend(), s.shape())?.shift(most)?.div(&norm.shift(floor)?)?;
        Ok(Self { gate: g.sigmoid()?, norm, clip: ratio.at_most(1.0)?, ratio })
    }
}

/// Inputs: g and s.
struct LearningRate(RateConstants);

impl<B: Backend> Op<B> for LearningRate {
    fn name(&self) -> &'static str {
        "learning_rate"
    }

    fn backward(&self, r: &Recorded<'_, B>, grad: &Tensor<B>) -> Result<Grads<B>> {
        let [g, s] = r.inputs else { unreachable!("two inputs were recorded") };
        let wanted = |i: usize, t: Tensor<B>| r.wanted[i].then_some(t);
        if r.is_plain() {
            let [g_buffer, s_buffer, grad] = [g, s, grad].map(|t| &t.array.buffer);
            let back = g.backend().rates_back(self.0.to(), g_buffer, s_buffer, grad)?;
            let [dg, ds] = back.map(|d| Tensor::from(Array::new(g.backend(), d, g.shape())));
            return Ok(smallvec![wanted(0, dg), wanted(1, ds)]);
        }
        let Parts { gate, norm, ratio, clip } = Parts::of(self.0, g, s)?;
        let by_part = grad.scale(self.0.largest)?;
        let by_g = by_part.mul(&clip)?.mul(&gate.sub(&gate.square()?)?)?;
        let below = ratio.detach().map(Map::Below(B::Elem::of(1.0)))?;
        let by_ratio = by_part.mul(&gate)?.mul(&below)?;
        let by_norm = by_ratio.mul(&ratio)?.div(&norm.shift(self.0.floor)?)?.scale(-1.0)?;
        let by_s = by_norm.div(&norm)?.scale(0.5)?.scale(self.0.share)?;
        Ok(smallvec![wanted(0, by_g), wanted(1, by_s)])
    }
}

/// η, and as plain values sigmoid(g) and clip, of pre-activations `g` and squared norms `s` of one shape.
///
/// # Errors
/// [`TensorError::Incompatible`](crate::TensorError::Incompatible) when the shapes differ.
pub fn learning_rate<B: Backend>(
    constants: RateConstants,
    g: &Tensor<B>,
    s: &Tensor<B>,
) -> Result<[Tensor<B>; 3]> {
    if g.shape() != s.shape() {
        return Err(g.incompatible("learning_rate", s, "a squared norm for every gate"));
    }
    let buffers = g.backend().rates(constants.to(), &g.array.buffer, &s.array.buffer)?;
    let [eta, gate, clip] = buffers.map(|buffer| Array::new(g.backend(), buffer, g.shape()));
    Ok([Tape::record(LearningRate(constants), &[g, s], eta)?, gate.into(), clip.into()])
}
