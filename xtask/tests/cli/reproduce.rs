//! The study, end to end, on a handful of episodes.

use plastica_eval::{RunRecord, RunStatus};

use crate::support::Folder;

const TASKS: [&str; 3] = ["copying", "cue-reward", "regression"];
const RULES: [&str; 3] = ["none", "hebbian", "gradient"];

#[test]
fn the_study_leaves_records_checkpoints_and_tables_beside_the_published_figures() {
    let folder = Folder::new();
    let printed = folder.succeeds(&["reproduce", "--protocol", "smoke", "--seeds", "1", "--out", "out"]);
    let mut expected = vec!["tables.md".to_owned()];
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

    let tables = String::from_utf8(folder.read("out/tables.md")).unwrap();
    assert!(printed.starts_with(&tables), "what is printed is what is written\n{printed}");
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
    assert_eq!(folder.names(out), files.chain(["tables.md".to_owned()]).collect::<Vec<_>>());
    let record = RunRecord::read(folder.path(&format!("{out}/{}.json", runs[1]))).unwrap();
    assert_eq!((record.credit.as_str(), record.seed), ("truncated(4)", 9001));
}
