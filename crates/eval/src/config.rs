//! How a model is trained: budget, optimiser and schedule.

use plastica_rules::Credit;
use plastica_tensor::optim::Schedule;
use serde::{Deserialize, Serialize};

use crate::{EpochRecord, EvalError, Plateau};

/// Most episodes in a step: far above every use, and far below what no memory would hold.
const MAX_BATCH: usize = 1 << 16;

/// Budget, optimiser and schedule of one training run; the optimiser is AdamW.
///
/// Only `epochs` and `dataset_size` have to be given. What is left out is as in the published runs of arXiv
/// 2510.21908, whose image tasks alone differ from these defaults (`weight_decay` 5e-4).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingConfig {
    /// Passes of `dataset_size` episodes, at least 1; an evaluation follows each.
    pub epochs: usize,
    /// Episodes an epoch, at least 1. They are drawn anew at every use: a count, not a stored dataset.
    #[serde(alias = "episodes_per_epoch")]
    pub dataset_size: usize,
    /// Fresh episodes of each evaluation, at least 1; `None` means `dataset_size`. With `plateau`, the same ones each time.
    #[serde(default, alias = "val_episodes", skip_serializing_if = "Option::is_none")]
    pub eval_episodes: Option<usize>,
    /// Episodes an optimiser step, from 1 to 65536; an epoch's last step takes what is left.
    #[serde(default = "published_batch_size")]
    pub batch_size: usize,
    /// AdamW's learning rate, before the schedule's factor; finite, at least 0.
    #[serde(default = "published_lr")]
    pub lr: f64,
    /// AdamW's decoupled weight decay; finite, at least 0.
    #[serde(default = "published_weight_decay")]
    pub weight_decay: f64,
    /// Euclidean norm to which the gradient of all parameters together is clipped; finite, above 0.
    #[serde(default = "published_clip_norm")]
    pub clip_norm: f64,
    /// The learning rate's course.
    #[serde(default)]
    pub schedule: Schedule,
    /// Weight of a prototypical network's loss on the encoder's embeddings beside the model's own, where steps show images;
    /// finite, at least 0. It trains the encoder alone.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub prototypical_loss: f64,
    /// When the run ends before its last epoch; `None` for never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plateau: Option<Plateau>,
    /// What the outer gradient sees of the fast weights' history.
    #[serde(default)]
    pub credit: Credit,
    /// Seed of every random draw of the run.
    #[serde(default)]
    pub seed: u64,
}

impl TrainingConfig {
    /// A configuration of this budget that otherwise is as published, with seed 0.
    pub fn new(epochs: usize, dataset_size: usize) -> Self {
        Self {
            epochs,
            dataset_size,
            eval_episodes: None,
            batch_size: published_batch_size(),
            lr: published_lr(),
            weight_decay: published_weight_decay(),
            clip_norm: published_clip_norm(),
            schedule: Schedule::default(),
            prototypical_loss: 0.0,
            plateau: None,
            credit: Credit::default(),
            seed: 0,
        }
    }

    /// Fresh episodes of each evaluation.
    pub fn eval_episodes(&self) -> usize {
        self.eval_episodes.unwrap_or(self.dataset_size)
    }

    /// Optimiser steps of the whole run; `usize::MAX` if there are more than that, 0 for
    /// a batch size of 0.
    pub fn total_steps(&self) -> usize {
        self.steps_an_epoch().saturating_mul(self.epochs)
    }

    /// Optimiser steps of an epoch; 0 for a batch size of 0.
    pub fn steps_an_epoch(&self) -> usize {
        if self.batch_size == 0 { 0 } else { self.dataset_size.div_ceil(self.batch_size) }
    }

    /// The epochs of a run that has done these: fewer than `epochs` where it stood still before.
    pub fn epochs_after(&self, history: &[EpochRecord]) -> usize {
        let Some(plateau) = self.plateau else { return self.epochs };
        plateau.stable_epochs(history, self.epochs).map_or(self.epochs, |stable| stable + plateau.cooldown)
    }

    /// The learning rate of optimiser step `step` (from 0) of a run that has done these epochs.
    pub fn lr_at(&self, step: usize, history: &[EpochRecord]) -> f64 {
        let rate = self.lr * self.schedule.factor(step as u64, self.total_steps() as u64);
        let Some(plateau) = self.plateau else { return rate };
        let Some(stable) = plateau.stable_epochs(history, self.epochs) else { return rate };
        let [begin, length] =
            [stable, plateau.cooldown].map(|epochs| (epochs * self.steps_an_epoch()) as f64);
        rate * (1.0 - (step as f64 - begin) / length).clamp(0.0, 1.0)
    }

