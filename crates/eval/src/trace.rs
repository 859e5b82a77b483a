//! Plasticity along the sequence.

use plastica_tasks::Phase;
use serde::{Deserialize, Serialize};

use crate::numbers::list;

/// η, gate, clip and fast-weight norm at every step, means over episodes, and the episode's phases.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepTrace {
    /// The phase of each step.
    pub phases: Vec<Phase>,
    /// η(t)
    #[serde(with = "list")]
    pub eta: Vec<f64>,
    /// The gate, `sigmoid(g)`.
    #[serde(with = "list")]
    pub gate: Vec<f64>,
    /// The clip factor.
    #[serde(with = "list")]
    pub clip: Vec<f64>,
    /// `Σ ‖F‖²` after the step.
    #[serde(with = "list")]
    pub plastic_norm: Vec<f64>,
}

impl StepTrace {
    pub(crate) fn empty(phases: &[Phase]) -> Self {
        let zeros = || vec![0.0; phases.len()];
        let (eta, gate, clip, plastic_norm) = (zeros(), zeros(), zeros(), zeros());
        Self { phases: phases.to_vec(), eta, gate, clip, plastic_norm }
    }

    /// The quantities by name: η, gate, clip and norm.
    pub fn named(&self) -> [(&'static str, &[f64]); 4] {
        [("eta", &self.eta), ("gate", &self.gate), ("clip", &self.clip), ("plastic_norm", &self.plastic_norm)]
    }

    fn columns(&mut self) -> [&mut Vec<f64>; 4] {
        [&mut self.eta, &mut self.gate, &mut self.clip, &mut self.plastic_norm]
    }

    /// Adds episodes' rows `[B, T]`.
    pub(crate) fn add(&mut self, rows: &[Vec<f64>; 4]) {
        let steps = self.phases.len();
        for (sums, rows) in self.columns().into_iter().zip(rows) {
            for (i, value) in rows.iter().enumerate() {
                sums[i % steps] += value;
            }
        }
    }

    pub(crate) fn divide(&mut self, count: f64) {
        for value in self.columns().into_iter().flatten() {
            *value /= count;
        }
    }
}
