//! The paper's claims, and those of runs trained to a plateau, each a test over the runs of a study.
//!
//! **How a verdict comes about.** A comparison has an estimate and its 95 % interval: Student's t over the
//! differences of runs with the same seed where both sides ran the same seeds, Welch's t where they did not (the
//! published seeds of different rules differ, so that their runs have no partners). Losses and accuracies are compared
//! as differences of means; rates, which span orders of magnitude, as ratios of geometric means (t on logarithms).
//! A margin is the difference that would still pass for none: 1 % of the mean that is compared against for *better*, 5 %
//! for *at least as good*, 20 % for a rate that persists. Then
//!
//! - a claim that one side is *better* is reproduced when the whole interval lies on the claimed side of no difference,
//!   and not reproduced when the whole interval leaves less than the margin for it;
//! - a claim that one side is *at least as good* is reproduced when the whole interval lies on the claimed side of the
//!   margin to its disadvantage, and not reproduced when the whole interval lies to its disadvantage;
//! - otherwise, and with fewer than two finished runs on a side, it is undecided.
//!
//! A finding of several comparisons is reproduced when all of them are and not reproduced when any is not, which needs
//! no correction for their number (an intersection-union test, Berger 1982). Verdicts of different findings are
//! not corrected for each other.

mod comparison;
mod converged;
mod effect;
mod measures;
mod paper;

use serde::Serialize;

use crate::{Protocol, RunRecord};

use crate::record::arms;

pub use comparison::{Assertion, Comparison, Group, Scale, Side, Verdict};
pub use effect::{Effect, Sample, Test};

/// A claim, and what the runs say to it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Claim {
    /// A short name, such as `hebbian-beats-none`.
    pub name: &'static str,
    /// The claim in a sentence.
    pub statement: &'static str,
    /// What is measured, and what it is compared with.
    pub measure: &'static str,
    /// What was found: one finding a task and measurement.
    pub findings: Vec<Finding>,
}

/// What the runs of one task say to a claim.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// The task's name.
    pub task: String,
    /// The quantity compared, with its unit.
    pub quantity: String,
    /// The verdict of all comparisons together.
    pub verdict: Verdict,
    /// What decides. Empty when the runs that it takes were not made.
    pub comparisons: Vec<Comparison>,
    /// What explains without deciding: η's factors, gate and clip.
    pub factors: Vec<Comparison>,
    /// What a reader has to know besides.
    pub notes: Vec<String>,
}

impl Finding {
    /// Whether there were runs to say anything at all.
    pub fn was_run(&self) -> bool {
        !self.comparisons.is_empty()
    }
}

/// Every claim of arXiv 2510.21908 that these runs could bear on, with its verdict; of runs of
/// [`Protocol::Converged`], what those are made to decide. Runs that failed, or whose figures are not finite, are left out
/// and counted in the notes.
///
/// The records are taken to be of one protocol and, but for the converged one, of one credit, as those of a
/// [`Study`](crate::Study) are.
pub fn claims(records: &[RunRecord]) -> Vec<Claim> {
    if records.first().is_some_and(|record| record.protocol == Protocol::Converged.name()) {
        return converged::claims(&arms(records));
    }
    paper::claims(records)
}
