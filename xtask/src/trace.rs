//! `cargo xtask trace`: one episode as a picture and in numbers.

use std::path::PathBuf;

use anyhow::{Context, anyhow};
use clap::Args;
use plastica_eval::{EpisodeTrace, RunConfig, format_number};
use plastica_model::Checkpoint;
use plastica_tasks::{DataFolder, EpisodeSource, TaskConfig, Usage};
use plastica_tensor::Backend;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use crate::device::{On, on_device};
use crate::failure::{Failure, Outcome};
use crate::output::{say, tell_result};

#[derive(Args)]
#[command(after_help = "\
The picture has η, gate, clip and the squared norm of the fast weights at every step, the norm layer by
layer, and each head's attention: the step of a row attends to the steps of the columns, the darker the
more (shades go with the square root). Lines mark where a phase of the episode ends. A model without
plasticity has its attention alone.

The tables have means over the steps of each phase; where the steps that are asked look, in shares of
their attention; and over how many steps they spread it (the exponential of its entropy).

Examples:
  cargo xtask trace results/paper-detached/copying-hebbian-2000.safetensors --task copying
  cargo xtask trace runs/regression-gradient-9000.safetensors --task regression --seed 3 --out episode.svg

With --json, the result: checkpoint, task, seed, picture, and trace: rule, phases, metrics, plasticity
(eta, gate, clip, plastic_norm; null for rule none), layers, attention (block, head, rows).")]
pub struct Arguments {
    /// A checkpoint, as `train` and `reproduce` write them.
    checkpoint: PathBuf,
    /// The task; with the settings it was trained on, if it was on this one.
    #[arg(long, value_name = "T")]
    task: String,
    /// Seed of the episode.
    #[arg(long, default_value_t = 0, value_name = "S")]
    seed: u64,
    /// The picture; by default it has the checkpoint's name and ends in .svg.
    #[arg(long, value_name = "FILE.svg")]
    out: Option<PathBuf>,
    #[command(flatten)]
    on: On,
}

/// Traces, draws and tells.
pub fn run(arguments: &Arguments) -> Outcome {
    on_device!(arguments.on.device, |backend| trace(arguments, &backend))
}

fn trace<B: Backend>(arguments: &Arguments, backend: &B) -> Outcome {
    let Arguments { checkpoint: file, task, seed, .. } = arguments;
    let default = TaskConfig::from_name(task).map_err(Failure::usage)?;
    let picture = arguments.out.clone().unwrap_or_else(|| file.with_extension("svg"));
    if picture == *file {
        let error = anyhow!("--out {}: it is the checkpoint itself, expected another file", file.display());
        return Err(Failure::usage(error));
    }
    let checkpoint = Checkpoint::read(file, backend)?;
    let source = trained_on(&checkpoint, default)
        .with_context(|| format!("checkpoint {}", file.display()))?
        .build_with(DataFolder::shared(), Usage::Test)
        .map_err(Failure::usage)?;
    let mut rng = ChaCha8Rng::seed_from_u64(*seed);
    let trace = record(&checkpoint, source.as_ref(), &mut rng)
        .with_context(|| format!("checkpoint {} on {task}", file.display()))?;
    let rule = checkpoint.config.rule;
    trace.write_svg(&picture, &format!("{}: {rule} on {task}, episode of seed {seed}", file.display()))?;

    say(format_args!("{}, {rule} on {task}: one episode, seed {seed}", file.display()))?;
    for (name, value) in &trace.metrics {
        say(format_args!("{name:24} {}", format_number(*value)))?;
    }
    for table in trace.tables() {
        say(format_args!("\n{}", table.to_string().trim_end()))?;
    }
    say(format_args!("\nthe picture is {}", picture.display()))?;
    let told = json!({ "checkpoint": file, "task": task, "seed": seed, "picture": picture, "trace": trace });
    tell_result("trace", told)
}

fn record<B: Backend>(
    checkpoint: &Checkpoint<B>,
    source: &dyn EpisodeSource,
    rng: &mut ChaCha8Rng,
) -> anyhow::Result<EpisodeTrace> {
    let outputs = (checkpoint.config.output_dim, source.output_width());
    if outputs.0 != outputs.1 {
        return Err(anyhow!(
            "it gives {} outputs, where the task needs {}; was it trained on another task?",
            outputs.0,
            outputs.1
        ));
    }
    Ok(EpisodeTrace::record(&checkpoint.config, &checkpoint.parameters, source, rng)?)
}

/// The task as the checkpoint was trained on it, if it was, and otherwise as published.
fn trained_on<B: Backend>(checkpoint: &Checkpoint<B>, default: TaskConfig) -> anyhow::Result<TaskConfig> {
    let Some(run) = checkpoint.metadata.get("plastica.run") else { return Ok(default) };
    let run: RunConfig = serde_json::from_str(run).context("the run in its metadata can't be read")?;
    Ok(if run.task.name() == default.name() { run.task } else { default })
}
