//! `cargo xtask eval`: a checkpoint on fresh episodes.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use anyhow::{Context, anyhow};
use clap::Args;
use plastica_eval::{RunConfig, evaluate, format_number};
use plastica_model::Checkpoint;
use plastica_tasks::{DataFolder, EpisodeSource, TaskConfig, Usage};
use plastica_tensor::Backend;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use crate::device::{On, on_device};
use crate::failure::{Failure, Outcome};
use crate::one_shot;
use crate::output::{say, tell_result};

#[derive(Args)]
#[command(after_help = "Examples:
  cargo xtask eval results/paper-detached/copying-hebbian-2000.safetensors --task copying --episodes 1000
  cargo xtask eval results/20-way/omniglot-hebbian-14000.safetensors --one-shot-runs all_runs.zip
  cargo xtask eval runs/regression-none-7000.safetensors --task regression --seed 1 --json

With --json, the result: checkpoint, rule, task, episodes, seed, metrics.")]
pub struct Arguments {
    /// A checkpoint, as `train` and `reproduce` write them.
    checkpoint: PathBuf,
    /// The Omniglot one-shot challenge instead of a task: its zip, or its folder unpacked, with run01 to run20. Takes a
    /// 20-way model of 1-channel images.
    #[arg(long, value_name = "ZIP_OR_DIR", conflicts_with_all = ["task", "episodes", "seed"])]
    one_shot_runs: Option<PathBuf>,
    /// The task: copying, cue-reward, regression, associative-recall, concept-shift, omniglot or cifar-fs; with the settings it was trained on, if it was on this one.
    #[arg(long, value_name = "T", required_unless_present = "one_shot_runs")]
    task: Option<String>,
    /// Number of fresh episodes.
    #[arg(long, default_value = "1000", value_name = "N")]
    episodes: NonZeroUsize,
    /// Seed of the episodes.
    #[arg(long, default_value_t = 0, value_name = "S")]
    seed: u64,
    #[command(flatten)]
    on: On,
}

/// Evaluates.
pub fn run(arguments: &Arguments) -> Outcome {
    on_device!(arguments.on.device, |backend| evaluate_on(arguments, &backend))
}

fn evaluate_on<B: Backend>(arguments: &Arguments, backend: &B) -> Outcome {
    if let Some(runs) = &arguments.one_shot_runs {
        let checkpoint = Checkpoint::read(&arguments.checkpoint, backend)?;
        return one_shot::run(&arguments.checkpoint, &checkpoint, runs);
    }
    // clap asks for one of the two
    let name = arguments.task.as_deref().unwrap_or_default();
    let default = TaskConfig::from_name(name).map_err(Failure::usage)?;
    let checkpoint = Checkpoint::read(&arguments.checkpoint, backend)?;
    let read = |run: &String| serde_json::from_str::<RunConfig>(run);
    let trained = checkpoint.metadata.get("plastica.run").map(read).transpose().with_context(|| {
        format!("checkpoint {}: the run in its metadata can't be read", arguments.checkpoint.display())
    })?;
    let task = trained.map(|run| run.task).filter(|task| task.name() == name).unwrap_or(default);
    let source = task.build_with(DataFolder::shared(), Usage::Test).map_err(Failure::usage)?;
    check_widths(arguments, &checkpoint, source.as_ref())?;
    let mut rng = ChaCha8Rng::seed_from_u64(arguments.seed);
    let (config, parameters) = (&checkpoint.config, &checkpoint.parameters);
    let found =
        evaluate(config, parameters, source.as_ref(), &mut rng, arguments.episodes.get(), &mut |_| {})?;
    say(format_args!(
        "{}, {} on {}: {} episodes, seed {}",
        arguments.checkpoint.display(),
        config.method(),
        task.name(),
        arguments.episodes,
        arguments.seed
    ))?;
    for (name, value) in &found.metrics {
        say(format_args!("{name:24} {}", format_number(*value)))?;
    }
    let result = json!({
        "checkpoint": arguments.checkpoint,
        "rule": config.rule,
        "task": task.name(),
        "episodes": arguments.episodes,
        "seed": arguments.seed,
        "metrics": found.metrics,
    });
    tell_result("eval", result)
}

fn check_widths<B: Backend>(
    arguments: &Arguments,
    checkpoint: &Checkpoint<B>,
    source: &dyn EpisodeSource,
) -> Outcome {
    let (has_in, has_out) = (checkpoint.config.input_dim, checkpoint.config.output_dim);
    let embedding = checkpoint.config.encoder.as_ref().map_or(0, |encoder| encoder.embedding_dim);
    let (needs_in, needs_out) = (embedding + source.input_width(), source.output_width());
    if (has_in, has_out) == (needs_in, needs_out) {
        return Ok(());
    }
    let (file, task) = (arguments.checkpoint.display(), source.name());
    Err(Failure::Failed(anyhow!(
        "checkpoint {file}: it reads inputs of width {has_in} and gives {has_out} outputs, where {task} needs {needs_in} and {needs_out}; \
         was it trained on another task?"
    )))
}
