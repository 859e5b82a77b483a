//! Laws through measured points, by least squares.

/// A power law `y = c xᵏ`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PowerLaw {
    /// k
    pub exponent: f64,
    /// k's standard error, from how far the points are off; `None` for two points, which are never off.
    pub standard_error: Option<f64>,
}

impl PowerLaw {
    /// The line of least squares through the points' logarithms; `None` unless there are two different x at least,
    /// and all coordinates are above 0 and finite.
    pub fn fit(points: &[(f64, f64)]) -> Option<Self> {
        if points.iter().any(|&(x, y)| !(x > 0.0 && y > 0.0 && x.is_finite() && y.is_finite())) {
            return None;
        }
        let logs: Vec<(f64, f64, f64)> = points.iter().map(|&(x, y)| (x.ln(), y.ln(), 1.0)).collect();
        let line = weighted_line(&logs)?;
        let residuals: f64 = logs.iter().map(|&(x, y, _)| (y - line.offset - line.slope * x).powi(2)).sum();
        let freedom = points.len().saturating_sub(2);
        let standard_error = (freedom > 0).then(|| (residuals / freedom as f64 / line.spread).sqrt());
        Some(Self { exponent: line.slope, standard_error })
    }
}

/// A line `y = offset + slope x`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Line {
    pub offset: f64,
    pub slope: f64,
    /// Weighted sum of the squared distances of the points' x from their mean.
    spread: f64,
}

impl Line {
    /// The line whose distances from the points, each relative to the point's own y, have the least squares: measured
    /// times are uncertain by a share of themselves. `None` unless there are two different x at least, and all y are
    /// above 0.
    pub fn fit_relative(points: &[(f64, f64)]) -> Option<Self> {
        if points.iter().any(|&(x, y)| !(y > 0.0 && x.is_finite() && y.is_finite())) {
            return None;
        }
        weighted_line(&points.iter().map(|&(x, y)| (x, y, y.powi(-2))).collect::<Vec<_>>())
    }
}

/// The line of least squares through points `(x, y, weight)`.
fn weighted_line(points: &[(f64, f64, f64)]) -> Option<Line> {
    let total: f64 = points.iter().map(|p| p.2).sum();
    let mean = |of: fn(&(f64, f64, f64)) -> f64| points.iter().map(|p| p.2 * of(p)).sum::<f64>() / total;
    let (mean_x, mean_y) = (mean(|p| p.0), mean(|p| p.1));
    let spread: f64 = points.iter().map(|p| p.2 * (p.0 - mean_x).powi(2)).sum();
    let along: f64 = points.iter().map(|p| p.2 * (p.0 - mean_x) * (p.1 - mean_y)).sum();
    // of equal x, what is left of the spread is rounding
    let scale: f64 = points.iter().map(|p| p.2 * p.0 * p.0).sum();
    (spread > 1e-20 * scale).then(|| {
        let slope = along / spread;
        Line { offset: mean_y - slope * mean_x, slope, spread }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTHS: [f64; 7] = [31.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0];

    #[test]
    fn known_exponents_come_back() {
        for exponent in [-1.0, 0.0, 0.5, 1.0, 2.0, 2.807] {
            let points = LENGTHS.map(|x| (x, 3.7 * x.powf(exponent)));
            let law = PowerLaw::fit(&points).unwrap();
            assert!((law.exponent - exponent).abs() < 1e-12, "{law:?} for {exponent}");
            assert!(law.standard_error.is_some_and(|e| e < 1e-12), "{law:?}");
        }
    }

    #[test]
    fn the_standard_error_is_the_textbooks() {
        // on logarithms 0, 1, 2 and 0, 1, 0: slope 0, residuals −1/3, 2/3, −1/3, so s² = (6/9)/1 and the error
        // sqrt(s²/2)
        let points = [(0.0, 0.0), (1.0, 1.0), (2.0, 0.0)].map(|(x, y): (f64, f64)| (x.exp(), y.exp()));
        let law = PowerLaw::fit(&points).unwrap();
        assert!(law.exponent.abs() < 1e-14, "{law:?}");
        assert!(law.standard_error.is_some_and(|e| (e - (1.0_f64 / 3.0).sqrt()).abs() < 1e-14), "{law:?}");
        // two points are never off, and say nothing of their error
        assert_eq!(PowerLaw::fit(&points[..2]).map(|law| law.standard_error), Some(None));
    }

    #[test]
    fn a_scale_changes_neither_exponent_nor_error() {
        let noisy = |scale: f64| LENGTHS.map(|x| (x, scale * x * (1.0 + 0.1 * x.sin())));
        let (one, other) = (PowerLaw::fit(&noisy(1.0)).unwrap(), PowerLaw::fit(&noisy(1e6)).unwrap());
        assert!((one.exponent - other.exponent).abs() < 1e-12);
        let errors = one.standard_error.zip(other.standard_error);
        assert!(errors.is_some_and(|(a, b)| a > 1e-3 && (a - b).abs() < 1e-12), "{errors:?}");
    }

    #[test]
    fn a_line_comes_back_and_relative_distances_are_what_counts() {
        let line = Line::fit_relative(&LENGTHS.map(|x| (x, 90.0 + 0.25 * x))).unwrap();
        assert!((line.offset - 90.0).abs() < 1e-9 && (line.slope - 0.25).abs() < 1e-12, "{line:?}");
        // y off by half where it is large moves the line less than y off by half where it is small
        let mut points = [(1.0, 1.0), (2.0, 2.0), (100.0, 100.0)];
        points[2].1 = 150.0;
        let line = Line::fit_relative(&points).unwrap();
        assert!((line.offset + line.slope * 1.0 - 1.0).abs() < 0.3, "{line:?}");
    }

    #[test]
    fn points_that_say_nothing_have_no_law() {
        let check = |points: &[(f64, f64)]| {
            assert_eq!((PowerLaw::fit(points), Line::fit_relative(points)), (None, None), "{points:?}");
        };
        check(&[]);
        check(&[(31.0, 2.0)]);
        check(&[(31.0, 2.0), (31.0, 3.0)]);
        check(&[(31.0, 2.0), (62.0, 0.0)]);
        check(&[(31.0, 2.0), (62.0, f64::NAN)]);
        assert_eq!(PowerLaw::fit(&[(0.0, 2.0), (1.0, 3.0)]), None);
    }
}
