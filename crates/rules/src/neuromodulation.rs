//! How strongly to learn now: the neuromodulator.

use plastica_tensor::ops::rank_one::rank_one_norms;
use plastica_tensor::ops::rate::{RateConstants, learning_rate};
use plastica_tensor::{Backend, Tensor};
use serde::{Deserialize, Serialize};

use crate::{RankOne, Result, RuleError};

/// Added to the squared norm of a change, so that its root has a derivative at zero, and to that root.
const NORM_FLOOR: f64 = 1e-8;

/// Which norm of a step's changes is held against `max_norm` to turn the rate down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClipMode {
    /// `n = sqrt(Σ ‖p ⊗ q‖² + 1e-8)` over all plastic layers: one norm, as published.
    #[default]
    Published,
    /// The same of each layer alone, which turns down that layer's rate.
    PerLayer,
    /// `n = sqrt(Σ ‖p ⊗ q‖² / N + 1e-8)` over all plastic layers, N being the number of their weights: the
    /// root mean square of the change, which does not grow with the width.
    Rms,
}

/// The neuromodulator's constants.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Neuromodulation {
    /// η0: the largest learning rate of the fast weights, in (0, 1].
    pub eta0: f64,
    /// The change's norm from which the rate is turned down; above 0.
    pub max_norm: f64,
    /// What that norm is.
    #[serde(default)]
    pub clip: ClipMode,
}

impl Default for Neuromodulation {
    /// The published constants: 0.2 and 1.
    fn default() -> Self {
        Self { eta0: 0.2, max_norm: 1.0, clip: ClipMode::Published }
    }
}

/// A step's learning rate and what made it, each `[B]`: `eta = eta0 · gate · clip`.
#[derive(Debug, Clone)]
pub struct Modulation<B: Backend> {
    /// η(t), the fast weights' learning rate, in [0, η0].
    pub eta: Tensor<B>,
    /// `sigmoid(g)`, what the model asked for, in (0, 1); a plain value.
    pub gate: Tensor<B>,
    /// `min(1, max_norm / (n + 1e-8))`, what the change's norm left of it, in (0, 1]; a plain value.
    pub clip: Tensor<B>,
}

impl<B: Backend> Modulation<B> {
    /// The mean over layers, without a history on the tape; `None` of none.
    ///
    /// # Errors
    /// Device errors.
    pub fn mean(layers: &[Self]) -> Result<Option<Self>> {
        let Some(first) = layers.first() else { return Ok(None) };
        let mean = |part: fn(&Self) -> &Tensor<B>| -> Result<Tensor<B>> {
            let mut sum = part(first).detach();
            for layer in &layers[1..] {
                sum = sum.add(&part(layer).detach())?;
            }
            Ok(sum.scale(1.0 / layers.len() as f64)?)
        };
        Ok(Some(Self { eta: mean(|m| &m.eta)?, gate: mean(|m| &m.gate)?, clip: mean(|m| &m.clip)? }))
    }
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

    /// The learning rate of each of these changes, given the gate's pre-activation, `[B]` for all of them or `[B]` for
    /// each, and η0 `[1]` where it is learned.
    ///
    /// Norms are of weights only. As each change is of rank one, `‖p ⊗ q‖² = ‖p‖² ‖q‖²`, and no matrix is formed.
    ///
    /// # Errors
    /// [`RuleError::Gates`] when there are neither one nor as many gates as changes, and when the shapes don't fit.
    pub fn modulate<B: Backend>(
        &self,
        gates: &[Tensor<B>],
        changes: &[RankOne<B>],
        eta0: Option<&Tensor<B>>,
    ) -> Result<Vec<Modulation<B>>> {
        let Some(first) = gates.first() else { return Ok(Vec::new()) };
        if gates.len() != 1 && gates.len() != changes.len() {
            return Err(RuleError::Gates { gates: first.shape(), layers: changes.len() });
        }
        let (shared, layers) = match self.clip {
            ClipMode::PerLayer => (false, changes.chunks(1).collect()),
            ClipMode::Published | ClipMode::Rms => (true, vec![changes]),
        };
        let squares =
            layers.into_iter().map(|layers| squared_norm(first, layers)).collect::<Result<Vec<_>>>()?;
        let constants = RateConstants {
            largest: if eta0.is_some() { 1.0 } else { self.eta0 },
            most: self.max_norm,
            share: self.share(changes),
            floor: NORM_FLOOR,
        };
        let count = if shared { gates.len() } else { changes.len() };
        let mut modulations = Vec::with_capacity(changes.len());
        for i in 0..count {
            let [eta, gate, clip] =
                learning_rate(constants, &gates[i % gates.len()], &squares[i % squares.len()])?;
            let eta = match eta0 {
                Some(eta0) => eta.mul(eta0)?,
                None => eta,
            };
            modulations.push(Modulation { eta, gate, clip });
        }
        while let (true, Some(one)) = (modulations.len() < changes.len(), modulations.first()) {
            modulations.push(one.clone());
        }
        Ok(modulations)
    }

