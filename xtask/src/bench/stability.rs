//! `cargo xtask bench stability`: whether training and evaluation stay finite, ever deeper and ever longer.

use std::process::{Command, Stdio};

use anyhow::{Context, anyhow, bail};
use clap::Args;
use plastica_eval::{Column, EvalError, Preset, RunConfig, Table, Tally, Trainer, evaluate, format_number};
use plastica_rules::{Credit, Rule};
use plastica_tasks::{DataFolder, Usage};
use plastica_tensor::Cpu;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::memory;
use crate::config;
use crate::failure::{Failure, Outcome};
use crate::output::{say, tell_result};

/// Steps of an episode of copying that are not its delay.
const STEPS_BESIDE_DELAY: u32 = 11;

#[derive(Args)]
#[command(after_help = "\
Each rule under each credit, at each depth and each T, trains for a number of updates on copying (delay
T − 11) and is then evaluated; every such point is a process of its own, so its peak of memory is its
own. Settings are the published ones, or a preset's, with --set over them for every point.

With --json, results, one a point: rule, credit, layers, steps (T), batch, updates (how many were
made), diverged (null, or where), loss_first and loss_last (means over the first and the last tenth of
the updates, nats a step), largest_norm (the largest Σ‖F‖² of any step), eval_loss and eval_norm (null
where it diverged before), peak_megabytes (null where not known), seconds. A point that diverges is a
result; the exit status is 1 if any did.

Examples:
  cargo xtask bench stability --updates 100
  cargo xtask bench stability --layers 8 --steps 31 --batch 1 --updates 10000 --credit detached
  cargo xtask bench stability --rule hebbian --layers 2 --steps 1024 --credit 'truncated(32)' --updates 20")]
pub struct Arguments {
    /// A plasticity rule, more than once for several; by default hebbian, oja and gradient.
    #[arg(long, value_name = "R")]
    rule: Vec<Rule>,
    /// What the outer gradient sees of the fast weights, more than once for several; by default full and truncated(32).
    #[arg(long, value_name = "C")]
    credit: Vec<Credit>,
    /// Blocks, more than once for several; by default 2, 4 and 8.
    #[arg(long, value_name = "L", value_parser = clap::value_parser!(u32).range(1..=1024))]
    layers: Vec<u32>,
    /// T, steps of an episode, more than once for several; by default 31 and 1024.
    #[arg(long, value_name = "T", value_parser = clap::value_parser!(u32).range(11..=1 << 20))]
    steps: Vec<u32>,
    /// Episodes an update.
    #[arg(long, default_value_t = 2, value_name = "B")]
    batch: usize,
    /// Updates of each point.
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    updates: u32,
    /// Settings in place of the published ones: images (docs/images.md) or converged (docs/configuration.md).
    #[arg(long, value_name = "NAME")]
    preset: Option<Preset>,
    /// A configuration value, as in `train`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
}

/// What a point came to; its fields' names are those of `--json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Point {
    rule: Rule,
    credit: String,
    layers: u32,
    steps: u32,
    batch: usize,
    updates: usize,
    diverged: Option<String>,
    loss_first: Option<f64>,
    loss_last: Option<f64>,
    largest_norm: Option<f64>,
    eval_loss: Option<f64>,
    eval_norm: Option<f64>,
    peak_megabytes: Option<f64>,
    seconds: f64,
}

/// One of the points asked for.
#[derive(Debug, Clone, Copy)]
struct Place {
    rule: Rule,
    credit: Credit,
    layers: u32,
    steps: u32,
}

/// Measures point by point and tells.
pub fn run(arguments: &Arguments, quiet: bool) -> Outcome {
    let places = arguments.places();
    let mut points = Vec::new();
    for place in &places {
        let point = match places[..] {
            [_] => arguments.measure(*place)?,
            _ => arguments.apart(*place, quiet)?,
        };
        tell_result("bench stability", &point)?;
        points.push(point);
    }
    say(table(&points))?;
    for point in &points {
        if let Some(reason) = &point.diverged {
            let Point { rule, credit, layers, steps, .. } = point;
            eprintln!("{rule} {credit}, L = {layers}, T = {steps}: {reason}");
        }
    }
    if points.iter().any(|point| point.diverged.is_some()) { Err(Failure::Told) } else { Ok(()) }
}

impl Arguments {
    fn places(&self) -> Vec<Place> {
        let rules = or_default(&self.rule, &[Rule::Hebbian, Rule::Oja, Rule::Gradient]);
        let window = std::num::NonZeroUsize::new(32).map_or(Credit::Full, Credit::Truncated);
        let credits = or_default(&self.credit, &[Credit::Full, window]);
        let (layers, steps) = (or_default(&self.layers, &[2, 4, 8]), or_default(&self.steps, &[31, 1024]));
        let mut places = Vec::new();
        for &rule in &rules {
            for &credit in &credits {
                for &layers in &layers {
                    places.extend(steps.iter().map(|&steps| Place { rule, credit, layers, steps }));
                }
            }
        }
        places
    }

    fn config(&self, place: Place) -> anyhow::Result<RunConfig> {
        let mut settings = vec![
            format!("training.credit=\"{}\"", place.credit),
            format!("training.batch_size={}", self.batch),
            format!("model.num_layers={}", place.layers),
            format!("task.delay={}", place.steps - STEPS_BESIDE_DELAY),
        ];
        let own = config::load("copying", place.rule, self.preset, None, &settings)?;
        settings.extend(self.settings.iter().cloned());
        let config = config::load("copying", place.rule, self.preset, None, &settings)?;
        let point = |config: &RunConfig| {
            let (model, training) = (&config.model, &config.training);
            Ok::<_, anyhow::Error>((
                (config.task.name(), config.task.build_with(DataFolder::shared(), Usage::Test)?.steps()),
                (model.rule, model.num_layers, training.credit, training.batch_size),
            ))
        };
        if point(&config)? != point(&own)? {
            bail!(
                "task, rule, credit, layers, steps and batch are set by options of their own, not by --set"
            );
        }
        Ok(config)
    }

