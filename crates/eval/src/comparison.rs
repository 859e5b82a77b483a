//! Our runs beside the published ones, as a table.

use std::collections::{BTreeMap, BTreeSet};

use plastica_tasks::{EpisodeSource, TaskConfig};

use crate::objective::empty_answer_score;
use crate::{
    Column, EvalError, RunRecord, RunStatus, Summary, Table, difference_in_standard_errors, format_number,
    published, split_arm,
};

/// What a cell without a value shows.
const ABSENT: &str = "–";

/// One rule's runs of one task, for [`comparison_table`].
#[derive(Debug, Clone, PartialEq)]
pub struct RuleRow {
    /// The rule's name, by which its published figures are found.
    pub rule: String,
    /// Final metrics over the finished runs, by name.
    pub metrics: BTreeMap<String, Summary>,
    /// Number of runs, failed ones included.
    pub runs: usize,
    /// Why runs failed, one reason a failed run.
    pub failures: Vec<String>,
    /// What an empty answer scores as copying's `recall_accuracy`, where that is the task and its setting is known.
    pub empty_answer: Option<f64>,
}

impl RuleRow {
    /// Sums up the records of one experiment, run with different seeds. A finished run whose final metrics
    /// are not all finite counts as failed: no mean could include it, and leaving it out unsaid would
    /// flatter the rule.
    ///
    /// # Errors
    ///
    /// [`EvalError::EmptySample`] without records, [`EvalError::MixedRecords`] if they differ in task, rule,
    /// credit or protocol, [`EvalError::RepeatedSeed`], and [`EvalError::SampleOverflow`].
    pub fn from_records(records: &[RunRecord]) -> Result<Self, EvalError> {
        let first = records.first().ok_or(EvalError::EmptySample)?;
        let mut seeds = BTreeSet::new();
        let mut values: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        let mut failures = Vec::new();
        for record in records {
            same_experiment(first, record)?;
            if !seeds.insert(record.seed) {
                return Err(EvalError::RepeatedSeed { seed: record.seed });
            }
            let bad = record.final_metrics.iter().find(|(_, value)| !value.is_finite());
            match (&record.status, bad) {
                (RunStatus::Failed { reason }, _) => failures.push(format!("seed {}: {reason}", record.seed)),
                (RunStatus::Finished, Some((name, value))) => {
                    failures.push(format!("seed {}: final {name} is {value}", record.seed))
                }
                (RunStatus::Finished, None) => {
                    for (name, &value) in &record.final_metrics {
                        values.entry(name).or_default().push(value);
                    }
                }
            }
        }
        let metrics = values
            .into_iter()
            .map(|(name, values)| Ok((name.to_owned(), Summary::of(&values)?)))
            .collect::<Result<_, EvalError>>()?;
        let empty_answer = empty_answer(first);
        Ok(Self { rule: first.rule.clone(), metrics, runs: records.len(), failures, empty_answer })
    }
}

/// What an empty answer scores in the setting of a run of copying.
fn empty_answer(record: &RunRecord) -> Option<f64> {
    let task: TaskConfig = serde_json::from_value(record.config.get("task")?.clone()).ok()?;
    let TaskConfig::Copying(copying) = task else { return None };
    Some(empty_answer_score(&copying.build().ok()?.phases()))
}

fn same_experiment(first: &RunRecord, other: &RunRecord) -> Result<(), EvalError> {
    let fields = [
        ("task", &first.task, &other.task),
        ("rule", &first.rule, &other.rule),
        ("credit", &first.credit, &other.credit),
        ("protocol", &first.protocol, &other.protocol),
    ];
    match fields.into_iter().find(|(_, a, b)| a != b) {
        None => Ok(()),
        Some((field, a, b)) => Err(EvalError::MixedRecords {
            field,
            first_seed: first.seed,
            first: a.clone(),
            other_seed: other.seed,
            other: b.clone(),
        }),
    }
}

/// Our runs of `task` beside the published ones, a row a rule and metric.
///
/// Means and population standard deviations on both sides; `difference` is ours less theirs in combined
/// standard errors (see [`difference_in_standard_errors`]); `runs` is the number behind our mean. A dash
/// stands for what isn't there. A rule with failed runs gets a further row that says how many failed and
/// why; its other rows are then of the runs that finished only. For a task that isn't the paper's, every
/// metric of `rows` is shown.
pub fn comparison_table(task: &str, rows: &[RuleRow]) -> Table {
    let columns = vec![
        Column::left("rule"),
        Column::left("metric"),
        Column::right("ours (mean ± sd)"),
        Column::right("published (mean ± sd)"),
        Column::right("difference (combined SE)"),
        Column::right("runs"),
    ];
    let metrics = shown_metrics(task, rows);
    let mut cells = Vec::new();
    for row in rows {
        if row.failures.len() < row.runs {
            cells.extend(metrics.iter().map(|metric| metric_row(task, row, metric)));
        }
        if !row.failures.is_empty() {
            cells.push(failure_row(row));
        }
    }
    Table { title: format!("{task}: mean ± population standard deviation"), columns, rows: cells }
}

