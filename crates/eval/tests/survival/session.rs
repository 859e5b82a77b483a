//! A folder of runs: what is kept, what goes on, what is made again, and what is said of it.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use plastica_eval::{
    EvalError, Event, Note, OutputFolder, PlannedRun, Protocol, RunRecord, RunStatus, Session, StudyOutcome,
    execute_all,
};
use plastica_rules::{Credit, Rule};
use plastica_tensor::Cpu;
use plastica_tensor::cpu::with_threads;

use crate::config;

const SEEDS: [u64; 3] = [1, 2, 3];
/// Episodes of each run.
const EPISODES: usize = 2 * (7 + 70);

fn run(seed: u64) -> PlannedRun {
    PlannedRun::new(config(Rule::Hebbian, Credit::Detached, seed), Protocol::Smoke)
}

/// A study's outcome and what was said of its runs.
struct Told {
    outcome: Result<StudyOutcome, EvalError>,
    notes: Vec<String>,
    episodes: usize,
}

impl Told {
    /// The study's records, all of them, and what was said.
    #[track_caller]
    fn finished(self) -> (Vec<RunRecord>, Vec<String>) {
        let records: Vec<_> = self.outcome.unwrap().records.into_iter().map(Option::unwrap).collect();
        assert_eq!(self.episodes, EPISODES * records.len(), "every episode is told of once");
        (records, self.notes)
    }
}

/// Goes on with a study of the seeds on one thread; `meanwhile` is told of every event, and may stop it.
fn study(folder: &Path, meanwhile: impl Fn(usize, &AtomicBool) + Sync) -> Told {
    let (stop, episodes, notes) = (AtomicBool::new(false), AtomicUsize::new(0), Mutex::new(Vec::new()));
    let told = |name: &str, event: Event| match event {
        Event::Episodes(more) => meanwhile(episodes.fetch_add(more, Ordering::Relaxed) + more, &stop),
        Event::Note(note) => notes.lock().unwrap().push(format!("{name} {note}")),
    };
    let held = OutputFolder::open(folder).unwrap();
    let snapshot_every = Some(Duration::ZERO);
    let session =
        Session { folder: &held, resume: true, snapshot_every, jobs: None, stop: &stop, told: &told };
    let outcome = with_threads(1, || session.run_all(SEEDS.map(run).to_vec(), &Cpu::<f32>::new())).unwrap();
    let episodes = episodes.load(Ordering::Relaxed);
    Told { outcome, episodes, notes: notes.into_inner().unwrap() }
}

fn undisturbed(folder: &Path) -> Told {
    study(folder, |_, _| ())
}

/// The folder's files by name, but for those that tell the time it took.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let mut files: Vec<_> = entries
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.path()))
        .filter(|(name, _)| name != ".lock" && !name.ends_with(".timing.json"))
        .map(|(name, path)| (name, std::fs::read(path).unwrap()))
        .collect();
    files.sort();
    files
}

#[track_caller]
fn assert_same(ours: &Path, theirs: &Path) {
    for (ours, theirs) in files(ours).into_iter().zip(files(theirs)) {
        assert_eq!(ours.0, theirs.0);
        assert!(ours.1 == theirs.1, "{} differs", ours.0);
    }
    assert_eq!(files(ours).len(), files(theirs).len());
}

#[test]
fn a_study_stopped_anywhere_goes_on_to_the_same_files() {
    let whole = tempfile::tempdir().unwrap();
    let (records, notes) = undisturbed(whole.path()).finished();
    assert!(notes.is_empty(), "{notes:?}");
    for stop_at in (0..SEEDS.len() * EPISODES).step_by(13) {
        let folder = tempfile::tempdir().unwrap();
        let stopped = study(folder.path(), |done, stop| stop.store(done >= stop_at, Ordering::Relaxed));
        let left = stopped.outcome.unwrap().records.iter().filter(|record| record.is_none()).count();
        let told = undisturbed(folder.path());
        let goes_on = told.notes.iter().any(|note| note.contains(" goes on after "));
        assert_eq!(goes_on, !stopped.episodes.is_multiple_of(EPISODES), "{:?}", told.notes);
        assert_eq!(
            told.notes.iter().filter(|note| note.ends_with("finished before")).count(),
            SEEDS.len() - left
        );
        for (ours, theirs) in told.finished().0.iter().zip(&records) {
            assert_eq!(RunRecord { wall_seconds: theirs.wall_seconds, ..ours.clone() }, *theirs);
        }
        assert_same(folder.path(), whole.path());
    }
}

