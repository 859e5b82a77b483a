//! `config`: the configuration that a run would have.

use toml::{Table, Value};

use crate::support::{Folder, USAGE};

const RULES: [&str; 3] = ["none", "hebbian", "gradient"];

#[track_caller]
fn show(folder: &Folder, task: &str, rule: &str, more: &[&str]) -> String {
    folder.succeeds(&[&["config", "--show", "--task", task, "--rule", rule], more].concat())
}

#[test]
fn what_is_shown_can_be_read_again() {
    let folder = Folder::new();
    for task in ["copying", "cue-reward", "regression"] {
        for rule in RULES {
            let settings = [
                "--set",
                "training.lr=0.003",
                "--set",
                "training.eval_episodes=7",
                "--set",
                r#"training.schedule={kind="warmup-cosine", warmup_steps=3, final_ratio=0.5}"#,
                "--set",
                "training.credit=truncated(4)",
                "--set",
                "model.num_layers=1",
            ];
            let first = show(&folder, task, rule, &settings);
            folder.write("run.toml", &first);
            let again = show(&folder, task, rule, &["--config", "run.toml"]);
            let read = |text: &str| text.parse::<Table>().unwrap();
            assert_eq!(read(&first), read(&again), "{first}\n{again}");
            let training = &read(&again)["training"];
            assert_eq!(
                (&training["lr"], &training["eval_episodes"]),
                (&Value::Float(0.003), &Value::Integer(7))
            );
        }
    }
}

#[test]
fn every_value_says_where_it_comes_from() {
    let folder = Folder::new();
    folder.write("run.toml", "[training]\nlr = 0.5\nepochs = 3\n[task]\ndelay = 4\n");
    let more =
        ["--config", "run.toml", "--set", "training.lr=0.25", "--set", "training.schedule.kind=constant"];
    let shown = show(&folder, "copying", "gradient", &more);
    let check = |line: &str, source: &str| {
        let found =
            shown.lines().find(|shown| shown.starts_with(line)).unwrap_or_else(|| panic!("{line}: {shown}"));
        assert_eq!(found.split_once("# ").map(|(_, comment)| comment), Some(source), "{found}");
    };
    check("lr = 0.25 ", "--set");
    check("epochs = 3 ", "run.toml");
    check("delay = 4 ", "run.toml");
    check("seq_length = 5 ", "default");
    check("rule = \"gradient\" ", "--rule");
    check("name = \"copying\" ", "--task");
    check("input_dim = 10 ", "the task");
    check("schedule = ", "default, --set");
    let values = shown.lines().filter(|line| line.contains(" = "));
    assert!(values.clone().count() > 20 && values.clone().all(|line| line.contains(" # ")), "{shown}");
}

#[test]
fn what_will_not_do_is_refused_as_a_run_would_be() {
    let folder = Folder::new();
    let config = ["config", "--task", "copying", "--rule", "none"];
    assert_eq!(folder.succeeds(&config), "copying none: the configuration will do\n");
    folder.refuses(&[&config[..], &["--set", "training.rate=1"]].concat(), USAGE, &["unknown field `rate`"]);
    folder.refuses(
        &[&config[..], &["--config", "nowhere.toml"]].concat(),
        USAGE,
        &["nowhere.toml: it can't be read"],
    );
    folder.refuses(&["config", "--task", "copyin", "--rule", "none"], USAGE, &["did you mean `copying`?"]);
}