/// The metrics of a task's table: the headline first.
pub(crate) fn shown_metrics<'a>(task: &str, rows: &'a [RuleRow]) -> Vec<&'a str> {
    let headline: &[&str] = match task {
        "copying" => &["recall_accuracy", "recall_accuracy_strict"],
        "cue-reward" | "regression" => &["query_loss"],
        "cifar-fs" | "omniglot" | "associative-recall" => &["accuracy"],
        "concept-shift" => &["query_loss", "query_loss_before", "query_loss_after"],
        _ => {
            let all: BTreeSet<&str> =
                rows.iter().flat_map(|row| row.metrics.keys()).map(String::as_str).collect();
            return all.into_iter().collect();
        }
    };
    let mut shown = [headline, &["loss", "eta_mean", "plastic_norm_mean"]].concat();
    // a run that decides itself when to stop says when it did, and has something to say about the answer alone
    if rows.iter().any(|row| row.metrics.contains_key("steps")) {
        shown.push("steps");
        if task == "copying" {
            shown.swap(0, 1);
        }
    }
    shown
}

fn metric_row(task: &str, row: &RuleRow, metric: &str) -> Vec<String> {
    let ours = row.metrics.get(metric);
    let theirs = published()
        .task(task)
        .and_then(|task| task.rule(split_arm(&row.rule).0))
        .and_then(|rule| Some((rule.metrics.get(metric)?, rule.seeds.len())));
    let difference = ours.zip(theirs).and_then(|(ours, (theirs, count))| {
        difference_in_standard_errors(ours, theirs.mean, theirs.sd, count)
    });
    // The published definition flatters: whoever reads the number has to see that.
    let label = match (task, metric, row.empty_answer) {
        ("copying", "recall_accuracy", Some(chance)) => {
            format!("recall_accuracy (blanks included: chance {chance:.2})")
        }
        ("copying", "recall_accuracy", None) => "recall_accuracy (blanks included)".to_owned(),
        _ => metric.to_owned(),
    };
    vec![
        row.rule.clone(),
        label,
        ours.map_or_else(absent, |s| plus_minus(s.mean, s.population_sd, s.count)),
        theirs.map_or_else(absent, |(m, count)| plus_minus(m.mean, m.sd, count)),
        difference.map_or_else(absent, signed),
        ours.map_or_else(absent, |s| s.count.to_string()),
    ]
}

fn failure_row(row: &RuleRow) -> Vec<String> {
    let mut reasons: Vec<&str> = Vec::new();
    for reason in &row.failures {
        if !reasons.contains(&reason.as_str()) {
            reasons.push(reason);
        }
    }
    let label = format!("failed: {} of {}: {}", row.failures.len(), row.runs, reasons.join("; "));
    vec![row.rule.clone(), label, absent(), absent(), absent(), absent()]
}

fn plus_minus(mean: f64, sd: f64, count: usize) -> String {
    // One run's deviation is 0 by definition and would read as perfect agreement.
    let sd = if count < 2 { absent() } else { format_number(sd) };
    format!("{} ± {sd}", format_number(mean))
}

fn signed(value: f64) -> String {
    let sign = if value > 0.0 { "+" } else { "" };
    format!("{sign}{}", format_number(value))
}

