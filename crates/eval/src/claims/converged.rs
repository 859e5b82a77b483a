//! What runs that were trained to a plateau say: of plasticity against none, and of plasticity that the task trains.

use super::comparison::Question;
use super::measures::Runs;
use super::{Claim, Finding, Verdict};
use crate::{RunRecord, published, split_arm};

const NONE: &str = "none";

/// Metrics of which more is better; of the others, losses all, less is.
const HIGHER: [&str; 2] = ["recall_accuracy_strict", "accuracy"];

pub(super) fn claims(records: &[RunRecord]) -> Vec<Claim> {
    vec![beats_none(records), training_pays(records)]
}

fn beats_none(records: &[RunRecord]) -> Claim {
    let mut findings = Vec::new();
    for task in distinct(records.iter().map(|r| r.task.as_str())) {
        for arm in arms(records, task) {
            findings.push(finding(records, task, arm, NONE));
        }
    }
    Claim {
        name: "plastic-beats-none",
        statement: "Trained until it stands still, at an equal budget, plasticity is better than none.",
        measure: "The task’s headline figure at the end, the plastic rule’s less none’s, over runs of the same seeds.",
        findings,
    }
}

fn training_pays(records: &[RunRecord]) -> Claim {
    let mut findings = Vec::new();
    for task in distinct(records.iter().map(|r| r.task.as_str())) {
        let arms = arms(records, task);
        for &arm in &arms {
            let (rule, credit) = split_arm(arm);
            let detached = arms.iter().find(|other| split_arm(other) == (rule, "detached"));
            if let Some(detached) = detached.filter(|_| credit != "detached") {
                findings.push(finding(records, task, arm, detached));
            }
        }
    }
    Claim {
        name: "training-plasticity-pays",
        statement: "Plasticity that the task trains is better than plasticity that it leaves as it began.",
        measure: "The task’s headline figure at the end, under a credit that reaches the fast weights less detached, over runs of the \
                  same seeds.",
        findings,
    }
}

/// The plastic arms of a task.
fn arms<'a>(records: &'a [RunRecord], task: &str) -> Vec<&'a str> {
    distinct(records.iter().filter(|r| r.task == task && r.rule != NONE).map(|r| r.rule.as_str()))
}

fn finding(records: &[RunRecord], task: &str, arm: &str, other: &str) -> Finding {
    let metric = headline(task);
    let question = if HIGHER.contains(&metric) { Question::HIGHER } else { Question::LOWER };
    let sample = |arm: &str| Runs::of(records, task, arm).metric(metric);
    let comparison = question.compare((arm, &sample(arm)), (other, &sample(other)));
    let mut notes: Vec<String> =
        [arm, other].iter().filter_map(|arm| Runs::of(records, task, arm).note(arm)).collect();
    notes.extend(paper(task, arm));
    Finding {
        task: task.to_owned(),
        quantity: format!("{metric}, {arm} against {other}"),
        verdict: Verdict::all(comparison.iter().map(|c| c.verdict)),
        comparisons: comparison.into_iter().collect(),
        factors: Vec::new(),
        notes,
    }
}

/// The figure that a task is judged by.
fn headline(task: &str) -> &'static str {
    match task {
        "copying" => "recall_accuracy_strict",
        "cue-reward" | "regression" | "concept-shift" => "query_loss",
        _ => "accuracy",
    }
}

/// The paper's figure, on its own budget.
fn paper(task: &str, arm: &str) -> Option<String> {
    let metric = if task == "copying" { "recall_accuracy" } else { headline(task) };
    let figure = published().task(task)?.rule(split_arm(arm).0)?.metrics.get(metric)?;
    Some(format!("the paper’s {metric} of {} is {:.4}", split_arm(arm).0, figure.mean))
}

fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut kept = Vec::new();
    for name in names {
        if !kept.contains(&name) {
            kept.push(name);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RunStatus;

    fn records(task: &str, arm: &str, metric: &str, values: &[f64]) -> Vec<RunRecord> {
        let record = |(seed, &value): (usize, &f64)| RunRecord {
            crate_version: crate::VERSION.to_owned(),
            task: task.to_owned(),
            rule: arm.to_owned(),
            credit: "detached and full".to_owned(),
            protocol: "converged".to_owned(),
            seed: seed as u64,
            config: serde_json::json!({}),
            fingerprint: String::new(),
            history: Vec::new(),
            final_metrics: [(metric.to_owned(), value)].into(),
            devices: Vec::new(),
            trace: None,
            wall_seconds: 0.0,
            status: RunStatus::Finished,
        };
        values.iter().enumerate().map(record).collect()
    }

    #[test]
    fn each_arm_is_held_against_none_and_each_trained_one_against_its_untrained_twin() {
        let of = |arm: &str, values: &[f64]| records("copying", arm, "recall_accuracy_strict", values);
        let all = [
            of("none", &[0.39, 0.40, 0.41]),
            of("hebbian detached", &[0.39, 0.40, 0.41]),
            of("hebbian full", &[0.99, 1.0, 1.0]),
        ];
        let claims = claims(&all.concat());
        let found = |claim: usize| -> Vec<(&str, Verdict)> {
            let findings = claims[claim].findings.iter();
            findings.map(|f| (f.comparisons[0].first.name.as_str(), f.verdict)).collect()
        };
        let (yes, no) = (Verdict::Reproduced, Verdict::NotReproduced);
        assert_eq!(found(0), [("hebbian detached", no), ("hebbian full", yes)]);
        assert_eq!(found(1), [("hebbian full", yes)]);
        assert_eq!(claims[0].findings[1].notes, ["the paper’s recall_accuracy of hebbian is 0.7271"]);
    }

    #[test]
    fn of_a_loss_less_is_better() {
        let of = |arm: &str, values: &[f64]| records("regression", arm, "query_loss", values);
        let all = [of("none", &[1.0, 1.1, 0.9]), of("gradient full", &[0.5, 0.6, 0.4])];
        let claims = claims(&all.concat());
        assert_eq!(claims[0].findings[0].verdict, Verdict::Reproduced);
        assert!(claims[1].findings.is_empty(), "nothing untrained was run");
    }
}
