//! Records of runs that nobody ran, with figures to order.

use plastica_eval::{EpochRecord, Machine, Report, RunRecord, RunStatus, StepTrace, VERSION};
use plastica_tasks::Phase;
use serde_json::json;

pub const RULES: [&str; 3] = ["none", "hebbian", "gradient"];

/// A run of two epochs with these final metrics.
pub fn record(task: &str, rule: &str, seed: u64, metrics: &[(&str, f64)]) -> RunRecord {
    let mut all: Vec<(String, f64)> = vec![("eta_mean".into(), 0.1), ("plastic_norm_mean".into(), 1e-4)];
    all.extend(metrics.iter().map(|&(name, value)| (name.to_owned(), value)));
    let epoch = |epoch| EpochRecord { epoch, metrics: all.iter().cloned().collect() };
    RunRecord {
        crate_version: VERSION.to_owned(),
        task: task.to_owned(),
        rule: rule.to_owned(),
        credit: "detached".to_owned(),
        protocol: "paper".to_owned(),
        seed,
        config: json!({ "model": { "model_dim": 8 }, "task": { "name": task }, "training": { "lr": 0.5, "seed": seed } }),
        history: vec![epoch(1), epoch(2)],
        final_metrics: epoch(2).metrics,
        trace: None,
        fingerprint: String::new(),
        devices: Vec::new(),
        wall_seconds: 1.0,
        status: RunStatus::Finished,
    }
}

/// Gives a run a trace: gate and clip while shown, in the delay and in the recall, two steps each; η0 is 0.2.
pub fn with_trace(record: RunRecord, gate: [f64; 3], clip: [f64; 3]) -> RunRecord {
    let twice = |values: [f64; 3]| values.into_iter().flat_map(|v| [v, v]).collect::<Vec<f64>>();
    let (gate, clip) = (twice(gate), twice(clip));
    let trace = StepTrace {
        phases: [Phase::Shown, Phase::Delay, Phase::Recall].into_iter().flat_map(|p| [p, p]).collect(),
        eta: gate.iter().zip(&clip).map(|(g, c)| 0.2 * g * c).collect(),
        plastic_norm: (1..=6).map(|n| f64::from(n) * 1e-6).collect(),
        gate,
        clip,
    };
    RunRecord { trace: Some(trace), ..record }
}

/// A study of copying, with the seeds of each rule apart from the others', and of images with baselines.
pub fn study() -> Vec<RunRecord> {
    let mut records = Vec::new();
    for (i, rule) in RULES.into_iter().enumerate() {
        for run in 0..3 {
            let (seed, off) = (1000 * (i as u64 + 1) + run, run as f64 * 0.01);
            let metrics = [
                ("loss", 0.4 - 0.1 * i as f64 + off),
                ("train_loss", 0.5 + off),
                ("recall_accuracy", 0.7 + off),
                ("recall_accuracy_strict", 0.1 + off),
            ];
            let copying = record("copying", rule, seed, &metrics);
            let accuracies = [
                ("loss", 1.6 - off),
                ("accuracy", 0.3 + off),
                ("accuracy_nearest_neighbour", 0.35),
                ("accuracy_prototypical", 0.75),
            ];
            let mut images = record("omniglot", rule, 100 + seed, &accuracies);
            images.config["task"] = json!({ "name": "omniglot", "ways": 5, "root": "/somewhere/data" });
            match rule {
                "none" => records.extend([copying, images]),
                _ => {
                    let clip = if rule == "hebbian" { 0.004 } else { 0.8 };
                    let traced = |r| with_trace(r, [0.5 + off, 0.5, 0.5], [clip + off * clip, clip, clip]);
                    records.extend([traced(copying), traced(images)]);
                }
            }
        }
    }
    records
}

pub fn machine() -> Machine {
    Machine {
        processor: "Abacus 7 & sons".to_owned(),
        architecture: "beads".to_owned(),
        cores: 10,
        system: "Wood 1.0".to_owned(),
    }
}

pub fn report(records: &[RunRecord]) -> Report {
    Report::new(records, machine(), 61.5).unwrap()
}
