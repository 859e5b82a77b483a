//! Learning-rate schedules.

use serde::{Deserialize, Serialize};

/// How the learning rate goes over a run, as a factor of its configured value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Schedule {
    /// The same all along.
    #[default]
    Constant,
    /// From 0 up in a line over `warmup_steps` steps, then down along half a cosine to `final_ratio`.
    WarmupCosine {
        /// Steps until the full rate is reached.
        warmup_steps: u64,
        /// The factor at the run's end, in [0, 1].
        final_ratio: f64,
    },
}

impl Schedule {
    /// The factor at step `step` (from 0) of `total`.
    pub fn factor(&self, step: u64, total: u64) -> f64 {
        match *self {
            Schedule::Constant => 1.0,
            Schedule::WarmupCosine { warmup_steps, .. } if step < warmup_steps => {
                (step + 1) as f64 / warmup_steps as f64
            }
            Schedule::WarmupCosine { warmup_steps, final_ratio } => {
                let span = total.saturating_sub(warmup_steps).max(1) as f64;
                let done = ((step - warmup_steps) as f64 / span).min(1.0);
                final_ratio + (1.0 - final_ratio) * 0.5 * (1.0 + (std::f64::consts::PI * done).cos())
            }
        }
    }
}
