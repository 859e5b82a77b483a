//! Training until it no longer gets better: when a run ends, by a rule that is the same for all that are compared.

use serde::{Deserialize, Serialize};

use crate::{EpochRecord, EvalError};

/// The metric whose standing still ends a run.
const LOSS: &str = "loss";

/// Train at the full rate until the loss stands still, then bring the rate down, and stop.
///
/// After each epoch the run is evaluated on the same held-out episodes. Their loss, the mean over the last `smoothing`
/// evaluations, *stands still* when its least over the last `patience` evaluations is not below `1 - least_gain` of its
/// least before those. From there on, or `cooldown` epochs before the last that the budget has, whichever comes first, the
/// rate goes down in a line to zero over `cooldown` epochs, and the run ends: warm-up, a stable rate, and a decay
/// (Hu and others, arXiv 2404.06395), with the length of the stable part decided by the run. A run that stands still early
/// is thus brought down as every other is, and none gets a longer decay than another.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Plateau {
    /// Evaluations that a loss may stand still, at least 1.
    pub patience: usize,
    /// Share of the loss that counts as getting better, from 0 to below 1.
    pub least_gain: f64,
    /// Evaluations that a loss is the mean of, at least 1.
    pub smoothing: usize,
    /// Epochs over which the rate goes down to zero: at least 1, and below `training.epochs`.
    pub cooldown: usize,
}

impl Default for Plateau {
    fn default() -> Self {
        Self { patience: 8, least_gain: 0.02, smoothing: 3, cooldown: 5 }
    }
}

impl Plateau {
    /// Checks the ranges, for a run of at most `epochs` epochs.
    ///
    /// # Errors
    /// [`EvalError::Config`] of the first field out of its range.
    pub fn validate(&self, epochs: usize) -> Result<(), EvalError> {
        let error =
            |field, value: String, expected: String| Err(EvalError::Config { field, value, expected });
        let counts = [("plateau.patience", self.patience), ("plateau.smoothing", self.smoothing)];
        if let Some((field, _)) = counts.into_iter().find(|&(_, count)| count == 0) {
            return error(field, "0".into(), "at least 1".into());
        }
        if !(0.0..1.0).contains(&self.least_gain) {
            let expected = "a number from 0 to below 1".into();
            return error("plateau.least_gain", self.least_gain.to_string(), expected);
        }
        if self.cooldown == 0 || self.cooldown >= epochs {
            let expected = format!("at least 1, and below {epochs}, the epochs of the whole run");
            return error("plateau.cooldown", self.cooldown.to_string(), expected);
        }
        Ok(())
    }

    /// Whether the last of these losses, one an evaluation, is where they stand still.
    fn stands_still(&self, losses: &[f64]) -> bool {
        let smoothed: Vec<f64> = losses
            .windows(self.smoothing)
            .map(|window| window.iter().sum::<f64>() / window.len() as f64)
            .collect();
        let Some(before) = smoothed.len().checked_sub(self.patience).filter(|&before| before > 0) else {
            return false;
        };
        let least = |losses: &[f64]| losses.iter().copied().fold(f64::INFINITY, f64::min);
        least(&smoothed[before..]) >= (1.0 - self.least_gain) * least(&smoothed[..before])
    }

    /// The epochs before the rate goes down, of a run that has done these and may do `epochs`; `None` while it is not known.
    pub(crate) fn stable_epochs(&self, history: &[EpochRecord], epochs: usize) -> Option<usize> {
        let loss = |record: &EpochRecord| record.metrics.get(LOSS).copied().unwrap_or(f64::NAN);
        let losses: Vec<f64> = history.iter().map(loss).collect();
        let last = epochs.saturating_sub(self.cooldown);
        let standing = (1..=losses.len().min(last)).find(|&done| self.stands_still(&losses[..done]));
        standing.or((losses.len() >= last).then_some(last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(losses: &[f64]) -> Vec<EpochRecord> {
        let record = |(i, &loss): (usize, &f64)| EpochRecord {
            epoch: i + 1,
            metrics: [(LOSS.to_owned(), loss)].into(),
        };
        losses.iter().enumerate().map(record).collect()
    }

    const RULE: Plateau = Plateau { patience: 3, least_gain: 0.1, smoothing: 1, cooldown: 2 };

    #[track_caller]
    fn check(rule: Plateau, losses: &[f64], epochs: usize, want: Option<usize>) {
        assert_eq!(rule.stable_epochs(&history(losses), epochs), want, "{losses:?}");
    }

    #[test]
    fn a_loss_that_stands_still_ends_the_stable_part() {
        check(RULE, &[1.0, 0.9, 0.8], 20, None);
        // three evaluations in a row that gain less than a tenth on the least before
        check(RULE, &[1.0, 0.95, 0.92], 20, None);
        check(RULE, &[1.0, 0.95, 0.92, 0.91], 20, Some(4));
        check(RULE, &[1.0, 0.95, 0.92, 0.89], 20, None);
        // what comes after does not change it
        check(RULE, &[1.0, 0.95, 0.92, 0.91, 0.1, 0.05], 20, Some(4));
        // a loss that gets worse stands still
        check(RULE, &[1.0, 2.0, 3.0, 4.0], 20, Some(4));
    }

    #[test]
    fn the_budgets_end_comes_after_the_decay() {
        let falling: Vec<f64> = (0..10).map(|i| 0.5_f64.powi(i)).collect();
        check(RULE, &falling[..7], 10, None);
        check(RULE, &falling[..8], 10, Some(8));
        check(RULE, &falling, 10, Some(8));
        check(RULE, &[], 2, Some(0));
    }

    #[test]
    fn smoothing_looks_past_single_evaluations() {
        let rule = Plateau { smoothing: 2, ..RULE };
        // one lucky evaluation is not what later ones have to beat
        let losses = [1.0, 0.2, 1.0, 0.5, 0.5, 0.3, 0.3];
        check(RULE, &losses, 20, Some(5));
        check(rule, &losses, 20, None);
    }

    #[test]
    fn a_loss_that_is_no_number_is_no_gain() {
        check(RULE, &[1.0, f64::NAN, f64::NAN, f64::NAN], 20, Some(4));
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let check = |change: fn(&mut Plateau), message: &str| {
            let mut rule = RULE;
            change(&mut rule);
            assert_eq!(rule.validate(10).unwrap_err().to_string(), message);
        };
        RULE.validate(10).unwrap();
        Plateau::default().validate(6).unwrap();
        check(|p| p.patience = 0, "plateau.patience is 0; it must be at least 1");
        check(|p| p.smoothing = 0, "plateau.smoothing is 0; it must be at least 1");
        check(|p| p.least_gain = 1.0, "plateau.least_gain is 1; it must be a number from 0 to below 1");
        check(
            |p| p.least_gain = f64::NAN,
            "plateau.least_gain is NaN; it must be a number from 0 to below 1",
        );
        let expected = "it must be at least 1, and below 10, the epochs of the whole run";
        check(|p| p.cooldown = 0, &format!("plateau.cooldown is 0; {expected}"));
        check(|p| p.cooldown = 10, &format!("plateau.cooldown is 10; {expected}"));
    }
}
