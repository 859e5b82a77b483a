//! Linear layers: `x Wᵀ + b`.

use smallvec::smallvec;

use crate::tape::{Grads, Op, Recorded, Share};
use crate::{Array, Backend, Result, Storage, Tape, Tensor};

mod cpu;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;

/// Kernels of linear layers, over rows.
pub trait LinearKernels: Storage {
    /// `x Wᵀ + b`: x `[rows, inp]`, W `[out, inp]`, b `[out]`.
    ///
    /// # Errors
    /// Device errors.
    fn linear(
        &self,
        x: &Self::Buffer,
        weight: &Self::Buffer,
        bias: &Self::Buffer,
        rows: usize,
        inp: usize,
        out: usize,
    ) -> Result<Self::Buffer>;

    /// `Σ gᵀ x` over pairs of rows g `[rows, out]` and x `[rows, inp]`, pairs of any length: `[out, inp]`.
    ///
    /// # Errors
    /// Device errors.
    fn sum_of_outer_products(
        &self,
        pairs: &[(&Self::Buffer, &Self::Buffer)],
        out: usize,
        inp: usize,
    ) -> Result<Self::Buffer>;

    /// The sum of all rows `[.., width]`: `[width]`.
    ///
    /// # Errors
    /// Device errors.
    fn sum_of_rows(&self, parts: &[&Self::Buffer], width: usize) -> Result<Self::Buffer>;
}

pub(crate) struct Linear;

impl Linear {
    /// Puts what was computed for `[x, W, b]` on their tape.
    pub(crate) fn record<B: Backend>(inputs: [&Tensor<B>; 3], value: Array<B>) -> Result<Tensor<B>> {
        Tape::record(Linear, &inputs, value)
    }
}

impl<B: Backend> Op<B> for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn backward(&self, r: &Recorded<'_, B>, grad: &Tensor<B>) -> Result<Grads<B>> {
        let (x, weight, bias) = (&r.inputs[0], &r.inputs[1], &r.inputs[2]);
        let dx = r.want(0, || match (r.onto(), r.take_sum(0)) {
            (Some(kernels), Some(before)) => {
                let ((rows, out), inp) = (grad.shape().rows_cols(), weight.shape()[1]);
                let (g, w) = (&grad.array.buffer, &weight.array.buffer);
                let dx = kernels.linear_back(g, w, before, rows, out, inp)?;
                Ok(Array::new(x.backend(), dx, x.shape()).into())
            }
            _ => grad.matmul(weight),
        })?;
        if r.is_plain() {
            // a weight is used at every step: its shares are one tall product in the end
            r.put_off(1, || Share::Outer(grad.array().clone(), x.array().clone()));
            r.put_off(2, || Share::Rows(grad.array().clone()));
            return Ok(smallvec![dx, None, None]);
        }
        let rows = |t: &Tensor<B>| {
            let (rows, cols) = t.shape().rows_cols();
            t.reshape([rows, cols])
        };
        let d_weight = r.want(1, || rows(grad)?.matmul_transposed(&rows(x)?, true, false))?;
        let d_bias = r.want(2, || grad.sum_to(bias.shape()))?;
        Ok(smallvec![dx, d_weight, d_bias])
    }
}

impl<B: Backend> Tensor<B> {
    /// `x Wᵀ + b`: a linear layer on rows `[.., in]`, W stored `[out, in]` and b `[out]`, to `[.., out]`.
    ///
    /// # Errors
    /// [`TensorError::Incompatible`](crate::TensorError::Incompatible) when the shapes don't fit.
    pub fn linear(&self, weight: &Self, bias: &Self) -> Result<Self> {
        let rule = "x is [.., in], W [out, in]";
        let &[out, inp] = &weight.shape()[..] else { return Err(self.incompatible("linear", weight, rule)) };
        let (rows, cols) = self.shape().rows_cols();
        let rank = self.shape().rank();
        if cols != inp || rank == 0 {
            return Err(self.incompatible("linear", weight, rule));
        }
        if bias.shape()[..] != [out] {
            return Err(weight.incompatible("linear", bias, "W is [out, in], b [out]"));
        }
        let (x, w, b) = (&self.array.buffer, &weight.array.buffer, &bias.array.buffer);
        let buffer = self.backend().linear(x, w, b, rows, inp, out)?;
        let shape = self.shape().with_axis(rank - 1, out);
        Tape::record(Linear, &[self, weight, bias], Array::new(self.backend(), buffer, shape))
    }
}
