//! Folders and files that are in the way of results. (Permissions would not stop a superuser; these do.)

use crate::support::{FAILURE, Folder, train_tiny};

const SMOKE: [&str; 9] =
    ["reproduce", "--protocol", "smoke", "--task", "copying", "--rule", "none", "--seeds", "2"];

fn smoke(out: &str) -> Vec<&str> {
    [&SMOKE[..], &["--out", out]].concat()
}

#[test]
fn a_file_in_the_place_of_the_folder_is_named() {
    let folder = Folder::new();
    folder.write("taken", "a file");
    for out in ["taken", "taken/runs"] {
        let named = format!("output folder {out}: it can't be written");
        folder.refuses(&train_tiny("none", out, &[]), FAILURE, &[&named]);
        folder.refuses(&smoke(out), FAILURE, &[&named]);
    }
    assert_eq!(folder.read("taken"), b"a file");
}

#[test]
fn a_folder_in_the_place_of_a_record_is_named_and_stops_no_other_run() {
    let folder = Folder::new();
    folder.write("out/copying-none-1000.json/inside", "");
    folder.refuses(&smoke("out"), FAILURE, &["copying-none-1000.json: the run record could not be written"]);
    let names = folder.names("out");
    assert!(names.contains(&"copying-none-1001.json".to_owned()), "{names:?}");
    assert!(names.contains(&"copying-none-1001.safetensors".to_owned()), "{names:?}");
}

#[test]
fn a_folder_in_the_place_of_a_checkpoint_is_named() {
    let folder = Folder::new();
    folder.write("out/copying-none-1000.safetensors/inside", "");
    let parts = ["checkpoint out/copying-none-1000.safetensors: it can't be written"];
    folder.refuses(&train_tiny("none", "out", &[]), FAILURE, &parts);
}

#[test]
fn a_folder_in_the_place_of_the_report_is_named() {
    let folder = Folder::new();
    folder.write("out/report.md/inside", "");
    folder.refuses(&smoke("out"), FAILURE, &["out/report.md: it can't be written"]);
}