    /// Checks every field against the range that it documents.
    ///
    /// # Errors
    ///
    /// [`EvalError::Config`] of the first field out of its range.
    pub fn validate(&self) -> Result<(), EvalError> {
        at_least_one("epochs", self.epochs)?;
        at_least_one("dataset_size", self.dataset_size)?;
        at_least_one("eval_episodes", self.eval_episodes())?;
        at_least_one("batch_size", self.batch_size)?;
        if self.batch_size > MAX_BATCH {
            return Err(config_error("batch_size", self.batch_size, format!("at most {MAX_BATCH}")));
        }
        number("lr", self.lr, "a finite number of at least 0", |v| v >= 0.0)?;
        number("weight_decay", self.weight_decay, "a finite number of at least 0", |v| v >= 0.0)?;
        let field = "prototypical_loss";
        number(field, self.prototypical_loss, "a finite number of at least 0", |v| v >= 0.0)?;
        number("clip_norm", self.clip_norm, "a finite number above 0", |v| v > 0.0)?;
        if let Schedule::WarmupCosine { warmup_steps, final_ratio } = self.schedule {
            let steps = self.total_steps() as u64;
            if warmup_steps >= steps {
                let expected = format!("below {steps}, the optimiser steps of the whole run");
                return Err(config_error("schedule.warmup_steps", warmup_steps, expected));
            }
            let field = "schedule.final_ratio";
            number(field, final_ratio, "a number from 0 to 1", |v| (0.0..=1.0).contains(&v))?;
        }
        self.plateau.map_or(Ok(()), |plateau| plateau.validate(self.epochs))
    }
}

fn published_batch_size() -> usize {
    1
}

fn published_lr() -> f64 {
    1e-3
}

fn published_weight_decay() -> f64 {
    1e-4
}

fn published_clip_norm() -> f64 {
    5.0
}

fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

fn at_least_one(field: &'static str, value: usize) -> Result<(), EvalError> {
    if value == 0 { Err(config_error(field, value, "at least 1")) } else { Ok(()) }
}

fn number(
    field: &'static str,
    value: f64,
    expected: &str,
    accepts: impl Fn(f64) -> bool,
) -> Result<(), EvalError> {
    if value.is_finite() && accepts(value) { Ok(()) } else { Err(config_error(field, value, expected)) }
}