#[test]
fn time_adds_up_over_sittings_and_nothing_is_added_where_nothing_was_done() {
    let folder = tempfile::tempdir().unwrap();
    let written = || {
        let text = std::fs::read(folder.path().join("study.timing.json")).unwrap();
        serde_json::from_slice::<serde_json::Value>(&text).unwrap()["wall_seconds"].as_f64().unwrap()
    };
    study(folder.path(), |done, stop| stop.store(done >= 200, Ordering::Relaxed));
    let first = written();
    assert!(first > 0.0);
    let second = undisturbed(folder.path()).outcome.unwrap();
    assert!(first < written() && written() <= second.wall_seconds);
    let third = undisturbed(folder.path()).outcome.unwrap();
    assert_eq!(third.wall_seconds, written());
    assert_eq!(third.records, second.records, "the runs' own times too");
}

/// Spoils a finished study and goes on with it: run 1 is made again, for this reason, and only run 1.
#[track_caller]
fn check_made_again(spoil: impl Fn(&Path), reason: &str) {
    let (whole, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for folder in [&whole, &folder] {
        undisturbed(folder.path()).finished();
    }
    spoil(folder.path());
    let (_, notes) = undisturbed(folder.path()).finished();
    let again: Vec<_> = notes.iter().filter(|note| !note.ends_with("was finished before")).collect();
    let [again] = &again[..] else { panic!("{notes:?}") };
    assert!(again.starts_with("copying-hebbian-1 is made again: ") && again.contains(reason), "{again}");
    assert_same(folder.path(), whole.path());
}

#[test]
fn a_record_cut_short_is_made_again() {
    let cut = |folder: &Path| {
        let path = folder.join("copying-hebbian-1.json");
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
    };
    check_made_again(cut, "copying-hebbian-1.json: the run record is cut short: EOF");
}

#[test]
fn a_run_of_another_configuration_protocol_or_version_is_made_again() {
    let edit = |folder: &Path, change: fn(&mut RunRecord)| {
        let path = folder.join("copying-hebbian-1.json");
        let mut record = RunRecord::read(&path).unwrap();
        change(&mut record);
        record.write(path).unwrap();
    };
    let expected = "copying-hebbian-1.json: the run record is of another configuration or version";
    let mut other = config(Rule::Hebbian, Credit::Detached, 1);
    other.training.lr *= 2.0;
    assert_ne!(other.fingerprint().unwrap(), run(1).config().fingerprint().unwrap());
    check_made_again(|folder| edit(folder, |record| record.fingerprint.clear()), expected);
    check_made_again(|folder| edit(folder, |record| record.protocol = "paper".into()), expected);
    check_made_again(
        |folder| {
            let mut other = config(Rule::Hebbian, Credit::Detached, 1);
            other.training.lr *= 2.0;
            let runs = vec![PlannedRun::new(other, Protocol::Smoke)];
            execute_all(runs, &Cpu::<f32>::new(), folder, &|_, _| ()).unwrap();
        },
        expected,
    );
}

#[test]
fn a_run_whose_checkpoint_is_missing_damaged_or_anothers_is_made_again() {
    let name = "copying-hebbian-1.safetensors";
    let missing = |folder: &Path| std::fs::remove_file(folder.join("copying-hebbian-1.safetensors")).unwrap();
    check_made_again(missing, &format!("{name}: it can't be read"));
    let cut = |folder: &Path| {
        let path = folder.join("copying-hebbian-1.safetensors");
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(path, &bytes[..bytes.len() - 1]).unwrap();
    };
    check_made_again(cut, &format!("{name}: it is not a whole safetensors file"));
    let other = |folder: &Path| {
        let names = [2, 1].map(|seed| folder.join(format!("copying-hebbian-{seed}.safetensors")));
        std::fs::copy(&names[0], &names[1]).unwrap();
    };
    check_made_again(other, &format!("{name}: it is of another configuration"));
}

#[test]
fn a_run_that_diverged_is_finished_too() {
    let folder = tempfile::tempdir().unwrap();
    let held = OutputFolder::open(folder.path()).unwrap();
    let mut diverging = config(Rule::Hebbian, Credit::Detached, 1);
    diverging.training.lr = 1e30;
    let notes = Mutex::new(Vec::new());
    let told = |_: &str, event: Event| {
        if let Event::Note(note) = event {
            notes.lock().unwrap().push(note);
        }
    };
    let (stop, snapshot_every) = (AtomicBool::new(false), Some(Duration::ZERO));
    let session =
        Session { folder: &held, resume: true, snapshot_every, jobs: None, stop: &stop, told: &told };
    let diverging = PlannedRun::new(diverging, Protocol::Smoke);
    let records = [(); 2].map(|()| session.run(&diverging, &Cpu::<f32>::new()).unwrap().unwrap());
    assert!(matches!(records[0].status, RunStatus::Failed { .. }));
    assert_eq!(records[0], records[1]);
    assert_eq!(notes.into_inner().unwrap(), [Note::Kept]);
    assert_eq!(files(folder.path()).len(), 1, "a record, no checkpoint and no snapshot");
}

#[test]
fn a_snapshot_that_is_damaged_or_of_another_configuration_is_named_and_left_out() {
    let whole = tempfile::tempdir().unwrap();
    undisturbed(whole.path()).finished();
    let check = |spoil: &dyn Fn(&Path), reason: &str| {
        let folder = tempfile::tempdir().unwrap();
        study(folder.path(), |done, stop| stop.store(done >= 20, Ordering::Relaxed));
        spoil(&folder.path().join("copying-hebbian-1.snapshot"));
        let (_, notes) = undisturbed(folder.path()).finished();
        let [note] = &notes[..] else { panic!("{notes:?}") };
        assert!(note.starts_with("copying-hebbian-1 starts from its beginning: snapshot "), "{note}");
        assert!(note.contains("copying-hebbian-1.snapshot: ") && note.contains(reason), "{note}");
        assert_same(folder.path(), whole.path());
    };
    let flip = |path: &Path| {
        let mut bytes = std::fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(path, bytes).unwrap();
    };
    check(&flip, "it is damaged");
    let other = |path: &Path| {
        let mut config = config(Rule::Hebbian, Credit::Detached, 1);
        config.training.lr *= 2.0;
        let trainer = plastica_eval::Trainer::new(&config, &Cpu::<f32>::new()).unwrap();
        trainer.snapshot().write(path, &config).unwrap();
    };
    check(&other, "it is of another configuration or version");
}

#[test]
fn a_folder_that_vanishes_costs_nothing_that_was_finished() {
    let (whole, parent) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let records = undisturbed(whole.path()).finished().0;
    let folder = parent.path().join("out");
    let gone = AtomicBool::new(false);
    let told = study(&folder, |done, _| {
        // in the middle of the second run
        if done > EPISODES + 20 && !gone.swap(true, Ordering::Relaxed) {
            std::fs::remove_dir_all(&folder).unwrap();
        }
    });
    let (ours, notes) = told.finished();
    let [note] = &notes[..] else { panic!("{notes:?}") };
    assert!(note.contains("out removed and made it anew"), "{note}");
    for (ours, theirs) in ours.iter().zip(&records) {
        assert_eq!(ours.final_metrics, theirs.final_metrics);
        let path = folder.join(format!("copying-hebbian-{}.json", ours.seed));
        assert_eq!(RunRecord::read(path).unwrap(), *ours);
    }
    // the first run's checkpoint went with the folder
    let (_, notes) = undisturbed(&folder).finished();
    let again: Vec<_> = notes.iter().filter(|note| !note.ends_with("was finished before")).collect();
    assert!(
        again.len() == 1 && again[0].contains("copying-hebbian-1.safetensors: it can't be read"),
        "{notes:?}"
    );
    assert_same(&folder, whole.path());
}

#[test]
fn a_state_that_cannot_be_written_stops_no_run_but_cannot_be_stopped_for() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("copying-hebbian-1.snapshot/inside")).unwrap();
    let stopped = study(folder.path(), |done, stop| stop.store(done >= 20, Ordering::Relaxed));
    let message = stopped.outcome.unwrap_err().to_string();
    assert!(message.contains("copying-hebbian-1.snapshot: it can't be written"), "{message}");
    let (records, notes) = undisturbed(folder.path()).finished();
    assert_eq!(records.len(), SEEDS.len());
    assert!(notes[0].contains("starts from its beginning: snapshot "), "{notes:?}");
    assert!(
        notes[1..].iter().all(|note| note.contains("goes on without being saved: snapshot ")),
        "{notes:?}"
    );
}
