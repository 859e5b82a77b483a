//! `cargo xtask reproduce`: the paper's study.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::anyhow;
use clap::Args;
use plastica_eval::{
    Machine, OutputFolder, Preset, Protocol, Report, RunStatus, Session, Study, write_events, write_logs,
};
use plastica_rules::{Credit, Rule};
use plastica_tasks::{DataFolder, Dataset, TaskConfig};
use plastica_tensor::Cpu;
use serde_json::json;

use crate::failure::{Failure, Outcome};
use crate::output::{say, tell, tell_result};
use crate::progress::Progress;
use crate::session::{Saving, Signals, Telling};

#[derive(Args)]
#[command(after_help = "Examples:
  cargo xtask reproduce                                  the whole study, as published
  cargo xtask reproduce --task copying --credit full     one task, plasticity trained by it
  cargo xtask reproduce --seeds 10                       more runs, for claims that three leave undecided
  cargo xtask reproduce --task omniglot --data omniglot-minimal --preset images --credit full
                                                         images as the field runs them
  cargo xtask reproduce --protocol smoke                 the same path in seconds

Runs that are finished in the folder are kept, and those that were stopped go on: the same command again
does only what is missing or of another configuration.

With --json, an event run for each run: task, rule, seed, finished, reason (why it is not), metrics
(the last epoch's). The result: runs, failed (how many), wall_seconds, folder, report (the file).")]
pub struct Arguments {
    /// paper: the published configurations, budgets and seeds; smoke: the same path in seconds.
    #[arg(long, default_value = "paper")]
    protocol: Protocol,
    /// A task, more than once for several; by default all: copying, cue-reward, regression, omniglot and cifar-fs.
    #[arg(long, value_name = "T")]
    task: Vec<String>,
    /// The images of the image tasks: omniglot, omniglot-minimal, cifar-100, natural-100 or glyphs; more than once for
    /// several tasks. By default those of the published runs, or glyphs, which are drawn on the spot, where there are no
    /// such files.
    #[arg(long, value_name = "SET")]
    data: Vec<String>,
    /// Settings in place of the published ones: images (what it sets, and why: docs/images.md).
    #[arg(long, value_name = "NAME")]
    preset: Option<Preset>,
    /// A plasticity rule, more than once for several; by default the paper's: none, hebbian and gradient.
    #[arg(long, value_name = "R")]
    rule: Vec<Rule>,
    /// What the outer gradient sees of the fast weights: detached (as published), full, truncated(k).
    #[arg(long, default_value = "detached", value_name = "C")]
    credit: Credit,
    /// Runs of each task and rule; the published seeds first.
    // a rule's published seeds begin 1000 after the last rule's
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    seeds: u16,
    /// Folder for records, checkpoints and the report (report.html, .md and .json); by default
    /// results/PROTOCOL-CREDIT. Its folder logs has the records in the layout of the paper's own logs.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Write event files too, to the folder's folder tensorboard.
    #[arg(long)]
    tensorboard: bool,
    #[command(flatten)]
    saving: Saving,
}

/// Runs the study.
pub fn run(arguments: &Arguments, quiet: bool) -> Outcome {
    let begin = Instant::now();
    let tasks = distinct(&arguments.task, &TaskConfig::NAMES.map(String::from));
    let study = Study {
        protocol: arguments.protocol,
        data: images_of(&tasks, &arguments.data)?,
        preset: arguments.preset,
        tasks,
        rules: distinct(&arguments.rule, &Rule::PUBLISHED),
        credit: arguments.credit,
        seeds: arguments.seeds.into(),
    };
    let runs = study.plan().map_err(Failure::usage)?;
    let default = || PathBuf::from(format!("results/{}-{}", arguments.protocol, arguments.credit));
    let signals = Signals::handle()?;
    let folder = OutputFolder::open(&arguments.out.clone().unwrap_or_else(default))?;
    let progress = Progress::new(runs.iter().map(|run| run.episodes()).sum(), quiet);
    let telling = Telling::new(&progress, quiet);
    let session = Session {
        folder: &folder,
        resume: true,
        snapshot_every: Some(arguments.saving.checkpoint_every),
        stop: signals.stop(),
        told: &|run, event| telling.told(run, event),
    };
    let outcome = session.run_all(runs, &Cpu::<f32>::new());
    progress.finish();
    let outcome = outcome?;
    let planned = outcome.records.len();
    let records: Vec<_> = outcome.records.into_iter().flatten().collect();
    if records.len() < planned {
        let finished = records.len();
        return Err(signals.stopped(&format!(
            "{finished} of {planned} runs are finished; the same command goes on from there"
        )));
    }

    let folder = folder.path();
    let report = Report::new(&records, Machine::detect(), outcome.wall_seconds)?;
    report.write(folder)?;
    write_logs(&records, &folder.join("logs"))?;
    if arguments.tensorboard {
        for record in &records {
            write_events(record, &folder.join("tensorboard"))?;
        }
    }
    say(report.summary())?;
    let failed: Vec<String> = records
        .iter()
        .filter_map(|r| match &r.status {
            RunStatus::Failed { reason } => Some(format!("{}-{}-{}: {reason}", r.task, r.rule, r.seed)),
            RunStatus::Finished => None,
        })
        .collect();
    let kept = match telling.kept() {
        0 => String::new(),
        kept => format!(", {kept} finished before"),
    };
    say(format_args!(
        "{} runs, {} failed{kept}, {:.1} s; records, checkpoints and report.html are in {}",
        records.len(),
        failed.len(),
        begin.elapsed().as_secs_f64(),
        folder.display(),
    ))?;
    for line in &failed {
        eprintln!("failed: {line}");
    }
    for r in &records {
        let reason = match &r.status {
            RunStatus::Failed { reason } => Some(reason),
            RunStatus::Finished => None,
        };
        let (task, rule, finished) = (&r.task, &r.rule, reason.is_none());
        let told = json!({ "task": task, "rule": rule, "seed": r.seed, "finished": finished, "reason": reason, "metrics": r.final_metrics });
        tell("run", told)?;
    }
    let result = json!({
        "runs": records.len(),
        "failed": failed.len(),
        "wall_seconds": begin.elapsed().as_secs_f64(),
        "folder": folder,
        "report": folder.join("report.json"),
    });
    tell_result("reproduce", result)?;
    if failed.is_empty() { Ok(()) } else { Err(Failure::Told) }
}

/// The images of each image task: those asked for, those of the published runs where they are at hand, or glyphs.
fn images_of(tasks: &[String], given: &[String]) -> Result<Vec<(String, Dataset)>, Failure> {
    let mut unused: Vec<&String> = given.iter().collect();
    let mut images = Vec::new();
    for task in tasks {
        let mut config = TaskConfig::from_name(task).map_err(Failure::usage)?;
        let Some(published) = config.data() else { continue };
        let mut suits = |data: Dataset| {
            if let Some(images) = config.few_shot_mut() {
                images.data = data;
            }
            config.validate().is_ok()
        };
        let fits = |name: &&String| Dataset::ALL.into_iter().find(|data| data.name() == name.as_str());
        let chosen = given.iter().filter_map(|name| fits(&name)).find(|&data| suits(data));
        let data = match chosen {
            Some(data) => data,
            None if DataFolder::shared().available(published.name()) => published,
            None => {
                eprintln!(
                    "{task}: drawn glyphs in place of {published}, which is not in {}; `cargo xtask data fetch \
                     {published}` gets it",
                    DataFolder::shared().path().display()
                );
                Dataset::Glyphs
            }
        };
        unused.retain(|name| name.as_str() != data.name());
        images.push((task.clone(), data));
    }
    match unused.first() {
        None => Ok(images),
        Some(name) => {
            let known = Dataset::ALL.map(Dataset::name).join(", ");
            Err(Failure::usage(anyhow!("--data {name}: no task here draws from it; the sets are {known}")))
        }
    }
}

/// The values given, each once, or the default.
fn distinct<T: Clone + PartialEq>(given: &[T], default: &[T]) -> Vec<T> {
    let mut kept: Vec<T> = Vec::new();
    for value in if given.is_empty() { default } else { given } {
        if !kept.contains(value) {
            kept.push(value.clone());
        }
    }
    kept
}
