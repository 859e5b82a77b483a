//! Runs that are killed, stopped or short of room, and what is there afterwards.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::support::{Ended, FAILURE, Folder, ended, names, train_tiny};

/// A study that saves every run after every step.
const STUDY: [&str; 11] = [
    "reproduce",
    "--protocol",
    "smoke",
    "--task",
    "copying",
    "--seeds",
    "4",
    "--checkpoint-every",
    "0",
    "--out",
    "out",
];

/// A run that takes long enough, saved after every step, to be caught in the middle; without that it takes a second.
const LONG: [&str; 2] = ["training.epochs=2", "training.dataset_size=2000"];
const SAVED: &str = "out/copying-hebbian-2000.snapshot";

/// The folder's files, but for the report and for the time that things took.
fn results(folder: &Folder) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, PathBuf)> = Vec::new();
    for place in ["out", "out/logs"] {
        let folder = folder.path(place);
        files.extend(names(&folder).into_iter().map(|name| (name.clone(), folder.join(name))));
    }
    files.retain(|(name, path)| path.is_file() && !name.starts_with("report."));
    files.into_iter().map(|(name, path)| (name, std::fs::read(path).unwrap())).collect()
}

#[track_caller]
fn assert_same(ours: &Folder, theirs: &[(String, Vec<u8>)], what: &str) {
    let ours = results(ours);
    let named = |files: &[(String, Vec<u8>)]| files.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(named(&ours), named(theirs), "{what}");
    for ((name, ours), (_, theirs)) in ours.iter().zip(theirs) {
        assert!(ours == theirs, "{what}: {name} differs from that of an undisturbed run");
    }
}

