//! A study in the layout of the result logs published with the paper: one file a task and rule.
//!
//! What was written to read the paper's logs reads these. `config` has the parts `model`, `task` and `training` with the
//! published keys, a run's `history` and `final` have the published figures alone, and `aggregate` has mean and
//! population standard deviation of every figure in `final`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use plastica_rules::Rule;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::record::{metrics, write_json};
use crate::{EvalError, RuleRow, RunRecord, RunStatus};

/// The figures of an evaluation; those of training have `train_` in front.
const PLASTICITY: [&str; 4] = ["eta_mean", "eta_std", "plastic_norm_mean", "plastic_norm_std"];

/// The task's own figure, one of these.
const HEADLINES: [&str; 3] = ["recall_accuracy", "query_loss", "accuracy"];

/// The runs of one task under one rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StudyLog {
    /// `model`, `task` and `training`, with the published keys.
    pub config: LogConfig,
    /// The finished runs.
    pub runs: Vec<LogRun>,
    /// The finished runs summed up.
    pub aggregate: LogAggregate,
}

/// The configuration that the runs share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogConfig {
    /// Rule and sizes.
    pub model: Map<String, Value>,
    /// The task; of image tasks `train` and `val`, which say where the classes come from.
    pub task: Map<String, Value>,
    /// Budget and optimiser.
    pub training: Map<String, Value>,
}

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogRun {
    /// Seed of every random draw.
    pub seed: u64,
    /// The epochs.
    pub history: Vec<LogEpoch>,
    /// Figures after the last epoch.
    #[serde(rename = "final", with = "metrics")]
    pub last: BTreeMap<String, f64>,
}

/// One epoch: its number and its figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogEpoch {
    /// Number of the epoch, from 1.
    pub epoch: usize,
    /// `loss`, the task's own figure, η and norm, each in evaluation and in training.
    #[serde(flatten, with = "metrics")]
    pub figures: BTreeMap<String, f64>,
}

/// The runs summed up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogAggregate {
    /// Number of runs, n.
    pub num_runs: usize,
    /// `KEY_mean` and `KEY_std` (divisor n) of every figure in the runs' `final`.
    #[serde(flatten, with = "metrics")]
    pub figures: BTreeMap<String, f64>,
}

impl StudyLog {
    /// The finished runs among the records of one task and rule.
    ///
    /// # Errors
    /// [`EvalError::EmptySample`] when no run finished, and those of [`RuleRow::from_records`].
    pub fn of(records: &[RunRecord]) -> Result<Self, EvalError> {
        RuleRow::from_records(records)?;
        let finished: Vec<&RunRecord> = records.iter().filter(|r| r.status == RunStatus::Finished).collect();
        let first = finished.first().ok_or(EvalError::EmptySample)?;
        let runs = finished.iter().map(|record| LogRun {
            seed: record.seed,
            history: record
                .history
                .iter()
                .map(|epoch| LogEpoch { epoch: epoch.epoch, figures: figures(&epoch.metrics) })
                .collect(),
            last: figures(&record.final_metrics),
        });
        let runs: Vec<LogRun> = runs.collect();
        Ok(Self { config: LogConfig::of(&first.config), aggregate: aggregate(&runs), runs })
    }

    /// The name of the file: `copy_delay20_rule-hebbian.json`.
    pub fn file_name(record: &RunRecord) -> String {
        let number = |key: &str| record.config["task"][key].as_u64().unwrap_or_default();
        let stem = match record.task.as_str() {
            "copying" => format!("copy_delay{}", number("delay")),
            "cue-reward" => "cue".to_owned(),
            "cifar-fs" => "classification_cifarfs".to_owned(),
            "omniglot" => "classification_omniglot".to_owned(),
            other => other.to_owned(),
        };
        format!("{stem}_rule-{}.json", record.rule)
    }
}

/// Writes a study's records to `folder`, one file a task and rule that has finished runs; returns the files.
///
/// # Errors
/// [`EvalError::ReportWrite`] when a file cannot be written, and those of [`StudyLog::of`].
pub fn write_logs(records: &[RunRecord], folder: &Path) -> Result<Vec<PathBuf>, EvalError> {
    let mut groups: Vec<Vec<RunRecord>> = Vec::new();
    // the paper's logs know its rules alone
    for record in records.iter().filter(|record| record.rule.parse::<Rule>().is_ok()) {
        match groups.iter_mut().find(|g| g[0].task == record.task && g[0].rule == record.rule) {
            Some(group) => group.push(record.clone()),
            None => groups.push(vec![record.clone()]),
        }
    }
    let mut files = Vec::new();
    for group in groups {
        if group.iter().all(|record| record.status != RunStatus::Finished) {
            continue;
        }
        let path = folder.join(StudyLog::file_name(&group[0]));
        write_json(&path, &StudyLog::of(&group)?)
            .map_err(|source| EvalError::ReportWrite { path: path.clone(), source })?;
        files.push(path);
    }
    Ok(files)
}

