//! `--json`: every line of standard output is an event, and the last one is the result.

use serde_json::{Map, Value};

use crate::support::{FAILURE, Folder, train_tiny};

type Event = Map<String, Value>;

fn parse(stdout: &str) -> Vec<Event> {
    let line = |line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    stdout.lines().map(line).collect()
}

/// Runs what succeeds, and holds its last event to be the result of `command`; gives all events.
#[track_caller]
fn events(folder: &Folder, command: &str, arguments: &[&str]) -> Vec<Event> {
    let events = parse(&folder.succeeds(&[&["--json"], arguments].concat()));
    assert!(events.iter().all(|event| event["event"].is_string()), "{events:?}");
    let Some(result) = events.last() else { panic!("{command} told nothing") };
    assert_eq!((&result["event"], &result["command"]), (&"result".into(), &command.into()));
    // what is told is described
    let words = command.split(' ').chain(["--help"]).collect::<Vec<_>>();
    let help = folder.succeeds(&words);
    for (key, event) in events.iter().flat_map(|event| event.keys().map(move |key| (key, event))) {
        assert!(help.contains(key.as_str()), "{key} of {event:?} is missing from\n{help}");
    }
    events
}

fn of<'a>(events: &'a [Event], kind: &str) -> Vec<&'a Event> {
    events.iter().filter(|event| event["event"] == kind).collect()
}

const CHECKPOINT: &str = "out/copying-hebbian-2000.safetensors";

#[test]
fn training_tells_progress_epochs_and_a_result() {
    let folder = Folder::new();
    let found = events(&folder, "train", &train_tiny("hebbian", "out", &["training.epochs=3"]));
    let epochs: Vec<_> = of(&found, "epoch").iter().map(|e| e["epoch"].as_u64()).collect();
    assert_eq!(epochs, [Some(1), Some(2), Some(3)]);
    let progress = of(&found, "progress");
    let Some(last) = progress.last() else { panic!("no progress in {found:?}") };
    assert_eq!((&last["done"], &last["total"], &last["unit"]), (&12.into(), &12.into(), &"episodes".into()));
    let result = &found[found.len() - 1];
    assert_eq!((&result["finished"], &result["run"]), (&true.into(), &"copying-hebbian-2000".into()));
    assert_eq!(result["metrics"], of(&found, "epoch")[2]["metrics"]);

    let quiet = events(&folder, "train", &[vec!["--quiet"], train_tiny("none", "out", &[])].concat());
    assert_eq!((of(&quiet, "progress").len(), quiet.len()), (0, 2));

    let found = events(&folder, "eval", &["eval", CHECKPOINT, "--task", "copying", "--episodes", "3"]);
    let words = folder.succeeds(&["eval", CHECKPOINT, "--task", "copying", "--episodes", "3"]);
    let loss = words.lines().find_map(|line| line.strip_prefix("loss")?.trim().parse::<f64>().ok()).unwrap();
    assert!((found[0]["metrics"]["loss"].as_f64().unwrap() / loss - 1.0).abs() < 1e-3);
}

#[test]
fn a_study_tells_its_runs() {
    let folder = Folder::new();
    let arguments =
        ["reproduce", "--protocol", "smoke", "--task", "regression", "--seeds", "1", "--out", "out"];
    let found = events(&folder, "reproduce", &arguments);
    let rules: Vec<&Value> = of(&found, "run").iter().map(|run| &run["rule"]).collect();
    assert_eq!(rules, ["none", "hebbian", "gradient"]);
    let result = &found[found.len() - 1];
    assert_eq!((&result["runs"], &result["failed"]), (&3.into(), &0.into()));
    assert!(folder.path(result["report"].as_str().unwrap()).is_file());
}

#[test]
fn recordings_and_data_sets_are_told() {
    let folder = Folder::new();
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden");
    let found = events(&folder, "parity", &["parity", golden]);
    assert_eq!(of(&found, "recording").len() + 1, found.len());
    assert!(of(&found, "recording").iter().all(|r| r["holds"] == true && r["values"]["error"].is_f64()));

    let found = events(&folder, "data list", &["data", "list"]);
    let names: Vec<&Value> = found[0]["sets"].as_array().unwrap().iter().map(|set| &set["name"]).collect();
    assert!(names.contains(&&"omniglot".into()), "{names:?}");
    let found = events(&folder, "completions", &["completions", "fish"]);
    assert!(found[0]["script"].as_str().is_some_and(|script| script.contains("complete")));
}

#[test]
fn failures_are_told_there_too() {
    let folder = Folder::new();
    let ended = folder.refuses(&["--json", "inspect", "nowhere.safetensors"], FAILURE, &["it can't be read"]);
    let found = parse(&ended.stdout);
    assert_eq!((found.len(), &found[0]["event"], &found[0]["status"]), (1, &"error".into(), &1.into()));
    let message = found[0]["message"].as_str().unwrap();
    assert_eq!(ended.stderr.trim_end(), format!("error: {message}"));

    let diverging = train_tiny("none", "out", &["training.lr=1e30"]);
    let ended = folder.refuses(&[vec!["--json"], diverging].concat(), FAILURE, &["diverged"]);
    let found = parse(&ended.stdout);
    let result = &found[found.len() - 1];
    assert_eq!((&result["event"], &result["finished"]), (&"result".into(), &false.into()));
    assert!(result["reason"].as_str().is_some_and(|reason| reason.contains("diverged")));
}
