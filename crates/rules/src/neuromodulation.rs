//! How strongly to learn now: the neuromodulator.

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
        let mut squares = Tensor::zeros(g.backend(), batch)?;
        for RankOne { p, q } in changes {
            let square = |t: &Tensor<B>| t.square()?.sum_axis(1)?.reshape(batch);
            squares = squares.add(&square(p)?.mul(&square(q)?)?)?;
        }
        let norm = squares.shift(NORM_FLOOR)?.sqrt()?;
        let ones = Tensor::zeros(g.backend(), batch)?.shift(self.max_norm)?;
        let clip = ones.div(&norm.shift(1e-8)?)?.at_most(1.0)?;
        let eta = gate.mul(&clip)?.scale(self.eta0)?;
        Ok(Modulation { eta, gate, clip })
    }
}
