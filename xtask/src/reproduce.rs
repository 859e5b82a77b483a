//! `cargo xtask reproduce`: the paper's study, and the same tasks trained until they are learned.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{anyhow, bail};
use clap::Args;
use plastica_eval::{
    Machine, OutputFolder, PlannedRun, Preset, Protocol, Report, RunStatus, Session, Study, write_events,
    write_logs,
};
use plastica_rules::{Credit, Rule};
use plastica_tasks::{DataFolder, Dataset, TaskConfig};
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
  cargo xtask reproduce                                  the whole study, as published
  cargo xtask reproduce --task copying --credit full     one task, plasticity trained by it
  cargo xtask reproduce --seeds 10                       more runs, for claims that three leave undecided
  cargo xtask reproduce --task omniglot --data omniglot-minimal --preset images --credit full
                                                         images as the field runs them
  cargo xtask reproduce --protocol smoke                 the same path in seconds
  cargo xtask-cuda reproduce --device cuda                the whole study on a GPU
  cargo xtask reproduce --protocol converged             the sequence tasks, trained until they stand still
  cargo xtask reproduce --protocol converged --task copying --set task.delay=100 --out results/delay-100

Protocol converged gives every rule and credit the same batches, cap and rule of when to stop, under its
preset (docs/configuration.md). --config and --set go over that, for every run alike.

Runs that are finished in the folder are kept, and those that were stopped go on: the same command again
does only what is missing or of another configuration.