impl LogConfig {
    /// The published keys of a run's whole configuration.
    fn of(config: &Value) -> Self {
        let part = |name: &str| config[name].as_object().cloned().unwrap_or_default();
        let (model, mut task, training) = (part("model"), part("task"), part("training"));
        let sizes = ["rule", "model_dim", "num_heads", "num_layers", "ffn_dim", "embedding_dim"];
        let mut budget = vec!["epochs", "lr", "weight_decay", "clip_norm"];
        let episodes = training.get("dataset_size").cloned().unwrap_or_default();
        let mut training = training;
        let name = task.remove("name").unwrap_or_default();
        let task = if task.contains_key("ways") {
            budget.extend(["episodes_per_epoch", "val_episodes"]);
            let evaluated =
                training.get("eval_episodes").filter(|n| !n.is_null()).unwrap_or(&episodes).clone();
            training.extend([
                ("episodes_per_epoch".to_owned(), episodes),
                ("val_episodes".to_owned(), evaluated),
            ]);
            let side = |split: &str| images(&name, &task, split);
            Map::from_iter([("train".to_owned(), side("train")), ("val".to_owned(), side("val"))])
        } else {
            task.insert("dataset_size".to_owned(), episodes);
            task
        };
        Self { model: kept(model, &sizes), task, training: kept(training, &budget) }
    }
}

/// Where the images of training or of evaluation come from.
fn images(name: &Value, task: &Map<String, Value>, split: &str) -> Value {
    let or = |keys: &[&str], default: Value| {
        keys.iter().find_map(|&key| task.get(key).filter(|v| !v.is_null())).cloned().unwrap_or(default)
    };
    json!({
        // the data's name: a folder's place on one machine says nothing on another
        "root": name,
        "ways": or(&["ways"], Value::Null),
        "shots": or(&["shots"], Value::Null),
        "queries": or(&["queries"], Value::Null),
        "split": or(&[&format!("{split}_split"), "split"], split.into()),
        "dataset": or(&["dataset"], name.clone()),
    })
}

fn kept(map: Map<String, Value>, keys: &[&str]) -> Map<String, Value> {
    map.into_iter().filter(|(key, _)| keys.contains(&key.as_str())).collect()
}

/// The published figures among a record's metrics.
fn figures(metrics: &BTreeMap<String, f64>) -> BTreeMap<String, f64> {
    let published = |name: &&String| {
        let trained = name.strip_prefix("train_").unwrap_or(name);
        trained == "loss" || HEADLINES.contains(&name.as_str()) || PLASTICITY.contains(&trained)
    };
    metrics.iter().filter(|(name, _)| published(name)).map(|(name, &value)| (name.clone(), value)).collect()
}

