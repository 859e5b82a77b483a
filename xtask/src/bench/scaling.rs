//! `cargo xtask bench scaling`: training steps of ever longer, more, wider and deeper.

use std::process::{Command, Stdio};

use anyhow::{Context, anyhow};
use clap::{Args, ValueEnum};
use plastica_rules::{Credit, Rule};
use serde::Serialize;

use super::fit::{Line, PowerLaw};
use super::throughput::Measured;
use crate::device::On;
use crate::failure::{Failure, Outcome};
use crate::output::{say, tell_result};

/// Whose results they are, for `--json`.
const COMMAND: &str = "bench scaling";

/// Steps of an episode of copying that are not its delay.
const STEPS_BESIDE_DELAY: u32 = 11;

#[derive(Args)]
#[command(after_help = "\
Every point is a `bench throughput` in a process of its own, so its peak of memory is its own:
copying at d = 128, f = 256, L = 2, batch 16 and T = 31, but for the axis:

  t       T, steps of an episode: 31, then 64 to 2048, doubling (delay T − 11)
  batch   episodes a step: 1 to 64, doubling
  width   d: 32 to 256, doubling, with f = 2d
  layers  L: 1 to 4

A training step's cost is given per sequence and per step of a sequence, each with the exponent k of
cost ~ axisᵏ, by least squares on the logarithms, and k's standard error.

On axis t, attention's share is set apart by fitting a + bT to the cost of a step (least squares of
relative distances): attention is what grows with T, so cost − bT is what a step takes apart from
it; the last column is that over its value at the shortest T. Rule none at the same T stands beside
it: all of its steps are read at once.

With --json, results, one a point: axis, value, rule, credit, batch, ms_per_sequence,
us_per_step, peak_megabytes (null where not known), and on axis t none_us_per_step (null for rule
none), apart_us_per_step and apart_ratio. After the points of an axis, a law for each of
ms_per_sequence and us_per_step: axis, law (\"power\"), of, exponent, standard_error; and on axis t
the line: axis, law (\"line\"), of, offset_us, slope_us.

Examples:
  cargo xtask bench scaling --only t --longest 1024
  cargo xtask bench scaling --rule gradient --only layers --json")]
pub struct Arguments {
    /// The plasticity rule: none, hebbian, gradient, oja, delta, bcm, soft-hebbian, three-factor or hybrid.
    #[arg(long, default_value = "hebbian", value_name = "R")]
    rule: Rule,
    /// What the outer gradient sees of the fast weights: detached, full, truncated(k) or windowed(k).
    #[arg(long, default_value = "full", value_name = "C")]
    credit: Credit,
    /// One axis alone.
    #[arg(long, value_name = "AXIS")]
    only: Option<Axis>,
    /// Longest T on axis t.
    #[arg(long, default_value_t = 2048, value_name = "T", value_parser = clap::value_parser!(u32).range(31..=1 << 20))]
    longest: u32,
    /// Training steps to time at each point, after one to warm up.
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    steps: u32,
    #[command(flatten)]
    on: On,
}

/// What is varied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Axis {
    T,
    Batch,
    Width,
    Layers,
}

impl Axis {
    /// Its values.
    fn values(self, longest: u32) -> Vec<u32> {
        match self {
            Self::T => std::iter::once(31)
                .chain((6..).map(|power| 1 << power).take_while(|&t| t <= longest))
                .collect(),
            Self::Batch => vec![1, 2, 4, 8, 16, 32, 64],
            Self::Width => vec![32, 64, 128, 256],
            Self::Layers => vec![1, 2, 3, 4],
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::T => "T, steps of an episode",
            Self::Batch => "batch, episodes a step",
            Self::Width => "d, the model's width (f = 2d)",
            Self::Layers => "L, blocks",
        }
    }
}

/// The cost of one point.
#[derive(Debug, Clone, Serialize)]
struct Point {
    axis: Axis,
    value: u32,
    rule: Rule,
    credit: Credit,
    batch: u32,
    ms_per_sequence: f64,
    us_per_step: f64,
    peak_megabytes: Option<f64>,
    #[serde(flatten)]
    apart: Option<Apart>,
}

/// What axis t has beside the cost.
#[derive(Debug, Clone, Copy, Serialize)]
struct Apart {
    none_us_per_step: Option<f64>,
    apart_us_per_step: f64,
    apart_ratio: f64,
}

/// A law that was fitted, as a line of JSON.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Law {
    Power { axis: Axis, law: &'static str, of: &'static str, exponent: f64, standard_error: Option<f64> },
    Line { axis: Axis, law: &'static str, of: &'static str, offset_us: f64, slope_us: f64 },
}

