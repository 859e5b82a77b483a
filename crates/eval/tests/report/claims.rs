//! Verdicts on runs whose answer is known.

use plastica_eval::{Finding, RunRecord, RunStatus, Test, Verdict, claims};

use crate::support::{record, with_trace};

use Verdict::{NotReproduced, Reproduced, Undecided};

#[track_caller]
fn finding(records: &[RunRecord], claim: &str, task: &str) -> Finding {
    let claims = claims(records);
    let claim = claims.into_iter().find(|c| c.name == claim).unwrap();
    claim.findings.into_iter().find(|f| f.task == task).unwrap()
}

/// Runs of a rule that measured these values of one metric.
fn runs(task: &str, rule: &str, first_seed: u64, metric: &str, values: &[f64]) -> Vec<RunRecord> {
    let one = |(seed, &value)| record(task, rule, seed, &[(metric, value)]);
    (first_seed..).zip(values).map(one).collect()
}

#[test]
fn hebbian_against_none() {
    let check = |hebbian: &[f64], none: &[f64], want: Verdict| {
        for task in ["copying", "regression", "cifar-fs", "omniglot"] {
            let records =
                [runs(task, "hebbian", 10, "loss", hebbian), runs(task, "none", 20, "loss", none)].concat();
            let found = finding(&records, "hebbian-beats-none", task);
            assert_eq!(found.verdict, want, "{task}: {found:?}");
            assert_eq!(found.comparisons[0].test, Test::WelchT);
        }
    };
    check(&[1.0, 1.1, 0.9], &[2.0, 2.1, 1.9], Reproduced);
    check(&[2.0, 2.1, 1.9], &[1.0, 1.1, 0.9], NotReproduced);
    check(&[1.0, 2.0, 3.0], &[1.5, 2.5, 3.5], Undecided);
    check(&[1.0], &[2.0], Undecided);
}

#[test]
fn the_same_seeds_are_paired_and_can_decide_what_others_cannot() {
    let verdict = |first_seed| {
        let hebbian = runs("copying", "hebbian", 1, "loss", &[1.0, 2.01, 3.02]);
        let none = runs("copying", "none", first_seed, "loss", &[1.2, 2.2, 3.2]);
        let found = finding(&[hebbian, none].concat(), "hebbian-beats-none", "copying");
        (found.comparisons[0].test, found.verdict)
    };
    assert_eq!(verdict(1), (Test::PairedT, Reproduced));
    assert_eq!(verdict(50), (Test::WelchT, Undecided));
}

#[test]
fn gradient_has_to_be_better_than_both() {
    let near = |centre: f64| [centre, centre + 0.001, centre - 0.001];
    let check = |hebbian: &[f64], want: Verdict| {
        let metric = "recall_accuracy";
        let records = [
            runs("copying", "gradient", 1, metric, &near(0.9)),
            runs("copying", "hebbian", 11, metric, hebbian),
            runs("copying", "none", 21, metric, &near(0.7)),
        ]
        .concat();
        let found = finding(&records, "gradient-best-after-delay", "copying");
        assert_eq!((found.verdict, found.comparisons.len()), (want, 2), "{found:?}");
    };
    check(&near(0.8), Reproduced);
    check(&near(0.95), NotReproduced);
    check(&[0.7, 0.9, 1.0], Undecided);
    let without_none = runs("copying", "gradient", 1, "recall_accuracy", &[0.9, 0.91]);
    assert!(!finding(&without_none, "gradient-best-after-delay", "copying").was_run());
}

#[test]
fn none_has_to_be_as_good_as_both() {
    let check = |none: &[f64], want: Verdict| {
        let metric = "query_loss";
        let records = [
            runs("cue-reward", "none", 1, metric, none),
            runs("cue-reward", "hebbian", 11, metric, &[1.0, 1.001, 0.999]),
            runs("cue-reward", "gradient", 21, metric, &[1.0, 1.002, 0.998]),
        ]
        .concat();
        assert_eq!(finding(&records, "none-suffices-on-cue-reward", "cue-reward").verdict, want);
    };
    check(&[1.0, 1.001, 0.999], Reproduced);
    check(&[1.5, 1.501, 1.499], NotReproduced);
    check(&[0.5, 1.0, 1.5], Undecided);
}

