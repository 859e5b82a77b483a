//! How far two samples lie apart: Student's t, paired by seed where the seeds are the same, Welch's otherwise.

use std::fmt;

use serde::Serialize;

use crate::Summary;
use crate::statistics::t_quantile_975;

/// Values of one quantity, each with the seed of the run that it comes from.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sample(pub Vec<(u64, f64)>);

/// The test that an interval comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Test {
    /// Student's t on the differences of runs with the same seed.
    PairedT,
    /// Welch's t: the two samples were run from different seeds, so that no run has a partner.
    WelchT,
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Test::PairedT => "paired t",
            Test::WelchT => "Welch’s t",
        })
    }
}

/// A difference of means, how sure it is, and how large it is beside the runs' own spread.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Effect {
    /// Mean of the first sample less that of the second.
    pub difference: f64,
    /// Ends of the difference's 95 % confidence interval; `None` with fewer than two runs on a side.
    pub interval: Option<(f64, f64)>,
    /// Hedges' g: the difference in units of the samples' pooled standard deviation, corrected for small samples
    /// (Hedges 1981, the approximation 1 − 3/(4ν − 1)); `None` where there is no spread to divide by.
    pub hedges_g: Option<f64>,
    /// Where the interval comes from.
    pub test: Test,
}

impl Sample {
    /// The values alone.
    pub fn values(&self) -> Vec<f64> {
        self.0.iter().map(|&(_, value)| value).collect()
    }

    /// Applies a function to every value.
    pub fn map(&self, f: impl Fn(f64) -> f64) -> Self {
        Self(self.0.iter().map(|&(seed, value)| (seed, f(value))).collect())
    }

    /// Mean and spread; `None` for no values, or values that have none.
    pub fn summary(&self) -> Option<Summary> {
        Summary::of(&self.values()).ok()
    }

    /// The effect of this sample against another. `None` when either is empty or not finite.
    pub fn against(&self, other: &Self) -> Option<Effect> {
        let (a, b) = (self.summary()?, other.summary()?);
        let (va, vb) = (variance(&a), variance(&b));
        let degrees = (a.count + b.count) as f64 - 2.0;
        let pooled = ((a.count as f64 - 1.0) * va + (b.count as f64 - 1.0) * vb) / degrees;
        let difference = a.mean - b.mean;
        let hedges_g = corrected(difference, pooled, degrees);
        if let Some(pairs) = self.pairs(other).and_then(|pairs| Summary::of(&pairs).ok()) {
            return Some(Effect { difference, interval: pairs.ci95, hedges_g, test: Test::PairedT });
        }
        let (ea, eb) = (va / a.count as f64, vb / b.count as f64);
        // Welch and Satterthwaite; without spread the quantile does not matter, as the interval is a point
        let welch = (ea + eb).powi(2) / (ea * ea / (a.count as f64 - 1.0) + eb * eb / (b.count as f64 - 1.0));
        let measured = a.count > 1 && b.count > 1;
        let quantile = t_quantile_975(if welch.is_finite() { welch } else { degrees });
        let half = quantile.filter(|_| measured).map(|t| t * (ea + eb).sqrt());
        let interval = half.map(|half| (difference - half, difference + half));
        Some(Effect { difference, interval, hedges_g, test: Test::WelchT })
    }

    /// Differences of the runs of equal seeds; `None` unless both samples are of the same seeds.
    fn pairs(&self, other: &Self) -> Option<Vec<f64>> {
        let partner = |seed: u64| other.0.iter().find(|&&(s, _)| s == seed).map(|&(_, value)| value);
        let same = self.0.len() == other.0.len();
        same.then(|| self.0.iter().map(|&(seed, value)| Some(value - partner(seed)?)).collect()).flatten()
    }
}

fn variance(summary: &Summary) -> f64 {
    summary.sample_sd.map_or(0.0, |sd| sd * sd)
}

