//! Carrying runs out so that they survive: what is finished is kept, what is not goes on where it stopped, to the same
//! bits as if it never had.
//!
//! A run's files are `NAME.snapshot` while it is under way, and `NAME.safetensors` and `NAME.json` afterwards, in this
//! order: a record is there only when all of its run is.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use plastica_model::Checkpoint;
use plastica_tensor::Backend;
use plastica_tensor::cpu::ordered_map;

use crate::timing::StudyClock;
use crate::{
    EvalError, OutputFolder, PlannedRun, RunConfig, RunRecord, RunStatus, Snapshot, Trainer, VERSION,
};

/// How runs are carried out.
#[derive(Clone, Copy)]
pub struct Session<'a> {
    /// Where files are written.
    pub folder: &'a OutputFolder,
    /// Whether finished runs in the folder are kept, and unfinished ones gone on with. Otherwise all are made from their
    /// beginning.
    pub resume: bool,
    /// How often the state of an unfinished run is written; zero for after every step, `None` for never.
    pub snapshot_every: Option<Duration>,
    /// Runs of a study that are under way at once; `None` for as many as there are threads.
    pub jobs: Option<NonZeroUsize>,
    /// Set by whoever wants the runs to stop: each does at its next step, and leaves its state.
    pub stop: &'a AtomicBool,
    /// Is told what happens to a run, by its name, from any thread.
    pub told: &'a (dyn Fn(&str, Event) + Sync),
}

/// What happens to a run.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// So many more of its episodes are done, now or in an earlier sitting.
    Episodes(usize),
    /// Something that a user may want to know.
    Note(Note),
}

/// What a user may want to know of a run; shown as the rest of a sentence that begins with its name.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Note {
    /// It was finished before.
    Kept,
    /// It goes on where it stopped.
    GoesOn {
        /// Episodes done before.
        done: usize,
        /// Episodes of the whole run.
        of: usize,
    },
    /// It goes on on another device than it was on before: what follows is rounded otherwise.
    OtherDevice {
        /// The device before.
        before: String,
        /// The device now.
        now: String,
    },
    /// It has a record, but is made again.
    MadeAgain {
        /// Why.
        reason: String,
    },
    /// It has a snapshot, but starts from its beginning.
    StartsAnew {
        /// Why.
        reason: String,
    },
    /// Its state could not be written; the run itself goes on.
    NotSaved {
        /// Why.
        reason: String,
    },
    /// The output folder had gone, and was made anew.
    FolderMadeAnew {
        /// The folder.
        path: PathBuf,
    },
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Note::Kept => f.write_str("was finished before"),
            Note::GoesOn { done, of } => write!(f, "goes on after {done} of {of} episodes"),
            Note::OtherDevice { before, now } => write!(f, "was on {before} and goes on on {now}"),
            Note::MadeAgain { reason } => write!(f, "is made again: {reason}"),
            Note::StartsAnew { reason } => write!(f, "starts from its beginning: {reason}"),
            Note::NotSaved { reason } => write!(f, "goes on without being saved: {reason}"),
            Note::FolderMadeAnew { path } => {
                write!(f, "found the output folder {} removed and made it anew", path.display())
            }
        }
    }
}

/// What a study came to.
#[derive(Debug, Clone, PartialEq)]
pub struct StudyOutcome {
    /// In the runs' order; `None` for those that were stopped.
    pub records: Vec<Option<RunRecord>>,
    /// Seconds spent on the folder's study, all sittings together.
    pub wall_seconds: f64,
}

