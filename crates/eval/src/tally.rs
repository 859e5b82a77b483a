//! Sums of measurements, kept apart by name, from which means are made.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::numbers::number;

/// Running sums by name. Adding tallies up in a fixed order gives the same bits however the work was shared.
/// One that was written as JSON and read again is the same to the bit.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tally {
    sums: BTreeMap<Cow<'static, str>, Sums>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sums {
    #[serde(with = "number")]
    count: f64,
    #[serde(with = "number")]
    sum: f64,
    #[serde(with = "number")]
    squares: f64,
    #[serde(with = "number")]
    largest: f64,
}

impl Tally {
    /// Adds measurements under a name.
    pub fn add(&mut self, name: &'static str, values: impl IntoIterator<Item = f64>) {
        let sums = self.sums.entry(Cow::Borrowed(name)).or_default();
        for value in values {
            sums.count += 1.0;
            sums.sum += value;
            sums.squares += value * value;
            sums.largest = if value > sums.largest || value.is_nan() { value } else { sums.largest };
        }
    }

    /// Adds another tally's measurements.
    pub fn merge(&mut self, other: &Self) {
        for (name, theirs) in &other.sums {
            let ours = self.sums.entry(name.clone()).or_default();
            ours.count += theirs.count;
            ours.sum += theirs.sum;
            ours.squares += theirs.squares;
            let larger = theirs.largest > ours.largest || theirs.largest.is_nan();
            ours.largest = if larger { theirs.largest } else { ours.largest };
        }
    }

    /// The mean of a name's measurements; NaN when there are none.
    pub fn mean(&self, name: &str) -> f64 {
        self.sums.get(name).map_or(f64::NAN, |s| s.sum / s.count)
    }

    /// The population standard deviation of a name's measurements; NaN when there are none.
    pub fn sd(&self, name: &str) -> f64 {
        let mean = self.mean(name);
        self.sums.get(name).map_or(f64::NAN, |s| (s.squares / s.count - mean * mean).max(0.0).sqrt())
    }

    /// The largest of a name's measurements, at least 0; a NaN among them wins.
    pub fn largest(&self, name: &str) -> f64 {
        self.sums.get(name).map_or(0.0, |s| s.largest)
    }

    /// The names measured, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.sums.keys().map(AsRef::as_ref)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_merged_are_the_whole() {
        let mut whole = Tally::default();
        whole.add("x", [1.0, 2.0, 6.0]);
        let (mut a, mut b) = (Tally::default(), Tally::default());
        a.add("x", [1.0]);
        b.add("x", [2.0, 6.0]);
        a.merge(&b);
        assert_eq!(a, whole);
        assert_eq!(whole.mean("x"), 3.0);
        assert!((whole.sd("x") - (14.0_f64 / 3.0).sqrt()).abs() < 1e-12);
        assert_eq!(whole.largest("x"), 6.0);
        assert!(whole.mean("y").is_nan());
    }

    #[test]
    fn a_tally_read_again_goes_on_to_the_same_bits() {
        let values = [0.1, 1e-300, f64::INFINITY, f64::NAN, -0.0];
        for split in 0..values.len() {
            let mut whole = Tally::default();
            values.iter().for_each(|&value| whole.add("x", [value]));
            let mut first = Tally::default();
            first.add("x", values[..split].iter().copied());
            let mut again: Tally = serde_json::from_str(&serde_json::to_string(&first).unwrap()).unwrap();
            again.add("x", values[split..].iter().copied());
            let bits = |tally: &Tally| [tally.mean("x"), tally.sd("x"), tally.largest("x")].map(f64::to_bits);
            assert_eq!(bits(&again), bits(&whole), "cut after {split}");
        }
    }

    #[test]
    fn a_nan_is_never_lost() {
        let mut tally = Tally::default();
        tally.add("x", [1.0, f64::NAN, 2.0]);
        assert!(tally.mean("x").is_nan() && tally.largest("x").is_nan());
    }
}
