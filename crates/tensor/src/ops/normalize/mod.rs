//! Standardising rows: the heart of layer normalisation (Ba, Kiros and Hinton, arXiv 1607.06450) and, over
//! another arrangement of the axes, of batch normalisation.

use smallvec::smallvec;

use crate::tape::{Grads, Op, Recorded};
use crate::{Array, Backend, Result, Storage, Tape, Tensor};

mod cpu;

/// Kernels over rows of `cols` elements.
pub trait NormalizeKernels: Storage {
    /// `(x − mean) r` of each row, `r = 1/sqrt(variance + eps)`, population variance.
    ///
    /// # Errors
    /// Device errors.
    fn normalize(&self, x: &Self::Buffer, cols: usize, eps: f64) -> Result<Self::Buffer>;

    /// The derivative of `normalize` at `x` applied to `g`: with `x̂` the normalised row,
    /// `r (g − mean(g) − x̂ mean(g x̂))`. It is its own transpose.
    ///
    /// # Errors
    /// Device errors.
    fn normalize_slope(
        &self,
        x: &Self::Buffer,
        g: &Self::Buffer,
        cols: usize,
        eps: f64,
    ) -> Result<Self::Buffer>;
}

struct Normalize {
    eps: f64,
}

impl<B: Backend> Op<B> for Normalize {
    fn name(&self) -> &'static str {
        "normalize"
    }

    fn backward(&self, r: &Recorded<'_, B>, grad: &Tensor<B>) -> Result<Grads<B>> {
        Ok(smallvec![Some(r.inputs[0].normalize_slope(grad, self.eps)?)])
    }
}

struct NormalizeSlope {
    eps: f64,
}

impl<B: Backend> Op<B> for NormalizeSlope {
    fn name(&self) -> &'static str {
        "normalize_slope"
    }

    fn backward(&self, rec: &Recorded<'_, B>, h: &Tensor<B>) -> Result<Grads<B>> {
        let (x, g, jg) = (&rec.inputs[0], &rec.inputs[1], rec.output);
        let last = x.shape().rank() - 1;
        let cols = x.shape()[last] as f64;
        let jh = x.normalize_slope(h, self.eps)?;
        // ⟨h, J g⟩ depends on x through r and x̂, and dx̂ = J dx, dr = −r² x̂/n dx:
        // dx = −r (x̂ mean(h J g) + mean(h x̂) J g + mean(g x̂) J h)
        let dx = rec.want(0, || {
            let row_mean = |t: Tensor<B>| t.sum_axis(last)?.scale(1.0 / cols);
            let hat = x.normalize(self.eps)?;
            let centred = x.sub(&row_mean(x.clone())?)?;
            let variance = row_mean(centred.square()?)?;
            let r = variance.shift(self.eps)?.sqrt()?;
            let through_r = hat.mul(&row_mean(h.mul(jg)?)?)?;
            let through_hat = jg.mul(&row_mean(h.mul(&hat)?)?)?.add(&jh.mul(&row_mean(g.mul(&hat)?)?)?)?;
            through_r.add(&through_hat)?.div(&r)?.scale(-1.0)
        })?;
        Ok(smallvec![dx, Some(jh)])
    }
}

impl<B: Backend> Tensor<B> {
    /// Standardises rows: `(x − mean) / sqrt(variance + eps)` over the last axis, population variance.
    ///
    /// # Errors
    /// [`TensorError::Unsuitable`](crate::TensorError::Unsuitable) for a scalar or rows of no elements.
    pub fn normalize(&self, eps: f64) -> Result<Self> {
        let cols = self.row_length("normalize")?;
        let buffer = self.backend().normalize(&self.array.buffer, cols, eps)?;
        Tape::record(Normalize { eps }, &[self], Array::new(self.backend(), buffer, self.shape()))
    }

    fn normalize_slope(&self, g: &Self, eps: f64) -> Result<Self> {
        let cols = self.row_length("normalize_slope")?;
        let buffer = self.backend().normalize_slope(&self.array.buffer, &g.array.buffer, cols, eps)?;
        Tape::record(NormalizeSlope { eps }, &[self, g], Array::new(self.backend(), buffer, self.shape()))
    }
}
