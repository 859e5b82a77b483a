//! Results as tables that read the same on a terminal and as markdown.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use plastica_tasks::{EpisodeSource, Phase, TaskConfig};
use unicode_width::UnicodeWidthStr;

use crate::{EvalError, RunRecord, RunStatus, Summary, difference_in_standard_errors, published, split_arm};

/// What a cell without a value shows.
const ABSENT: &str = "–";

/// A table of text cells. `Display` writes it as a padded markdown table below its title.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// One line above the table; none if empty.
    pub title: String,
    /// The columns, left to right.
    pub columns: Vec<Column>,
    /// Cells, row by row. A row shorter than `columns` is filled up with empty cells; cells beyond the
    /// last column get a column without a name.
    pub rows: Vec<Vec<String>>,
}

/// The head of one column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// What the head says.
    pub name: String,
    /// The side on which the cells are flush.
    pub align: Align,
}

/// The side on which a column's cells are flush.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Left, for words.
    Left,
    /// Right, for numbers.
    Right,
}

impl Column {
    /// A column of words.
    pub fn left(name: impl Into<String>) -> Self {
        Self { name: name.into(), align: Align::Left }
    }

    /// A column of numbers.
    pub fn right(name: impl Into<String>) -> Self {
        Self { name: name.into(), align: Align::Right }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.title.is_empty() {
            writeln!(f, "{}\n", one_line(&self.title))?;
        }
        let count = self.rows.iter().map(Vec::len).fold(self.columns.len(), usize::max);
        if count == 0 {
            return Ok(());
        }
        let mut columns = self.columns.clone();
        columns.resize_with(count, || Column::left(""));
        let head: Vec<String> = columns.iter().map(|column| escaped(&column.name)).collect();
        let filled = |row: &Vec<String>| {
            let mut cells: Vec<String> = row.iter().map(|cell| escaped(cell)).collect();
            cells.resize(count, String::new());
            cells
        };
        let rows: Vec<Vec<String>> = self.rows.iter().map(filled).collect();

        // Some readers of markdown want three characters in the rule below the head.
        let mut widths = vec![3; count];
        for row in rows.iter().chain([&head]) {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.width().max(*width);
            }
        }
        let line = |f: &mut fmt::Formatter<'_>, cells: &[String]| {
            for ((cell, column), &width) in cells.iter().zip(&columns).zip(&widths) {
                let pad = " ".repeat(width - cell.width());
                match column.align {
                    Align::Left => write!(f, "| {cell}{pad} ")?,
                    Align::Right => write!(f, "| {pad}{cell} ")?,
                }
            }
            writeln!(f, "|")
        };
        line(f, &head)?;
        let rule = |(column, &width): (&Column, &usize)| match column.align {
            Align::Left => "-".repeat(width),
            Align::Right => "-".repeat(width - 1) + ":",
        };
        line(f, &columns.iter().zip(&widths).map(rule).collect::<Vec<_>>())?;
        rows.iter().try_for_each(|row| line(f, row))
    }
}

/// `text` without line breaks and other control characters, which would break a table.
fn one_line(text: &str) -> String {
    let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn escaped(cell: &str) -> String {
    one_line(cell).replace('|', r"\|")
}

/// `value` at 4 significant digits: `0.7271`, `123.5`; in scientific form below 1e-3 and from 1e4 in
/// magnitude (`4.344e-4`).
pub fn format_number(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let scientific = format!("{value:.3e}");
    // The exponent after rounding: 9.9996 is 10.00, not 10.000.
    match scientific.split_once('e').and_then(|(_, exponent)| exponent.parse::<i32>().ok()) {
        Some(exponent @ -3..=3) => format!("{value:.*}", (3 - exponent) as usize),
        _ => scientific, // NaN and infinities among them
    }
}

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

/// The share of blanks among the steps that copying's `recall_accuracy` scores.
fn empty_answer(record: &RunRecord) -> Option<f64> {
    let task: TaskConfig = serde_json::from_value(record.config.get("task")?.clone()).ok()?;
    let TaskConfig::Copying(copying) = task else { return None };
    let phases = copying.build().ok()?.phases();
    let scored = &phases[phases.len() / 2..];
    let blanks = scored.iter().filter(|&&phase| phase != Phase::Recall).count();
    Some(blanks as f64 / scored.len() as f64)
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
    use proptest::prelude::*;
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
    fn numbers() {
        let check = |value: f64, want: &str| assert_eq!(format_number(value), want);
        check(0.0, "0");
        check(-0.0, "0");
        check(0.72708333, "0.7271");
        check(-1.5, "-1.500");
        check(123.456, "123.5");
        check(9.99996, "10.00");
        check(9999.4, "9999");
        check(9999.6, "1.000e4");
        check(0.001536439, "0.001536");
        check(0.000999996, "0.001000");
        check(0.00043438349, "4.344e-4");
        check(-2.3e-308, "-2.300e-308");
        check(f64::NAN, "NaN");
        check(f64::NEG_INFINITY, "-inf");
    }

    #[test]
    fn table() {
        let table = Table {
            title: "widths".to_owned(),
            columns: vec![Column::left("name"), Column::right("x")],
            rows: vec![
                vec!["a ± b".to_owned(), "1".to_owned()],
                vec!["日本".to_owned(), "–".to_owned()],
                vec!["two\nlines | \u{1b}pipe".to_owned()],
                vec!["c".to_owned(), "12345".to_owned(), "extra".to_owned()],
            ],
        };
        let want = r"
widths

| name              |     x |       |
| ----------------- | ----: | ----- |
| a ± b             |     1 |       |
| 日本              |     – |       |
| two lines \| pipe |       |       |
| c                 | 12345 | extra |
";
        assert_eq!(table.to_string(), want.trim_start());
    }

    #[test]
    fn a_table_of_nothing_is_its_title() {
        let table = Table { title: "empty".to_owned(), columns: Vec::new(), rows: Vec::new() };
        assert_eq!(table.to_string(), "empty\n\n");
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

    proptest! {
        #[test]
        fn a_number_is_read_back_to_4_digits(value in prop::num::f64::NORMAL) {
            prop_assume!(value.abs() < 1e308); // rounded up, the largest are no f64 any more
            let text = format_number(value);
            let back: f64 = text.parse().unwrap();
            prop_assert!((back - value).abs() <= 5.001e-4 * value.abs(), "{}", text);
            let digits = text.split('e').next().unwrap().chars().filter(char::is_ascii_digit).collect::<String>();
            prop_assert_eq!(digits.trim_start_matches('0').len(), 4, "{}", text);
        }

        #[test]
        fn every_line_is_as_wide(rows in prop::collection::vec(prop::collection::vec(".{0,12}", 0..4), 0..5)) {
            let count = rows.len();
            let columns = vec![Column::left("words"), Column::right("numbers")];
            let text = Table { title: String::new(), columns, rows }.to_string();
            let widths: Vec<usize> = text.lines().map(UnicodeWidthStr::width).collect();
            prop_assert_eq!(widths.len(), count + 2);
            prop_assert!(widths.iter().all(|&width| width == widths[0]), "{}", text);
        }
    }
}