    /// A point in a process of its own.
    fn apart(&self, place: Place, quiet: bool) -> Outcome<Point> {
        let Place { rule, credit, layers, steps } = place;
        // what won't do is said at once, and once
        self.config(place).map_err(Failure::usage)?;
        if !quiet {
            eprintln!("{rule} {credit}, L = {layers}, T = {steps}");
        }
        let program = std::env::current_exe().context("this program's own path is not known")?;
        let mut command = Command::new(program);
        command.args(["bench", "stability", "--json", "--quiet"]);
        command.arg(format!("--threads={}", rayon::current_num_threads()));
        command.args([format!("--rule={rule}"), format!("--credit={credit}"), format!("--layers={layers}")]);
        command.args([format!("--steps={steps}"), format!("--batch={}", self.batch)]);
        command.arg(format!("--updates={}", self.updates));
        command.args(self.preset.map(|preset| format!("--preset={preset}")));
        command.args(self.settings.iter().map(|setting| format!("--set={setting}")));
        let output = command.stderr(Stdio::null()).output().context("bench stability can't be started")?;
        serde_json::from_slice(&output.stdout).map_err(|_| {
            let status = output.status;
            Failure::Failed(anyhow!("{rule} {credit}, L = {layers}, T = {steps}: it ended badly: {status}"))
        })
    }

    fn measure(&self, place: Place) -> Outcome<Point> {
        let begin = std::time::Instant::now();
        let config = self.config(place).map_err(Failure::usage)?;
        let source = config.task.build_with(DataFolder::shared(), Usage::Training)?;
        let mut trainer = Trainer::new(&config, &Cpu::<f32>::new())?;
        let mut rng = ChaCha8Rng::seed_from_u64(config.training.seed);
        let mut losses = Vec::new();
        let (mut largest, mut diverged) = (0.0_f64, None);
        for _ in 0..self.updates {
            let batch = source.sample(&mut rng, config.training.batch_size)?;
            match trainer.train_batch(&batch) {
                Ok(measured) => {
                    losses.push(measured.mean("loss"));
                    largest = largest.max(Tally::largest(&measured, "plastic_norm"));
                }
                Err(error @ EvalError::Diverged { .. }) => {
                    diverged = Some(error.to_string());
                    break;
                }
                Err(error) => return Err(error.into()),
            }
        }
        let mut evaluation = None;
        if diverged.is_none() {
            let held_out = config.task.build_with(DataFolder::shared(), Usage::Test)?;
            let (model, parameters) = (&config.model, trainer.parameters());
            let episodes = config.training.batch_size;
            match evaluate(model, parameters, held_out.as_ref(), &mut rng, episodes, &mut |_| ()) {
                Ok(found) => evaluation = Some(found),
                Err(error @ EvalError::EvaluationDiverged { .. }) => diverged = Some(error.to_string()),
                Err(error) => return Err(error.into()),
            }
        }
        let metric = |name: &str| evaluation.as_ref().and_then(|e| e.metrics.get(name).copied());
        let (eval_loss, eval_norm) = (metric("loss"), metric("plastic_norm_mean"));
        let tenth = losses.len().div_ceil(10);
        let mean =
            |losses: &[f64]| (!losses.is_empty()).then(|| losses.iter().sum::<f64>() / losses.len() as f64);
        Ok(Point {
            rule: place.rule,
            credit: config.training.credit.to_string(),
            layers: place.layers,
            steps: place.steps,
            batch: config.training.batch_size,
            updates: losses.len(),
            diverged,
            loss_first: mean(&losses[..tenth]),
            loss_last: mean(&losses[losses.len() - tenth..]),
            largest_norm: largest.is_finite().then_some(largest),
            eval_loss,
            eval_norm: eval_norm.filter(|norm| norm.is_finite()),
            peak_megabytes: memory::peak_bytes().map(|bytes| bytes as f64 / 1e6),
            seconds: begin.elapsed().as_secs_f64(),
        })
    }
}

fn or_default<T: Clone>(given: &[T], default: &[T]) -> Vec<T> {
    if given.is_empty() { default.to_vec() } else { given.to_vec() }
}

fn table(points: &[Point]) -> Table {
    let columns = vec![
        Column::left("rule"),
        Column::left("credit"),
        Column::right("L"),
        Column::right("T"),
        Column::right("updates"),
        Column::left("diverged"),
        Column::right("loss, first → last tenth"),
        Column::right("largest Σ‖F‖²"),
        Column::right("loss in evaluation"),
        Column::right("MB at most"),
        Column::right("s"),
    ];
    let number = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), format_number);
    let row = |p: &Point| {
        vec![
            p.rule.to_string(),
            p.credit.clone(),
            p.layers.to_string(),
            p.steps.to_string(),
            p.updates.to_string(),
            if p.diverged.is_some() { "yes".to_owned() } else { "no".to_owned() },
            format!("{} → {}", number(p.loss_first), number(p.loss_last)),
            number(p.largest_norm),
            number(p.eval_loss),
            p.peak_megabytes.map_or_else(|| "–".to_owned(), |mb| format!("{mb:.0}")),
            format!("{:.1}", p.seconds),
        ]
    };
    Table { title: String::new(), columns, rows: points.iter().map(row).collect() }
}
