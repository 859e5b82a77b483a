//! From training to evaluation through a checkpoint, and what is no checkpoint.

use crate::support::{FAILURE, Folder, train_tiny};

const NAME: &str = "out/copying-gradient-3000.safetensors";

/// A folder with a trained tiny model at [`NAME`].
fn trained() -> Folder {
    let folder = Folder::new();
    folder.succeeds(&train_tiny("gradient", "out", &[]));
    folder
}

fn eval<'a>(checkpoint: &'a str, task: &'a str) -> Vec<&'a str> {
    vec!["eval", checkpoint, "--task", task, "--episodes", "4"]
}

/// A checkpoint made of the trained one's bytes that is refused by name.
#[track_caller]
fn check(change: impl FnOnce(Vec<u8>) -> Vec<u8>, parts: &[&str]) {
    let folder = trained();
    folder.write("changed.safetensors", change(folder.read(NAME)));
    let ended = folder.refuses(&eval("changed.safetensors", "copying"), FAILURE, parts);
    assert!(ended.stderr.contains("checkpoint changed.safetensors: "), "{}", ended.stderr);
}

/// Bytes with the one occurrence of `old` replaced, at the same length.
#[track_caller]
fn replaced(mut bytes: Vec<u8>, old: &str, new: &str) -> Vec<u8> {
    assert_eq!(old.len(), new.len());
    let at = bytes.windows(old.len()).position(|window| window == old.as_bytes()).unwrap();
    bytes[at..at + new.len()].copy_from_slice(new.as_bytes());
    bytes
}

#[test]
fn a_checkpoint_is_evaluated_on_its_own_setting() {
    let folder = trained();
    let printed = folder.succeeds(&eval(NAME, "copying"));
    assert!(printed.contains("gradient on copying: 4 episodes, seed 0"), "{printed}");
    for metric in ["loss", "recall_accuracy", "recall_accuracy_strict", "eta_mean", "plastic_norm_mean"] {
        let value = printed.lines().find_map(|line| line.strip_prefix(metric)?.trim().parse::<f64>().ok());
        assert!(value.is_some_and(f64::is_finite), "{metric} is missing from\n{printed}");
    }
    assert_eq!(folder.succeeds(&eval(NAME, "copying")), printed, "the same seed gives the same figures");
    let other = [eval(NAME, "copying"), vec!["--seed", "1"]].concat();
    assert_ne!(folder.succeeds(&other), printed.replace("seed 0", "seed 1"));
}

#[test]
fn what_cannot_be_read_is_named() {
    let folder = Folder::new();
    folder.refuses(
        &eval("nowhere.safetensors", "copying"),
        FAILURE,
        &["checkpoint nowhere.safetensors: it can't be read: No such file"],
    );
    folder.refuses(&eval(".", "copying"), FAILURE, &["checkpoint .: it can't be read"]);
}

#[test]
fn what_is_cut_short_or_no_checkpoint_is_said_to_be() {
    let whole = "it is not a whole safetensors file, as `cargo xtask train` writes them";
    check(|_| Vec::new(), &[whole]);
    check(|_| b"epoch,loss\n1,0.5\n".to_vec(), &[whole]);
    for kept in [4, 100, 2000] {
        check(|bytes| bytes[..kept].to_vec(), &[whole]);
    }
    check(|bytes| bytes[..bytes.len() - 1].to_vec(), &[whole]);
    check(|bytes| [bytes, vec![0]].concat(), &[whole]);
    let key = |bytes| replaced(bytes, "plastica.model", "someone.elses.");
    check(key, &["without 'plastica.model' in its metadata", "not a checkpoint of plastica"]);
}

#[test]
fn other_shapes_than_the_configuration_asks_for_are_named() {
    let narrower = |bytes| replaced(bytes, r#"model_dim\":8"#, r#"model_dim\":4"#);
    check(narrower, &["parameter 'input_proj.weight' has shape", "the configuration asks for [4, 10]"]);
    let deeper = |bytes| replaced(bytes, r#"num_layers\":1"#, r#"num_layers\":2"#);
    check(deeper, &["parameter 'blocks.1.ln1.weight' of shape [8] is missing"]);
    let renamed = |bytes| replaced(bytes, "final_ln.weight", "other_ln.weight");
    check(renamed, &["parameter 'final_ln.weight' of shape [8] is missing"]);
}

#[test]
fn a_configuration_that_cannot_be_is_named() {
    let heads = |bytes| replaced(bytes, r#"num_heads\":2"#, r#"num_heads\":3"#);
    check(heads, &["model.num_heads = 3", "it must divide model_dim = 8"]);
    let unknown = |bytes| replaced(bytes, r#"num_heads\":2"#, r#"num_hands\":2"#);
    check(unknown, &["its configuration can't be read", "unknown field `num_hands`"]);
}

#[test]
fn a_checkpoint_of_another_tasks_widths_is_told_so() {
    let folder = trained();
    for (task, needs) in [("regression", "needs 5 and 1"), ("cue-reward", "needs 22 and 1")] {
        let parts = [NAME, "inputs of width 10", "10 outputs", task, needs, "trained on another task?"];
        folder.refuses(&eval(NAME, task), FAILURE, &parts);
    }
}
