//! The study, end to end, on a handful of episodes.

use plastica_eval::{RunRecord, RunStatus, StudyLog};

use crate::support::{Folder, USAGE};

const TASKS: [&str; 3] = ["copying", "cue-reward", "regression"];
const RULES: [&str; 3] = ["none", "hebbian", "gradient"];

/// The tasks without images.
const SEQUENCES: [&str; 6] = ["--task", "copying", "--task", "cue-reward", "--task", "regression"];

#[test]
fn the_study_leaves_records_checkpoints_and_a_report_beside_the_published_figures() {
    let folder = Folder::new();
    let printed = folder.succeeds(
        &[&["reproduce", "--protocol", "smoke", "--seeds", "1", "--out", "out"], &SEQUENCES[..]].concat(),
    );
    let mut expected = ["logs", "report.html", "report.json", "report.md"].map(String::from).to_vec();
    for (i, task) in TASKS.iter().enumerate() {
        for (j, rule) in RULES.iter().enumerate() {
            let seed = 1000 * (3 * i + j + 1);
            let name = format!("{task}-{rule}-{seed}");
            let record = RunRecord::read(folder.path(&format!("out/{name}.json"))).unwrap();
            assert_eq!(
                (record.status, record.seed, record.history.len()),
                (RunStatus::Finished, seed as u64, 1)
            );
            assert_eq!((record.credit.as_str(), record.protocol.as_str()), ("detached", "smoke"));
            expected.extend([format!("{name}.json"), format!("{name}.safetensors")]);
        }
    }
    expected.sort();
    assert_eq!(folder.names("out"), expected);
    assert!(printed.contains("9 runs, 0 failed"), "{printed}");

    let tables = String::from_utf8(folder.read("out/report.md")).unwrap();
    let shared = printed.lines().filter(|line| line.starts_with("| "));
    assert!(shared.clone().count() > 30 && shared.clone().all(|line| tables.contains(line)), "{printed}");
    for task in TASKS {
        assert!(tables.contains(&format!("{task}: mean ± population standard deviation")), "{tables}");
    }
    // the paper's losses of copying, as its logs have them
    let published = ["0.4147 ± 0.1048", "0.3450 ± 0.008880", "0.3518 ± 0.02123"];
    for (rule, figure) in RULES.iter().zip(published) {
        let row = |line: &&str| line.starts_with(&format!("| {rule} ")) && line.contains(figure);
        assert!(tables.lines().any(|line| row(&line)), "{rule}: {figure} is missing from\n{tables}");
    }
    assert!(tables.contains("recall_accuracy (blanks included: chance 0.69)"), "{tables}");
    assert!(tables.contains("recall_accuracy_strict"), "{tables}");
    for claim in ["hebbian-beats-none", "gradient-best-after-delay", "none-suffices-on-cue-reward"] {
        assert!(printed.contains(claim), "{claim} is missing from\n{printed}");
    }
    let page = String::from_utf8(folder.read("out/report.html")).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.contains("</html>"));
}

/// All five tasks, images drawn where there are none, and prototypical networks beside the rules.
#[test]
fn the_whole_study_has_the_image_tasks_and_names_their_images() {
    let folder = Folder::new();
    let arguments = ["reproduce", "--protocol", "smoke", "--seeds", "1", "--out", "out", "--rule", "hebbian"];
    let ended = folder.run(&[&arguments[..], &["--data", "glyphs"]].concat());
    assert_eq!(ended.status, Some(0), "{ended:?}");
    assert!(ended.stdout.contains("7 runs, 0 failed"), "{ended:?}");
    for task in ["omniglot on glyphs", "cifar-fs on glyphs"] {
        assert!(ended.stdout.contains(&format!("{task}: mean ± population")), "{ended:?}");
    }
    for part in
        ["| prototypical ", "baseline chance: accuracy 0.2000", "baseline nearest neighbour: accuracy 0."]
    {
        assert!(ended.stdout.contains(part), "{part}: {ended:?}");
    }
    let logs = ["classification_cifarfs", "classification_omniglot", "copy_delay20", "cue", "regression"];
    assert_eq!(folder.names("out/logs"), logs.map(|stem| format!("{stem}_rule-hebbian.json")));
}

