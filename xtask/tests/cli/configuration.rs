//! Configurations that won't do: from `--set`, from a file, and as a whole.

use crate::support::{Folder, USAGE, train};

/// One setting that is refused before anything is written.
#[track_caller]
fn check(setting: &str, parts: &[&str]) {
    let folder = Folder::new();
    folder.refuses(&train("copying", "hebbian", "out", &[setting]), USAGE, parts);
    assert!(!folder.path("out").exists(), "{setting}: it was refused, and yet a folder was made");
}

/// A configuration file that is refused, with the file's name.
#[track_caller]
fn check_file(content: impl AsRef<[u8]>, parts: &[&str]) {
    let folder = Folder::new();
    folder.write("run.toml", content);
    let arguments = [train("copying", "hebbian", "out", &[]), vec!["--config", "run.toml"]].concat();
    let ended = folder.refuses(&arguments, USAGE, parts);
    assert!(ended.stderr.contains("run.toml"), "{}", ended.stderr);
}

#[test]
fn settings_that_are_none() {
    check("training.lr", &["--set training.lr", "expected section.key=value, such as training.lr=0.003"]);
    check("=3", &["--set =3", "the sections are model, task and training"]);
    check("lr=3", &["unknown section 'lr'", "the sections are model, task and training"]);
    check("trainin.lr=3", &["unknown section 'trainin'", "the sections are model, task and training"]);
    check("model=3", &["'model' is a section, such as [model], not a value"]);
}

#[test]
fn unknown_keys_are_told_the_keys() {
    check("training.learning_rate=1", &["unknown field `learning_rate`", "`lr`", "in `training`"]);
    check("model.width=64", &["unknown field `width`", "`model_dim`", "in `model`"]);
    check("task.length=3", &["unknown field `length`", "`seq_length`", "in `task`"]);
    let schedule = r#"training.schedule={kind="warmup-cosine", step=3}"#;
    check(schedule, &["unknown field `step`", "`warmup_steps`", "in `training.schedule`"]);
}

#[test]
fn values_of_a_wrong_type_are_told_the_type() {
    check("training.lr=fast", &["string \"fast\"", "expected f64", "in `training.lr`"]);
    check("training.epochs=1.5", &["floating point `1.5`", "expected usize", "in `training.epochs`"]);
    check("training.seed=-1", &["integer `-1`", "expected u64", "in `training.seed`"]);
    check("model.num_layers=[2]", &["sequence", "expected usize", "in `model.num_layers`"]);
    check("model.rule=sanger", &["unknown rule 'sanger'", "none, hebbian, gradient"]);
    check("task.name=sorting", &["task.name is sorting", "--task is copying"]);
}

#[test]
fn values_out_of_range_are_told_the_range() {
    check("model.dropout=1", &["model.dropout = 1", "it must lie in [0, 1)"]);
    check("model.eta0=2", &["model.eta0 = 2", "it must lie in (0, 1]"]);
    check("model.max_norm=0", &["model.max_norm = 0", "above 0"]);
    check("model.num_layers=0", &["model.num_layers = 0", "1..="]);
    check(
        "model.model_dim=1048576",
        &["model.model_dim = 1048576", "parameters, of which 2147483648 are the most"],
    );
    check("training.epochs=0", &["[training]: epochs is 0", "at least 1"]);
    check("training.batch_size=0", &["[training]: batch_size is 0", "at least 1"]);
    check("training.eval_episodes=0", &["[training]: eval_episodes is 0", "at least 1"]);
    check("training.lr=-1", &["[training]: lr is -1", "a finite number of at least 0"]);
    check("training.lr=nan", &["[training]: lr is NaN", "a finite number of at least 0"]);
    check("training.clip_norm=0", &["[training]: clip_norm is 0", "above 0"]);
}

