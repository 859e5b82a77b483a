//! How strongly to learn now: the neuromodulator.

use plastica_tensor::ops::rank_one::rank_one_norms;
use plastica_tensor::{Backend, Tensor};
use serde::{Deserialize, Serialize};

use crate::{RankOne, Result, RuleError};

/// Added to the squared norm of a change, so that its root has a derivative at zero.
const NORM_FLOOR: f64 = 1e-8;

/// The neuromodulator's constants.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Neuromodulation {
    /// η0: the largest learning rate of the fast weights, in (0, 1].
    pub eta0: f64,
    /// The change's norm, all plastic layers together, from which the rate is turned down; above 0.
    pub max_norm: f64,
}

impl Default for Neuromodulation {
    /// The published constants: 0.2 and 1.
    fn default() -> Self {
        Self { eta0: 0.2, max_norm: 1.0 }
    }
}

/// A step's learning rate and what made it, each `[B]`: `eta = eta0 · gate · clip`.
#[derive(Debug, Clone)]
pub struct Modulation<B: Backend> {
    /// η(t), the fast weights' learning rate, in [0, η0].
    pub eta: Tensor<B>,
    /// `sigmoid(g)`, what the model asked for, in (0, 1).
    pub gate: Tensor<B>,
    /// `min(1, max_norm / (n + 1e-8))`, what the change's norm left of it, in (0, 1].
    pub clip: Tensor<B>,
}

impl Neuromodulation {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`RuleError::Setting`] that names the field.
    pub fn validate(&self) -> Result<()> {
        if !(self.eta0 > 0.0 && self.eta0 <= 1.0) {
            let rule = "it must lie in (0, 1]: fast weights decay by 1 − η, η at most eta0";
            return Err(RuleError::Setting { field: "eta0", value: self.eta0, rule });
        }
        if !(self.max_norm > 0.0 && self.max_norm.is_finite()) {
            return Err(RuleError::Setting {
                field: "max_norm",
                value: self.max_norm,
                rule: "it must be above 0 and finite",
            });
        }
        Ok(())
    }

    /// The learning rate for these changes, given the gate's pre-activation `g` `[B]`.
    ///
    /// The norm is that of all changes together, weights only. As each is of rank one,
    /// `‖p ⊗ q‖² = ‖p‖² ‖q‖²`, and no matrix is formed.
    ///
    /// # Errors
    /// When the shapes don't fit.
    pub fn modulate<B: Backend>(&self, g: &Tensor<B>, changes: &[RankOne<B>]) -> Result<Modulation<B>> {
        let gate = g.sigmoid()?;
        let batch = g.shape();
        let squares = if changes.is_empty() {
            Tensor::zeros(g.backend(), batch)?
        } else {
            rank_one_norms(&changes.iter().map(|RankOne { p, q }| (p, q)).collect::<Vec<_>>())?
        };
        let norm = squares.shift(NORM_FLOOR)?.sqrt()?;
        let ones = Tensor::zeros(g.backend(), batch)?.shift(self.max_norm)?;
        let clip = ones.div(&norm.shift(1e-8)?)?.at_most(1.0)?;
        let eta = gate.mul(&clip)?.scale(self.eta0)?;
        Ok(Modulation { eta, gate, clip })
    }
}

#[cfg(test)]
mod tests {
    use plastica_tensor::Cpu;

    use super::*;

    /// η, gate and clip of one episode, for changes given as (p, q).
    fn modulate(max_norm: f64, g: f64, changes: &[(&[f64], &[f64])]) -> [f64; 3] {
        let cpu = Cpu::<f64>::new();
        let row = |values: &[f64]| Tensor::from_vec(&cpu, values.to_vec(), [1, values.len()]).unwrap();
        let changes: Vec<_> = changes.iter().map(|(p, q)| RankOne { p: row(p), q: row(q) }).collect();
        let g = Tensor::from_vec(&cpu, vec![g], [1]).unwrap();
        let m = Neuromodulation { eta0: 0.2, max_norm }.modulate(&g, &changes).unwrap();
        [m.eta, m.gate, m.clip].map(|t| t.item().unwrap())
    }

    #[track_caller]
    fn check(max_norm: f64, g: f64, changes: &[(&[f64], &[f64])], gate: f64, clip: f64) {
        let found = modulate(max_norm, g, changes);
        for (found, expected) in found.into_iter().zip([0.2 * gate * clip, gate, clip]) {
            assert!((found - expected).abs() <= 1e-15 * expected, "{found} for {expected}");
        }
    }

    /// ‖p ⊗ q‖ = 5 · 2
    const TEN: (&[f64], &[f64]) = (&[3.0, 4.0], &[0.0, -2.0, 0.0]);
    /// ‖p ⊗ q‖ = 1
    const ONE: (&[f64], &[f64]) = (&[1.0, 0.0], &[0.6, 0.8]);