With --json, an event run for each run: task, rule, credit, seed, finished, reason (why it is not), metrics
(the last epoch's). The result: runs, failed (how many), wall_seconds, folder, report (the file).")]
pub struct Arguments {
    /// paper: the published configurations, budgets and seeds; smoke: the same path in seconds; converged: the tasks
    /// trained until their loss stands still, plasticity detached and trained.
    #[arg(long, default_value = "paper")]
    protocol: Protocol,
    /// A task, more than once for several; by default all of the paper: copying, cue-reward, regression, omniglot and
    /// cifar-fs; of protocol converged, the first three.
    #[arg(long, value_name = "T")]
    task: Vec<String>,
    /// The images of the image tasks: omniglot, omniglot-minimal, cifar-100, natural-100 or glyphs; more than once for
    /// several tasks. By default those of the published runs, or glyphs, which are drawn on the spot, where there are no
    /// such files.
    #[arg(long, value_name = "SET")]
    data: Vec<String>,
    /// Settings in place of the published ones: images (docs/images.md) or converged (docs/configuration.md).
    #[arg(long, value_name = "NAME")]
    preset: Option<Preset>,
    /// A plasticity rule, more than once for several; by default the paper's: none, hebbian and gradient.
    #[arg(long, value_name = "R")]
    rule: Vec<Rule>,
    /// What the outer gradient sees of the fast weights: detached (as published, and the default), full,
    /// truncated(k) or windowed(k).
    /// Of protocol converged more than once for several, by default detached and full.
    #[arg(long, value_name = "C")]
    credit: Vec<Credit>,
    /// Runs of each task and rule; the published seeds first.
    // a rule's published seeds begin 1000 after the last rule's
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    seeds: u16,
    /// Folder for records, checkpoints and the report (report.html, .md and .json); by default
    /// results/PROTOCOL-CREDIT, of protocol converged results/converged. Its folder logs has the records in the layout of the paper's own logs.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Configuration to lay over the protocol's, for every run; protocol converged alone.
    #[arg(long, value_name = "FILE.toml")]
    config: Option<PathBuf>,
    /// One more value to lay over it, such as task.delay=100; may be repeated; protocol converged alone.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// Cut every run down to what takes seconds, to see the way through; protocol converged alone.
    #[arg(long)]
    quick: bool,
    /// Write event files too, to the folder's folder tensorboard.
    #[arg(long)]
    tensorboard: bool,
    /// Runs under way at once; by default as many as there are threads, and on a CUDA device one. No result depends on it.
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
    #[command(flatten)]
    saving: Saving,
    #[command(flatten)]
    on: On,
}

/// Runs the study.
pub fn run(arguments: &Arguments, quiet: bool) -> Outcome {
    let converged = arguments.protocol == Protocol::Converged;
    arguments.check()?;
    let (tasks, credits) = match converged {
        true => (&TaskConfig::SEQUENCE_NAMES[..], &[Credit::Detached, Credit::Full][..]),
        false => (&TaskConfig::PUBLISHED_NAMES[..], &[Credit::Detached][..]),
    };
    let tasks = distinct(&arguments.task, &tasks.iter().map(|&name| name.to_owned()).collect::<Vec<_>>());
    let study = Study {
        protocol: arguments.protocol,
        data: images_of(&tasks, &arguments.data)?,
        preset: arguments.preset,
        tasks,
        rules: distinct(&arguments.rule, &Rule::PUBLISHED),
        credits: distinct(&arguments.credit, credits),
        seeds: arguments.seeds.into(),
        quick: arguments.quick,
    };
    let runs = arguments.laid_over(study.plan().map_err(Failure::usage)?)?;
    let default = || match &study.credits[..] {
        [credit] if !converged => PathBuf::from(format!("results/{}-{credit}", arguments.protocol)),
        _ => PathBuf::from(format!("results/{}", arguments.protocol)),
    };
    on_device!(arguments.on.device, |backend| reproduce(arguments, &runs, default, &backend, quiet))
}

fn reproduce<B: Backend>(
    arguments: &Arguments,
    runs: &[PlannedRun],
    folder: impl FnOnce() -> PathBuf,
    backend: &B,
    quiet: bool,
) -> Outcome {
    let begin = Instant::now();
    let converged = arguments.protocol == Protocol::Converged;
    let signals = Signals::handle()?;
    let folder = OutputFolder::open(&arguments.out.clone().unwrap_or_else(folder))?;
    let progress = Progress::new(runs.iter().map(|run| run.episodes()).sum(), quiet);
    let telling = Telling::new(&progress, quiet);
    let session = Session {
        folder: &folder,
        resume: true,
        snapshot_every: Some(arguments.saving.checkpoint_every),
        jobs: arguments.jobs.or_else(|| arguments.on.device.jobs()),
        stop: signals.stop(),
        told: &|run, event| telling.told(run, event),
    };
    let outcome = session.run_all(runs.to_vec(), backend);
    progress.finish();
    let saved = || runs.iter().any(|run| session.saved(run).is_some());
    let outcome = with_way_on(outcome, saved, "the same command")?;
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
    if !converged {
        write_logs(&records, &folder.join("logs"))?;
    }
    if arguments.tensorboard {
        for record in &records {
            write_events(record, &folder.join("tensorboard"))?;
        }
    }
    say(report.summary())?;
    let failed: Vec<String> = records
        .iter()
        .filter_map(|r| match &r.status {
            RunStatus::Failed { reason } if converged => {
                Some(format!("{}-{}-{}-{}: {reason}", r.task, r.rule, r.credit, r.seed))
            }
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
        let told = json!({ "task": task, "rule": rule, "credit": r.credit, "seed": r.seed, "finished": finished, "reason": reason, "metrics": r.final_metrics });
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

impl Arguments {
    /// Whether the options go with the protocol.
    fn check(&self) -> Outcome {
        if self.protocol == Protocol::Converged {
            return Ok(());
        }
        let given = [
            ("--config", self.config.is_some()),
            ("--set", !self.settings.is_empty()),
            ("--quick", self.quick),
            ("more than one --credit", self.credit.len() > 1),
        ];
        match given.into_iter().find(|&(_, given)| given) {
            None => Ok(()),
            Some((option, _)) => {
                let protocol = self.protocol;
                Err(Failure::usage(anyhow!("{option}: of protocol converged alone, not of {protocol}")))
            }
        }
    }

    /// The runs with `--config` and `--set` laid over each.
    fn laid_over(&self, runs: Vec<PlannedRun>) -> Outcome<Vec<PlannedRun>> {
        if self.config.is_none() && self.settings.is_empty() {
            return Ok(runs);
        }
        let one = |run: PlannedRun| {
            let (before, name) = (run.config().clone(), run.name().to_owned());
            let config = config::lay_over(before, self.config.as_deref(), &self.settings)?;
            let run = run.with_config(config);
            // what runs are told apart by is the study's to say
            if run.name() != name {
                bail!(
                    "{name}: task, rule, credit and seed are set by options of their own, not by --config or --set"
                );
            }
            Ok(run)
        };
        runs.into_iter().map(one).collect::<anyhow::Result<_>>().map_err(Failure::usage)
    }
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
