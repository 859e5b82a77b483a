//! Sentences that the page and the text share.

use crate::claims::{Comparison, Scale};
use crate::{Claim, Finding, Protocol, Verdict, format_number};

/// What has to be known to read the figures, one paragraph each.
pub(super) fn caveats(protocol: &str, credit: &str, tasks: &[&str]) -> Vec<String> {
    let converged = protocol == Protocol::Converged.name();
    let mut said = vec![if converged {
        CONVERGED.to_owned()
    } else {
        "Budgets are tiny (a published copying run sees 100 sequences), so that the rules are compared long before they \
         converge."
            .to_owned()
    }];
    if credit.split(' ').any(|credit| credit == "detached") {
        said.push(
            "Under detached credit, as in the published code, the fast weights are constants for the gradient that trains \
             the model. Neither α and β, which say how plastic a weight is, nor the gate’s own weights are trained by \
             the task."
                .to_owned(),
        );
    }
    if tasks.contains(&"copying") {
        said.push(
            "Copying’s published recall_accuracy scores the second half of the sequence, blanks included: in the \
             published setting an empty answer has 0.69. recall_accuracy_strict scores the answer alone; a guess has \
             0.125 there."
                .to_owned(),
        );
    }
    if tasks.contains(&"cifar-fs") {
        said.push(
            "CIFAR-FS was published with the same 100 classes in training and test; the data set’s own split keeps them \
             apart."
                .to_owned(),
        );
    }
    said
}

/// What the converged protocol is.
const CONVERGED: &str = "Every run, whatever its rule and credit, has the same batches of fresh episodes, the same largest \
     number of steps and the same rule of when to stop (training.plateau in the settings): it is evaluated on the same \
     held-out episodes again and again, and when their loss stands still, or the budget's end is near, the learning rate \
     goes down to zero over a number of epochs that is the same for all. steps says how many steps that took. The paper’s \
     figures stand beside as what its budget, of 100 to 750 single episodes, gives; the settings are not the same.";

/// How a verdict is found.
pub(super) const METHOD: &str = "Intervals are of 95 %, by Student’s t over the differences of runs with the same seed where \
     both sides ran the same seeds, and by Welch’s t where they did not: the published seeds differ from rule to rule, \
     so that those runs cannot be paired. Losses and accuracies are compared as differences of means, rates as ratios of \
     geometric means. “Better” is reproduced if the whole interval is on the claimed side of no difference, and not \
     reproduced if it leaves less than 1 % of what is compared with; “at least as good” is reproduced if the \
     whole interval is within 5 % of that, and not reproduced if all of it is worse. Anything else is undecided, as is \
     whatever has fewer than two runs on a side. Hedges’ g is the difference in units of the runs’ own standard deviation.";

/// What a task is.
pub(super) fn about(task: &str) -> &'static str {
    match task {
        "copying" => "A few tokens are shown; after a delay they have to be repeated.",
        "cue-reward" => "Cues are shown, each with a reward; then each cue asks for its reward.",
        "regression" => "Pairs of a linear function are shown; then further inputs ask for its values.",
        "associative-recall" => {
            "Keys are shown, each with a value; then, spread over many steps, keys ask for their values."
        }
        "concept-shift" => {
            "Inputs ask for the values of a mapping, each followed by its answer; midway the mapping is another one."
        }
        "cifar-fs" => "Small photographs with their classes are shown; then further ones ask for theirs.",
        "omniglot" => {
            "Handwritten characters with their classes are shown; then further ones ask for theirs."
        }
        _ => "",
    }
}

/// `3 reproduced, 1 not reproduced, 4 undecided`.
pub(super) fn tally(claims: &[Claim]) -> [(Verdict, usize); 3] {
    [Verdict::Reproduced, Verdict::NotReproduced, Verdict::Undecided].map(|verdict| {
        let found = claims.iter().flat_map(|c| &c.findings).filter(|f| f.was_run() && f.verdict == verdict);
        (verdict, found.count())
    })
}

/// What was not run, by claim: `hebbian-beats-none on cifar-fs, omniglot`.
pub(super) fn missing(claims: &[Claim]) -> Vec<String> {
    let tasks = |claim: &Claim| {
        let mut tasks: Vec<&str> =
            claim.findings.iter().filter(|f| !f.was_run()).map(|f| f.task.as_str()).collect();
        tasks.dedup();
        (!tasks.is_empty()).then(|| format!("{} on {}", claim.name, tasks.join(", ")))
    };
    claims.iter().filter_map(tasks).collect()
}

/// `hebbian 0.3452 (3 runs)`, and the other side.
pub(super) fn sides(comparison: &Comparison) -> String {
    let side = |g: &crate::claims::Group| {
        let runs = if g.runs == 1 { "run" } else { "runs" };
        format!("{} {} ({} {runs})", g.name, format_number(g.mean), g.runs)
    };
    format!("{} against {}", side(&comparison.first), side(&comparison.second))
}

/// `−0.012 [−0.03, +0.01]`, or `× 210 [150, 290]`.
pub(super) fn estimate(comparison: &Comparison) -> String {
    let number = |value: f64| match comparison.scale {
        Scale::Difference => signed(value),
        Scale::Ratio => format_number(value),
    };
    let sign = if comparison.scale == Scale::Ratio { "× " } else { "" };
    let interval = match comparison.interval {
        Some((low, high)) => format!("[{}, {}]", number(low), number(high)),
        None => "[–]".to_owned(),
    };
    format!("{sign}{} {interval}", number(comparison.estimate))
}

/// Hedges' g, or a dash.
pub(super) fn size(comparison: &Comparison) -> String {
    comparison.hedges_g.map_or_else(
        || "–".to_owned(),
        |g| {
            if g.abs() < 100.0 {
                format!("{g:+.2}").replace('-', "−")
            } else {
                format!("{g:+.0}").replace('-', "−")
            }
        },
    )
}

/// The test, with what an interval that is missing would have needed.
pub(super) fn test(comparison: &Comparison) -> String {
    match comparison.interval {
        Some(_) => comparison.test.to_string(),
        None => "too few runs".to_owned(),
    }
}

fn signed(value: f64) -> String {
    let sign = if value > 0.0 { "+" } else { "" };
    format!("{sign}{}", format_number(value)).replace('-', "−")
}

/// A verdict's mark, so that its colour is not the only cue.
pub(super) fn mark(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Reproduced => "✓",
        Verdict::NotReproduced => "✗",
        Verdict::Undecided => "?",
    }
}

/// Findings for which there were runs.
pub(super) fn found(claim: &Claim) -> impl Iterator<Item = &Finding> {
    claim.findings.iter().filter(|finding| finding.was_run())
}

/// `1 min 12 s`.
pub(super) fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match (whole / 3600, whole / 60 % 60) {
        (0, 0) => format!("{seconds:.1} s"),
        (0, minutes) => format!("{minutes} min {} s", whole % 60),
        (hours, minutes) => format!("{hours} h {minutes} min"),
    }
}
