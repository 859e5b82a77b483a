//! What the claims measure on a run.

use plastica_tasks::Phase;

use super::Sample;
use crate::{RunRecord, RunStatus, StepTrace};

/// The runs of one task under one rule.
pub(super) struct Runs<'a> {
    finished: Vec<&'a RunRecord>,
    failed: usize,
}

/// A quantity along the sequence: η or one of its two factors.
pub(super) type Along = fn(&StepTrace) -> &[f64];

pub(super) const ETA: Along = |trace| &trace.eta;
pub(super) const GATE: Along = |trace| &trace.gate;
pub(super) const CLIP: Along = |trace| &trace.clip;

impl<'a> Runs<'a> {
    /// Those of a study's records that are of this task and rule.
    pub fn of(records: &'a [RunRecord], task: &str, rule: &str) -> Self {
        let runs = records.iter().filter(|r| r.task == task && r.rule == rule);
        let healthy = |r: &&RunRecord| {
            r.status == RunStatus::Finished && r.final_metrics.values().all(|value| value.is_finite())
        };
        let (finished, failed): (Vec<_>, Vec<_>) = runs.partition(healthy);
        Self { finished, failed: failed.len() }
    }

    /// A final metric of every finished run that has it.
    pub fn metric(&self, name: &str) -> Sample {
        self.sample(|record| record.final_metrics.get(name).copied())
    }

    /// A quantity's mean over the steps of a phase.
    pub fn mean_in(&self, quantity: Along, phase: impl Fn(Phase) -> bool + Copy) -> Sample {
        self.sample(|record| mean_in(record.trace.as_ref()?, quantity, phase))
    }

    /// Whether the episodes have a phase.
    pub fn have(&self, phase: Phase) -> bool {
        self.finished.iter().filter_map(|r| r.trace.as_ref()).any(|trace| trace.phases.contains(&phase))
    }

    /// What a reader has to know of runs left out.
    pub fn note(&self, rule: &str) -> Option<String> {
        let all = self.finished.len() + self.failed;
        (self.failed > 0).then(|| format!("{} of {all} runs of {rule} failed and are left out", self.failed))
    }

    fn sample(&self, value: impl Fn(&RunRecord) -> Option<f64>) -> Sample {
        let one = |record: &&RunRecord| Some((record.seed, value(record)?));
        Sample(self.finished.iter().filter_map(one).collect())
    }
}

fn mean_in(trace: &StepTrace, quantity: Along, phase: impl Fn(Phase) -> bool) -> Option<f64> {
    let steps = trace.phases.iter().zip(quantity(trace)).filter(|&(&p, _)| phase(p));
    let (count, sum) = steps.fold((0.0, 0.0), |(count, sum), (_, value)| (count + 1.0, sum + value));
    (count > 0.0).then_some(sum / count)
}
