//! Mean, spread and standard error of a metric over a handful of runs.

use serde::Serialize;
use statrs::distribution::{ContinuousCDF, StudentsT};

use crate::EvalError;

/// What is said of one metric's values over `count` independent runs, in the metric's own unit.
///
/// What needs two values to be defined is `None` for one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Summary {
    /// Number of values n, at least 1.
    pub count: usize,
    /// Arithmetic mean.
    pub mean: f64,
    /// Standard deviation with divisor n: the one that arXiv 2510.21908 prints.
    pub population_sd: f64,
    /// Standard deviation with divisor n − 1.
    pub sample_sd: Option<f64>,
    /// Standard error of the mean, `sample_sd / sqrt(n)`.
    pub standard_error: Option<f64>,
    /// Ends `(low, high)` of the mean's 95 % confidence interval: Student's t with n − 1 degrees of freedom.
    pub ci95: Option<(f64, f64)>,
}

impl Summary {
    /// Sums up `values`, whose order matters for rounding only.
    ///
    /// # Errors
    ///
    /// [`EvalError::EmptySample`] without values, [`EvalError::NonFiniteSample`] for a NaN or an infinity
    /// among them, and [`EvalError::SampleOverflow`] if the variance of finite values is beyond f64.
    pub fn of(values: &[f64]) -> Result<Self, EvalError> {
        let &[first, ..] = values else { return Err(EvalError::EmptySample) };
        let count = values.len();
        if let Some(index) = values.iter().position(|v| !v.is_finite()) {
            return Err(EvalError::NonFiniteSample { index, count, value: values[index] });
        }

        let n = count as f64;
        // Measured from the first value, equal values have a spread of exactly 0: a rounding error there
        // would become the denominator of a difference in standard errors.
        let mean = first + values.iter().map(|v| v - first).sum::<f64>() / n;
        let population_sd = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
        if !mean.is_finite() || !population_sd.is_finite() {
            let largest = values.iter().fold(0.0, |a: f64, v| a.max(v.abs()));
            return Err(EvalError::SampleOverflow { count, largest });
        }

        let sample_sd = sample_sd(population_sd, count);
        let standard_error = sample_sd.map(|sd| sd / n.sqrt());
        let ci95 = standard_error
            .zip(t_quantile_975((count - 1) as f64))
            .map(|(se, t)| (mean - t * se, mean + t * se));
        Ok(Self { count, mean, population_sd, sample_sd, standard_error, ci95 })
    }
}

/// `(ours − theirs) / sqrt(SE_ours² + SE_theirs²)`: by how many standard errors our mean lies above another
/// experiment's, of which `mean`, population standard deviation and number of runs are known.
///
/// `None` where that is undefined: a side of fewer than two runs, no spread on either side, or `mean` or
/// `population_sd` that no sample has (non-finite, or a negative deviation).
pub fn difference_in_standard_errors(
    ours: &Summary,
    mean: f64,
    population_sd: f64,
    count: usize,
) -> Option<f64> {
    let theirs = sample_sd(population_sd, count)? / (count as f64).sqrt();
    // hypot neither overflows nor underflows where the squares would.
    let combined = ours.standard_error?.hypot(theirs);
    let difference = (ours.mean - mean) / combined;
    (population_sd >= 0.0 && combined > 0.0 && difference.is_finite()).then_some(difference)
}

/// The standard deviation with divisor n − 1 from the one with divisor n.
fn sample_sd(population_sd: f64, count: usize) -> Option<f64> {
    let n = count as f64;
    (count > 1).then(|| population_sd * (n / (n - 1.0)).sqrt())
}