#[test]
fn the_study_is_there_in_the_layout_of_the_papers_logs() {
    let folder = Folder::new();
    let part = ["--rule", "gradient", "--seeds", "2", "--out", "out", "--tensorboard"];
    folder.succeeds(&[&["reproduce", "--protocol", "smoke"], &part[..], &SEQUENCES[..]].concat());
    let files = ["copy_delay20", "cue", "regression"].map(|stem| format!("{stem}_rule-gradient.json"));
    assert_eq!(folder.names("out/logs"), files);
    for file in files {
        let log: StudyLog = serde_json::from_slice(&folder.read(&format!("out/logs/{file}"))).unwrap();
        assert_eq!((log.runs.len(), log.aggregate.num_runs), (2, 2));
        assert_eq!(log.config.model["rule"], "gradient");
        let losses: Vec<f64> = log.runs.iter().map(|run| run.last["loss"]).collect();
        assert!((log.aggregate.figures["loss_mean"] - (losses[0] + losses[1]) / 2.0).abs() < 1e-12);
    }
    let runs = ["copying-gradient-300", "cue-reward-gradient-600", "regression-gradient-900"];
    let named = runs.iter().flat_map(|run| [0, 1].map(|i| format!("{run}{i}")));
    assert_eq!(folder.names("out/tensorboard"), named.collect::<Vec<_>>());
    assert_eq!(folder.names("out/tensorboard/copying-gradient-3000"), ["events.out.tfevents.0.plastica"]);
}

#[test]
fn a_part_of_the_study_is_that_part() {
    let folder = Folder::new();
    let part =
        ["--task", "regression", "--rule", "gradient", "--rule", "gradient", "--credit", "truncated(4)"];
    folder.succeeds(&[&["reproduce", "--protocol", "smoke", "--seeds", "2"], &part[..]].concat());
    let out = "results/smoke-truncated(4)";
    let runs = ["regression-gradient-9000", "regression-gradient-9001"];
    let files = runs.iter().flat_map(|run| [format!("{run}.json"), format!("{run}.safetensors")]);
    let mut ordered: Vec<String> =
        files.chain(["logs", "report.html", "report.json", "report.md"].map(String::from)).collect();
    ordered.sort();
    assert_eq!(folder.names(out), ordered);
    let record = RunRecord::read(folder.path(&format!("{out}/{}.json", runs[1]))).unwrap();
    assert_eq!((record.credit.as_str(), record.seed), ("truncated(4)", 9001));
}

#[test]
fn the_converged_study_has_every_credit_beside_none_and_says_when_runs_stopped() {
    let folder = Folder::new();
    let part = ["--protocol", "converged", "--quick", "--task", "copying", "--seeds", "2"];
    let settings = ["--set", "task.delay=2", "--set", "model.model_dim=8", "--set", "model.ffn_dim=8"];
    let arguments = [&["reproduce"], &part[..], &settings[..]].concat();
    let printed = folder.succeeds(&arguments);
    assert!(printed.contains("10 runs, 0 failed"), "{printed}");
    for arm in ["none", "hebbian detached", "hebbian full", "gradient detached", "gradient full"] {
        for metric in ["recall_accuracy_strict", "steps"] {
            let row =
                |line: &str| line.starts_with(&format!("| {arm} ")) && line.contains(&format!("| {metric} "));
            assert!(printed.lines().any(row), "{arm} {metric}: {printed}");
        }
    }
    // the paper's loss of hebbian beside both of its credits
    assert_eq!(printed.lines().filter(|line| line.contains("0.3450 ± 0.008880")).count(), 2, "{printed}");
    assert!(
        printed.contains("plastic-beats-none") && printed.contains("training-plasticity-pays"),
        "{printed}"
    );
    let record = RunRecord::read(folder.path("results/converged/copying-hebbian-full-1.json")).unwrap();
    assert_eq!((record.credit.as_str(), record.protocol.as_str(), record.seed), ("full", "converged", 1));
    assert_eq!(record.config["task"]["delay"], 2);
    assert!(!folder.path("results/converged/logs").exists());
    // and again: everything is kept
    assert!(folder.succeeds(&arguments).contains("10 runs, 0 failed, 10 finished before"));
}

#[test]
fn what_belongs_to_the_converged_study_alone_is_refused_elsewhere() {
    let folder = Folder::new();
    let check = |arguments: &[&str], part: &str| {
        folder.refuses(&[&["reproduce"], arguments].concat(), USAGE, &[part]);
    };
    check(&["--set", "task.delay=2"], "--set: of protocol converged alone, not of paper");
    check(&["--protocol", "smoke", "--quick"], "--quick: of protocol converged alone, not of smoke");
    check(&["--credit", "full", "--credit", "detached"], "more than one --credit");
    let converged = ["--protocol", "converged", "--quick", "--task", "copying"];
    check(&[&converged[..], &["--set", "training.seed=5"]].concat(), "are set by options of their own");
    check(&[&converged[..], &["--set", "task.dealy=5"]].concat(), "unknown field `dealy`");
}
