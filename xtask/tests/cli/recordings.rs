//! `parity`: recordings that are reproduced, and what stops one.

use std::path::{Path, PathBuf};

use crate::support::{FAILURE, Folder, names};

/// The workspace's recorded trajectories.
fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden")
}

fn recordings() -> Vec<String> {
    names(&golden()).into_iter().filter(|name| name.ends_with(".safetensors")).collect()
}

#[test]
fn recorded_trajectories_are_reproduced() {
    let printed = Folder::new().succeeds(&["parity", golden().to_str().unwrap()]);
    let ok: Vec<&str> = printed.lines().filter_map(|line| line.strip_prefix("ok ")).collect();
    let names = recordings();
    assert!(!names.is_empty() && ok.len() == names.len(), "{printed}");
    assert!(names.iter().zip(ok).all(|(name, line)| line.contains(name.as_str())), "{printed}");
}

#[test]
fn folders_without_recordings_are_named() {
    let folder = Folder::new();
    folder.write("empty/README.md", "no recordings here");
    folder.refuses(&["parity", "nowhere"], FAILURE, &["nowhere: it can't be read as a folder: No such file"]);
    folder.refuses(
        &["parity", "empty/README.md"],
        FAILURE,
        &["empty/README.md: it can't be read as a folder"],
    );
    folder.refuses(&["parity", "empty"], FAILURE, &["empty: it holds no *.safetensors file"]);
}

#[test]
fn a_file_that_fails_is_named_and_stops_no_other() {
    let name = recordings().remove(0);
    let whole = std::fs::read(golden().join(&name)).unwrap();
    // the last bytes are values, whatever tensor they belong to
    let mut off = whole.clone();
    let last = off.len() - 400;
    off[last..].as_chunks_mut::<4>().0.iter_mut().for_each(|word| {
        *word = (f32::from_le_bytes(*word) + 1.0).to_le_bytes();
    });
    let folder = Folder::new();
    folder.write("mixed/a-cut.safetensors", &whole[..whole.len() / 2]);
    folder.write("mixed/b-empty.safetensors", "");
    folder.write("mixed/c-off.safetensors", off);
    folder.write("mixed/d-whole.safetensors", &whole);
    folder.write("mixed/notes.txt", "not looked at");
    let ended = folder.refuses(&["parity", "mixed"], FAILURE, &["mixed: 3 of 4 recordings"]);
    let lines: Vec<&str> = ended.stdout.lines().collect();
    let [cut, empty, off, ok, _] = lines[..] else { panic!("{lines:?}") };
    for line in [cut, empty] {
        assert!(line.starts_with("FAIL") && line.contains("not a whole safetensors file"), "{line}");
    }
    assert!(off.starts_with("FAIL c-off"), "{off}");
    assert!(ok.starts_with("ok   d-whole"), "{ok}");
}
