//! One task of the report.

use std::collections::BTreeMap;

use plastica_tasks::{Dataset, Phase, TaskConfig};
use serde::Serialize;
use serde_json::Value;

use super::curves::phases;
use super::{Curve, distinct};
use crate::comparison::shown_metrics;
use crate::{
    EvalError, RuleRow, RunRecord, RunStatus, Summary, Table, comparison_table,
    difference_in_standard_errors, published, split_arm,
};

/// Metrics of other methods on the same episodes are named after them, with this in front.
const BASELINE: &str = "accuracy_";

/// What a task's runs measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TaskReport {
    /// The task's name.
    pub name: String,
    /// The name, and the images where they are not those of the published runs.
    #[serde(skip)]
    pub title: String,
    /// The rules, in the order of the records.
    pub rules: Vec<RuleReport>,
    /// Accuracies to hold the rules against, of tasks that have classes to tell apart.
    pub baselines: Vec<Baseline>,
    /// Metrics after each epoch.
    pub curves: Vec<Curve>,
    /// η, gate, clip and norm at each step of the sequence.
    pub sequence: Vec<Curve>,
    /// The phase of each step.
    pub phases: Vec<Phase>,
    /// The configuration that the runs share, by `section.key`, without the seed, places in a file system left out.
    pub settings: BTreeMap<String, Value>,
    /// The comparison with the published figures.
    #[serde(skip)]
    pub table: Table,
}

/// What the runs of one rule measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RuleReport {
    /// The rule's name.
    pub rule: String,
    /// The runs' seeds.
    pub seeds: Vec<u64>,
    /// Why runs failed.
    pub failures: Vec<String>,
    /// Final metrics over the finished runs.
    pub metrics: BTreeMap<String, Measured>,
}

/// One metric, ours beside the published.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measured {
    /// Ours.
    pub ours: Summary,
    /// Theirs, where there is one.
    pub published: Option<PublishedFigure>,
    /// Ours less theirs in combined standard errors.
    pub difference: Option<f64>,
}

/// A published metric.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PublishedFigure {
    /// Mean over the runs.
    pub mean: f64,
    /// Population standard deviation.
    pub population_sd: f64,
    /// Number of runs.
    pub runs: usize,
}

/// An accuracy that takes no plastic Transformer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Baseline {
    /// The method: `chance`, or what follows `accuracy_` in the records' metrics.
    pub name: String,
    /// Its accuracy; a mean over the runs' episodes if it was measured.
    pub accuracy: f64,
}

impl TaskReport {
    pub(super) fn new(task: &str, records: &[RunRecord]) -> Result<Self, EvalError> {
        let of_task: Vec<&RunRecord> = records.iter().filter(|r| r.task == task).collect();
        let names = distinct(of_task.iter().map(|r| &r.rule));
        let mut rows = Vec::new();
        let mut rules = Vec::new();
        for name in &names {
            let of_rule: Vec<RunRecord> =
                of_task.iter().filter(|r| r.rule == *name).map(|&r| r.clone()).collect();
            let row = RuleRow::from_records(&of_rule)?;
            rules.push(RuleReport::new(task, &row, of_rule.iter().map(|r| r.seed).collect()));
            rows.push(row);
        }
        let shown = shown_metrics(task, &rows);
        let beside = ["eta_mean", "plastic_norm_mean", "steps"];
        let measured = shown.iter().filter(|m| !beside.contains(m));
        let learned = measured.chain(["train_loss"].iter().filter(|m| !shown.contains(m)));
        let config = of_task.first().map(|r| &r.config);
        let several_credits = names.iter().any(|name| !split_arm(name).1.is_empty());
        let entropy = shown.iter().any(|m| m.contains("accuracy"));
        let title = title(task, config);
        let table = comparison_table(task, &rows);
        Ok(Self {
            name: task.to_owned(),
            baselines: baselines(config, &of_task),
            curves: learned
                .filter_map(|metric| Curve::over_epochs(&of_task, &names, metric, &label(metric, entropy)))
                .collect(),
            sequence: Curve::over_steps(&of_task, &names),
            phases: phases(&of_task),
            settings: config.map(|config| settings(config, several_credits)).unwrap_or_default(),
            table: Table { title: table.title.replacen(task, &title, 1), ..table },
            title,
            rules,
        })
    }

