//! A study in which one run leaves the numbers.

use plastica_eval::{
    Machine, PlannedRun, Protocol, Report, RunConfig, RunRecord, RunStatus, Table, execute_all,
};
use plastica_rules::Rule;
use plastica_tensor::Cpu;

const SEEDS: [u64; 3] = [1, 2, 3];
/// The seed whose run is given an absurd learning rate.
const DIVERGING: u64 = 2;

fn run(seed: u64) -> PlannedRun {
    let mut config = RunConfig::published("copying", Rule::Hebbian).unwrap();
    (config.model.model_dim, config.model.ffn_dim) = (8, 8);
    (config.training.epochs, config.training.dataset_size) = (2, 3);
    config.training.seed = seed;
    if seed == DIVERGING {
        config.training.lr = 1e30;
    }
    PlannedRun::new(config, Protocol::Smoke)
}

fn table(records: &[RunRecord]) -> Table {
    let report = Report::new(records, Machine::detect(), 1.0).unwrap();
    let [task] = &report.tasks[..] else { panic!("one task was run") };
    task.table.clone()
}

#[test]
fn a_run_that_diverges_stops_no_other_and_the_table_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let records =
        execute_all(SEEDS.map(run).to_vec(), &Cpu::<f32>::new(), folder.path(), &|_, _| {}).unwrap();
    assert_eq!(records.iter().map(|r| r.seed).collect::<Vec<_>>(), SEEDS);
    for record in &records {
        let name = run(record.seed).name().to_owned();
        let kept = folder.path().join(format!("{name}.safetensors"));
        match &record.status {
            RunStatus::Failed { reason } => {
                assert_eq!(record.seed, DIVERGING, "{reason}");
                for part in [
                    "diverged at step 1",
                    "input_proj.weight",
                    "fast-weight norm",
                    "the fast weights of blocks.0.fc1 are the first that are no numbers, after step 1 of 31",
                ] {
                    assert!(reason.contains(part), "{reason}");
                }
                assert!(!kept.exists() && record.final_metrics.is_empty());
            }
            RunStatus::Finished => {
                assert_ne!(record.seed, DIVERGING);
                assert!(kept.exists() && record.history.len() == 2);
            }
        }
        let read = RunRecord::read(folder.path().join(format!("{name}.json"))).unwrap();
        assert_eq!(&read, record);
    }

    let table = table(&records);
    let failed: Vec<_> =
        table.rows.iter().filter(|row| row.iter().any(|c| c.contains("failed: 1 of 3"))).collect();
    let [row] = &failed[..] else { panic!("{table}") };
    assert!(row[0] == "hebbian" && row[1].contains("diverged at step 1"), "{row:?}");
    let counts: Vec<&str> =
        table.rows.iter().filter_map(|row| row.last()).map(String::as_str).filter(|c| *c != "–").collect();
    assert!(!counts.is_empty() && counts.iter().all(|&count| count == "2"), "{table}");
}

#[test]
fn a_study_of_nothing_but_failures_still_has_a_table() {
    let folder = tempfile::tempdir().unwrap();
    let runs = vec![run(DIVERGING)];
    let records = execute_all(runs, &Cpu::<f32>::new(), folder.path(), &|_, _| {}).unwrap();
    let table = table(&records);
    assert!(table.rows.len() == 1 && table.rows[0][1].contains("failed: 1 of 1"), "{table}");
}