/// Measures axis by axis and tells.
pub fn run(arguments: &Arguments, quiet: bool) -> Outcome {
    let axes = arguments.only.map_or(Axis::value_variants().to_vec(), |axis| vec![axis]);
    for (i, axis) in axes.into_iter().enumerate() {
        let mut points = arguments.measure(axis, quiet)?;
        let line = if axis == Axis::T { arguments.set_attention_apart(&mut points, quiet)? } else { None };
        if i > 0 {
            say("")?;
        }
        say(format_args!("{}: {} {}, a training step", axis.title(), arguments.rule, arguments.credit))?;
        tell_table(axis, &points, line)?;
        tell_json(axis, &points, line)?;
    }
    Ok(())
}

impl Arguments {
    fn measure(&self, axis: Axis, quiet: bool) -> Outcome<Vec<Point>> {
        axis.values(self.longest).into_iter().map(|value| self.point(axis, value, self.rule, quiet)).collect()
    }

    /// One point, in a process of its own.
    fn point(&self, axis: Axis, value: u32, rule: Rule, quiet: bool) -> Outcome<Point> {
        let (mut steps, mut batch, mut width, mut layers) = (31, 16, 128, 2);
        match axis {
            Axis::T => steps = value,
            Axis::Batch => batch = value,
            Axis::Width => width = value,
            Axis::Layers => layers = value,
        }
        let name = axis.to_possible_value().map(|v| v.get_name().to_owned()).unwrap_or_default();
        if !quiet {
            eprintln!("{rule}, {name} = {value}");
        }
        let program = std::env::current_exe().context("this program's own path is not known")?;
        let mut command = Command::new(program);
        command.args([
            "bench",
            "throughput",
            "--json",
            "--no-ceilings",
            "--warm-up",
            "1",
            "--task",
            "copying",
        ]);
        command.arg(format!("--threads={}", rayon::current_num_threads()));
        command.arg(format!("--device={}", self.on.device));
        command.arg(format!("--rule={rule}")).arg(format!("--credit={}", self.credit));
        command.arg(format!("--batch={batch}")).arg(format!("--steps={}", self.steps));
        for setting in [
            format!("task.delay={}", steps - STEPS_BESIDE_DELAY),
            format!("model.model_dim={width}"),
            format!("model.ffn_dim={}", 2 * width),
            format!("model.num_layers={layers}"),
        ] {
            command.args(["--set", &setting]);
        }
        let output =
            command.stderr(Stdio::inherit()).output().context("bench throughput can't be started")?;
        if !output.status.success() {
            let (status, error) = (output.status, "bench throughput ended badly");
            return Err(Failure::Failed(anyhow!("{rule}, {name} = {value}: {error}: {status}")));
        }
        let measured: Measured = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("{rule}, {name} = {value}: what bench throughput printed"))?;
        Ok(Point {
            axis,
            value,
            rule,
            credit: self.credit,
            batch,
            ms_per_sequence: measured.ms_per_sequence,
            us_per_step: measured.ms_per_sequence * 1e3 / f64::from(steps),
            peak_megabytes: measured.peak_megabytes,
            apart: None,
        })
    }

    /// Fits a + bT, and fills in what the points have apart from bT, and rule none's cost.
    fn set_attention_apart(&self, points: &mut [Point], quiet: bool) -> Outcome<Option<Line>> {
        let Some(line) = Line::fit_relative(&us_per_step(points)) else { return Ok(None) };
        let apart = |point: &Point| point.us_per_step - line.slope * f64::from(point.value);
        let first = points.first().map_or(f64::NAN, apart);
        for point in points {
            let none_us_per_step = match self.rule {
                Rule::None => None,
                _ => Some(self.point(Axis::T, point.value, Rule::None, quiet)?.us_per_step),
            };
            let apart_us_per_step = apart(point);
            let apart_ratio = apart_us_per_step / first;
            point.apart = Some(Apart { none_us_per_step, apart_us_per_step, apart_ratio });
        }
        Ok(Some(line))
    }
}