impl Session<'_> {
    /// Trains and evaluates, and leaves `NAME.json`, `NAME.timing.json` and, if the run came to its end,
    /// `NAME.safetensors`. A run that diverges is a record that says so, not an error. `None` when the run was stopped;
    /// `NAME.snapshot` has its state.
    ///
    /// # Errors
    /// When the files cannot be written, or the device fails.
    pub fn run<B: Backend>(&self, run: &PlannedRun, backend: &B) -> Result<Option<RunRecord>, EvalError> {
        self.run_saving(run, backend, &|| ())
    }

    /// Carries runs out in parallel. `study.timing.json` keeps the time that it took.
    ///
    /// # Errors
    /// The first failure that is not a run's own divergence; the other runs are carried out all the same, and their
    /// records are written.
    pub fn run_all<B: Backend>(&self, runs: Vec<PlannedRun>, backend: &B) -> Result<StudyOutcome, EvalError> {
        let clock = StudyClock::start(self.folder.path());
        let worked = AtomicBool::new(false);
        let saved = || {
            worked.store(true, Ordering::Relaxed);
            // nothing depends on it, and whatever is in its way is in the way of results too, which say so
            clock.save().ok();
        };
        let one = |run: PlannedRun| {
            let result = self.run_saving(&run, backend, &saved);
            Ok::<_, EvalError>((run, result))
        };
        let results = match self.jobs {
            None => ordered_map(runs, one)?,
            Some(jobs) => a_few_at_once(jobs, runs, one)?,
        };
        for (run, result) in &results {
            // what was finished before the folder went away
            if let Ok(Some(record)) = result
                && !self.record_path(run).exists()
            {
                self.ensure_folder(run)?;
                record.write(self.record_path(run))?;
            }
        }
        let records = results.into_iter().map(|(_, result)| result).collect::<Result<_, _>>()?;
        let wall_seconds = if worked.into_inner() { clock.seconds() } else { clock.before() };
        Ok(StudyOutcome { records, wall_seconds })
    }

    fn run_saving<B: Backend>(
        &self,
        run: &PlannedRun,
        backend: &B,
        saved: &(dyn Fn() + Sync),
    ) -> Result<Option<RunRecord>, EvalError> {
        if self.stopped() {
            return Ok(None);
        }
        if self.resume
            && let Some(record) = self.finished(run, backend)
        {
            self.note(run, Note::Kept);
            self.episodes(run, run.episodes());
            self.remove_snapshot(run);
            return Ok(Some(record));
        }
        let begin = Instant::now();
        let mut trainer = Trainer::new(run.config(), backend)?;
        let before = self.restore(run, &mut trainer, backend)?;
        let wall_seconds = || before + begin.elapsed().as_secs_f64();
        let save = |trainer: &Trainer<B>| {
            self.save(run, trainer, wall_seconds())?;
            saved();
            Ok::<_, EvalError>(())
        };
        let mut last_saved = Instant::now();
        let mut status = RunStatus::Finished;
        while !trainer.is_finished() {
            if self.stopped() {
                save(&trainer)?;
                return Ok(None);
            }
            if self
                .snapshot_every
                .is_some_and(|every| trainer.episodes() > 0 && last_saved.elapsed() >= every)
            {
                if let Err(error) = save(&trainer) {
                    self.note(run, Note::NotSaved { reason: with_causes(&error) });
                }
                last_saved = Instant::now();
            }
            match trainer.advance(&mut |episodes| self.episodes(run, episodes)) {
                Ok(_) => {}
                Err(diverged @ (EvalError::Diverged { .. } | EvalError::EvaluationDiverged { .. })) => {
                    status = RunStatus::Failed { reason: diverged.to_string() };
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        let record = self.finish(run, &trainer, status, wall_seconds())?;
        // of a run that ended before its last epoch
        self.episodes(run, run.episodes().saturating_sub(trainer.episodes()));
        saved();
        Ok(Some(record))
    }

    /// The run's record, if its files are all there, whole, and of this configuration and version.
    fn finished<B: Backend>(&self, run: &PlannedRun, backend: &B) -> Option<RunRecord> {
        let made_again = |reason| {
            self.note(run, Note::MadeAgain { reason });
            None
        };
        let record = match RunRecord::read(self.record_path(run)) {
            Ok(record) => record,
            Err(EvalError::RecordMissing { .. }) => return None,
            Err(error) => return made_again(with_causes(&error)),
        };
        let known = run.config().fingerprint().is_ok_and(|fingerprint| fingerprint == record.fingerprint);
        if !known || record.protocol != run.protocol().name() {
            let path = self.record_path(run);
            return made_again(format!(
                "{}: the run record is of another configuration or version",
                path.display()
            ));
        }
        if record.status == RunStatus::Finished {
            let path = self.checkpoint_path(run);
            let checkpoint = match Checkpoint::read(&path, backend) {
                Ok(checkpoint) => checkpoint,
                Err(error) => return made_again(error.to_string()),
            };
            let config =
                checkpoint.metadata.get("plastica.run").map(|text| serde_json::from_str::<RunConfig>(text));
            if !matches!(config, Some(Ok(config)) if config == *run.config()) {
                return made_again(format!("checkpoint {}: it is of another configuration", path.display()));
            }
        }
        Some(record)
    }

    /// Takes the trainer to where the run stopped; the seconds that it took to get there.
    fn restore<B: Backend>(
        &self,
        run: &PlannedRun,
        trainer: &mut Trainer<B>,
        backend: &B,
    ) -> Result<f64, EvalError> {
        let path = self.snapshot_path(run);
        if !self.resume {
            if path.exists() {
                let reason = format!("to go on from {} was not asked for", path.display());
                self.note(run, Note::StartsAnew { reason });
            }
            return Ok(0.0);
        }
        match Snapshot::read(&path, run.config(), backend) {
            Ok(None) => Ok(0.0),
            Ok(Some(snapshot)) => {
                let (seconds, moved) = (snapshot.wall_seconds, snapshot.devices().len());
                trainer.restore(snapshot)?;
                self.note(run, Note::GoesOn { done: trainer.episodes(), of: run.episodes() });
                if let [.., before, now] = trainer.devices()
                    && trainer.devices().len() > moved
                {
                    self.note(run, Note::OtherDevice { before: before.clone(), now: now.clone() });
                }
                self.episodes(run, trainer.episodes());
                Ok(seconds)
            }
            Err(error) => {
                self.note(run, Note::StartsAnew { reason: error.to_string() });
                Ok(0.0)
            }
        }
    }

    fn save<B: Backend>(
        &self,
        run: &PlannedRun,
        trainer: &Trainer<B>,
        wall_seconds: f64,
    ) -> Result<(), EvalError> {
        self.ensure_folder(run)?;
        let mut snapshot = trainer.snapshot();
        snapshot.wall_seconds = wall_seconds;
        snapshot.write(&self.snapshot_path(run), run.config())
    }

    /// Writes what a run leaves, and removes what it needed until then.
    fn finish<B: Backend>(
        &self,
        run: &PlannedRun,
        trainer: &Trainer<B>,
        status: RunStatus,
        wall_seconds: f64,
    ) -> Result<RunRecord, EvalError> {
        let config = run.config();
        let history = trainer.history().to_vec();
        let record = RunRecord {
            crate_version: VERSION.to_owned(),
            task: config.task.name().to_owned(),
            rule: config.model.method().to_owned(),
            credit: config.training.credit.to_string(),
            protocol: run.protocol().name().to_owned(),
            seed: config.training.seed,
            config: serde_json::to_value(config)
                .map_err(|e| EvalError::Unserialisable { message: e.to_string() })?,
            fingerprint: config.fingerprint()?,
            devices: trainer.devices().to_vec(),
            final_metrics: history.last().map(|epoch| epoch.metrics.clone()).unwrap_or_default(),
            history,
            trace: trainer.trace().cloned(),
            wall_seconds,
            status,
        };
        self.ensure_folder(run)?;
        let checkpoint = self.checkpoint_path(run);
        match record.status {
            RunStatus::Finished => trainer.checkpoint().write(&checkpoint)?,
            // an earlier run's would stand beside a record that it does not belong to
            RunStatus::Failed { .. } => match std::fs::remove_file(&checkpoint) {
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                    return Err(EvalError::Folder { path: checkpoint, source });
                }
                _ => {}
            },
        }
        record.write(self.record_path(run))?;
        self.remove_snapshot(run);
        Ok(record)
    }

    /// Where an unfinished run's state is, if it has been written.
    pub fn saved(&self, run: &PlannedRun) -> Option<PathBuf> {
        Some(self.snapshot_path(run)).filter(|path| path.exists())
    }

    fn ensure_folder(&self, run: &PlannedRun) -> Result<(), EvalError> {
        if self.folder.ensure()? {
            self.note(run, Note::FolderMadeAnew { path: self.folder.path().to_owned() });
        }
        Ok(())
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn note(&self, run: &PlannedRun, note: Note) {
        (self.told)(run.name(), Event::Note(note));
    }

    fn episodes(&self, run: &PlannedRun, episodes: usize) {
        (self.told)(run.name(), Event::Episodes(episodes));
    }

    fn record_path(&self, run: &PlannedRun) -> PathBuf {
        self.folder.path().join(format!("{}.json", run.name()))
    }

    fn checkpoint_path(&self, run: &PlannedRun) -> PathBuf {
        self.folder.path().join(format!("{}.safetensors", run.name()))
    }

    fn snapshot_path(&self, run: &PlannedRun) -> PathBuf {
        self.folder.path().join(format!("{}.snapshot", run.name()))
    }

    /// Removes the snapshot of a run that has its record. One that stays is of no harm: the record is looked at first.
    fn remove_snapshot(&self, run: &PlannedRun) {
        std::fs::remove_file(self.snapshot_path(run)).ok();
    }
}

/// Carries runs out in parallel, all from their beginning; records come in the runs' order. `advanced` is told of a run's
/// name and the episodes it has done since.
///
/// # Errors
/// As [`OutputFolder::open`] and [`Session::run_all`].
pub fn execute_all<B: Backend>(
    runs: Vec<PlannedRun>,
    backend: &B,
    folder: &Path,
    advanced: &(dyn Fn(&str, usize) + Sync),
) -> Result<Vec<RunRecord>, EvalError> {
    let session = Session {
        folder: &OutputFolder::open(folder)?,
        resume: false,
        snapshot_every: None,
        jobs: None,
        stop: &AtomicBool::new(false),
        told: &|run, event| {
            if let Event::Episodes(episodes) = event {
                advanced(run, episodes);
            }
        },
    };
    Ok(session.run_all(runs, backend)?.records.into_iter().flatten().collect())
}

/// Applies `f` to every item, at most `jobs` of them at once; the results are in the items' order.
fn a_few_at_once<T: Send, R: Send>(
    jobs: NonZeroUsize,
    items: Vec<T>,
    f: impl Fn(T) -> Result<R, EvalError> + Sync,
) -> Result<Vec<R>, EvalError> {
    let jobs = jobs.get().min(items.len());
    let waiting = Mutex::new(items.into_iter().enumerate());
    let work = |_| -> Result<Vec<(usize, R)>, EvalError> {
        let mut done = Vec::new();
        loop {
            let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some((i, item)) = next else { return Ok(done) };
            done.push((i, f(item)?));
        }
    };
    let mut done: Vec<(usize, R)> = ordered_map((0..jobs).collect(), work)?.into_iter().flatten().collect();
    done.sort_by_key(|(i, _)| *i);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}

/// An error with all that it came from, in one line.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        line = format!("{line}: {cause}");
        source = cause.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn no_more_jobs_are_at_work_than_asked_for_and_results_keep_the_items_order() {
        for (jobs, items) in [(1, 7), (3, 20), (50, 4), (2, 0)] {
            let (at_work, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let work = |item: usize| {
                most.fetch_max(at_work.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                std::thread::sleep(Duration::from_micros(50 * (7 - item as u64 % 7)));
                at_work.fetch_sub(1, Ordering::SeqCst);
                Ok(2 * item)
            };
            let done = a_few_at_once(NonZeroUsize::new(jobs).unwrap(), (0..items).collect(), work).unwrap();
            assert_eq!(done, (0..items).map(|item| 2 * item).collect::<Vec<_>>());
            assert!(most.into_inner() <= jobs);
        }
    }
}
