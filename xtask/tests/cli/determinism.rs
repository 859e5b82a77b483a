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
    let run = |threads: &str| {
        let folder = Folder::new();
        folder.succeeds(&[&["--threads", threads][..], arguments, &["--out", "out"]].concat());
        content(&folder.path("out"))
    };
    for ((one_name, one), (two_name, two)) in run("1").into_iter().zip(run("2")) {
        assert_eq!(one_name, two_name);
        assert!(one == two, "{one_name} depends on the number of threads");
    }
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