fn us_per_step(points: &[Point]) -> Vec<(f64, f64)> {
    points.iter().map(|p| (f64::from(p.value), p.us_per_step)).collect()
}

/// The power laws of both costs, by the names that `--json` has for them.
fn power_laws(points: &[Point]) -> [(&'static str, Option<PowerLaw>); 2] {
    let sequences: Vec<(f64, f64)> = points.iter().map(|p| (f64::from(p.value), p.ms_per_sequence)).collect();
    [("ms_per_sequence", PowerLaw::fit(&sequences)), ("us_per_step", PowerLaw::fit(&us_per_step(points)))]
}

fn tell_json(axis: Axis, points: &[Point], line: Option<Line>) -> Outcome {
    for point in points {
        tell_result(COMMAND, point)?;
    }
    for (of, law) in power_laws(points) {
        if let Some(PowerLaw { exponent, standard_error }) = law {
            tell_result(COMMAND, Law::Power { axis, law: "power", of, exponent, standard_error })?;
        }
    }
    if let Some(Line { offset: offset_us, slope: slope_us, .. }) = line {
        let law = Law::Line { axis, law: "line", of: "us_per_step", offset_us, slope_us };
        tell_result(COMMAND, law)?;
    }
    Ok(())
}

fn tell_table(axis: Axis, points: &[Point], line: Option<Line>) -> Outcome {
    let name = axis.to_possible_value().map(|v| v.get_name().to_owned()).unwrap_or_default();
    let extra = if line.is_some() {
        format!(" {:>14} {:>14} {:>7}", "rule none, µs", "apart, µs", "ratio")
    } else {
        String::new()
    };
    say(format_args!("{name:>6} {:>14} {:>12} {:>9}{extra}", "sequence, ms", "step, µs", "peak, MB"))?;
    for point in points {
        let peak = point.peak_megabytes.map_or("not known".to_owned(), |peak| format!("{peak:.0}"));
        let extra = point.apart.map_or(String::new(), |a| {
            let none = a.none_us_per_step.map_or("–".to_owned(), |none| format!("{none:.2}"));
            format!(" {none:>14} {:>14.2} {:>7.2}", a.apart_us_per_step, a.apart_ratio)
        });
        let (sequence, step) = (point.ms_per_sequence, point.us_per_step);
        say(format_args!("{:>6} {sequence:>14.3} {step:>12.2} {peak:>9}{extra}", point.value))?;
    }
    for ((_, law), cost) in power_laws(points).into_iter().zip(["sequence", "step"]) {
        let Some(PowerLaw { exponent, standard_error }) = law else { continue };
        let error = standard_error.map_or(String::new(), |error| format!(" ± {error:.3}"));
        say(format_args!("cost of a {cost} ~ {name}^k, k = {exponent:.3}{error}"))?;
    }
    if let Some(Line { offset, slope, .. }) = line {
        say(format_args!(
            "cost of a step = {offset:.2} µs + T × {slope:.4} µs, the second being attention's"
        ))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_double_as_far_as_asked() {
        assert_eq!(Axis::T.values(2048), [31, 64, 128, 256, 512, 1024, 2048]);
        assert_eq!(Axis::T.values(1023), [31, 64, 128, 256, 512]);
        assert_eq!(Axis::T.values(31), [31]);
        assert_eq!(Axis::Batch.values(31), [1, 2, 4, 8, 16, 32, 64]);
    }

    #[test]
    fn a_point_is_one_flat_object() {
        let apart = Apart { none_us_per_step: None, apart_us_per_step: 2.0, apart_ratio: 1.0 };
        let point = Point {
            axis: Axis::T,
            value: 31,
            rule: Rule::None,
            credit: Credit::Full,
            batch: 16,
            ms_per_sequence: 0.5,
            us_per_step: 3.0,
            peak_megabytes: None,
            apart: Some(apart),
        };
        let json = |point: &Point| serde_json::to_string(point).unwrap();
        let whose = r#"{"axis":"t","value":31,"rule":"none","credit":"full","batch":16"#;
        let cost = format!(r#"{whose},"ms_per_sequence":0.5,"us_per_step":3.0,"peak_megabytes":null"#);
        let more = r#","none_us_per_step":null,"apart_us_per_step":2.0,"apart_ratio":1.0}"#;
        assert_eq!(json(&point), format!("{cost}{more}"));
        assert_eq!(json(&Point { apart: None, ..point }), format!("{cost}}}"));
    }
}
