//! Figures over epochs and over steps, summed up over seeds.

use plastica_tasks::Phase;
use serde::Serialize;

use crate::{RunRecord, RunStatus, StepTrace};

/// One quantity along an axis, a series a rule.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Curve {
    /// The metric's name in the records.
    pub metric: String,
    /// What it is, with its unit.
    pub label: String,
    /// One series a rule, in the study's order.
    pub series: Vec<Series>,
}

/// One rule's values.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Series {
    /// The rule's name.
    pub rule: String,
    /// Points from left to right.
    pub points: Vec<Point>,
}

/// One epoch or step, over the finished runs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Point {
    /// Epoch or step, from 1.
    pub x: usize,
    /// Mean over the runs.
    pub mean: f64,
    /// Least of the runs.
    pub low: f64,
    /// Largest of the runs.
    pub high: f64,
}

/// The quantities along the sequence, by name, with their labels.
pub(super) const ALONG: [(&str, &str); 4] = [
    ("eta", "η, rate a step"),
    ("gate", "gate, sigmoid(g)"),
    ("clip", "clip, factor"),
    ("plastic_norm", "Σ‖F‖², squared norm of the fast weights"),
];

impl Curve {
    /// A metric after each epoch; `None` if no finished run has it.
    pub(super) fn over_epochs(
        records: &[&RunRecord],
        rules: &[String],
        metric: &str,
        label: &str,
    ) -> Option<Self> {
        let column = |record: &RunRecord| -> Vec<f64> {
            record.history.iter().map_while(|epoch| epoch.metrics.get(metric).copied()).collect()
        };
        Self::of(records, rules, metric, label, column)
    }

    /// η, its factors and the norm at every step; empty without a trace.
    pub(super) fn over_steps(records: &[&RunRecord], rules: &[String]) -> Vec<Self> {
        let one = |(metric, label): (&str, &str)| {
            let column = |record: &RunRecord| {
                let named = record.trace.iter().flat_map(StepTrace::named);
                named.filter(|&(name, _)| name == metric).flat_map(|(_, values)| values.to_vec()).collect()
            };
            Self::of(records, rules, metric, label, column)
        };
        ALONG.into_iter().filter_map(one).collect()
    }

    fn of(
        records: &[&RunRecord],
        rules: &[String],
        metric: &str,
        label: &str,
        column: impl Fn(&RunRecord) -> Vec<f64>,
    ) -> Option<Self> {
        let series = |rule: &String| {
            let finished = |r: &&&RunRecord| r.rule == *rule && r.status == RunStatus::Finished;
            let columns: Vec<Vec<f64>> = records.iter().filter(finished).map(|r| column(r)).collect();
            // a run that ended before others stays where it ended
            let at = |column: &Vec<f64>, i: usize| column[i.min(column.len() - 1)];
            if columns.iter().any(Vec::is_empty) {
                return None;
            }
            let points: Vec<Point> = (0..columns.iter().map(Vec::len).max()?)
                .map(|i| Point::of(i + 1, columns.iter().map(|c| at(c, i))))
                .take_while(|point| point.mean.is_finite())
                .collect();
            (!points.is_empty()).then(|| Series { rule: rule.clone(), points })
        };
        let series: Vec<Series> = rules.iter().filter_map(series).collect();
        (!series.is_empty()).then(|| Self { metric: metric.to_owned(), label: label.to_owned(), series })
    }
}

impl Point {
    fn of(x: usize, values: impl Iterator<Item = f64>) -> Self {
        let (mut count, mut sum, mut low, mut high) = (0.0, 0.0, f64::INFINITY, f64::NEG_INFINITY);
        for value in values {
            (count, sum, low, high) = (count + 1.0, sum + value, value.min(low), value.max(high));
        }
        Self { x, mean: sum / count, low, high }
    }
}

/// The phases of the episodes' steps; empty without a trace.
pub(super) fn phases(records: &[&RunRecord]) -> Vec<Phase> {
    records.iter().find_map(|r| r.trace.as_ref()).map_or_else(Vec::new, |trace| trace.phases.clone())
}
