//! Learning-rate schedules.

use serde::{Deserialize, Serialize};

use crate::{Result, TensorError};

/// How the learning rate goes over a run, as a factor of its configured value.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Schedule {
    /// The same all along. With braces, so that a setting it does not have is refused.
    Constant {},
    /// From `1 / warmup_steps` up to 1 in a line over `warmup_steps` steps, then down along half a cosine to
    /// `final_ratio` (Loshchilov and Hutter, arXiv 1608.03983, without restarts).
    WarmupCosine {
        /// Steps until the full rate is reached, fewer than the run has.
        warmup_steps: u64,
        /// The factor at the run's end, in [0, 1].
        final_ratio: f64,
    },
}

impl Default for Schedule {
    fn default() -> Self {
        Schedule::Constant {}
    }
}

impl Schedule {
    /// Checks the settings for a run of `total` steps.
    ///
    /// # Errors
    /// [`TensorError::Setting`] for one outside of its range.
    pub fn validate(&self, total: u64) -> Result<()> {
        let Schedule::WarmupCosine { warmup_steps, final_ratio } = *self else { return Ok(()) };
        if warmup_steps >= total {
            let rule = "it must be below the run's number of steps";
            return Err(TensorError::Setting { name: "warmup_steps", value: warmup_steps.to_string(), rule });
        }
        if !(0.0..=1.0).contains(&final_ratio) {
            let rule = "it must lie in [0, 1]";
            return Err(TensorError::Setting { name: "final_ratio", value: final_ratio.to_string(), rule });
        }
        Ok(())
    }

    /// The factor at step `step` (from 0) of `total`; after the end, the last one.
    pub fn factor(&self, step: u64, total: u64) -> f64 {
        match *self {
            Schedule::Constant {} => 1.0,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::check_error;

    const COSINE: Schedule = Schedule::WarmupCosine { warmup_steps: 10, final_ratio: 0.2 };

    #[test]
    fn the_factor_at_the_ends_and_between() {
        let check = |schedule: Schedule, step, factor: f64| {
            let got = schedule.factor(step, 110);
            assert!((got - factor).abs() < 1e-15, "{schedule:?} at {step}: {got}, not {factor}");
        };
        check(Schedule::Constant {}, 0, 1.0);
        check(Schedule::Constant {}, 109, 1.0);
        check(COSINE, 0, 0.1);
        check(COSINE, 4, 0.5);
        check(COSINE, 9, 1.0);
        check(COSINE, 10, 1.0);
        check(COSINE, 60, 0.6);
        check(COSINE, 110, 0.2);
        check(COSINE, 1000, 0.2);
        check(Schedule::WarmupCosine { warmup_steps: 0, final_ratio: 0.0 }, 0, 1.0);
    }

    #[test]
    fn the_factor_rises_until_the_warm_up_ends_and_then_falls() {
        let factors: Vec<f64> = (0..110).map(|step| COSINE.factor(step, 110)).collect();
        assert!(factors[..10].is_sorted_by(|a, b| a < b));
        assert!(factors[10..].is_sorted_by(|a, b| a > b));
    }

    #[test]
    fn settings_outside_of_their_ranges_are_named() {
        let validate =
            |warmup_steps, final_ratio| Schedule::WarmupCosine { warmup_steps, final_ratio }.validate(100);
        assert_eq!(Schedule::Constant {}.validate(0), Ok(()));
        assert_eq!(validate(0, 0.0), Ok(()));
        assert_eq!(validate(99, 1.0), Ok(()));
        check_error(
            validate(100, 0.5),
            "warmup_steps = 100 won't do: it must be below the run's number of steps",
        );
        check_error(validate(0, 1.5), "final_ratio = 1.5 won't do: it must lie in [0, 1]");
        check_error(validate(0, f64::NAN), "final_ratio = NaN won't do: it must lie in [0, 1]");
    }

    #[test]
    fn a_schedule_reads_as_it_is_written() {
        let text = r#"{"kind":"warmup-cosine","warmup_steps":10,"final_ratio":0.2}"#;
        assert_eq!(serde_json::from_str::<Schedule>(text).unwrap(), COSINE);
        assert_eq!(serde_json::to_string(&COSINE).unwrap(), text);
        let misspelt = r#"{"kind":"warmup-cosine","warmup":10,"final_ratio":0.2}"#;
        assert!(serde_json::from_str::<Schedule>(misspelt).is_err());
    }
}