fn spawn(folder: &Folder, arguments: &[&str]) -> Child {
    folder.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits for a file that the program writes, which is still at work then.
#[track_caller]
fn wait_for(folder: &Folder, name: &str, child: &mut Child) {
    while !folder.path(name).exists() {
        assert!(child.try_wait().unwrap().is_none(), "it ended without {name}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn send(signal: &str, child: &Child) {
    let status = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

#[track_caller]
fn end_of(child: Child) -> Ended {
    ended(child.wait_with_output().unwrap())
}

/// `PLASTICA_KILLS` is how many times, 5 if it says nothing.
#[test]
fn a_study_killed_again_and_again_comes_to_the_files_of_an_undisturbed_one() {
    let kills: usize = std::env::var("PLASTICA_KILLS").map_or(5, |kills| kills.parse().unwrap());
    let undisturbed = Folder::new();
    let begin = Instant::now();
    undisturbed.succeeds(&STUDY);
    let duration = begin.elapsed();
    let expected = results(&undisturbed);
    let mut rng = ChaCha8Rng::seed_from_u64(50);
    let (mut killed, mut studies) = (0, 0);
    while killed < kills {
        studies += 1;
        assert!(studies <= 10 * kills, "{studies} studies, of which none could be caught at work");
        let folder = Folder::new();
        while killed < kills {
            let mut child =
                folder.command(&STUDY).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            std::thread::sleep(duration.mul_f64(rng.random_range(0.0..1.0)));
            child.kill().unwrap();
            match child.wait().unwrap().code() {
                None => killed += 1,
                code => {
                    assert_eq!(code, Some(0));
                    break;
                }
            }
        }
        folder.succeeds(&STUDY);
        assert_same(&folder, &expected, &format!("after {killed} kills in {studies} studies"));
    }
    println!("{killed} kills in {studies} studies");
}

/// Stops a run by a signal and goes on with it.
fn check_signal(signal: &str, status: i32, name: &str) {
    let undisturbed = Folder::new();
    undisturbed.succeeds(&train_tiny("hebbian", "out", &LONG));
    let folder = Folder::new();
    let arguments = train_tiny("hebbian", "out", &LONG);
    let mut child = spawn(&folder, &[&arguments[..], &["--checkpoint-every", "0"]].concat());
    wait_for(&folder, SAVED, &mut child);
    send(signal, &child);
    let stopped = end_of(child);
    assert_eq!((stopped.status, stopped.stdout.as_str()), (Some(status), ""), "{stopped:?}");
    let line = format!("stopped by {name}: the same command with --resume goes on from there");
    assert!(stopped.stderr.lines().any(|l| l == line), "{stopped:?}");
    assert_eq!(folder.names("out"), ["copying-hebbian-2000.snapshot"]);

    let resumed = folder.run(&[&arguments[..], &["--resume"]].concat());
    assert_eq!(resumed.status, Some(0), "{resumed:?}");
    assert!(resumed.stderr.contains("note: copying-hebbian-2000 goes on after "), "{resumed:?}");
    for name in ["copying-hebbian-2000.json", "copying-hebbian-2000.safetensors"] {
        let file = format!("out/{name}");
        assert!(folder.read(&file) == undisturbed.read(&file), "{name}");
    }
    assert_eq!(folder.names("out"), undisturbed.names("out"));
}

#[test]
fn an_interrupted_run_says_how_to_go_on_and_does() {
    check_signal("-INT", 130, "SIGINT");
}

#[test]
fn a_terminated_run_says_how_to_go_on_and_does() {
    check_signal("-TERM", 143, "SIGTERM");
}

#[test]
fn a_stopped_study_goes_on_with_the_same_command() {
    let folder = Folder::new();
    // so many runs that the first is seen before the last
    let study =
        [&["reproduce", "--protocol", "smoke", "--seeds", "20", "--checkpoint-every", "0"], &STUDY[9..]]
            .concat();
    let study = [&study[..], &["--task", "copying", "--task", "cue-reward", "--task", "regression"]].concat();
    let mut child = spawn(&folder, &study);
    wait_for(&folder, "out/copying-none-1000.json", &mut child);
    send("-INT", &child);
    let stopped = end_of(child);
    assert_eq!((stopped.status, stopped.stdout.as_str()), (Some(130), ""), "{stopped:?}");
    assert!(
        stopped.stderr.contains(" of 180 runs are finished; the same command goes on from there"),
        "{stopped:?}"
    );
    let printed = folder.succeeds(&study);
    assert!(printed.contains("180 runs, 0 failed, ") && printed.contains(" finished before, "), "{printed}");
}

#[test]
fn a_second_signal_ends_a_run_in_the_middle_of_a_step() {
    let folder = Folder::new();
    let one_step = ["training.batch_size=65536", "training.dataset_size=65536"];
    let mut child = spawn(&folder, &train_tiny("hebbian", "out", &one_step));
    wait_for(&folder, "out/.lock", &mut child);
    send("-INT", &child);
    std::thread::sleep(Duration::from_millis(20));
    send("-TERM", &child);
    let stopped = end_of(child);
    assert_eq!((stopped.status, stopped.stdout.as_str()), (Some(143), ""), "{stopped:?}");
    assert!(!stopped.stderr.contains("stopped by"), "{stopped:?}");
}

#[test]
fn a_second_process_on_the_folder_is_refused_and_the_first_not_disturbed() {
    let folder = Folder::new();
    let arguments = [&train_tiny("hebbian", "out", &LONG)[..], &["--checkpoint-every", "0"]].concat();
    let mut first = spawn(&folder, &arguments);
    wait_for(&folder, SAVED, &mut first);
    let named =
        format!("output folder out: another process (process {}) is writing results to it", first.id());
    folder.refuses(&arguments, FAILURE, &[&named]);
    folder.refuses(&STUDY, FAILURE, &[&named]);
    first.kill().unwrap();
    first.wait().unwrap();
    // what was killed holds nothing
    let resumed = folder.run(&[&train_tiny("hebbian", "out", &LONG)[..], &["--resume"]].concat());
    assert_eq!(resumed.status, Some(0), "{resumed:?}");
}

#[test]
fn a_finished_study_is_kept_and_what_is_missing_or_changed_is_made_again() {
    let folder = Folder::new();
    folder.succeeds(&STUDY);
    let expected = results(&folder);
    let printed = folder.succeeds(&STUDY);
    assert!(printed.contains("12 runs, 0 failed, 12 finished before"), "{printed}");

    let (cut, missing) = ("out/copying-none-1000.json", "out/copying-gradient-3001.json");
    let whole = folder.read(cut);
    folder.write(cut, &whole[..whole.len() / 3]);
    std::fs::remove_file(folder.path(missing)).unwrap();
    let again = folder.run(&STUDY);
    assert_eq!(again.status, Some(0), "{again:?}");
    assert!(again.stdout.contains("12 runs, 0 failed, 10 finished before"), "{}", again.stdout);
    let notes: Vec<_> = again.stderr.lines().filter(|line| line.starts_with("note: ")).collect();
    let [note] = &notes[..] else { panic!("{again:?}") };
    let part =
        "note: copying-none-1000 is made again: out/copying-none-1000.json: the run record is cut short: ";
    assert!(note.starts_with(part), "{note}");
    assert_same(&folder, &expected, "one cut short, one missing");

    let changed = folder.run(&[&STUDY[..], &["--credit", "full"]].concat());
    let made_again =
        |line: &&str| line.contains("is made again") && line.contains("of another configuration");
    assert_eq!(changed.stderr.lines().filter(made_again).count(), 12, "{changed:?}");
    assert!(changed.stdout.contains("12 runs, 0 failed, "), "{changed:?}");
    folder.run(&STUDY);
    assert_same(&folder, &expected, "there and back again");
}

#[test]
fn a_run_trained_again_starts_from_its_beginning_unless_told_otherwise() {
    let folder = Folder::new();
    let arguments = train_tiny("hebbian", "out", &LONG);
    let mut child = spawn(&folder, &[&arguments[..], &["--checkpoint-every", "0"]].concat());
    wait_for(&folder, SAVED, &mut child);
    child.kill().unwrap();
    child.wait().unwrap();
    let changed = [&train_tiny("hebbian", "out", &[])[..], &["--resume"]].concat();
    let other = folder.run(&changed);
    assert_eq!(other.status, Some(0), "{other:?}");
    assert!(other.stderr.contains("snapshot: it is of another configuration or version"), "{other:?}");
    assert_eq!(folder.names("out"), ["copying-hebbian-2000.json", "copying-hebbian-2000.safetensors"]);
    let finished = folder.read("out/copying-hebbian-2000.json");
    folder.succeeds(&changed);
    assert_eq!(folder.read("out/copying-hebbian-2000.json"), finished);
    folder.write("out/copying-hebbian-2000.snapshot", "");
    let anew = folder.run(&train_tiny("hebbian", "out", &[]));
    let part = "starts from its beginning: to go on from out/copying-hebbian-2000.snapshot was not asked for";
    assert!(anew.stderr.contains(part), "{anew:?}");
}

/// No file may grow beyond nothing: every write fails, as on a full disk.
fn without_room(folder: &Folder, arguments: &[&str]) -> Ended {
    let program = folder.command(arguments);
    let output = Command::new("sh")
        .args(["-c", r#"trap "" XFSZ; ulimit -f 0; exec "$0" "$@""#])
        .arg(program.get_program())
        .args(program.get_args())
        .current_dir(folder.path("."))
        .output();
    ended(output.unwrap())
}

#[test]
fn a_full_disk_is_named_and_costs_nothing_that_was_finished() {
    let folder = Folder::new();
    folder.succeeds(&[&STUDY[..], &["--rule", "none"]].concat());
    let before = results(&folder);
    let full = without_room(&folder, &[&STUDY[..], &["--rule", "none", "--rule", "hebbian"]].concat());
    assert_eq!(full.status, Some(FAILURE), "{full:?}");
    let saved = "note: copying-hebbian-2000 goes on without being saved: snapshot out/copying-hebbian-2000.snapshot: \
                 it can't be written: File too large";
    assert!(full.stderr.contains(saved), "{full:?}");
    let error = "error: checkpoint out/copying-hebbian-2000.safetensors: it can't be written: File too large";
    assert!(full.stderr.contains(error), "{full:?}");
    assert_same(&folder, &before, "on a full disk");
    let printed = folder.succeeds(&STUDY);
    assert!(printed.contains("12 runs, 0 failed, 4 finished before"), "{printed}");
}

#[test]
fn an_interval_that_is_none_is_refused() {
    let folder = Folder::new();
    for given in ["-1", "often", "NaN", "1e300"] {
        let parts = ["--checkpoint-every", "a number of seconds of at least 0"];
        folder.refuses(&[&STUDY[..7], &[&format!("--checkpoint-every={given}")]].concat(), 2, &parts);
    }
}