fn corrected(difference: f64, variance: f64, degrees: f64) -> Option<f64> {
    let g = difference / variance.sqrt() * (1.0 - 3.0 / (4.0 * degrees - 1.0));
    // the correction is 0 at one degree of freedom: no effect can be estimated there
    (degrees >= 2.0 && variance > 0.0 && g.is_finite()).then_some(g)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample(first_seed: u64, values: &[f64]) -> Sample {
        Sample((first_seed..).zip(values.iter().copied()).collect())
    }

    #[track_caller]
    fn close(got: f64, want: f64) {
        assert!((got - want).abs() <= 1e-9 * want.abs().max(1.0), "{got} is not {want}");
    }

    #[test]
    fn welch_by_hand() {
        // means 2 and 5, sample variances 1 and 4, n 3 and 3: SE² = 5/3, ν = (5/3)² / (1/18 + 16/18) = 50/17
        let effect = sample(1, &[1.0, 2.0, 3.0]).against(&sample(10, &[3.0, 5.0, 7.0])).unwrap();
        assert_eq!((effect.difference, effect.test), (-3.0, Test::WelchT));
        let half = t_quantile_975(50.0 / 17.0).unwrap() * (5.0_f64 / 3.0).sqrt();
        close(effect.interval.unwrap().0, -3.0 - half);
        close(effect.interval.unwrap().1, -3.0 + half);
        // pooled variance 2.5, ν 4: g = −3/√2.5 · (1 − 3/15)
        close(effect.hedges_g.unwrap(), -3.0 / 2.5_f64.sqrt() * 0.8);
    }

    #[test]
    fn the_same_seeds_are_paired_in_whatever_order() {
        // differences 1, 1, 4: mean 2, sample variance 3, SE 1; t(2) at 97.5 % is 4.302652729749464
        let a = Sample(vec![(3, 14.0), (1, 2.0), (2, 5.0)]);
        let b = sample(1, &[1.0, 4.0, 10.0]);
        let effect = a.against(&b).unwrap();
        assert_eq!((effect.difference, effect.test), (2.0, Test::PairedT));
        let (low, high) = effect.interval.unwrap();
        close(low, 2.0 - 4.302_652_729_749_464);
        close(high, 2.0 + 4.302_652_729_749_464);
        let shifted = sample(2, &[1.0, 4.0, 10.0]);
        assert_eq!(a.against(&shifted).unwrap().test, Test::WelchT, "seeds 1..3 and 2..4 are not the same");
    }

    #[test]
    fn one_run_has_no_interval_and_none_no_effect() {
        let (one, two) = (sample(1, &[1.0]), sample(5, &[2.0, 3.0]));
        for (a, b) in [(&one, &two), (&two, &one), (&one, &sample(1, &[2.0]))] {
            let effect = a.against(b).unwrap();
            assert_eq!((effect.interval, effect.difference.is_finite()), (None, true));
        }
        assert_eq!(one.against(&Sample::default()), None);
        assert_eq!(one.against(&sample(1, &[f64::NAN])), None);
    }

    #[test]
    fn without_spread_the_interval_is_a_point() {
        let effect = sample(1, &[2.0; 3]).against(&sample(7, &[1.0; 4])).unwrap();
        assert_eq!((effect.interval, effect.hedges_g), (Some((1.0, 1.0)), None));
    }

    proptest! {
        #[test]
        fn sides_exchanged_change_the_sign(
            a in prop::collection::vec(-10.0..10.0_f64, 2..6),
            b in prop::collection::vec(-10.0..10.0_f64, 2..6),
            shared: bool,
        ) {
            let (a, b) = (sample(0, &a), sample(if shared { 0 } else { 100 }, &b));
            let (there, back) = (a.against(&b).unwrap(), b.against(&a).unwrap());
            let ((l1, h1), (l2, h2)) = (there.interval.unwrap(), back.interval.unwrap());
            prop_assert!((l1 + h2).abs() < 1e-9 && (h1 + l2).abs() < 1e-9);
            prop_assert_eq!(there.test, back.test);
            prop_assert!(l1 <= there.difference && there.difference <= h1);
        }

        /// With pairs that differ by a constant, pairing takes out everything that the seeds share.
        #[test]
        fn pairing_removes_what_seeds_share(values in prop::collection::vec(-10.0..10.0_f64, 2..6)) {
            let a = sample(0, &values);
            let (low, high) = a.map(|v| v + 1.0).against(&a).unwrap().interval.unwrap();
            prop_assert!((low - 1.0).abs() < 1e-9 && (high - 1.0).abs() < 1e-9);
        }
    }
}
