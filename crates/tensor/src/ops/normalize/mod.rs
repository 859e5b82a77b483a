//! Standardising groups of elements: rows in layer normalisation (Ba, Kiros and Hinton, arXiv 1607.06450),
//! channels in batch normalisation.

use std::ops::Range;

use smallvec::smallvec;

use crate::tape::{Grads, Op, Recorded};
use crate::{Array, Backend, Result, Shape, Storage, Tape, Tensor};

mod cpu;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;
#[cfg(test)]
mod tests;

/// Which elements form a group: those with the same middle index, of elements seen as
/// `[outer, count, inner]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Groups {
    /// Runs of a group.
    pub outer: usize,
    /// Number of groups.
    pub count: usize,
    /// Elements of a run.
    pub inner: usize,
}

impl Groups {
    /// Number of elements of a group.
    pub fn size(&self) -> usize {
        self.outer * self.inner
    }

    /// Where a group's runs lie.
    pub fn runs(self, group: usize) -> impl Iterator<Item = Range<usize>> {
        (0..self.outer).map(move |i| {
            let start = (i * self.count + group) * self.inner;
            start..start + self.inner
        })
    }
}

/// Kernels over groups of elements.
pub trait NormalizeKernels: Storage {
    /// `x̂ = (x − mean) r` in each group, `r = 1/sqrt(variance + eps)`, population variance.
    ///
    /// # Errors
    /// Device errors.
    fn normalize(&self, x: &Self::Buffer, groups: Groups, eps: f64) -> Result<Self::Buffer>;

    /// The derivative of `normalize` at `x` applied to `g`: `r (g − mean(g) − x̂ mean(g x̂))`. It is its own
    /// transpose.
    ///
    /// # Errors
    /// Device errors.
    fn normalize_slope(
        &self,
        x: &Self::Buffer,
        g: &Self::Buffer,
        groups: Groups,
        eps: f64,
    ) -> Result<Self::Buffer>;

    /// Mean and population variance of each group.
    ///
    /// # Errors
    /// Device errors.
    fn moments(&self, x: &Self::Buffer, groups: Groups) -> Result<(Self::Buffer, Self::Buffer)>;
}

/// What is standardised, and how.
#[derive(Clone, Copy)]
struct Standard {
    groups: Groups,
    /// The shape of a tensor with one number a group, which broadcasts to the whole.
    statistics: Shape,
    eps: f64,
}

struct Normalize(Standard);

impl<B: Backend> Op<B> for Normalize {
    fn name(&self) -> &'static str {
        "normalize"
    }

    fn backward(&self, r: &Recorded<'_, B>, grad: &Tensor<B>) -> Result<Grads<B>> {
        Ok(smallvec![Some(r.inputs[0].normalize_slope(grad, self.0)?)])
    }
}

struct NormalizeSlope(Standard);

impl<B: Backend> Op<B> for NormalizeSlope {
    fn name(&self) -> &'static str {
        "normalize_slope"
    }

    fn backward(&self, rec: &Recorded<'_, B>, h: &Tensor<B>) -> Result<Grads<B>> {
        let (x, g, jg) = (&rec.inputs[0], &rec.inputs[1], rec.output);
        if let Some(kernels) = rec.onto() {
            let given = [x, g, h].map(|t| &t.array.buffer);
            let before = [rec.take_sum(0), rec.take_sum(1)];
            let before = [before[0].as_ref(), before[1].as_ref()];
            let found = kernels.normalize_slope_back(given, before, self.0.groups, self.0.eps)?;
            let [dx, dg] = found.map(|d| Tensor::from(Array::new(x.backend(), d, x.shape())));
            return Ok(smallvec![rec.wanted[0].then_some(dx), rec.wanted[1].then_some(dg)]);
        }
        let jh = x.normalize_slope(h, self.0)?;
        // ⟨h, J g⟩ depends on x through r and x̂, and dx̂ = J dx, dr = −r² x̂/n dx:
        // dx = −r (x̂ mean(h J g) + mean(h x̂) J g + mean(g x̂) J h)
        let dx = rec.want(0, || {
            let mean = |t: Tensor<B>| t.sum_to(self.0.statistics)?.scale(1.0 / self.0.groups.size() as f64);
            let hat = x.normalize_as(self.0)?;
            let centred = x.sub(&mean(x.clone())?)?;
            let variance = mean(centred.square()?)?;
            let r = variance.shift(self.0.eps)?.sqrt()?;
            let through_r = hat.mul(&mean(h.mul(jg)?)?)?;
            let through_hat = jg.mul(&mean(h.mul(&hat)?)?)?.add(&jh.mul(&mean(g.mul(&hat)?)?)?)?;
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
        self.normalize_as(self.by_rows(eps)?)
    }

    /// The derivative of [`normalize`](Self::normalize) at this tensor, applied to `g`.
    pub(crate) fn normalize_rows_slope(&self, g: &Self, eps: f64) -> Result<Self> {
        self.normalize_slope(g, self.by_rows(eps)?)
    }

    fn by_rows(&self, eps: f64) -> Result<Standard> {
        let inner = self.row_length("normalize")?;
        let groups = Groups { outer: 1, count: self.shape().len() / inner, inner };
        Ok(Standard { groups, statistics: self.shape().with_axis(self.shape().rank() - 1, 1), eps })
    }

    /// Standardises the slabs along axis 1, and gives each slab's mean and population variance with it.
    pub(super) fn normalize_channels(&self, eps: f64) -> Result<(Self, [Array<B>; 2])> {
        let [outer, count, ref rest @ ..] = self.shape()[..] else {
            return Err(self.unsuitable("normalize_channels", "channels are the second axis"));
        };
        let groups = Groups { outer, count, inner: rest.iter().product() };
        let statistics =
            (2..self.shape().rank()).fold(self.shape().with_axis(0, 1), |s, axis| s.with_axis(axis, 1));
        let (mean, variance) = self.backend().moments(&self.array.buffer, groups)?;
        let moments = [mean, variance].map(|m| Array::new(self.backend(), m, [count].into()));
        Ok((self.normalize_as(Standard { groups, statistics, eps })?, moments))
    }

    fn normalize_as(&self, standard: Standard) -> Result<Self> {
        let buffer = self.backend().normalize(&self.array.buffer, standard.groups, standard.eps)?;
        Tape::record(Normalize(standard), &[self], Array::new(self.backend(), buffer, self.shape()))
    }

    fn normalize_slope(&self, g: &Self, standard: Standard) -> Result<Self> {
        let (x, g_buffer) = (&self.array.buffer, &g.array.buffer);
        let buffer = self.backend().normalize_slope(x, g_buffer, standard.groups, standard.eps)?;
        Tape::record(NormalizeSlope(standard), &[self, g], Array::new(self.backend(), buffer, self.shape()))
    }
}