    /// What the changes' squared norm is multiplied by.
    fn share<B: Backend>(&self, changes: &[RankOne<B>]) -> f64 {
        let weights = |RankOne { p, q }: &RankOne<B>| p.shape().rows_cols().1 * q.shape().rows_cols().1;
        match self.clip {
            ClipMode::Published | ClipMode::PerLayer => 1.0,
            ClipMode::Rms => 1.0 / changes.iter().map(weights).sum::<usize>().max(1) as f64,
        }
    }
}

/// The squared norm of changes taken together, `[B]`; `like` has that shape.
fn squared_norm<B: Backend>(like: &Tensor<B>, changes: &[RankOne<B>]) -> Result<Tensor<B>> {
    if changes.is_empty() {
        return Ok(Tensor::zeros(like.backend(), like.shape())?);
    }
    Ok(rank_one_norms(&changes.iter().map(|RankOne { p, q }| (p, q)).collect::<Vec<_>>())?)
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
        let constants = Neuromodulation { max_norm, ..Neuromodulation::default() };
        let m = constants.modulate(&[g], &changes, None).unwrap().remove(0);
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
        let modulations = Neuromodulation::default().modulate(&[g], &[change], None).unwrap();
        let clip = modulations[0].clip.to_vec().unwrap();
        assert!((clip[0] - 0.1).abs() < 1e-8, "{clip:?}");
        assert_eq!(clip[1], 1.0);
    }

    /// η, gate and clip of each of two changes, of norm 10 and 1, of 2 · 3 and 2 · 2 weights.
    fn of_two(clip: ClipMode, gates: &[f64], eta0: Option<f64>) -> Vec<[f64; 3]> {
        let cpu = Cpu::<f64>::new();
        let row = |values: &[f64]| Tensor::from_vec(&cpu, values.to_vec(), [1, values.len()]).unwrap();
        let number = |value: f64| Tensor::from_vec(&cpu, vec![value], [1]).unwrap();
        let changes = [TEN, ONE].map(|(p, q)| RankOne { p: row(p), q: row(q) });
        let constants = Neuromodulation { max_norm: 2.0, clip, ..Neuromodulation::default() };
        let gates: Vec<_> = gates.iter().map(|&g| number(g)).collect();
        let found = constants.modulate(&gates, &changes, eta0.map(number).as_ref()).unwrap();
        found.iter().map(|m| [&m.eta, &m.gate, &m.clip].map(|t| t.item().unwrap())).collect()
    }

    #[track_caller]
    fn check_two(found: &[[f64; 3]], expected: [[f64; 3]; 2]) {
        let apart = found.iter().flatten().zip(expected.as_flattened()).map(|(a, b)| (a - b).abs());
        assert!(found.len() == 2 && apart.fold(0.0, f64::max) < 1e-8, "{found:?} for {expected:?}");
    }

    #[test]
    fn clips_are_of_all_layers_of_each_or_of_the_mean_weight() {
        let (three, half) = (3_f64.ln(), 0.0);
        let all = 2.0 / 101_f64.sqrt();
        check_two(&of_two(ClipMode::Published, &[half], None), [[0.1 * all, 0.5, all]; 2]);
        check_two(&of_two(ClipMode::PerLayer, &[half], None), [[0.02, 0.5, 0.2], [0.1, 0.5, 1.0]]);
        // the root mean square of the change is sqrt(101 / 10)
        let rms = 2.0 / 10.1_f64.sqrt();
        check_two(&of_two(ClipMode::Rms, &[half], None), [[0.1 * rms, 0.5, rms]; 2]);
        let gated = [[0.15 * all, 0.75, all], [0.1 * all, 0.5, all]];
        check_two(&of_two(ClipMode::Published, &[three, half], None), gated);
        let both = [[0.03, 0.75, 0.2], [0.1, 0.5, 1.0]];
        check_two(&of_two(ClipMode::PerLayer, &[three, half], None), both);
        // a learned η0 stands in the place of the constant
        let learned = of_two(ClipMode::PerLayer, &[three, half], Some(0.8));
        check_two(&learned, [[0.12, 0.75, 0.2], [0.4, 0.5, 1.0]]);
    }

    #[test]
    fn the_root_mean_square_does_not_know_the_width() {
        let cpu = Cpu::<f64>::new();
        let clip = |width: usize| {
            let ones = Tensor::zeros(&cpu, [1, width]).unwrap().shift(1.5).unwrap();
            let change = RankOne { p: ones.clone(), q: ones };
            let constants = Neuromodulation { clip: ClipMode::Rms, ..Neuromodulation::default() };
            let g = Tensor::zeros(&cpu, [1]).unwrap();
            constants.modulate(&[g], &[change], None).unwrap()[0].clip.item().unwrap()
        };
        assert!((clip(3) - 1.0 / 2.25).abs() < 1e-8 && (clip(3) - clip(50)).abs() < 1e-12);
    }

    #[test]
    fn gates_are_one_or_one_for_each_change() {
        let cpu = Cpu::<f64>::new();
        let change =
            RankOne { p: Tensor::zeros(&cpu, [1, 2]).unwrap(), q: Tensor::zeros(&cpu, [1, 2]).unwrap() };
        let gates = vec![Tensor::zeros(&cpu, [1]).unwrap(); 2];
        let error =
            Neuromodulation::default().modulate(&gates, &[change.clone(), change.clone(), change], None);
        assert!(matches!(error, Err(RuleError::Gates { layers: 3, .. })));
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