fn aggregate(runs: &[LogRun]) -> LogAggregate {
    let (num_runs, n) = (runs.len(), runs.len() as f64);
    let mut figures = BTreeMap::new();
    for key in runs.iter().flat_map(|run| run.last.keys()) {
        let values: Vec<f64> = runs.iter().filter_map(|run| run.last.get(key).copied()).collect();
        let mean = values.iter().sum::<f64>() / n;
        let sd = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
        figures.extend([(format!("{key}_mean"), mean), (format!("{key}_std"), sd)]);
    }
    LogAggregate { num_runs, figures }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use plastica_rules::Rule;

    use super::*;
    use crate::{EpochRecord, RunConfig, published};

    /// Records of a published task and rule: the paper's seeds, with the final figures of its logs.
    fn records(task: &str, rule: Rule) -> Vec<RunRecord> {
        let config = serde_json::to_value(RunConfig::published(task, rule).unwrap()).unwrap();
        let theirs = published().task(task).unwrap().rule(rule.name()).unwrap();
        let record = |(i, &seed): (usize, &u64)| {
            let seeds_value =
                |name: &str| theirs.metrics.get(name).map(|m| m.finals.as_ref().map_or(m.mean, |f| f[i]));
            let mut metrics: BTreeMap<String, f64> =
                theirs.metrics.keys().map(|name| (name.clone(), seeds_value(name).unwrap())).collect();
            for name in ["eta_std", "plastic_norm_std", "train_eta_mean", "train_eta_std"] {
                metrics.insert(name.to_owned(), 0.25);
            }
            for name in
                ["train_plastic_norm_mean", "train_plastic_norm_std", "gate_mean", "train_recall_accuracy"]
            {
                metrics.insert(name.to_owned(), 0.5);
            }
            RunRecord {
                crate_version: crate::VERSION.to_owned(),
                task: task.to_owned(),
                rule: rule.name().to_owned(),
                credit: "detached".to_owned(),
                protocol: "paper".to_owned(),
                seed,
                config: config.clone(),
                history: vec![EpochRecord { epoch: 1, metrics: metrics.clone() }],
                final_metrics: metrics,
                trace: None,
                fingerprint: String::new(),
                devices: Vec::new(),
                wall_seconds: 1.0,
                status: RunStatus::Finished,
            }
        };
        theirs.seeds.iter().enumerate().map(record).collect()
    }

    fn keys(map: &Map<String, Value>) -> BTreeSet<&str> {
        map.keys().map(String::as_str).collect()
    }

    #[test]
    fn the_keys_are_the_published_ones() {
        let check = |task: &str, headline: &str, file: &str, fields: &[&str]| {
            let records = records(task, Rule::Hebbian);
            let log = StudyLog::of(&records).unwrap();
            assert_eq!(StudyLog::file_name(&records[0]), file);
            let model = ["rule", "model_dim", "num_heads", "num_layers", "ffn_dim"];
            assert_eq!(keys(&log.config.model), BTreeSet::from(model));
            assert_eq!(
                keys(&log.config.training),
                BTreeSet::from(["epochs", "lr", "weight_decay", "clip_norm"])
            );
            assert_eq!(keys(&log.config.task), fields.iter().copied().collect());
            let run = serde_json::to_value(&log).unwrap()["runs"][0].clone();
            assert_eq!(keys(run.as_object().unwrap()), BTreeSet::from(["seed", "history", "final"]));
            let both = ["loss", "eta_mean", "eta_std", "plastic_norm_mean", "plastic_norm_std"];
            let train = both.map(|key| format!("train_{key}"));
            let mut figures: BTreeSet<&str> =
                both.into_iter().chain(train.iter().map(String::as_str)).collect();
            figures.insert(headline);
            assert_eq!(keys(run["final"].as_object().unwrap()), figures);
            figures.insert("epoch");
            assert_eq!(keys(run["history"][0].as_object().unwrap()), figures);
        };
        let copying = ["seq_length", "delay", "vocab_size", "dataset_size"];
        check("copying", "recall_accuracy", "copy_delay20_rule-hebbian.json", &copying);
        let cue = ["num_pairs", "cue_dim", "dataset_size", "reward_range"];
        check("cue-reward", "query_loss", "cue_rule-hebbian.json", &cue);
        let regression = ["input_dim", "k_support", "k_query", "dataset_size", "weight_scale", "bias_scale"];
        check("regression", "query_loss", "regression_rule-hebbian.json", &regression);
    }

    #[test]
    fn the_papers_runs_have_the_papers_aggregates() {
        for task in ["copying", "cue-reward", "regression"] {
            for rule in Rule::PUBLISHED {
                let log = StudyLog::of(&records(task, rule)).unwrap();
                let theirs = published().task(task).unwrap().rule(rule.name()).unwrap();
                assert_eq!(log.aggregate.num_runs, 3);
                for (name, metric) in &theirs.metrics {
                    let close = |got: f64, want: f64| (got - want).abs() <= 1e-13 * want.abs();
                    assert!(
                        close(log.aggregate.figures[&format!("{name}_mean")], metric.mean),
                        "{task} {rule} {name}"
                    );
                    if metric.finals.is_some() {
                        assert!(
                            close(log.aggregate.figures[&format!("{name}_std")], metric.sd),
                            "{task} {rule} {name}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn images_are_configured_side_by_side() {
        let mut records = records("copying", Rule::Gradient);
        for record in &mut records {
            record.task = "omniglot".to_owned();
            record.config = json!({
                "model": { "rule": "gradient", "model_dim": 256, "embedding_dim": 256, "dropout": 0.1 },
                "task": { "name": "omniglot", "ways": 5, "shots": 5, "queries": 15 },
                "training": { "epochs": 5, "dataset_size": 100, "eval_episodes": 50, "lr": 0.001, "seed": 1 },
            });
        }
        assert_eq!(StudyLog::file_name(&records[0]), "classification_omniglot_rule-gradient.json");
        let config = StudyLog::of(&records).unwrap().config;
        let side = |split: &str| json!({ "root": "omniglot", "ways": 5, "shots": 5, "queries": 15, "split": split, "dataset": "omniglot" });
        assert_eq!(Value::Object(config.task), json!({ "train": side("train"), "val": side("val") }));
        let training = json!({ "epochs": 5, "episodes_per_epoch": 100, "val_episodes": 50, "lr": 0.001 });
        assert_eq!(Value::Object(config.training), training);
        assert_eq!(keys(&config.model), BTreeSet::from(["rule", "model_dim", "embedding_dim"]));
    }

    #[test]
    fn what_is_written_is_read_back_and_failed_runs_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let mut records = [records("copying", Rule::None), records("regression", Rule::Gradient)].concat();
        records[1].status = RunStatus::Failed { reason: "diverged".to_owned() };
        records[2].history[0].metrics.insert("eta_std".to_owned(), f64::NAN);
        let files = write_logs(&records, folder.path()).unwrap();
        let read =
            |i: usize| -> StudyLog { serde_json::from_slice(&std::fs::read(&files[i]).unwrap()).unwrap() };
        let seeds: Vec<u64> = read(0).runs.iter().map(|run| run.seed).collect();
        assert_eq!(seeds, [1000, 1002]);
        assert!(read(0).runs[1].history[0].figures["eta_std"].is_nan());
        assert_eq!(read(1), StudyLog::of(&records[3..]).unwrap());
        records.iter_mut().for_each(|r| r.status = RunStatus::Failed { reason: String::new() });
        assert_eq!(write_logs(&records, folder.path()).unwrap(), Vec::<PathBuf>::new());
    }
}