fn config_error(field: &'static str, value: impl ToString, expected: impl Into<String>) -> EvalError {
    EvalError::Config { field, value: value.to_string(), expected: expected.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn parse(json: &str) -> TrainingConfig {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn what_is_left_out_is_as_published() {
        let config = parse(r#"{ "epochs": 2, "dataset_size": 50 }"#);
        assert_eq!(config, TrainingConfig::new(2, 50));
        assert_eq!((config.batch_size, config.lr, config.weight_decay), (1, 1e-3, 1e-4));
        assert_eq!(
            (config.clip_norm, config.schedule, config.eval_episodes()),
            (5.0, Schedule::Constant {}, 50)
        );
    }

    #[test]
    fn the_image_tasks_names_are_understood() {
        let config = parse(r#"{ "epochs": 5, "episodes_per_epoch": 80, "val_episodes": 50 }"#);
        assert_eq!((config.dataset_size, config.eval_episodes()), (80, 50));
    }

    #[test]
    fn round_trips() {
        let schedule = Schedule::WarmupCosine { warmup_steps: 7, final_ratio: 0.1 };
        let config =
            TrainingConfig { eval_episodes: Some(9), schedule, seed: 1 << 40, ..TrainingConfig::new(3, 20) };
        assert_eq!(parse(&serde_json::to_string(&config).unwrap()), config);
        let text = toml::to_string(&config).unwrap();
        assert_eq!(toml::from_str::<TrainingConfig>(&text).unwrap(), config, "{text}");
    }

    #[test]
    fn unknown_and_missing_fields_are_named() {
        let check = |json: &str, part: &str| {
            let message = serde_json::from_str::<TrainingConfig>(json).unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        };
        check(r#"{ "epochs": 2 }"#, "missing field `dataset_size`");
        check(r#"{ "epochs": 2, "dataset_size": 5, "learning_rate": 1 }"#, "unknown field `learning_rate`");
        check(r#"{ "epochs": 2, "dataset_size": 5, "episodes_per_epoch": 5 }"#, "duplicate field");
        check(
            r#"{ "epochs": 2, "dataset_size": 5, "schedule": { "kind": "cosine" } }"#,
            "unknown variant `cosine`",
        );
        check(
            r#"{ "epochs": 2, "dataset_size": 5, "schedule": { "kind": "constant", "step": 3 } }"#,
            "unknown field `step`",
        );
        check(
            r#"{ "epochs": 2, "dataset_size": 5, "schedule": { "kind": "warmup-cosine", "warmup": 1 } }"#,
            "unknown field `warmup`",
        );
    }

    #[test]
    fn steps_round_up_each_epoch() {
        let steps = |batch_size| TrainingConfig { batch_size, ..TrainingConfig::new(3, 10) }.total_steps();
        assert_eq!([steps(0), steps(1), steps(4), steps(10), steps(64)], [0, 30, 9, 3, 3]);
        assert_eq!(TrainingConfig::new(usize::MAX, 2).total_steps(), usize::MAX);
    }

    #[test]
    fn the_rate_goes_down_where_the_loss_stands_still_and_the_run_ends() {
        let plateau = Plateau { patience: 2, least_gain: 0.1, smoothing: 1, cooldown: 2 };
        let schedule = Schedule::WarmupCosine { warmup_steps: 2, final_ratio: 1.0 };
        let config = TrainingConfig {
            batch_size: 5,
            lr: 1.0,
            schedule,
            plateau: Some(plateau),
            ..TrainingConfig::new(9, 10)
        };
        config.validate().unwrap();
        let history = |losses: &[f64]| -> Vec<EpochRecord> {
            let record = |&loss| EpochRecord { epoch: 1, metrics: [("loss".to_owned(), loss)].into() };
            losses.iter().map(record).collect()
        };
        let rates = |from: usize, losses: &[f64]| [0, 1].map(|i| config.lr_at(from + i, &history(losses)));
        assert_eq!(rates(0, &[]), [0.5, 1.0]);
        assert_eq!(rates(6, &[4.0, 3.0, 2.0]), [1.0, 1.0]);
        assert_eq!(config.epochs_after(&history(&[4.0, 3.0, 2.0])), 9);
        // two steps an epoch, and four over which the rate goes down
        let still = [4.0, 3.9, 3.8];
        assert_eq!((rates(6, &still), config.epochs_after(&history(&still))), ([1.0, 0.75], 5));
        assert_eq!(rates(8, &[4.0, 3.9, 3.8, 3.0]), [0.5, 0.25]);
        // and where it never stands still, at the end of the budget
        let falling: Vec<f64> = (0..8).map(|i| 0.5_f64.powi(i)).collect();
        assert_eq!((rates(12, &falling[..6]), rates(14, &falling[..7])), ([1.0, 1.0], [1.0, 0.75]));
        assert_eq!((rates(16, &falling), config.epochs_after(&history(&falling))), ([0.5, 0.25], 9));
    }

    #[test]
    fn validation() {
        let check = |change: fn(&mut TrainingConfig), want: Result<(), &str>| {
            let mut config = TrainingConfig::new(2, 50);
            change(&mut config);
            let got = config.validate().map_err(|e| e.to_string());
            assert_eq!(got.as_ref().map(|_| ()).map_err(String::as_str), want);
        };
        check(|_| (), Ok(()));
        check(|c| c.lr = 0.0, Ok(()));
        check(|c| c.epochs = 0, Err("epochs is 0; it must be at least 1"));
        check(|c| c.dataset_size = 0, Err("dataset_size is 0; it must be at least 1"));
        check(|c| c.eval_episodes = Some(0), Err("eval_episodes is 0; it must be at least 1"));
        check(|c| c.batch_size = 65537, Err("batch_size is 65537; it must be at most 65536"));
        check(|c| c.batch_size = 0, Err("batch_size is 0; it must be at least 1"));
        check(|c| c.lr = -0.1, Err("lr is -0.1; it must be a finite number of at least 0"));
        check(|c| c.lr = f64::NAN, Err("lr is NaN; it must be a finite number of at least 0"));
        check(
            |c| c.weight_decay = f64::INFINITY,
            Err("weight_decay is inf; it must be a finite number of at least 0"),
        );
        check(|c| c.prototypical_loss = 0.5, Ok(()));
        check(
            |c| c.prototypical_loss = -1.0,
            Err("prototypical_loss is -1; it must be a finite number of at least 0"),
        );
        check(|c| c.clip_norm = 0.0, Err("clip_norm is 0; it must be a finite number above 0"));
        check(|c| c.clip_norm = f64::INFINITY, Err("clip_norm is inf; it must be a finite number above 0"));
        check(|c| c.schedule = Schedule::WarmupCosine { warmup_steps: 99, final_ratio: 1.0 }, Ok(()));
        check(
            |c| c.schedule = Schedule::WarmupCosine { warmup_steps: 100, final_ratio: 0.1 },
            Err("schedule.warmup_steps is 100; it must be below 100, the optimiser steps of \
                 the whole run"),
        );
        check(
            |c| c.schedule = Schedule::WarmupCosine { warmup_steps: 0, final_ratio: 1.5 },
            Err("schedule.final_ratio is 1.5; it must be a number from 0 to 1"),
        );
    }
}
