//! Two sides held against each other, and what it takes to call one better.

use std::fmt;

use serde::Serialize;

use super::{Effect, Sample, Test};

/// Share of the mean compared against below which being better is no longer worth the name: well below what the paper's
/// claims rest on, the smallest of which is a lead of 2.5 %.
const BETTER: f64 = 0.01;

/// Share of the mean compared against by which one side may be worse and still count as good.
const AS_GOOD: f64 = 0.05;

/// What the runs say to a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The claim holds in these runs.
    Reproduced,
    /// It does not.
    NotReproduced,
    /// These runs are too few, or too far apart, to say.
    Undecided,
}

impl Verdict {
    /// The verdict of several comparisons that all have to hold; none at all leave it undecided.
    pub fn all(verdicts: impl IntoIterator<Item = Verdict>) -> Self {
        let verdicts: Vec<Verdict> = verdicts.into_iter().collect();
        if verdicts.contains(&Verdict::NotReproduced) {
            Verdict::NotReproduced
        } else if verdicts.is_empty() || verdicts.contains(&Verdict::Undecided) {
            Verdict::Undecided
        } else {
            Verdict::Reproduced
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Verdict::Reproduced => "reproduced",
            Verdict::NotReproduced => "not reproduced",
            Verdict::Undecided => "undecided",
        })
    }
}

/// How an estimate reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scale {
    /// Difference of means, in the quantity's unit; 0 is no difference.
    Difference,
    /// Ratio of geometric means; 1 is no difference.
    Ratio,
}

/// The side of no difference that a claim is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// Less than what it is compared with.
    Below,
    /// More than that.
    Above,
}

/// What is asserted of the first side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Assertion {
    /// It is better.
    Better,
    /// It is at least as good: worse by less than the margin.
    AtLeastAsGood,
}

/// One side of a comparison.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Group {
    /// The rule's name, or the rule and part of the episode.
    pub name: String,
    /// Number of runs behind the mean.
    pub runs: usize,
    /// Mean over the runs, geometric on [`Scale::Ratio`].
    pub mean: f64,
}

/// The first side held against the second.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// The side that something is asserted of.
    pub first: Group,
    /// What it is compared with.
    pub second: Group,
    /// How estimate, interval and margin read.
    pub scale: Scale,
    /// First less second, or first over second.
    pub estimate: f64,
    /// Ends of the estimate's 95 % confidence interval; `None` with fewer than two runs on a side.
    pub interval: Option<(f64, f64)>,
    /// Hedges' g, of logarithms on [`Scale::Ratio`]; `None` where it is not defined.
    pub hedges_g: Option<f64>,
    /// Where the interval comes from.
    pub test: Test,
    /// The side of no difference on which the first is claimed to be.
    pub side: Side,
    /// What is claimed.
    pub assertion: Assertion,
    /// The estimate that would still pass for none, on the side that the assertion looks at.
    pub margin: f64,
    /// What follows.
    pub verdict: Verdict,
}

/// What is to be decided: the assertion, its side and its scale.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question {
    pub scale: Scale,
    pub side: Side,
    pub assertion: Assertion,
    /// Share of the second side's mean that passes for no difference.
    pub margin: f64,
}

impl Question {
    pub const LOWER: Self =
        Self { scale: Scale::Difference, side: Side::Below, assertion: Assertion::Better, margin: BETTER };
    pub const HIGHER: Self = Self { side: Side::Above, ..Self::LOWER };
    pub const NOT_HIGHER: Self = Self { assertion: Assertion::AtLeastAsGood, margin: AS_GOOD, ..Self::LOWER };
    pub const LARGER_RATE: Self = Self { scale: Scale::Ratio, ..Self::HIGHER };
    /// Keeps at least 80 %.
    pub const KEEPS: Self = Self { assertion: Assertion::AtLeastAsGood, margin: 0.2, ..Self::LARGER_RATE };

    /// Two samples of runs. `None` when either is empty, or of numbers that the scale cannot take.
    pub fn compare(self, (a_name, a): (&str, &Sample), (b_name, b): (&str, &Sample)) -> Option<Comparison> {
        let (a_scaled, b_scaled) = (self.scaled(a), self.scaled(b));
        let effect = a_scaled.against(&b_scaled)?;
        Some(self.decide(effect, self.group(a_name, &a_scaled)?, self.group(b_name, &b_scaled)?))
    }

    /// Two quantities of the same runs: always paired.
    pub fn compare_within(self, a: (&str, &Sample), b: (&str, &Sample)) -> Option<Comparison> {
        self.compare(a, b).filter(|comparison| comparison.test == Test::PairedT)
    }

    fn scaled(self, sample: &Sample) -> Sample {
        match self.scale {
            Scale::Difference => sample.clone(),
            Scale::Ratio => sample.map(f64::ln),
        }
    }

    fn unscaled(self, value: f64) -> f64 {
        match self.scale {
            Scale::Difference => value,
            Scale::Ratio => value.exp(),
        }
    }

    fn group(self, name: &str, scaled: &Sample) -> Option<Group> {
        let mean = self.unscaled(scaled.summary()?.mean);
        Some(Group { name: name.to_owned(), runs: scaled.0.len(), mean })
    }