/// Runs of a plastic rule with these gates and clips while shown, in the delay and in the recall, a run each.
fn traced(rule: &str, first_seed: u64, runs: &[([f64; 3], [f64; 3])]) -> Vec<RunRecord> {
    let one = |(seed, &(gate, clip))| with_trace(record("copying", rule, seed, &[]), gate, clip);
    (first_seed..).zip(runs).map(one).collect()
}

#[test]
fn what_makes_the_hebbian_rate_small_is_said() {
    let flat = |gate: f64, clip: f64| ([gate; 3], [clip; 3]);
    let both = |hebbian: [f64; 2], gradient: [f64; 2]| {
        let runs = |[gate, clip]: [f64; 2]| [flat(gate, clip), flat(gate * 1.01, clip)];
        let records =
            [traced("hebbian", 1, &runs(hebbian)), traced("gradient", 11, &runs(gradient))].concat();
        finding(&records, "gradient-rate-larger", "copying")
    };
    let by_clip = both([0.5, 0.001], [0.5, 1.0]);
    assert_eq!(by_clip.verdict, Reproduced);
    let ratios: Vec<f64> = by_clip.factors.iter().map(|factor| factor.estimate).collect();
    assert!((ratios[0] - 1.0).abs() < 1e-9 && (ratios[1] - 1000.0).abs() < 1e-6, "{ratios:?}");
    assert!(
        by_clip.notes.iter().any(|note| note.starts_with("the clip makes the difference")),
        "{by_clip:?}"
    );
    assert!(by_clip.notes.iter().any(|note| note.contains("no gradient reaches the gate")), "{by_clip:?}");
    let by_gate = both([0.005, 0.9], [0.9, 1.0]);
    assert!(
        by_gate.notes.iter().any(|note| note.starts_with("the gate makes the difference")),
        "{by_gate:?}"
    );
    assert_eq!(both([0.5, 1.0], [0.5, 0.001]).verdict, NotReproduced);
}

#[test]
fn persistence_is_what_the_delay_keeps() {
    let check = |delay: [f64; 2], want: Verdict| {
        let run = |delay: f64| ([0.5, 0.5 * delay, 0.1], [1.0; 3]);
        let found = finding(&traced("gradient", 1, &delay.map(run)), "gradient-rate-persists", "copying");
        assert_eq!(found.verdict, want, "{found:?}");
    };
    check([0.95, 0.951], Reproduced);
    check([0.5, 0.501], NotReproduced);
    check([0.5, 1.5], Undecided);
}

#[test]
fn a_clip_that_follows_the_change_is_no_gate() {
    let check = |runs: &[([f64; 3], [f64; 3])], want: Verdict| {
        let found = finding(&traced("hebbian", 1, runs), "hebbian-rate-gated", "copying");
        assert_eq!(found.verdict, want, "{found:?}");
    };
    let gated = |g: f64| ([g, 0.1, 0.1], [0.01; 3]);
    check(&[gated(0.5), gated(0.6)], Reproduced);
    let clipped = |c: f64| ([0.5; 3], [c, 0.001, 0.001]);
    check(&[clipped(0.01), clipped(0.012)], NotReproduced);
    check(&[gated(0.5), gated(0.05)], Undecided);
    check(&[gated(0.5)], Undecided);
}

#[test]
fn failed_runs_are_left_out_and_counted() {
    let mut records = [
        runs("copying", "hebbian", 1, "loss", &[1.0, 1.1, f64::NAN]),
        runs("copying", "none", 11, "loss", &[2.0, 2.1, 2.2]),
    ]
    .concat();
    records[3].status = RunStatus::Failed { reason: "diverged".to_owned() };
    let found = finding(&records, "hebbian-beats-none", "copying");
    let sides = [&found.comparisons[0].first, &found.comparisons[0].second];
    assert_eq!(sides.map(|side| side.runs), [2, 2]);
    assert_eq!(
        found.notes,
        ["hebbian", "none"].map(|r| format!("1 of 3 runs of {r} failed and are left out"))
    );
}

#[test]
fn without_runs_every_claim_is_undecided() {
    for claim in claims(&[]) {
        assert!(claim.findings.iter().all(|f| f.verdict == Undecided && !f.was_run()), "{}", claim.name);
    }
}
