//! `train`: what a run leaves behind, and how one ends that diverges.

use plastica_eval::{RunRecord, RunStatus};

use crate::support::{FAILURE, Folder, train_tiny};

#[test]
fn a_run_leaves_its_record_and_its_checkpoint() {
    let folder = Folder::new();
    let printed = folder.succeeds(&train_tiny("hebbian", "runs/deep", &["training.epochs=3"]));
    assert_eq!(printed.lines().filter(|line| line.starts_with("epoch ")).count(), 3, "{printed}");
    assert_eq!(folder.names("runs/deep"), ["copying-hebbian-2000.json", "copying-hebbian-2000.safetensors"]);
    let record = RunRecord::read(folder.path("runs/deep/copying-hebbian-2000.json")).unwrap();
    assert_eq!((record.status, record.history.len()), (RunStatus::Finished, 3));
    assert_eq!((record.protocol.as_str(), record.credit.as_str()), ("custom", "detached"));
    assert!(record.final_metrics["loss"].is_finite());
}

#[test]
fn a_run_leaves_its_event_file_when_asked() {
    let folder = Folder::new();
    folder.succeeds(&[&train_tiny("hebbian", "out", &[])[..], &["--tensorboard"]].concat());
    let run = "out/tensorboard/copying-hebbian-2000";
    assert_eq!(folder.names(run), ["events.out.tfevents.0.plastica"]);
    let bytes = folder.read(&format!("{run}/events.out.tfevents.0.plastica"));
    let has = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(has("brain.Event:2") && has("eval/loss") && has("train/loss") && has("sequence/eta"));
}

#[test]
fn a_run_that_diverges_says_where_and_leaves_a_record_that_says_so() {
    for rule in ["none", "hebbian", "gradient"] {
        for credit in ["detached", "full"] {
            let folder = Folder::new();
            let credit = format!("training.credit={credit}");
            let arguments = train_tiny(rule, "out", &["training.lr=1e30", &credit]);
            let parts =
                ["diverged at step 1", "loss NaN", "gradient of 'input_proj.weight'", "fast-weight norm"];
            let ended = folder.refuses(&arguments, FAILURE, &parts);
            let names = folder.names("out");
            let [record] = &names[..] else { panic!("a record and no checkpoint, not {names:?}") };
            let record = RunRecord::read(folder.path(&format!("out/{record}"))).unwrap();
            let RunStatus::Failed { reason } = record.status else { panic!("{:?}", record.status) };
            assert!(ended.stderr.contains(&reason), "{reason}: {}", ended.stderr);
        }
    }
}

#[test]
fn quiet_says_nothing_but_results() {
    let folder = Folder::new();
    let ended = folder.run(&[vec!["--quiet"], train_tiny("none", "out", &[])].concat());
    assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""));
    assert!(ended.stdout.starts_with("epoch 1: "), "{}", ended.stdout);
}