    fn decide(self, effect: Effect, first: Group, second: Group) -> Comparison {
        let sign = if self.side == Side::Above { 1.0 } else { -1.0 };
        // towards the claim where it asserts better, away from it where it asserts at least as good
        let towards = if self.assertion == Assertion::Better { sign } else { -sign };
        let margin = match self.scale {
            Scale::Difference => towards * self.margin * second.mean.abs(),
            Scale::Ratio => (1.0 + towards * self.margin).ln(),
        };
        let advantage = effect.interval.map(|(low, high)| match self.side {
            Side::Above => (low, high),
            Side::Below => (-high, -low),
        });
        let verdict = match (advantage, self.assertion) {
            (None, _) => Verdict::Undecided,
            (Some((low, _)), Assertion::Better) if low > 0.0 => Verdict::Reproduced,
            (Some((_, high)), Assertion::Better) if high < margin.abs() => Verdict::NotReproduced,
            (Some((low, _)), Assertion::AtLeastAsGood) if low > -margin.abs() => Verdict::Reproduced,
            (Some((_, high)), Assertion::AtLeastAsGood) if high < 0.0 => Verdict::NotReproduced,
            _ => Verdict::Undecided,
        };
        Comparison {
            first,
            second,
            scale: self.scale,
            estimate: self.unscaled(effect.difference),
            interval: effect.interval.map(|(low, high)| (self.unscaled(low), self.unscaled(high))),
            hedges_g: effect.hedges_g,
            test: effect.test,
            side: self.side,
            assertion: self.assertion,
            margin: self.unscaled(margin),
            verdict,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(seed: u64, values: &[f64]) -> Sample {
        Sample((seed..).zip(values.iter().copied()).collect())
    }

    #[track_caller]
    fn check(question: Question, a: &[f64], b: &[f64], want: Verdict) {
        let (a, b) = (sample(1, a), sample(100, b));
        let found = question.compare(("a", &a), ("b", &b)).unwrap();
        assert_eq!(found.verdict, want, "{found:?}");
    }

    #[test]
    fn better_on_either_side() {
        use Verdict::{NotReproduced, Reproduced, Undecided};
        let (low, high) = ([1.0, 1.01, 0.99], [2.0, 2.01, 1.99]);
        check(Question::LOWER, &low, &high, Reproduced);
        check(Question::LOWER, &high, &low, NotReproduced);
        check(Question::HIGHER, &high, &low, Reproduced);
        check(Question::HIGHER, &low, &high, NotReproduced);
        // as good as equal: less than 1 % is left for being better
        check(Question::LOWER, &[1.0, 1.001, 0.999], &[1.0, 1.001, 0.999], NotReproduced);
        check(Question::LOWER, &[0.0, 1.0, 2.0], &[1.0, 2.0, 3.0], Undecided);
        check(Question::LOWER, &[1.0], &[2.0, 2.0], Undecided);
    }

    #[test]
    fn at_least_as_good() {
        use Verdict::{NotReproduced, Reproduced, Undecided};
        let equal = [1.0, 1.001, 0.999];
        check(Question::NOT_HIGHER, &equal, &equal, Reproduced);
        check(Question::NOT_HIGHER, &[0.5, 0.51, 0.49], &equal, Reproduced);
        check(Question::NOT_HIGHER, &[1.5, 1.51, 1.49], &equal, NotReproduced);
        check(Question::NOT_HIGHER, &[1.04, 1.041, 1.039], &equal, Reproduced); // worse, by less than the margin
        check(Question::NOT_HIGHER, &[1.0, 2.0, 0.5], &equal, Undecided);
        check(Question::NOT_HIGHER, &[1.0], &[1.0], Undecided);
    }

    #[test]
    fn ratios_read_as_ratios() {
        let (a, b) = (sample(1, &[0.1, 0.1, 0.1]), sample(100, &[1e-4, 1e-4, 1e-4]));
        let found = Question::LARGER_RATE.compare(("a", &a), ("b", &b)).unwrap();
        assert!((found.estimate - 1000.0).abs() < 1e-9 && (found.margin - 1.01).abs() < 1e-12, "{found:?}");
        assert_eq!(found.verdict, Verdict::Reproduced);
        assert_eq!(Question::LARGER_RATE.compare(("a", &a), ("b", &sample(9, &[0.0, 1.0]))), None);
        let keeps = |later: &[f64], want| {
            let (later, before) = (sample(1, later), sample(1, &[1.0, 1.0, 1.0]));
            let found = Question::KEEPS.compare_within(("later", &later), ("before", &before)).unwrap();
            assert_eq!(found.verdict, want, "{found:?}");
            assert!((found.margin - 0.8).abs() < 1e-12);
        };
        keeps(&[0.9, 0.91, 0.92], Verdict::Reproduced);
        keeps(&[0.5, 0.51, 0.52], Verdict::NotReproduced);
        keeps(&[0.5, 0.9, 1.4], Verdict::Undecided);
    }

    #[test]
    fn several_comparisons_all_have_to_hold() {
        use Verdict::{NotReproduced, Reproduced, Undecided};
        assert_eq!(Verdict::all([]), Undecided);
        assert_eq!(Verdict::all([Reproduced, Reproduced]), Reproduced);
        assert_eq!(Verdict::all([Reproduced, Undecided]), Undecided);
        assert_eq!(Verdict::all([Undecided, NotReproduced, Reproduced]), NotReproduced);
    }
}
