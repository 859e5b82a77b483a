//! Which file an archive is: its checksums, and the lock file that remembers those nobody published.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use md5::Md5;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::manifest::Archive;
use super::{DataError, Manifest};

/// Name of the lock file in a set's folder.
const LOCK: &str = "checksums.lock";
/// Bytes hashed at a time.
const CHUNK: usize = 1 << 16;

/// What tells a file from all others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArchiveIdentity {
    /// Its size in bytes.
    pub size: u64,
    /// Its sha256 in lower-case hexadecimal digits.
    pub sha256: String,
    /// Its md5 likewise, where it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub md5: Option<String>,
}

/// What an archive's checksum was held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// A checksum of the manifest.
    Manifest,
    /// A checksum that the lock file remembers from the first download.
    Lock,
    /// Nothing: the manifest has no checksum and none is recorded.
    Unknown,
}

impl ArchiveIdentity {
    /// The identity of what `reader` gives, with its md5 where `md5`; `advance` is told of every few bytes read.
    ///
    /// # Errors
    /// What reading gives.
    pub fn of(mut reader: impl Read, md5: bool, advance: &mut dyn FnMut(u64)) -> io::Result<Self> {
        let (mut size, mut sha256, mut md5) = (0, Sha256::new(), md5.then(Md5::new));
        let mut chunk = vec![0; CHUNK];
        loop {
            let read = match reader.read(&mut chunk) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            size += read as u64;
            sha256.update(&chunk[..read]);
            if let Some(md5) = &mut md5 {
                md5.update(&chunk[..read]);
            }
            advance(read as u64);
        }
        Ok(Self { size, sha256: digits(&sha256.finalize()), md5: md5.map(|md5| digits(&md5.finalize())) })
    }

    /// The identity of an archive's file, with an md5 where the manifest has one.
    ///
    /// # Errors
    /// [`DataError::Io`] when it cannot be read.
    pub fn of_file(file: &Path, archive: &Archive, advance: &mut dyn FnMut(u64)) -> Result<Self, DataError> {
        let open = File::open(file).map_err(DataError::reading(file))?;
        Self::of(BufReader::new(open), archive.md5.is_some(), advance).map_err(DataError::reading(file))
    }

    /// Holds the identity of `archive`, found at `file`, against what its manifest and the folder's lock say.
    ///
    /// # Errors
    /// [`DataError::Checksum`] when it is another file.
    pub fn check(
        &self,
        manifest: &Manifest,
        archive: &Archive,
        lock: &Lock,
        file: &Path,
    ) -> Result<Trust, DataError> {
        let differs = |what, expected: &dyn ToString, found: &dyn ToString| DataError::Checksum {
            set: manifest.name.clone(),
            file: file.to_owned(),
            what,
            expected: expected.to_string(),
            found: found.to_string(),
        };
        let locked = lock.files.get(&archive.file);
        let published = archive.sha256.is_some() || archive.md5.is_some();
        let locked = locked.filter(|_| !published);
        let sizes = [archive.size, locked.map(|locked| locked.size)];
        if let Some(size) = sizes.into_iter().flatten().find(|&size| size != self.size) {
            return Err(differs("size", &size, &self.size));
        }
        let sha256 = archive.sha256.as_ref().or(locked.map(|locked| &locked.sha256));
        if let Some(sha256) = sha256.filter(|&sha256| *sha256 != self.sha256) {
            return Err(differs("sha256", sha256, &self.sha256));
        }
        if let (Some(expected), Some(found)) = (&archive.md5, &self.md5)
            && expected != found
        {
            return Err(differs("md5", expected, found));
        }
        Ok(match (published, locked) {
            (true, _) => Trust::Manifest,
            (false, Some(_)) => Trust::Lock,
            (false, None) => Trust::Unknown,
        })
    }
}

/// The file of a folder that remembers what was first downloaded, for archives whose manifest has no checksum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lock {
    path: PathBuf,
    files: BTreeMap<String, ArchiveIdentity>,
}

impl Lock {
    /// The lock of a set's folder; empty where there is none.
    ///
    /// # Errors
    /// [`DataError::Io`] when it cannot be read, [`DataError::Manifest`] when it is no lock file.
    pub fn read(folder: &Path) -> Result<Self, DataError> {
        let path = folder.join(LOCK);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            Err(error) => return Err(DataError::reading(&path)(error)),
        };
        let files = toml::from_str(&text).map_err(|error: toml::de::Error| DataError::Manifest {
            file: path.display().to_string(),
            problem: format!("no lock file: {}", error.to_string().trim_end()),
        })?;
        Ok(Self { path, files })
    }

    /// What is recorded of a file.
    pub fn get(&self, file: &str) -> Option<&ArchiveIdentity> {
        self.files.get(file)
    }

    /// Records a file, and writes the lock.
    ///
    /// # Errors
    /// [`DataError::Io`] when it cannot be written.
    pub fn record(&mut self, file: &str, identity: ArchiveIdentity) -> Result<(), DataError> {
        self.files.insert(file.to_owned(), identity);
        let text = toml::to_string(&self.files).map_err(io::Error::other);
        text.and_then(|text| write_whole(&self.path, &[text.as_bytes()]))
            .map_err(DataError::writing(&self.path))
    }
}

/// Writes a file that is there whole or not at all: beside its place, and renamed.
pub(super) fn write_whole(path: &Path, pieces: &[&[u8]]) -> io::Result<()> {
    let folder = path.parent().ok_or(ErrorKind::InvalidInput)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    for piece in pieces {
        file.write_all(piece)?;
    }
    file.persist(path)?;
    Ok(())
}

/// Lower-case hexadecimal digits.
pub(super) fn digits(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
