//! Benchmarks: what they print, never how fast anything was.

use serde_json::{Map, Value};

use crate::support::{Folder, USAGE};

#[track_caller]
fn refuses(arguments: &[&str], parts: &[&str]) {
    Folder::new().refuses(&[&["bench"], arguments].concat(), USAGE, parts);
}

/// The objects that a benchmark prints with `--json`, one a line.
#[track_caller]
fn objects(arguments: &[&str]) -> Vec<Map<String, Value>> {
    let printed = Folder::new().succeeds(&[&["--quiet", "bench"], arguments, &["--json"]].concat());
    printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[track_caller]
fn help(benchmark: &str) -> String {
    Folder::new().succeeds(&["bench", benchmark, "--help"])
}

/// Every key of the objects is in the help; those of `inner` objects are written as `outer.inner`.
#[track_caller]
fn are_documented(objects: &[Map<String, Value>], help: &str) {
    for (key, value) in objects.iter().flatten() {
        let inner = value.as_object().map(|inner| inner.keys().map(|name| format!("{key}.{name}")).collect());
        for name in inner.unwrap_or_else(|| vec![key.clone()]) {
            assert!(help.contains(&name), "{name} is missing from\n{help}");
        }
    }
}

fn above_zero(object: &Map<String, Value>, keys: &[&str]) {
    for key in keys {
        assert!(object[*key].as_f64().is_some_and(|x| x > 0.0), "{key}: {object:?}");
    }
}

#[test]
fn throughput_prints_what_its_help_says() {
    let small = ["--batch", "3", "--steps", "2", "--warm-up", "0", "--set", "model.model_dim=8"];
    let found = objects(&[&["throughput"][..], &small, &["--set", "task.delay=0"]].concat());
    assert_eq!(found.len(), 1);
    are_documented(&found, &help("throughput"));
    let one = &found[0];
    above_zero(one, &["ms_per_step", "ms_per_step_p99", "ms_per_sequence", "sequences_per_second"]);
    above_zero(one, &["mflop_per_sequence", "megabytes_per_sequence", "share_of_matmul", "share_of_copy"]);
    assert_eq!((&one["batch"], &one["steps"], &one["rule"]), (&3.into(), &2.into(), &"hebbian".into()));
    let (step, sequence) = (one["ms_per_step"].as_f64().unwrap(), one["ms_per_sequence"].as_f64().unwrap());
    assert!((step / 3.0 / sequence - 1.0).abs() < 1e-12);
    let known = cfg!(target_os = "linux");
    assert_eq!((one["peak_megabytes"].is_f64(), one["peak_source"].is_string()), (known, known));

    let bare = objects(&[&["throughput", "--no-ceilings"][..], &small].concat());
    assert!(!bare[0].contains_key("ceilings") && bare[0].contains_key("peak_megabytes"), "{bare:?}");
    let lines = Folder::new().succeeds(&[&["bench", "throughput", "--no-ceilings"][..], &small].concat());
    for part in ["step ", "sequence ", "memory ", "work "] {
        assert!(lines.contains(part), "{part:?} is missing from\n{lines}");
    }
}

#[test]
fn latency_prints_a_line_for_each_rule() {
    let size = [
        "--steps",
        "40",
        "--length",
        "7",
        "--model-dim",
        "8",
        "--ffn-dim",
        "12",
        "--layers",
        "1",
        "--heads",
        "2",
    ];
    let found = objects(&[&["latency"][..], &size].concat());
    let rules: Vec<&str> = found.iter().filter_map(|one| one["rule"].as_str()).collect();
    assert_eq!(rules, ["none", "hebbian", "gradient"]);
    are_documented(&found, &help("latency"));
    for one in &found {
        above_zero(one, &["median_us", "p99_us"]);
        assert!(one["median_us"].as_f64() <= one["p99_us"].as_f64());
        assert_eq!((&one["steps"], &one["length"], &one["ffn_dim"]), (&40.into(), &7.into(), &12.into()));
    }
    let windowed = objects(&[&["latency", "--rule", "none", "--window", "3"][..], &size].concat());
    let windows: Vec<_> = found.iter().chain(&windowed).map(|one| one["window"].as_u64()).collect();
    assert_eq!(windows, [None, None, None, Some(3)]);
    let table = Folder::new().succeeds(&[&["bench", "latency"][..], &size].concat());
    assert_eq!(table.lines().count(), 5, "{table}");
}

#[test]
fn scaling_prints_points_and_laws() {
    let axis = ["scaling", "--rule", "none", "--steps", "1", "--only", "t", "--longest", "128"];
    let found = objects(&axis);
    are_documented(&found, &help("scaling"));
    let (laws, points): (Vec<_>, Vec<_>) = found.into_iter().partition(|one| one.contains_key("law"));
    let lengths: Vec<u64> = points.iter().filter_map(|one| one["value"].as_u64()).collect();
    assert_eq!(lengths, [31, 64, 128]);
    for one in &points {
        above_zero(one, &["ms_per_sequence", "us_per_step"]);
    }
    assert_eq!(points[0]["apart_ratio"], 1.0);
    let of: Vec<&str> = laws.iter().filter_map(|law| law["of"].as_str()).collect();
    assert_eq!(of, ["ms_per_sequence", "us_per_step", "us_per_step"]);
    // cost a sequence is T times that of a step, so its exponent is one more
    let exponent = |law: &Map<String, Value>| law["exponent"].as_f64().unwrap();
    assert!((exponent(&laws[0]) - exponent(&laws[1]) - 1.0).abs() < 1e-9, "{laws:?}");
    assert!(laws[2].contains_key("slope_us"), "{laws:?}");
}

#[test]
fn helps_have_examples() {
    for benchmark in ["throughput", "latency", "scaling", "stability"] {
        let help = help(benchmark);
        assert!(help.contains(&format!("\n  cargo xtask bench {benchmark} ")), "{help}");
    }
}

#[test]
fn what_cannot_be_measured_is_refused() {
    refuses(&["latency", "--layers", "0"], &["num_layers = 0", "1..="]);
    refuses(&["latency", "--heads", "3"], &["num_heads = 3", "must divide model_dim = 128"]);
    refuses(&["latency", "--heads", "0"], &["num_heads = 0"]);
    refuses(&["latency", "--model-dim", "0"], &["model_dim = 0"]);
    refuses(&["latency", "--ffn-dim", "-1"], &["-1"]);
    refuses(&["latency", "--rule", "sanger"], &["--rule", "unknown rule 'sanger'"]);
    refuses(&["latency", "--steps", "0"], &["--steps", "0 is not in 1..="]);
    refuses(&["latency", "--window", "0"], &["attention_window = 0", "1..="]);
    refuses(&["latency", "--length", "0"], &["--length", "0 is not in 1..="]);
    refuses(&["throughput", "--steps", "0"], &["--steps", "0 is not in 1..="]);
    refuses(&["throughput", "--batch", "0"], &["batch_size is 0", "at least 1"]);
    refuses(&["throughput", "--task", "copyin"], &["unknown task `copyin`"]);
    refuses(&["throughput", "--credit", "most"], &["unknown credit 'most'"]);
    refuses(&["throughput", "--set", "model.num_layers=0"], &["num_layers = 0"]);
    refuses(&["scaling", "--only", "depth"], &["'depth'", "t, batch, width, layers"]);
    refuses(&["scaling", "--longest", "30"], &["--longest", "30 is not in 31..="]);
    refuses(&["scaling", "--steps", "none"], &["--steps", "'none'"]);
    for setting in
        ["model.num_layers=3", "task.delay=30", "training.batch_size=1", "training.credit=\"full\""]
    {
        let own = ["--rule", "oja", "--layers", "1", "--steps", "12", "--credit", "detached"];
        refuses(
            &[&["stability", "--set", setting][..], &own].concat(),
            &["options of their own, not by --set"],
        );
    }
    refuses(&["stability", "--steps", "10"], &["--steps", "10 is not in 11..="]);
    refuses(&["speed"], &["unrecognized subcommand 'speed'"]);
}

/// Settings of a model that takes milliseconds.
const SMALL: [&str; 4] = ["--set", "model.model_dim=8", "--set", "model.ffn_dim=8"];

#[test]
fn stability_prints_what_its_help_says() {
    let places = ["--layers", "1", "--layers", "2", "--steps", "12", "--credit", "truncated(4)"];
    let found = objects(&[&["stability", "--updates", "3"][..], &places, &SMALL].concat());
    are_documented(&found, &help("stability"));
    let seen: Vec<(&str, u64)> =
        found.iter().map(|o| (o["rule"].as_str().unwrap(), o["layers"].as_u64().unwrap())).collect();
    assert_eq!(
        seen,
        [("hebbian", 1), ("hebbian", 2), ("oja", 1), ("oja", 2), ("gradient", 1), ("gradient", 2)]
    );
    for one in &found {
        above_zero(one, &["loss_first", "loss_last", "largest_norm", "eval_loss", "eval_norm", "seconds"]);
        assert_eq!(
            (&one["updates"], &one["steps"], one["diverged"].is_null()),
            (&3.into(), &12.into(), true)
        );
        assert_eq!(one["credit"], "truncated(4)");
    }
}

#[test]
fn a_point_that_diverges_says_where_and_the_others_are_measured_all_the_same() {
    let place = ["--rule", "hebbian", "--layers", "1", "--layers", "2", "--steps", "12", "--credit", "full"];
    let absurd = ["--updates", "3", "--set", "training.lr=1e37"];
    let ended =
        Folder::new().run(&[&["--quiet", "bench", "stability"][..], &place, &absurd, &SMALL].concat());
    assert_eq!(ended.status, Some(1), "{ended:?}");
    assert_eq!(ended.stdout.lines().filter(|line| line.contains("| yes ")).count(), 2, "{ended:?}");
    for part in ["hebbian full, L = 2, T = 12: diverged at step 1", "the fast weights of blocks.0.fc1"] {
        assert!(ended.stderr.contains(part), "{part}: {ended:?}");
    }
}