/// The 97.5 % quantile of Student's t; `None` for 0 degrees of freedom.
pub(crate) fn t_quantile_975(degrees: f64) -> Option<f64> {
    StudentsT::new(0.0, 1.0, degrees).ok().map(|t| t.inverse_cdf(0.975))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check_close(got: f64, want: f64, relative: f64) {
        assert!((got - want).abs() <= relative * want.abs(), "{got} is not {want} within {relative:e}");
    }

    #[test]
    fn hand_calculation() {
        // Mean 5; squared deviations 9 + 1 + 1 + 1 + 0 + 0 + 4 + 16 = 32.
        let s = Summary::of(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]).unwrap();
        assert_eq!((s.count, s.mean, s.population_sd), (8, 5.0, 2.0));
        check_close(s.sample_sd.unwrap(), (32.0_f64 / 7.0).sqrt(), 1e-15);
        check_close(s.standard_error.unwrap(), (4.0_f64 / 7.0).sqrt(), 1e-15);
        let (low, high) = s.ci95.unwrap();
        check_close(high - 5.0, 2.364_624_251_592_785 * (4.0_f64 / 7.0).sqrt(), 1e-9);
        check_close(5.0 - low, high - 5.0, 1e-14);
    }

    #[test]
    fn t_quantiles() {
        let check = |degrees: u16, want| check_close(t_quantile_975(degrees.into()).unwrap(), want, 1e-9);
        check(1, (0.475 * std::f64::consts::PI).tan()); // the Cauchy distribution's, in closed form
        check(2, 0.95 * (2.0_f64 / (1.0 - 0.95 * 0.95)).sqrt()); // closed form too
        check(4, 2.776_445_105_197_793);
        check(9, 2.262_157_162_740_992);
        check(29, 2.045_229_642_132_703);
        check(100, 1.983_971_518_523_552);
        check(1000, 1.962_339_080_826_408);
        assert_eq!(t_quantile_975(0.0), None);
    }

    #[test]
    fn one_value_has_no_spread_to_speak_of() {
        let s = Summary::of(&[3.5]).unwrap();
        assert_eq!((s.count, s.mean, s.population_sd), (1, 3.5, 0.0));
        assert_eq!((s.sample_sd, s.standard_error, s.ci95), (None, None, None));
        assert_eq!(difference_in_standard_errors(&s, 0.0, 1.0, 3), None);
    }

    #[test]
    fn what_is_no_sample_is_refused() {
        let check = |values: &[f64], message: &str| {
            assert_eq!(Summary::of(values).unwrap_err().to_string(), message);
        };
        check(&[], "a summary was asked for of no values; it needs at least one");
        check(&[1.0, f64::NAN], "value 1 of a sample of 2 is NaN; every value of a sample must be finite");
        check(
            &[f64::NEG_INFINITY],
            "value 0 of a sample of 1 is -inf; every value of a sample must be finite",
        );
        check(
            &[1e200, 0.0],
            "a sample of 2 values, the largest of magnitude 1e200, has a mean or variance beyond f64; \
             values below 1e150 in magnitude always have one",
        );
    }

    #[test]
    fn difference_by_hand() {
        // Ours: mean 2, sample variance 1, SE² 1/3. Theirs: population variance 2, n 3: SE² = 2·(3/2)/3 = 1.
        let ours = Summary::of(&[1.0, 2.0, 3.0]).unwrap();
        let got = difference_in_standard_errors(&ours, 4.0, 2.0_f64.sqrt(), 3).unwrap();
        check_close(got, -2.0 / (4.0_f64 / 3.0).sqrt(), 1e-15);
    }

    #[test]
    fn difference_undefined() {
        let steady = Summary::of(&[0.1, 0.1, 0.1]).unwrap();
        let spread = Summary::of(&[1.0, 2.0, 3.0]).unwrap();
        let check = |ours, mean, sd, count| {
            assert_eq!(difference_in_standard_errors(ours, mean, sd, count), None);
        };
        check(&steady, 0.5, 0.0, 3);
        check(&spread, 0.5, 1.0, 1);
        check(&spread, 0.5, 1.0, 0);
        check(&spread, 0.5, -1.0, 3);
        check(&spread, 0.5, f64::NAN, 3);
        check(&spread, f64::NAN, 1.0, 3);
        check(&spread, f64::INFINITY, 1.0, 3);
        // Spread on one side is enough.
        check_close(
            difference_in_standard_errors(&steady, 0.0, 0.2_f64.sqrt(), 3).unwrap(),
            0.1_f64.sqrt(),
            1e-14,
        );
    }

    proptest! {
        #[test]
        fn shift_and_scale(
            values in prop::collection::vec(-100.0..100.0_f64, 2..20),
            shift in -100.0..100.0_f64,
            scale in 0.01..100.0_f64,
        ) {
            let a = Summary::of(&values).unwrap();
            let moved: Vec<f64> = values.iter().map(|v| v * scale + shift).collect();
            let b = Summary::of(&moved).unwrap();
            let close = |x: f64, y: f64| (x - y).abs() <= 1e-9 * (1.0 + y.abs());
            prop_assert!(close(b.mean, a.mean * scale + shift));
            prop_assert!(close(b.sample_sd.unwrap(), a.sample_sd.unwrap() * scale));
            let ((lo_a, hi_a), (lo_b, hi_b)) = (a.ci95.unwrap(), b.ci95.unwrap());
            prop_assert!(close(lo_b, lo_a * scale + shift) && close(hi_b, hi_a * scale + shift));
        }

        #[test]
        fn equal_values_have_no_spread(value in prop::num::f64::NORMAL, count in 1..30_usize) {
            let s = Summary::of(&vec![value; count]).unwrap();
            prop_assert_eq!((s.mean, s.population_sd), (value, 0.0));
        }

        #[test]
        fn difference_changes_sign_with_the_sides(
            ours in prop::collection::vec(-10.0..10.0_f64, 2..6),
            theirs in prop::collection::vec(-10.0..10.0_f64, 2..6),
        ) {
            let (a, b) = (Summary::of(&ours).unwrap(), Summary::of(&theirs).unwrap());
            let there = difference_in_standard_errors(&a, b.mean, b.population_sd, b.count);
            let back = difference_in_standard_errors(&b, a.mean, a.population_sd, a.count);
            match (there, back) {
                (Some(x), Some(y)) => prop_assert!((x + y).abs() <= 1e-9 * x.abs().max(1e-9)),
                (x, y) => prop_assert_eq!(x, y),
            }
        }
    }
}
