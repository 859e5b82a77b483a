//! Arguments that won't do, each with what would have been right.

use crate::support::{Folder, USAGE, train};

#[track_caller]
fn check(arguments: &[&str], parts: &[&str]) {
    Folder::new().refuses(arguments, USAGE, parts);
}

#[test]
fn help_and_version_are_given() {
    let folder = Folder::new();
    let help = folder.succeeds(&["--help"]);
    for part in ["Usage: cargo xtask", "reproduce", "train", "eval", "parity", "--threads"] {
        assert!(help.contains(part), "{part:?} is missing from\n{help}");
    }
    assert!(folder.succeeds(&["--version"]).contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn what_has_no_such_name_is_told_the_names() {
    let tasks = "the tasks are copying, cue-reward, regression, omniglot, cifar-fs";
    let rules = "it is one of none, hebbian, gradient, oja, delta, bcm, soft-hebbian, three-factor, hybrid";
    check(&["bake"], &["unrecognized subcommand 'bake'", "Usage: cargo xtask"]);
    check(&["reproduce", "--task", "copyin"], &["unknown task `copyin`, did you mean `copying`?", tasks]);
    check(&["eval", "x.safetensors", "--task", "sorting"], &["unknown task `sorting`", tasks]);
    check(&train("recall", "none", "out", &[]), &["unknown task `recall`", tasks]);
    check(&["reproduce", "--rule", "sanger"], &["--rule", "unknown rule 'sanger'", rules]);
    check(&train("copying", "Hebbian", "out", &[]), &["--rule", "unknown rule 'Hebbian'", rules]);
    check(&["reproduce", "--protocol", "fast"], &["--protocol", "'fast'", "one of paper, smoke"]);
}

#[test]
fn what_is_no_credit_is_told_the_credits() {
    for credit in ["most", "truncated", "truncated(0)", "truncated(-3)", "windowed(0)"] {
        let named = format!("unknown credit '{credit}'");
        let parts = [&named, "one of detached, full, truncated(k) and windowed(k) with k at least 1"];
        check(&["reproduce", "--credit", credit], &["--credit", parts[0], parts[1]]);
        check(&train("copying", "none", "out", &[&format!("training.credit={credit}")]), &parts);
    }
}

#[test]
fn numbers_have_ranges() {
    check(&["reproduce", "--seeds", "0"], &["--seeds", "0 is not in 1..=1000"]);
    check(&["reproduce", "--seeds", "1001"], &["--seeds", "1001 is not in 1..=1000"]);
    check(&["reproduce", "--seeds", "three"], &["--seeds", "'three'"]);
    check(&["--threads", "0", "reproduce"], &["--threads", "0 is not in 1..=1024"]);
    check(&["--threads", "1000000", "reproduce"], &["--threads", "1000000 is not in"]);
    check(&["eval", "x", "--task", "copying", "--episodes", "0"], &["--episodes", "'0'"]);
    check(&["eval", "x", "--task", "copying", "--seed", "-1"], &["'-1'"]);
}

#[test]
fn what_is_missing_or_too_much_is_named() {
    check(&["train", "--task", "copying", "--rule", "none"], &["--out <DIR>"]);
    check(&["train", "--rule", "none", "--out", "out"], &["--task <T>"]);
    check(&["eval", "x.safetensors"], &["--task <T>"]);
    check(&["parity"], &["<FOLDER>"]);
    check(&["reproduce", "--epochs", "3"], &["unexpected argument '--epochs'"]);
}

#[cfg(unix)]
#[test]
fn a_reader_that_goes_away_is_no_failure() {
    use std::process::{Command, Stdio};
    let folder = Folder::new();
    let arguments = crate::support::train_tiny("none", "out", &["training.epochs=200"]);
    let mut child = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(arguments)
        .current_dir(folder.path("."))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), stderr.contains("panicked")), (Some(0), false), "{stderr}");
}
