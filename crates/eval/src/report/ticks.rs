//! Where an axis has its marks, and what they say.

/// An axis: its ends and its marks, in the numbers that are drawn (powers of ten on a logarithmic one).
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Axis {
    /// The ends.
    pub range: (f64, f64),
    /// Places of the marks.
    pub ticks: Vec<f64>,
    /// What each mark says.
    pub labels: Vec<String>,
}

impl Axis {
    /// A linear axis over these values, with room at both ends.
    pub fn linear(low: f64, high: f64) -> Self {
        let span = if high > low { high - low } else { high.abs().max(1e-9) * 0.2 };
        let (low, high) = (low - 0.06 * span, high + 0.06 * span);
        let step = nice_step((high - low) / 5.0);
        let ticks = multiples(low, high, step);
        let decimals = (-step.log10().floor()).max(0.0) as usize;
        let largest = low.abs().max(high.abs());
        let plain = (1e-3..1e5).contains(&largest);
        let label = |&tick: &f64| match tick {
            0.0 => "0".to_owned(),
            _ if plain => format!("{tick:.decimals$}"),
            _ => format!("{tick:.1e}"),
        };
        Self { range: (low, high), labels: ticks.iter().map(label).collect(), ticks }
    }

    /// A logarithmic axis over these values, both above 0.
    pub fn logarithmic(low: f64, high: f64) -> Self {
        let (low, high) = (low.log10(), high.log10());
        let room = 0.06 * (high - low).max(0.5);
        let (low, high) = (low - room, high + room);
        let mut ticks = multiples(low, high, ((high - low) / 6.0).ceil());
        // hardly a decade: 2 and 5 help
        if ticks.len() < 2 {
            let within = |tick: &f64| (low..=high).contains(tick);
            let fine = |decade: i32| [0.0, 2.0_f64.log10(), 5.0_f64.log10()].map(|f| f64::from(decade) + f);
            ticks = (low.floor() as i32..=high.ceil() as i32).flat_map(fine).filter(within).collect();
        }
        Self { range: (low, high), labels: ticks.iter().map(|&tick| power(tick)).collect(), ticks }
    }

    /// An axis of whole numbers from `first` to `last`, with marks at some of them.
    pub fn counts(first: usize, last: usize, (low, high): (f64, f64)) -> Self {
        let step = nice_step((last - first).max(1) as f64 / 6.0).max(1.0) as usize;
        let ticks: Vec<usize> =
            (first..=last).filter(|&n| step == 1 || n == first || n % step == 0).collect();
        Self {
            range: (low, high),
            labels: ticks.iter().map(usize::to_string).collect(),
            ticks: ticks.iter().map(|&n| n as f64).collect(),
        }
    }
}

/// 1, 2 or 5 times a power of ten, the first that is not less.
fn nice_step(least: f64) -> f64 {
    let power = 10.0_f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0, 10.0].map(|f| f * power).into_iter().find(|&step| step >= least * 0.999).unwrap_or(power)
}

fn multiples(low: f64, high: f64, step: f64) -> Vec<f64> {
    ((low / step).ceil() as i64..=(high / step).floor() as i64).map(|n| n as f64 * step).collect()
}

/// `10⁻³`, or a plain number between decades.
fn power(exponent: f64) -> String {
    let whole = exponent.round();
    if (exponent - whole).abs() > 1e-9 {
        let value = 10.0_f64.powf(exponent);
        return if value >= 1e-3 {
            format!("{}", (value * 1e4).round() / 1e4)
        } else {
            format!("{value:.0e}")
        };
    }
    match whole as i32 {
        0 => "1".to_owned(),
        n => {
            let digit = |c: char| match c {
                '-' => '⁻',
                _ => ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'][c as usize - '0' as usize],
            };
            format!("10{}", n.to_string().chars().map(digit).collect::<String>())
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn marks_are_round_numbers() {
        let labels = |axis: Axis| axis.labels.join(" ");
        assert_eq!(labels(Axis::linear(0.31, 0.52)), "0.30 0.35 0.40 0.45 0.50");
        assert_eq!(labels(Axis::linear(0.0, 100.0)), "0 50 100");
        assert_eq!(labels(Axis::linear(1e-7, 3e-7)), "1.0e-7 1.5e-7 2.0e-7 2.5e-7 3.0e-7");
        assert_eq!(labels(Axis::logarithmic(3e-5, 0.11)), "10⁻⁴ 10⁻³ 10⁻² 10⁻¹");
        assert_eq!(labels(Axis::logarithmic(0.5, 0.6)), "0.5");
        assert_eq!(labels(Axis::counts(1, 31, (0.5, 31.5))), "1 5 10 15 20 25 30");
        assert_eq!(labels(Axis::counts(1, 4, (1.0, 4.0))), "1 2 3 4");
        assert_eq!(labels(Axis::counts(1, 1, (0.5, 1.5))), "1");
    }

    proptest! {
        #[test]
        fn the_values_are_inside_and_the_marks_too(low in -1e6..1e6_f64, span in 0.0..1e6_f64) {
            let axis = Axis::linear(low, low + span);
            prop_assert!(axis.range.0 < low && low + span < axis.range.1);
            prop_assert!(axis.ticks.iter().all(|&t| axis.range.0 <= t && t <= axis.range.1));
            prop_assert!((2..=12).contains(&axis.ticks.len()), "{:?}", axis);
        }

        #[test]
        fn logarithmic_axes_have_marks(low in -12.0..3.0_f64, decades in 0.0..9.0_f64) {
            let axis = Axis::logarithmic(10.0_f64.powf(low), 10.0_f64.powf(low + decades));
            prop_assert!(axis.range.0 < low && low + decades < axis.range.1);
            prop_assert!(axis.ticks.len() <= 8 && (decades < 0.5 || !axis.ticks.is_empty()), "{:?}", axis);
        }
    }
}