    #[test]
    fn the_gate_is_the_sigmoid() {
        let e = std::f64::consts::E;
        check(1e4, 0.0, &[TEN], 0.5, 1.0);
        check(1e4, 1.0, &[TEN], e / (1.0 + e), 1.0);
        check(1e4, -1.0, &[TEN], 1.0 / (1.0 + e), 1.0);
        check(1e4, 3_f64.ln(), &[TEN], 0.75, 1.0);
    }

    #[test]
    fn a_change_below_the_largest_norm_is_not_clipped() {
        check(10.1, 0.0, &[TEN], 0.5, 1.0);
        check(1.0, 0.0, &[(&[0.0, 0.0], &[1.0, 1.0])], 0.5, 1.0);
    }

    #[test]
    fn a_change_of_the_largest_norm_is_clipped_by_the_floors_alone() {
        // n = sqrt(1 + 1e-8), which the other 1e-8 is added to
        check(1.0, 0.0, &[ONE], 0.5, 1.0 / ((1.0 + 1e-8_f64).sqrt() + 1e-8));
    }

    #[test]
    fn a_change_above_the_largest_norm_is_scaled_down_to_it() {
        check(1.0, 0.0, &[TEN], 0.5, 1.0 / ((100.0 + 1e-8_f64).sqrt() + 1e-8));
        check(2.5, 0.0, &[TEN], 0.5, 2.5 / ((100.0 + 1e-8_f64).sqrt() + 1e-8));
        let [_, _, clip] = modulate(2.5, 0.0, &[TEN]);
        assert!((10.0 * clip - 2.5).abs() < 1e-8);
    }

    #[test]
    fn the_norm_is_that_of_all_layers_together() {
        check(1.0, 0.0, &[TEN, ONE], 0.5, 1.0 / ((101.0 + 1e-8_f64).sqrt() + 1e-8));
        // and of the matrix that nobody forms
        let (p, q) = ([0.3, -1.2, 0.7], [2.0, 0.1, -0.4, 1.5]);
        let formed: f64 = p.iter().flat_map(|p| q.iter().map(move |q| (p * q) * (p * q))).sum();
        let [_, _, clip] = modulate(1.0, 0.0, &[(&p, &q)]);
        assert!((clip - 1.0 / ((formed + 1e-8).sqrt() + 1e-8)).abs() < 1e-14);
    }

    #[test]
    fn episodes_are_clipped_each_by_its_own() {
        let cpu = Cpu::<f64>::new();
        let tensor = |values: &[f64], shape| Tensor::from_vec(&cpu, values.to_vec(), shape).unwrap();
        let change = RankOne { p: tensor(&[3.0, 4.0, 0.1, 0.0], [2, 2]), q: tensor(&[2.0, 2.0], [2, 1]) };
        let g = Tensor::zeros(&cpu, [2]).unwrap();
        let clip = Neuromodulation::default().modulate(&g, &[change]).unwrap().clip.to_vec().unwrap();
        assert!((clip[0] - 0.1).abs() < 1e-8, "{clip:?}");
        assert_eq!(clip[1], 1.0);
    }

    #[test]
    fn constants_out_of_range_are_refused_by_name() {
        let check = |change: fn(&mut Neuromodulation), expected: Option<&str>| {
            let mut constants = Neuromodulation::default();
            change(&mut constants);
            let message = constants.validate().err().map(|e| e.to_string());
            assert_eq!(message.as_deref(), expected);
        };
        check(|_| (), None);
        check(|c| c.eta0 = 1.0, None);
        check(|c| c.max_norm = 1e300, None);
        let eta0 = "it must lie in (0, 1]: fast weights decay by 1 − η, η at most eta0";
        check(|c| c.eta0 = 0.0, Some(&format!("eta0 = 0 won't do: {eta0}")));
        check(|c| c.eta0 = 1.5, Some(&format!("eta0 = 1.5 won't do: {eta0}")));
        check(|c| c.eta0 = f64::NAN, Some(&format!("eta0 = NaN won't do: {eta0}")));
        let max_norm = "it must be above 0 and finite";
        check(|c| c.max_norm = 0.0, Some(&format!("max_norm = 0 won't do: {max_norm}")));
        check(|c| c.max_norm = -1.0, Some(&format!("max_norm = -1 won't do: {max_norm}")));
        check(|c| c.max_norm = f64::INFINITY, Some(&format!("max_norm = inf won't do: {max_norm}")));
        check(|c| c.max_norm = f64::NAN, Some(&format!("max_norm = NaN won't do: {max_norm}")));
    }
}
