//! `cargo xtask train`: one model on one task.

use std::path::PathBuf;

use clap::Args;
use plastica_eval::{OutputFolder, PlannedRun, Preset, Protocol, RunStatus, Session, write_events};
use plastica_rules::Rule;
use plastica_tensor::Backend;
use serde_json::json;

use crate::config;
use crate::device::{On, on_device};
use crate::failure::{Failure, Outcome};
use crate::output::{say, tell, tell_result};
use crate::progress::Progress;
use crate::session::{Saving, Signals, Telling, with_way_on};

#[derive(Args)]
#[command(after_help = "Examples:
  cargo xtask train --task copying --rule hebbian --out runs
  cargo xtask train --task copying --rule hebbian --set training.credit=full --set model.max_norm=100 \\
      --set training.batch_size=64 --set training.dataset_size=6400 --out runs
  cargo xtask train --task omniglot --rule hebbian --preset images --set task.data=glyphs --out runs
  cargo xtask-cuda train --device cuda --task copying --rule hebbian --out runs
  cargo xtask config --show --task copying --rule hebbian       what would be run, without running it

With --json, an event epoch for each epoch: run, epoch, metrics. The result: run, finished, reason (why
it is not), wall_seconds, metrics (the last epoch's), folder.")]
pub struct Arguments {
    /// The task: copying, cue-reward, regression, associative-recall, concept-shift, omniglot or cifar-fs.
    #[arg(long, value_name = "T")]
    task: String,
    /// The plasticity rule: none, hebbian, gradient, oja, delta, bcm, soft-hebbian, three-factor or hybrid.
    #[arg(long, value_name = "R")]
    rule: Rule,
    /// Settings in place of the published ones: images (docs/images.md) or converged (docs/configuration.md).
    #[arg(long, value_name = "NAME")]
    preset: Option<Preset>,
    /// Configuration to lay over the published one, in TOML, with sections model, task and training.
    #[arg(long, value_name = "FILE.toml")]
    config: Option<PathBuf>,
    /// One more value to lay over it, such as training.lr=0.003; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// Folder for the record and the checkpoint.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Write an event file too, to the folder's folder tensorboard.
    #[arg(long)]
    tensorboard: bool,
    /// Go on where the same run stopped that is in the folder; one that is finished is kept.
    #[arg(long)]
    resume: bool,
    #[command(flatten)]
    saving: Saving,
    #[command(flatten)]
    on: On,
}

/// Trains.
pub fn run(arguments: &Arguments, quiet: bool) -> Outcome {
    let config = config::load(
        &arguments.task,
        arguments.rule,
        arguments.preset,
        arguments.config.as_deref(),
        &arguments.settings,
    )
    .map_err(Failure::usage)?;
    let run = PlannedRun::new(config, Protocol::Custom);
    on_device!(arguments.on.device, |backend| train(arguments, &run, &backend, quiet))
}

fn train<B: Backend>(arguments: &Arguments, run: &PlannedRun, backend: &B, quiet: bool) -> Outcome {
    let signals = Signals::handle()?;
    let folder = OutputFolder::open(&arguments.out)?;
    let progress = Progress::new(run.episodes(), quiet);
    let telling = Telling::new(&progress, quiet);
    let session = Session {
        folder: &folder,
        resume: arguments.resume,
        snapshot_every: Some(arguments.saving.checkpoint_every),
        jobs: None,
        stop: signals.stop(),
        told: &|run, event| telling.told(run, event),
    };
    let record = session.run(run, backend);
    progress.finish();
    let Some(record) =
        with_way_on(record, || session.saved(run).is_some(), "the same command with --resume")?
    else {
        return Err(signals.stopped("the same command with --resume goes on from there"));
    };
    let folder = folder.path();
    if arguments.tensorboard {
        write_events(&record, &folder.join("tensorboard"))?;
    }
    for epoch in &record.history {
        let metrics: Vec<String> = epoch
            .metrics
            .iter()
            .map(|(name, value)| format!("{name} {}", plastica_eval::format_number(*value)))
            .collect();
        say(format_args!("epoch {}: {}", epoch.epoch, metrics.join(", ")))?;
        tell("epoch", json!({ "run": run.name(), "epoch": epoch.epoch, "metrics": epoch.metrics }))?;
    }
    let reason = match &record.status {
        RunStatus::Failed { reason } => Some(reason),
        RunStatus::Finished => None,
    };
    let result = json!({
        "run": run.name(),
        "finished": reason.is_none(),
        "reason": reason,
        "wall_seconds": record.wall_seconds,
        "metrics": record.final_metrics,
        "folder": folder,
    });
    tell_result("train", result)?;
    match &record.status {
        RunStatus::Failed { reason } => {
            eprintln!("failed: {}: {reason}", run.name());
            Err(Failure::Told)
        }
        RunStatus::Finished => say(format_args!(
            "{:.1} s; {name}.json and {name}.safetensors are in {}",
            record.wall_seconds,
            folder.display(),
            name = run.name()
        )),
    }
}