    /// The published figure of a rule's metric.
    pub(super) fn published(&self, rule: &str, metric: &str) -> Option<PublishedFigure> {
        published_figure(&self.name, rule, metric)
    }
}

impl RuleReport {
    fn new(task: &str, row: &RuleRow, seeds: Vec<u64>) -> Self {
        let measured = |(name, &ours): (&String, &Summary)| {
            let published = published_figure(task, &row.rule, name);
            let difference =
                published.and_then(|p| difference_in_standard_errors(&ours, p.mean, p.population_sd, p.runs));
            (name.clone(), Measured { ours, published, difference })
        };
        Self {
            rule: row.rule.clone(),
            seeds,
            failures: row.failures.clone(),
            metrics: row.metrics.iter().map(measured).collect(),
        }
    }
}

fn published_figure(task: &str, rule: &str, metric: &str) -> Option<PublishedFigure> {
    let rule = published().task(task)?.rule(split_arm(rule).0)?;
    let figure = rule.metrics.get(metric)?;
    Some(PublishedFigure { mean: figure.mean, population_sd: figure.sd, runs: rule.seeds.len() })
}

/// The task's name, and its images if they are other ones than the published.
fn title(task: &str, config: Option<&Value>) -> String {
    let published = TaskConfig::from_name(task).ok().and_then(|task| task.data()).map(Dataset::name);
    match config.and_then(|config| config["task"]["data"].as_str()) {
        Some(data) if Some(data) != published => format!("{task} on {data}"),
        _ => task.to_owned(),
    }
}

/// A metric with its unit, for an axis. Tasks that score accuracies have losses in nats.
fn label(metric: &str, entropy: bool) -> String {
    match (metric, entropy) {
        ("loss", true) => "loss, nats a step".to_owned(),
        ("loss", false) => "loss, squared error a step".to_owned(),
        ("train_loss", true) => "loss in training, nats a step".to_owned(),
        ("train_loss", false) => "loss in training, squared error a step".to_owned(),
        ("query_loss", _) => "query loss, squared error".to_owned(),
        ("recall_accuracy", _) => "recall accuracy, blanks included".to_owned(),
        ("recall_accuracy_strict", _) => "recall accuracy, the answer alone".to_owned(),
        ("accuracy", _) => "accuracy, share of queries".to_owned(),
        _ => metric.replace('_', " "),
    }
}

fn baselines(config: Option<&Value>, records: &[&RunRecord]) -> Vec<Baseline> {
    let mut found = Vec::new();
    if let Some(ways) = config.and_then(|c| c["task"]["ways"].as_f64()).filter(|&ways| ways > 0.0) {
        found.push(Baseline { name: "chance".to_owned(), accuracy: 1.0 / ways });
    }
    let finished = records.iter().filter(|r| r.status == RunStatus::Finished);
    let mut sums: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
    for (name, &value) in finished.flat_map(|r| &r.final_metrics) {
        if let Some(name) = name.strip_prefix(BASELINE) {
            let (sum, count) = sums.entry(name).or_default();
            (*sum, *count) = (*sum + value, *count + 1.0);
        }
    }
    let named = sums.into_iter().map(|(name, (sum, count))| (name.replace('_', " "), sum / count));
    found.extend(named.map(|(name, accuracy)| Baseline { name, accuracy }));
    found
}

/// A configuration's leaves by `section.key`.
fn settings(config: &Value, several_credits: bool) -> BTreeMap<String, Value> {
    let mut leaves = BTreeMap::new();
    flatten("", config, &mut leaves);
    leaves.remove("training.seed");
    leaves.remove("model.rule");
    if several_credits {
        leaves.remove("training.credit");
    }
    // where files lie on this machine is nobody else's business
    leaves.retain(|_, value| !value.as_str().is_some_and(|text| text.contains(['/', '\\'])));
    leaves
}

fn flatten(path: &str, value: &Value, leaves: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                flatten(&path, value, leaves);
            }
        }
        Value::Null => {}
        leaf => {
            leaves.insert(path.to_owned(), leaf.clone());
        }
    }
}