fn absent() -> String {
    ABSENT.to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(rule: &str, metrics: &[(&str, &[f64])], runs: usize, failures: &[&str]) -> RuleRow {
        let metrics =
            metrics.iter().map(|&(name, values)| (name.to_owned(), Summary::of(values).unwrap())).collect();
        let failures = failures.iter().map(|&reason| reason.to_owned()).collect();
        RuleRow { rule: rule.to_owned(), metrics, runs, failures, empty_answer: Some(0.6875) }
    }

    fn record(seed: u64, metrics: &[(&str, f64)], status: RunStatus) -> RunRecord {
        RunRecord {
            crate_version: crate::VERSION.to_owned(),
            task: "copying".to_owned(),
            rule: "hebbian".to_owned(),
            credit: "detached".to_owned(),
            protocol: "paper".to_owned(),
            seed,
            config: json!({}),
            history: Vec::new(),
            final_metrics: metrics.iter().map(|&(name, value)| (name.to_owned(), value)).collect(),
            trace: None,
            fingerprint: String::new(),
            devices: Vec::new(),
            wall_seconds: 1.0,
            status,
        }
    }

    #[test]
    fn beside_the_published_figures() {
        let hebbian: &[(&str, &[f64])] = &[
            ("recall_accuracy", &[0.71875, 0.73625, 0.72625]),
            ("recall_accuracy_strict", &[0.125, 0.25, 0.375]),
            ("loss", &[0.4, 0.5, 0.6]),
        ];
        let none: &[(&str, &[f64])] = &[("loss", &[0.25]), ("eta_mean", &[0.0])];
        let rows = [
            row("hebbian", hebbian, 3, &[]),
            row("none", none, 3, &["loss is NaN", "loss is NaN"]),
            row("gradient", &[], 2, &["out of memory", "cancelled"]),
        ];
        let want = "
copying: mean ± population standard deviation

| rule     | metric                                         |  ours (mean ± sd) | published (mean ± sd) | difference (combined SE) | runs |
| -------- | ---------------------------------------------- | ----------------: | --------------------: | -----------------------: | ---: |
| hebbian  | recall_accuracy (blanks included: chance 0.69) | 0.7271 ± 0.007169 |     0.7271 ± 0.007169 |                        0 |    3 |
| hebbian  | recall_accuracy_strict                         |   0.2500 ± 0.1021 |                     – |                        – |    3 |
| hebbian  | loss                                           |  0.5000 ± 0.08165 |     0.3450 ± 0.008880 |                   +2.668 |    3 |
| hebbian  | eta_mean                                       |                 – |   4.344e-4 ± 1.041e-4 |                        – |    – |
| hebbian  | plastic_norm_mean                              |                 – |   0.001536 ± 5.960e-4 |                        – |    – |
| none     | recall_accuracy (blanks included: chance 0.69) |                 – |      0.7208 ± 0.02463 |                        – |    – |
| none     | recall_accuracy_strict                         |                 – |                     – |                        – |    – |
| none     | loss                                           |        0.2500 ± – |       0.4147 ± 0.1048 |                        – |    1 |
| none     | eta_mean                                       |             0 ± – |                 0 ± 0 |                        – |    1 |
| none     | plastic_norm_mean                              |                 – |                 0 ± 0 |                        – |    – |
| none     | failed: 2 of 3: loss is NaN                    |                 – |                     – |                        – |    – |
| gradient | failed: 2 of 2: out of memory; cancelled       |                 – |                     – |                        – |    – |
";
        assert_eq!(comparison_table("copying", &rows).to_string(), want.trim_start());
    }

    #[test]
    fn metrics_of_each_task() {
        let rows = [row("hebbian", &[("accuracy", &[0.5, 0.75])], 2, &[])];
        let check = |task: &str, want: &[&str]| {
            let table = comparison_table(task, &rows);
            let shown: Vec<&str> = table.rows.iter().map(|cells| cells[1].as_str()).collect();
            assert_eq!(shown, want, "{task}");
        };
        check("cue-reward", &["query_loss", "loss", "eta_mean", "plastic_norm_mean"]);
        check("regression", &["query_loss", "loss", "eta_mean", "plastic_norm_mean"]);
        check("omniglot", &["accuracy", "loss", "eta_mean", "plastic_norm_mean"]);
        check("cifar-fs", &["accuracy", "loss", "eta_mean", "plastic_norm_mean"]);
        check("another", &["accuracy"]);
    }

    #[test]
    fn records_become_a_row() {
        let failed = RunStatus::Failed { reason: "out of memory".to_owned() };
        let records = [
            record(1, &[("loss", 1.0)], RunStatus::Finished),
            record(2, &[("loss", 9.0)], failed),
            record(3, &[("loss", f64::NAN)], RunStatus::Finished),
            record(4, &[("loss", 3.0)], RunStatus::Finished),
        ];
        let want = row(
            "hebbian",
            &[("loss", &[1.0, 3.0])],
            4,
            &["seed 2: out of memory", "seed 3: final loss is NaN"],
        );
        assert_eq!(RuleRow::from_records(&records).unwrap(), RuleRow { empty_answer: None, ..want });
    }

    #[test]
    fn an_empty_answer_scores_what_the_setting_makes_of_it() {
        for (delay, expected) in [(20, 11.0 / 16.0), (100, 51.0 / 56.0)] {
            let task = json!({ "name": "copying", "seq_length": 5, "delay": delay, "vocab_size": 10 });
            let of = RunRecord {
                config: json!({ "task": task }),
                ..record(1, &[("loss", 1.0)], RunStatus::Finished)
            };
            let row = RuleRow::from_records(&[of]).unwrap();
            assert_eq!(row.empty_answer, Some(expected));
            let table = comparison_table("copying", &[row]).to_string();
            assert!(table.contains(&format!("blanks included: chance {expected:.2})")), "{table}");
        }
    }

    #[test]
    fn records_that_make_no_row() {
        let check = |records: &[RunRecord], want: &str| {
            assert_eq!(RuleRow::from_records(records).unwrap_err().to_string(), want);
        };
        let one = record(1, &[], RunStatus::Finished);
        check(&[], "a summary was asked for of no values; it needs at least one");
        check(
            &[one.clone(), one.clone()],
            "seed 1 occurs twice among the runs of one table row; every run must have its own seed",
        );
        let full = RunRecord { credit: "full".to_owned(), seed: 2, ..one.clone() };
        check(
            &[one, full],
            r#"runs of one table row must agree in their credit, but seed 1 has "detached" and seed 2 has "full""#,
        );
    }
}
