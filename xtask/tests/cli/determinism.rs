//! The number of threads is no part of a result.

use std::path::Path;

use crate::support::{Folder, names, train_tiny};

/// A folder's files, without those that tell the time it took: the report's texts, and its data but for the rest of it.
fn content(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let without_time = |name: String| {
        let bytes = std::fs::read(folder.join(&name)).unwrap();
        if name != "report.json" {
            return (name, bytes);
        }
        let mut record: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert!(record.as_object_mut().unwrap().remove("wall_seconds").is_some(), "{name}");
        (name, record.to_string().into_bytes())
    };
    let compared =
        |name: &String| folder.join(name).is_file() && name != "report.html" && name != "report.md";
    names(folder).into_iter().filter(compared).map(without_time).collect()
}

/// Runs with 1 thread and with 2, and compares every byte.
#[track_caller]
fn check(arguments: &[&str]) {
    check_settings(arguments, ["--threads=1", "--threads=2"]);
}

/// Runs with either setting, and compares every byte.
#[track_caller]
fn check_settings(arguments: &[&str], settings: [&str; 2]) {
    let run = |setting: &str| {
        let folder = Folder::new();
        folder.succeeds(&[arguments, &[setting, "--out", "out"]].concat());
        content(&folder.path("out"))
    };
    let [first, second] = settings.map(run);
    assert_eq!(first.len(), second.len());
    for ((one_name, one), (two_name, two)) in first.into_iter().zip(second) {
        assert_eq!(one_name, two_name);
        assert!(one == two, "{one_name} depends on {settings:?}");
    }
}

#[test]
fn a_study_does_not_depend_on_how_many_runs_are_under_way_at_once() {
    let study =
        ["reproduce", "--protocol", "smoke", "--seeds", "1", "--task", "copying", "--task", "regression"];
    check_settings(&study, ["--jobs=1", "--jobs=5"]);
}

#[test]
fn runs_side_by_side_do_not_see_each_other() {
    check(&["reproduce", "--protocol", "smoke", "--seeds", "2", "--task", "copying", "--task", "regression"]);
}

#[test]
fn a_batch_spread_over_threads_adds_up_to_the_same_bits() {
    let settings = ["training.dataset_size=40", "training.batch_size=20", "training.credit=full"];
    for rule in ["none", "hebbian", "gradient"] {
        let arguments = train_tiny(rule, "out", &settings);
        let without_out: Vec<&str> =
            arguments.into_iter().filter(|a| !["--out", "out"].contains(a)).collect();
        check(&without_out);
    }
}
