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

#[cfg(test)]
mod tests {
    use plastica_tensor::{Cpu, Shape};

    use super::*;

    type F64 = Cpu<f64>;

    fn tensor<const N: usize>(values: &[f64], shape: [usize; N]) -> Tensor<F64> {
        Tensor::from_vec(&F64::new(), values.to_vec(), shape).unwrap()
    }

    #[track_caller]
    fn assert_close(found: &Tensor<F64>, shape: &[usize], expected: &[f64]) {
        let values = found.to_vec().unwrap();
        assert_eq!(found.shape()[..], *shape);
        let apart = values.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(values.len() == expected.len() && apart < 1e-15, "{values:?} for {expected:?}");
    }

    #[test]
    fn two_updates_by_hand() {
        let alpha = tensor(&[1.0, 2.0, -1.0, 0.0], [2, 2]);
        let beta = tensor(&[10.0, 1.0], [2]);
        let mut fast = FastWeights::zero();
        let mut update = |eta: f64, p: [f64; 2], q: [f64; 2]| {
            let change = RankOne { p: tensor(&p, [1, 2]), q: tensor(&q, [1, 2]) };
            fast.update(&tensor(&[eta], [1]), &alpha, &beta, &change).unwrap();
            let (weight, bias) = fast.get().unwrap();
            (weight.clone(), bias.clone())
        };
        // η α ∘ (p ⊗ q) = 0.5 [[1·3, 2·4], [−1·6, 0·8]], η β ∘ p = 0.5 [10, 2]
        let (weight, bias) = update(0.5, [1.0, 2.0], [3.0, 4.0]);
        assert_close(&weight, &[1, 2, 2], &[1.5, 4.0, -3.0, 0.0]);
        assert_close(&bias, &[1, 2], &[5.0, 1.0]);
        // 3/4 of that, and 0.25 [[1·2, 2·(−4)], [−1·(−1), 0·2]], 0.25 [20, −1]
        let (weight, bias) = update(0.25, [2.0, -1.0], [1.0, -2.0]);
        assert_close(&weight, &[1, 2, 2], &[1.625, 1.0, -2.0, 0.0]);
        assert_close(&bias, &[1, 2], &[8.75, 0.5]);
        assert_close(&fast.squared_norm().unwrap().unwrap(), &[1], &[1.625 * 1.625 + 1.0 + 4.0]);
        // F x + c, on top of what is there
        let read = fast.add_to(tensor(&[100.0, 0.0], [1, 2]), &tensor(&[2.0, 1.0], [1, 2])).unwrap();
        assert_close(&read, &[1, 2], &[100.0 + 3.25 + 1.0 + 8.75, -4.0 + 0.5]);
    }

    #[test]
    fn a_rate_of_one_forgets_everything_and_of_zero_changes_nothing() {
        let before =
            FastWeights::from_parts(tensor(&[7.0, 8.0], [2, 1, 1]), tensor(&[3.0, 4.0], [2, 1])).unwrap();
        let mut after = before.clone();
        let change = RankOne { p: tensor(&[2.0, 2.0], [2, 1]), q: tensor(&[5.0, 5.0], [2, 1]) };
        let (alpha, beta) = (tensor(&[1.0], [1, 1]), tensor(&[1.0], [1]));
        after.update(&tensor(&[1.0, 0.0], [2]), &alpha, &beta, &change).unwrap();
        let (weight, bias) = after.get().unwrap();
        assert_close(weight, &[2, 1, 1], &[10.0, 8.0]);
        assert_close(bias, &[2, 1], &[2.0, 4.0]);
    }

    #[test]
    fn zero_adds_nothing_and_has_no_norm() {
        let zero = FastWeights::<F64>::zero();
        let y = zero.add_to(tensor(&[1.0, 2.0], [1, 2]), &tensor(&[3.0], [1, 1])).unwrap();
        assert_close(&y, &[1, 2], &[1.0, 2.0]);
        assert!(zero.get().is_none() && zero.squared_norm().unwrap().is_none());
    }

    #[test]
    fn parts_that_do_not_belong_together_are_refused() {
        let check = |weight: &[usize], bias: &[usize], good: bool| {
            let zeros = |shape| Tensor::zeros(&F64::new(), Shape::new(shape).unwrap()).unwrap();
            let found = FastWeights::from_parts(zeros(weight), zeros(bias)).map(|_| ());
            let shapes = |(weight, bias)| RuleError::FastWeights { weight, bias };
            let expected = shapes((Shape::new(weight).unwrap(), Shape::new(bias).unwrap()));
            assert_eq!(found, if good { Ok(()) } else { Err(expected) });
        };
        check(&[2, 3, 4], &[2, 3], true);
        check(&[2, 3, 4], &[2, 4], false);
        check(&[2, 3, 4], &[1, 3], false);
        check(&[3, 4], &[3], false);
        check(&[2, 3, 4], &[3], false);
        check(&[], &[], false);
    }
}
