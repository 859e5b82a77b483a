//! A learned bound on what fast weights gather.

use plastica_tensor::ops::rank_one::rank_one_norms;
use plastica_tensor::{Backend, Tensor};

use crate::{RankOne, Result};

/// Added to squared norms and to what is divided by, so that both have a derivative at zero.
const FLOOR: f64 = 1e-8;

/// Added to a rate, so that one that is 0 can be divided by.
const LEAST_RATE: f64 = 1e-30;

/// An update with fast weights and change scaled down, so that what they gather stays within a bound.
///
/// Before α weighs it, what a layer gathers is `H ← (1 − η) H + η p ⊗ q`, so that `F = α ∘ H`. Its norm is bounded by
/// the numbers
///
/// ```text
/// n' = (1 − η) N + η sqrt(‖p‖² ‖q‖² + 1e-8)       N the last step's n, 0 at first
/// b  = exp(log_bound) · sqrt(out · in)
/// s  = min(1, b / (n' + 1e-8))
/// n  = s n'
/// ```
///
/// and the update is `F ← s ((1 − η) F + η α ∘ (p ⊗ q))`, and c likewise. So `‖H‖ ≤ n ≤ b` after every step, and
/// `‖F‖ ≤ b max|α|`. n' is no walk over F, and has derivatives of every order. The scaled update is again an update,
/// `F ← (1 − η') F + η' α ∘ (p' ⊗ q)` with `η' = η + (1 − η)(1 − s)` and `p' = p · s η / η'`, which is what comes back.
///
/// η' comes near to 1 where a change is far above the bound, and fast weights that are kept in place are brought back by a
/// division by 1 − η': those that are bounded and have a way back are of the [plain](crate::FastWeights::plain) kind.
///
/// `gathered` is N `[B]`, `None` for 0; it becomes n. `log_bound` is `[1]`, η `[B]`.
///
/// # Errors
/// When the shapes don't fit.
pub fn bounded<B: Backend>(
    gathered: &mut Option<Tensor<B>>,
    log_bound: &Tensor<B>,
    eta: &Tensor<B>,
    RankOne { p, q }: &RankOne<B>,
) -> Result<(Tensor<B>, RankOne<B>)> {
    let (batch, weights) = (eta.shape().len(), p.shape().rows_cols().1 * q.shape().rows_cols().1);
    let kept = eta.scale(-1.0)?.shift(1.0)?;
    let grown = rank_one_norms(&[(p, q)])?.shift(FLOOR)?.sqrt()?.mul(eta)?;
    let reached = match &*gathered {
        Some(before) => before.mul(&kept)?.add(&grown)?,
        None => grown,
    };
    let bound = log_bound.exp()?.scale((weights as f64).sqrt())?;
    let scale = bound.div(&reached.shift(FLOOR)?)?.at_most(1.0)?;
    *gathered = Some(reached.mul(&scale)?);
    let rate = eta.add(&kept.mul(&scale.scale(-1.0)?.shift(1.0)?)?)?.shift(LEAST_RATE)?;
    let share = eta.mul(&scale)?.div(&rate)?.reshape([batch, 1])?;
    Ok((rate, RankOne { p: p.mul(&share)?, q: q.clone() }))
}

#[cfg(test)]
mod tests {
    use plastica_tensor::Cpu;

    use super::*;
    use crate::FastWeights;

    /// Updates of one episode's 2 × 2 fast weights by the same large change: ‖H‖ as the bound says, and as it is.
    #[test]
    fn what_is_gathered_stays_within_the_bound() {
        let cpu = Cpu::<f64>::new();
        let tensor = |values: &[f64], shape: &[usize]| {
            Tensor::from_vec(&cpu, values.to_vec(), plastica_tensor::Shape::new(shape).unwrap()).unwrap()
        };
        let (alpha, beta) = (tensor(&[1.0; 4], &[2, 2]), tensor(&[1.0; 2], &[2]));
        let change = RankOne { p: tensor(&[3.0, 4.0], &[1, 2]), q: tensor(&[0.0, 2.0], &[1, 2]) };
        let eta = tensor(&[0.25], &[1]);
        // b = 2 · 3: the change's norm is 10, so n' = 2.5, 4.375, 5.78, 6.84: the fourth is scaled
        let log_bound = tensor(&[3_f64.ln()], &[1]);
        let (mut gathered, mut fast) = (None, FastWeights::zero());
        for expected in [2.5, 4.375, 5.78125, 6.0, 6.0] {
            let (eta, change) = bounded(&mut gathered, &log_bound, &eta, &change).unwrap();
            fast.update(&eta, &alpha, &beta, &change).unwrap();
            let n = gathered.as_ref().unwrap().item().unwrap();
            assert!((n - expected).abs() < 1e-7, "{n} for {expected}");
            // all changes are one: the bound is the norm
            let norm = fast.squared_norm().unwrap().unwrap().item().unwrap().sqrt();
            assert!((norm - n).abs() < 1e-7, "{norm} for {n}");
        }
        // c = H's column over q's share: scaled alike
        let (_, bias) = fast.get().unwrap().unwrap();
        let bias = bias.to_vec().unwrap();
        assert!((bias[0] - 1.8).abs() < 1e-7 && (bias[1] - 2.4).abs() < 1e-7, "{bias:?}");
    }

    #[test]
    fn below_the_bound_nothing_changes_not_even_at_a_rate_of_zero() {
        let cpu = Cpu::<f64>::new();
        let tensor = |values: &[f64], columns: usize| {
            Tensor::from_vec(&cpu, values.to_vec(), [values.len() / columns, columns]).unwrap()
        };
        let change = RankOne { p: tensor(&[1.0, 2.0], 1), q: tensor(&[1.0, 1.0], 1) };
        let eta = tensor(&[0.3, 0.0], 1).reshape([2]).unwrap();
        let log_bound = tensor(&[5.0], 1).reshape([1]).unwrap();
        let (rate, scaled) = bounded(&mut None, &log_bound, &eta, &change).unwrap();
        let found = [rate.to_vec().unwrap(), scaled.p.to_vec().unwrap(), scaled.q.to_vec().unwrap()].concat();
        assert_eq!(found[..2], [0.3, LEAST_RATE]);
        assert_eq!((found[2], found[3], &found[4..]), (1.0, 0.0, &[1.0, 1.0][..]));
    }
}
