//! What can be wrong with image data.

use std::io;
use std::path::PathBuf;

use crate::TaskError;

/// Image data that is not there, is not what it should be, or was asked for in a way it cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// No set has this name.
    #[error(
        "unknown image set `{name}`{}; the sets are {known}",
        suggestion.as_ref().map(|near| format!(", did you mean `{near}`?")).unwrap_or_default()
    )]
    UnknownSet {
        /// The name that was asked for.
        name: String,
        /// The set that was probably meant, where one is close.
        suggestion: Option<String>,
        /// The sets there are.
        known: String,
    },

    /// The set has no split scheme of this name.
    #[error("image set {set}: unknown split scheme `{scheme}`, expected one of {known}")]
    UnknownScheme {
        /// The set's name.
        set: String,
        /// The scheme that was asked for.
        scheme: String,
        /// The schemes that the set has.
        known: String,
    },

    /// The scheme has no such split.
    #[error("image set {set}: scheme {scheme} has no {split} split, expected one of {known}")]
    UnknownSplit {
        /// The set's name.
        set: String,
        /// The scheme's name.
        scheme: String,
        /// The split that was asked for.
        split: &'static str,
        /// The splits that the scheme has.
        known: String,
    },

    /// The images cannot be had at this size.
    #[error("image set {set}: size = {size}, expected {expected}")]
    Size {
        /// The set's name.
        set: String,
        /// The side of the images, in pixels, that was asked for.
        size: usize,
        /// What would have been right.
        expected: String,
    },

    /// A manifest that says something impossible.
    #[error("manifest {file}: {problem}")]
    Manifest {
        /// The manifest's file.
        file: String,
        /// What is wrong, and what was expected.
        problem: String,
    },

    /// An archive is not in the data folder.
    #[error(
        "image set {set}: there is no {}; `cargo xtask data fetch {set}` fetches it, or PLASTICA_DATASETS names a \
         folder that has it",
        file.display()
    )]
    Missing {
        /// The set's name.
        set: String,
        /// Where the archive was expected.
        file: PathBuf,
    },

    /// An archive is another file than the one the manifest or the folder's lock file tells.
    #[error(
        "image set {set}: {}: {what} is {found}, expected {expected}; `cargo xtask data fetch {set}` fetches it again",
        file.display()
    )]
    Checksum {
        /// The set's name.
        set: String,
        /// The archive.
        file: PathBuf,
        /// What was compared: `size`, `sha256` or `md5`.
        what: &'static str,
        /// What it should have been.
        expected: String,
        /// What it is.
        found: String,
    },

    /// An archive cannot be read, or holds something else than the manifest says.
    #[error(
        "image set {set}: {}{}: {problem}; if the archive is damaged, `cargo xtask data fetch {set}` fetches it again",
        file.display(),
        entry.as_ref().map(|entry| format!(": {entry}")).unwrap_or_default()
    )]
    Archive {
        /// The set's name.
        set: String,
        /// The archive.
        file: PathBuf,
        /// The entry of the archive, where one is to blame.
        entry: Option<String>,
        /// What is wrong, and what was expected.
        problem: String,
    },

    /// A scheme asks for classes that the set has not.
    #[error("image set {set}: scheme {scheme}: {problem}")]
    Scheme {
        /// The set's name.
        set: String,
        /// The scheme's name.
        scheme: String,
        /// What is wrong, and what was expected.
        problem: String,
    },

    /// A file or folder cannot be read or written.
    #[error("{}: it can't be {action}: {source}", file.display())]
    Io {
        /// The file or folder.
        file: PathBuf,
        /// `read` or `written`.
        action: &'static str,
        /// Why.
        source: io::Error,
    },

    /// The selected images are no image set.
    #[error(transparent)]
    ImageSet(#[from] TaskError),
}

impl DataError {
    pub(super) fn reading(file: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let file = file.into();
        move |source| Self::Io { file, action: "read", source }
    }

    pub(super) fn writing(file: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let file = file.into();
        move |source| Self::Io { file, action: "written", source }
    }
}

/// What is wrong inside an archive, before anybody knows which archive it is.
#[derive(Debug)]
pub(super) struct Flaw {
    /// The entry to blame, where there is one.
    pub entry: Option<String>,
    /// What is wrong, and what was expected.
    pub problem: String,
}

impl Flaw {
    /// Something wrong with the whole archive.
    pub fn whole(problem: impl Into<String>) -> Self {
        Self { entry: None, problem: problem.into() }
    }

    /// Something wrong with one entry.
    pub fn at(entry: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { entry: Some(entry.into()), problem: problem.into() }
    }
}
