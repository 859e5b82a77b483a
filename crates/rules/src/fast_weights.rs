//! Fast weights: a matrix and a bias an episode, which live for one sequence.

use plastica_tensor::ops::outer::decay_outer;
use plastica_tensor::{Backend, Tensor};

use crate::{RankOne, Result, RuleError};

/// A layer's fast weights, for a batch of `B` episodes: F `[B, out, in]` and c `[B, out]`, zero at first.
#[derive(Debug, Clone)]
pub struct FastWeights<B: Backend> {
    set: Option<(Tensor<B>, Tensor<B>)>,
}

impl<B: Backend> Default for FastWeights<B> {
    fn default() -> Self {
        Self::zero()
    }
}

impl<B: Backend> FastWeights<B> {
    /// Fast weights before the first update: zero, and taking no memory.
    pub fn zero() -> Self {
        Self { set: None }
    }

    /// Fast weights F `[B, out, in]` and c `[B, out]` from elsewhere: stored ones, or ones that were learned.
    /// Tracked tensors keep their history.
    ///
    /// # Errors
    /// [`RuleError::FastWeights`] when the two shapes don't belong together.
    pub fn from_parts(weight: Tensor<B>, bias: Tensor<B>) -> Result<Self> {
        let (weight_shape, bias_shape) = (weight.shape(), bias.shape());
        match (&weight_shape[..], &bias_shape[..]) {
            ([batch, out, _], [bias_batch, bias_out]) if (batch, out) == (bias_batch, bias_out) => {
                Ok(Self { set: Some((weight, bias)) })
            }
            _ => Err(RuleError::FastWeights { weight: weight_shape, bias: bias_shape }),
        }
    }

    /// F and c, `[B, out, in]` and `[B, out]`; `None` while they are zero.
    pub fn get(&self) -> Option<(&Tensor<B>, &Tensor<B>)> {
        self.set.as_ref().map(|(weight, bias)| (weight, bias))
    }

    /// Adds `F x + c` to `y`: what the fast weights contribute to the layer's output. `x` is `[B, in]`, `y`
    /// `[B, out]`.
    ///
    /// # Errors
    /// When the shapes don't fit.
    pub fn add_to(&self, y: Tensor<B>, x: &Tensor<B>) -> Result<Tensor<B>> {
        let Some((weight, bias)) = &self.set else { return Ok(y) };
        let (batch, inp) = x.shape().rows_cols();
        let read = weight.matmul(&x.reshape([batch, inp, 1])?)?.reshape(bias.shape())?;
        Ok(y.add(&read)?.add(bias)?)
    }

    /// `F ← (1 − η) F + η α ∘ (p ⊗ q)` and `c ← (1 − η) c + η β ∘ p`; η `[B]`, α `[out, in]`, β `[out]`.
    ///
    /// # Errors
    /// When the shapes don't fit.
    pub fn update(
        &mut self,
        eta: &Tensor<B>,
        alpha: &Tensor<B>,
        beta: &Tensor<B>,
        RankOne { p, q }: &RankOne<B>,
    ) -> Result<()> {
        let column = eta.reshape([eta.shape().len(), 1])?;
        let grown = p.mul(beta)?.mul(&column)?;
        let (weight, bias) = match &self.set {
            Some((weight, bias)) => {
                let kept = bias.mul(&column.scale(-1.0)?.shift(1.0)?)?;
                (decay_outer(Some(weight), eta, alpha, p, q)?, kept.add(&grown)?)
            }
            None => (decay_outer(None, eta, alpha, p, q)?, grown),
        };
        self.set = Some((weight, bias));
        Ok(())
    }

    /// Cuts them from their history: constants from here on.
    pub fn detach(&mut self) {
        self.set = self.set.take().map(|(weight, bias)| (weight.detach(), bias.detach()));
    }

    /// `‖F‖²` of each episode, `[B]`, plain (the bias is not counted); `None` while they are zero.
    ///
    /// # Errors
    /// Device errors.
    pub fn squared_norm(&self) -> Result<Option<Tensor<B>>> {
        let Some((weight, _)) = &self.set else { return Ok(None) };
        let batch = weight.shape()[0];
        Ok(Some(weight.detach().square()?.sum_to([batch, 1, 1])?.reshape([batch])?))
    }
}