#[test]
fn what_contradicts_itself_is_refused() {
    check("model.num_heads=3", &["model.num_heads = 3", "it must divide model_dim = 128"]);
    check("model.model_dim=30", &["model.num_heads = 4", "it must divide model_dim = 30"]);
    check("task.seq_length=0", &["copying: seq_length = 0", "expected 1 to"]);
    check("task.vocab_size=3", &["copying: vocab_size = 3", "expected 4 to"]);
    check("task.delay=999999", &["2 * seq_length + delay + 1 steps = 1000010", "expected 1 to 1000000"]);
    check("model.input_dim=3", &["model.input_dim = 3", "follows from the task, and is 10"]);
    check("model.output_dim=3", &["model.output_dim = 3", "follows from the task, and is 10"]);
    check("model.rule=none", &["model.rule is none", "--rule is hebbian"]);
    check("task.name=regression", &["task.name is regression", "--task is copying"]);
    let schedule = r#"training.schedule={kind="warmup-cosine", warmup_steps=100, final_ratio=0}"#;
    check(schedule, &["schedule.warmup_steps is 100", "below 100, the optimiser steps of the whole run"]);
}

#[test]
fn every_tasks_zero_lengths_are_refused() {
    let folder = Folder::new();
    for (task, setting) in [
        ("cue-reward", "num_pairs=0"),
        ("cue-reward", "num_pairs=21"),
        ("regression", "k_support=0"),
        ("regression", "k_query=0"),
        ("regression", "input_dim=0"),
    ] {
        let (key, value) = setting.split_once('=').unwrap();
        let arguments = train(task, "none", "out", &[]);
        let set = format!("task.{setting}");
        let parts = [task, &format!("{key} = {value}"), "expected"];
        folder.refuses(&[&arguments[..], &["--set", &set]].concat(), USAGE, &parts);
    }
}

#[test]
fn files_that_are_none() {
    let folder = Folder::new();
    let with = |file| [train("copying", "none", "out", &[]), vec!["--config", file]].concat();
    folder.refuses(&with("nowhere.toml"), USAGE, &["nowhere.toml: it can't be read: No such file"]);
    folder.refuses(&with("."), USAGE, &[".: it can't be read"]);
    check_file([0xff, 0xfe, 0x00], &["it can't be read", "UTF-8"]);
    check_file("epochs: 3", &["it is not TOML", "line 1"]);
    check_file("[training]\nlr = 1e-3\nlr = 1e-2\n", &["it is not TOML", "duplicate key", "line 3"]);
}

#[test]
fn files_are_checked_as_settings_are() {
    check_file("[optimiser]\nlr = 1e-3\n", &["unknown section 'optimiser'", "model, task and training"]);
    check_file("model = 3\n", &["'model' is a section, such as [model], not a value"]);
    check_file("[training]\nlr = 'fast'\n", &["string \"fast\"", "expected f64", "in `training.lr`"]);
    check_file("[training]\nrate = 1\n", &["unknown field `rate`", "`lr`"]);
    check_file("[task]\nname = 'regression'\n", &["task.name is regression", "--task is copying"]);
}

#[test]
fn settings_stand_above_the_file_and_the_file_above_the_published_values() {
    let folder = Folder::new();
    folder.write(
        "run.toml",
        "[model]\nmodel_dim = 8\nnum_heads = 2\nnum_layers = 1\nffn_dim = 8\n\
         [task]\ndelay = 2\n[training]\nepochs = 1\ndataset_size = 2\nlr = 0.5\nseed = 7\n",
    );
    let arguments = train("copying", "hebbian", "out", &["training.lr=0.25"]);
    folder.succeeds(&[arguments, vec!["--config", "run.toml"]].concat());
    let record: serde_json::Value =
        serde_json::from_slice(&folder.read("out/copying-hebbian-7.json")).unwrap();
    let training = &record["config"]["training"];
    assert_eq!((&training["lr"], &training["seed"]), (&0.25.into(), &7.into()));
    assert_eq!(record["config"]["model"]["model_dim"], 8);
    assert_eq!(record["config"]["task"]["seq_length"], 5, "left out, and so as published");
}
