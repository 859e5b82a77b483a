//! Functions of one element.

use smallvec::smallvec;

use crate::tape::{Grads, Op, Recorded};
use crate::{Array, Backend, Element, Result, Storage, Tape, Tensor};

mod cpu;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;
#[cfg(test)]
mod tests;

/// A function applied to every element.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Map<E> {
    /// `c x`
    Scale(E),
    /// `x + c`
    Shift(E),
    /// `min(x, c)`
    AtMost(E),
    /// 1 where `x < c`, else 0: the derivative of [`Map::AtMost`]
    Below(E),
    /// `exp(x)`
    Exp,
    /// `ln(x)`
    Ln,
    /// `sqrt(x)`
    Sqrt,
    /// `1 / (1 + exp(-x))`
    Sigmoid,
    /// `max(x, 0)`
    Relu,
    /// 1 where `x > 0`, else 0: the derivative of [`Map::Relu`]
    Positive,
    /// `x Φ(x)`, Φ the standard normal distribution function (the exact, erf form)
    Gelu,
    /// `Φ(x) + x φ(x)`: the derivative of [`Map::Gelu`], φ the standard normal density
    GeluSlope,
    /// `φ(x)`
    NormalDensity,
}

/// Kernels of [`Map`].
pub trait MapKernels: Storage {
    /// Applies `f` to every element of `x`.
    ///
    /// # Errors
    /// Device errors.
    fn map(&self, f: Map<Self::Elem>, x: &Self::Buffer) -> Result<Self::Buffer>;
}

struct Mapped<E>(Map<E>);

impl<B: Backend> Op<B> for Mapped<B::Elem> {
    fn name(&self) -> &'static str {
        "map"
    }

    fn backward(&self, r: &Recorded<'_, B>, grad: &Tensor<B>) -> Result<Grads<B>> {
        let (x, y) = (&r.inputs[0], r.output);
        if let (Map::Gelu | Map::GeluSlope, Some(kernels)) = (self.0, r.onto()) {
            let (before, given) = (r.take_sum(0), (&x.array.buffer, &grad.array.buffer));
            let dx = match self.0 {
                Map::Gelu => kernels.gelu_back(given.0, given.1, before.as_ref())?,
                _ => kernels.gelu_slope_back(given.0, given.1, before.as_ref())?,
            };
            return Ok(smallvec![Some(Array::new(x.backend(), dx, x.shape()).into())]);
        }
        let dx = match self.0 {
            Map::Scale(c) => grad.map(Map::Scale(c))?,
            Map::Shift(_) => grad.clone(),
            Map::AtMost(c) => grad.mul(&x.detach().map(Map::Below(c))?)?,
            Map::Relu => grad.mul(&x.detach().map(Map::Positive)?)?,
            // piecewise constant: no derivative, but the output may still be tracked
            Map::Below(_) | Map::Positive => grad.map(Map::Scale(B::Elem::of(0.0)))?,
            Map::Exp => grad.mul(y)?,
            Map::Ln => grad.div(x)?,
            Map::Sqrt => grad.div(y)?.scale(0.5)?,
            Map::Sigmoid => grad.mul(&y.sub(&y.square()?)?)?,
            Map::Gelu => grad.mul(&x.map(Map::GeluSlope)?)?,
            // d/dx (Φ + xφ) = φ (2 − x²)
            Map::GeluSlope => {
                grad.mul(&x.map(Map::NormalDensity)?.mul(&x.square()?.scale(-1.0)?.shift(2.0)?)?)?
            }
            Map::NormalDensity => grad.mul(&y.mul(x)?.scale(-1.0)?)?,
        };
        Ok(smallvec![Some(dx)])
    }
}

impl<B: Backend> Tensor<B> {
    /// `f` of every element.
    pub(crate) fn map(&self, f: Map<B::Elem>) -> Result<Self> {
        let buffer = self.backend().map(f, &self.array.buffer)?;
        Tape::record(Mapped(f), &[self], Array::new(self.backend(), buffer, self.shape()))
    }

    /// `c x`
    ///
    /// # Errors
    /// Device errors; so for every function of one element.
    pub fn scale(&self, c: f64) -> Result<Self> {
        self.map(Map::Scale(B::Elem::of(c)))
    }

    /// `x + c`
    ///
    /// # Errors
    /// Device errors.
    pub fn shift(&self, c: f64) -> Result<Self> {
        self.map(Map::Shift(B::Elem::of(c)))
    }

    /// `min(x, c)`; its derivative is 1 below `c` and 0 from there on.
    ///
    /// # Errors
    /// Device errors.
    pub fn at_most(&self, c: f64) -> Result<Self> {
        self.map(Map::AtMost(B::Elem::of(c)))
    }

    /// `exp(x)`
    ///
    /// # Errors
    /// Device errors.
    pub fn exp(&self) -> Result<Self> {
        self.map(Map::Exp)
    }

    /// Natural logarithm.
    ///
    /// # Errors
    /// Device errors.
    pub fn ln(&self) -> Result<Self> {
        self.map(Map::Ln)
    }

    /// Square root.
    ///
    /// # Errors
    /// Device errors.
    pub fn sqrt(&self) -> Result<Self> {
        self.map(Map::Sqrt)
    }

    /// `x²`
    ///
    /// # Errors
    /// Device errors.
    pub fn square(&self) -> Result<Self> {
        self.mul(self)
    }

    /// Logistic function, `1 / (1 + exp(-x))`.
    ///
    /// # Errors
    /// Device errors.
    pub fn sigmoid(&self) -> Result<Self> {
        self.map(Map::Sigmoid)
    }

    /// `max(x, 0)`
    ///
    /// # Errors
    /// Device errors.
    pub fn relu(&self) -> Result<Self> {
        self.map(Map::Relu)
    }

    /// Gaussian error linear unit `x Φ(x)`, in its exact form (Hendrycks and Gimpel, arXiv 1606.08415).
    ///
    /// # Errors
    /// Device errors.
    pub fn gelu(&self) -> Result<Self> {
        self.map(Map::Gelu)
    }
}
