//! Where to compute, and what is said where that can't be done.

#[cfg(feature = "cuda")]
use crate::support::FAILURE;
use crate::support::{Folder, USAGE, train_tiny};

#[test]
fn the_cpu_may_be_asked_for_by_name() {
    let folder = Folder::new();
    folder.succeeds(&train_tiny("hebbian", "default", &[]));
    folder.succeeds(&[&train_tiny("hebbian", "named", &[])[..], &["--device", "cpu"]].concat());
    for file in ["copying-hebbian-2000.json", "copying-hebbian-2000.safetensors"] {
        assert!(folder.read(&format!("default/{file}")) == folder.read(&format!("named/{file}")), "{file}");
    }
}

#[test]
fn a_record_names_the_device() {
    let folder = Folder::new();
    folder.succeeds(&train_tiny("none", "out", &[]));
    let record: serde_json::Value =
        serde_json::from_slice(&folder.read("out/copying-none-1000.json")).unwrap();
    assert_eq!(record["devices"], serde_json::json!(["cpu (f32)"]));
}

#[test]
fn a_device_of_no_kind_is_a_usage_error() {
    let folder = Folder::new();
    for wrong in ["gpu", "cuda:", "cuda:first", "cuda:-1"] {
        let arguments = [&train_tiny("none", "out", &[])[..], &["--device", wrong]].concat();
        folder.refuses(&arguments, USAGE, &[wrong, "--device", "such as cuda:1"]);
    }
    assert!(folder.names(".").is_empty());
}

/// Every task that computes, with a device that is not there.
fn refused_everywhere(device: &str, status: i32, parts: &[&str]) {
    let folder = Folder::new();
    folder.succeeds(&train_tiny("none", "runs", &[]));
    let checkpoint = "runs/copying-none-1000.safetensors";
    let before = folder.names(".");
    for arguments in [
        &train_tiny("none", "out", &[])[..],
        &["reproduce", "--protocol", "smoke", "--task", "copying", "--out", "out"],
        &["eval", checkpoint, "--task", "copying"],
        &["trace", checkpoint, "--task", "copying"],
        &["parity", "."],
        &["bench", "throughput", "--steps", "1"],
        &["bench", "latency", "--steps", "1"],
    ] {
        folder.refuses(&[arguments, &["--device", device]].concat(), status, parts);
    }
    assert_eq!(folder.names("."), before, "nothing is begun on a device that is not there");
}

#[cfg(not(feature = "cuda"))]
#[test]
fn without_cuda_built_in_it_is_said_how_to_build_it() {
    let parts = ["--device cuda:0", "was built without CUDA", "`cargo xtask-cuda`", "docs/cuda.md"];
    refused_everywhere("cuda", USAGE, &parts);
}

/// With a device there, this is a number that it has not; without a driver, that is what is said.
#[cfg(feature = "cuda")]
#[test]
fn a_cuda_device_that_is_not_there_is_one_clear_error() {
    refused_everywhere("cuda:4096", FAILURE, &["cuda:4096: "]);
}
