//! Recorded trajectories as files, for tests that look inside one or change it.

use std::path::{Path, PathBuf};

use safetensors::SafeTensors;

/// Every recording of `tests/golden`, by name.
pub fn all() -> Vec<PathBuf> {
    // where the repository is now, which need not be where this was built
    let root = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let folder = Path::new(&root).join("golden");
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut recordings: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|e| e == "safetensors")).collect();
    recordings.sort();
    assert!(recordings.len() >= 6, "the recordings are part of the repository: {recordings:?}");
    recordings
}

/// A recording's bytes.
pub struct Recording(pub Vec<u8>);

impl Recording {
    pub fn read(path: &Path) -> Self {
        Self(std::fs::read(path).unwrap())
    }

    pub fn tensors(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.0).unwrap()
    }

    /// One of the settings it was recorded with.
    pub fn setting(&self, key: &str) -> String {
        let (_, header) = SafeTensors::read_metadata(&self.0).unwrap();
        header.metadata().as_ref().unwrap()[key].clone()
    }

    /// The values of one of its f32 tensors.
    pub fn values(&self, name: &str) -> Vec<f32> {
        let tensors = self.tensors();
        let (words, rest) = tensors.tensor(name).unwrap().data().as_chunks::<4>();
        assert!(rest.is_empty(), "{name}");
        words.iter().map(|&word| f32::from_le_bytes(word)).collect()
    }

    /// The same with one value of one f32 tensor put in the place of what was there.
    pub fn with(&self, name: &str, index: usize, value: f32) -> Vec<u8> {
        let (header_length, header) = SafeTensors::read_metadata(&self.0).unwrap();
        // a file is eight bytes of header length, the header, and the tensors
        let at = 8 + header_length + header.info(name).unwrap().data_offsets.0 + 4 * index;
        let mut bytes = self.0.clone();
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        bytes
    }
}
