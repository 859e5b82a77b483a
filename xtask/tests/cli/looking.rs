//! `inspect` and `trace`: what is in a checkpoint, and what its model does along an episode.

use serde_json::Value;

use crate::support::{FAILURE, Folder, USAGE, train_tiny};

fn trained(rule: &str) -> (Folder, String) {
    let folder = Folder::new();
    folder.succeeds(&train_tiny(rule, "out", &[]));
    let name = folder.names("out").into_iter().find(|name| name.ends_with(".safetensors")).unwrap();
    (folder, format!("out/{name}"))
}

/// The last event of a run with `--json`.
#[track_caller]
fn result(folder: &Folder, arguments: &[&str]) -> Value {
    let printed = folder.succeeds(&[&["--json"], arguments].concat());
    serde_json::from_str(printed.lines().last().unwrap()).unwrap()
}

#[test]
fn a_checkpoint_is_described() {
    let (folder, file) = trained("gradient");
    let printed = folder.succeeds(&["inspect", &file]);
    let parts = [
        "model.model_dim = 8",
        "model.rule = \"gradient\"",
        "metadata plastica.run",
        "task.name = \"copying\"",
        "task.delay = 2",
        "training.epochs = 1",
        "| blocks.0.feed_forward.fc1.alpha ",
        "| internal_proj.weight ",
        "15 × 15",
    ];
    for part in parts {
        assert!(printed.contains(part), "{part:?} is missing from\n{printed}");
    }
    let told = result(&folder, &["inspect", &file]);
    let summaries = told["summaries"].as_array().unwrap();
    let counts = |buffer: bool| -> u64 {
        summaries.iter().filter(|s| s["buffer"] == buffer).map(|s| s["count"].as_u64().unwrap()).sum()
    };
    assert_eq!((told["parameters"].as_u64(), told["buffers"].as_u64()), (Some(counts(false)), Some(0)));
    assert!(printed.contains(&format!("{} scalars in parameters", counts(false))), "{printed}");
    assert_eq!(told["metadata"]["plastica.run"]["task"]["delay"], 2);
    // α starts at 0.02 and detached credit leaves it there
    let alpha = summaries.iter().find(|s| s["name"] == "blocks.0.feed_forward.fc1.alpha").unwrap();
    assert!((alpha["mean_abs"].as_f64().unwrap() - 0.02).abs() < 1e-8, "{alpha}");
}

#[test]
fn what_is_cut_short_is_one_clear_line() {
    let (folder, file) = trained("none");
    let bytes = folder.read(&file);
    folder.write("cut.safetensors", &bytes[..bytes.len() / 2]);
    for command in [&["inspect", "cut.safetensors"][..], &["trace", "cut.safetensors", "--task", "copying"]] {
        let part = "checkpoint cut.safetensors: it is not a whole safetensors file";
        let ended = folder.refuses(command, FAILURE, &[part]);
        assert_eq!((ended.stdout.as_str(), ended.stderr.lines().count()), ("", 1), "{ended:?}");
    }
    assert!(!folder.path("cut.svg").exists());
}

#[test]
fn an_episode_is_drawn_and_told() {
    for rule in ["none", "hebbian", "gradient"] {
        let (folder, file) = trained(rule);
        let arguments = ["trace", &file, "--task", "copying", "--seed", "3", "--out", "pictures/episode.svg"];
        let printed = folder.succeeds(&arguments);
        let picture = String::from_utf8(folder.read("pictures/episode.svg")).unwrap();
        let page = roxmltree::Document::parse(&picture).unwrap_or_else(|e| panic!("{rule}: {e}"));
        let root = page.root_element();
        assert_eq!(
            (root.tag_name().name(), root.tag_name().namespace()),
            ("svg", Some("http://www.w3.org/2000/svg"))
        );
        let texts: String = page.descendants().filter_map(|node| node.text()).collect();
        let plastic = rule != "none";
        assert!(
            texts.contains("block 0, head 1") && texts.contains(&format!("{rule} on copying")),
            "{texts}"
        );
        assert_eq!(
            (texts.contains("gate, sigmoid"), texts.contains("blocks.0.fc2")),
            (plastic, plastic),
            "{rule}"
        );
        assert_eq!(printed.contains("| plastic_norm "), plastic, "{printed}");
        assert!(
            printed.contains("| block 0, head 0 ") && printed.contains("recall_accuracy_strict"),
            "{printed}"
        );

        let told = result(&folder, &arguments);
        let trace = &told["trace"];
        assert_eq!(trace["plasticity"].is_null(), !plastic);
        // 5 tokens, 2 blanks, the delimiter, 5 blanks
        let rows = trace["attention"][1]["rows"].as_array().unwrap();
        let lengths: Vec<usize> = rows.iter().map(|row| row.as_array().unwrap().len()).collect();
        assert_eq!(lengths, (1..=13).collect::<Vec<_>>());
        for row in rows {
            let sum: f64 = row.as_array().unwrap().iter().filter_map(Value::as_f64).sum();
            assert!((sum - 1.0).abs() < 1e-5, "{row}");
        }
        assert_eq!(folder.succeeds(&arguments), printed, "the same seed is the same episode");
        assert_eq!(folder.read("pictures/episode.svg"), picture.as_bytes());
    }
}

#[test]
fn a_traces_numbers_are_those_of_an_evaluation() {
    let (folder, file) = trained("hebbian");
    let of_one = [&file[..], "--task", "copying", "--seed", "5"];
    let evaluated = result(&folder, &[&["eval"][..], &of_one, &["--episodes", "1"]].concat());
    let traced = result(&folder, &[&["trace"][..], &of_one].concat());
    let metrics = &evaluated["metrics"];
    let close = |ours: f64, theirs: &Value| {
        let theirs = theirs.as_f64().unwrap();
        assert!((ours - theirs).abs() <= 1e-4 * theirs.abs(), "{ours} {theirs}");
    };
    let mean = |name: &str| {
        let values: Vec<f64> = traced["trace"]["plasticity"][name]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(Value::as_f64)
            .collect();
        values.iter().sum::<f64>() / values.len() as f64
    };
    close(traced["trace"]["metrics"]["loss"].as_f64().unwrap(), &metrics["loss"]);
    for name in ["eta", "gate", "clip", "plastic_norm"] {
        close(mean(name), &metrics[format!("{name}_mean")]);
    }
    assert!(folder.path("out/copying-hebbian-2000.svg").is_file(), "the picture has the checkpoint's name");
}

#[test]
fn what_cannot_be_traced_is_refused() {
    let (folder, file) = trained("none");
    let trace = |task| ["trace", &file, "--task", task];
    folder.refuses(&trace("regression"), FAILURE, &[&file, "it gives 10 outputs, where the task needs 1"]);
    folder.refuses(&trace("sorting"), USAGE, &["unknown task `sorting`"]);
    let onto = [&trace("copying")[..], &["--out", &file]].concat();
    folder.refuses(&onto, USAGE, &["it is the checkpoint itself"]);
    folder.refuses(&["inspect", "."], FAILURE, &["checkpoint .: it can't be read"]);
    folder.refuses(&["inspect"], USAGE, &["<CHECKPOINT>"]);
}
