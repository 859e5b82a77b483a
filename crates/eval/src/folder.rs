//! A folder for results, which one process at a time may write to.

use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::EvalError;

/// The file that is locked. It stays behind; the operating system lets go of the lock when the process ends, however it
/// does.
const LOCK: &str = ".lock";

/// Where temporary files are left behind by a process that was killed: in the folder itself and so deep inside.
const DEPTH: usize = 2;

/// A folder for results, for this process alone until the value is dropped.
#[derive(Debug)]
pub struct OutputFolder {
    path: PathBuf,
    lock: Mutex<File>,
}

impl OutputFolder {
    /// Makes the folder where there is none, makes sure that it can be written, and takes hold of it. Temporary files of
    /// processes that were killed are removed.
    ///
    /// # Errors
    /// [`EvalError::Folder`] when it cannot be made or written, [`EvalError::FolderInUse`] when another process has it.
    pub fn open(path: &Path) -> Result<Self, EvalError> {
        let lock = Mutex::new(take(path)?);
        let fail = |source| EvalError::Folder { path: path.to_owned(), source };
        tempfile::tempfile_in(path).map_err(fail)?;
        remove_leftovers(path, DEPTH).map_err(fail)?;
        Ok(Self { path: path.to_owned(), lock })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the folder anew if it has gone away since; says whether it had.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub(crate) fn ensure(&self) -> Result<bool, EvalError> {
        let mut lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        if is_at(&lock, &self.path.join(LOCK)) {
            return Ok(false);
        }
        *lock = take(&self.path)?;
        Ok(true)
    }
}

/// Takes the lock of a folder, which is made where there is none.
fn take(folder: &Path) -> Result<File, EvalError> {
    let fail = |source| EvalError::Folder { path: folder.to_owned(), source };
    std::fs::create_dir_all(folder).map_err(fail)?;
    let path = folder.join(LOCK);
    let mut options = File::options();
    let mut file = options.read(true).write(true).create(true).truncate(false).open(path).map_err(fail)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let known = file.read_to_string(&mut holder).is_ok() && !holder.trim().is_empty();
            let holder = known.then(|| format!("process {}", holder.trim()));
            return Err(EvalError::FolderInUse { path: folder.to_owned(), holder });
        }
        // a file system without locks keeps nobody from working on it
        Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => {}
        Err(TryLockError::Error(error)) => return Err(fail(error)),
    }
    // for the message above alone, which does without on a full disk
    let written =
        file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
    if written.is_err() {
        file.set_len(0).map_err(fail)?;
    }
    Ok(file)
}

/// Whether an open file is the one of this path, which may have been removed or replaced.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(ours), Ok(there)) => (ours.dev(), ours.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

/// Whether an open file is the one of this path: where an open file cannot be removed, whether there is any.
#[cfg(not(unix))]
fn is_at(_: &File, path: &Path) -> bool {
    path.exists()
}

/// Removes temporary files that were never renamed.
fn remove_leftovers(folder: &Path, depth: usize) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if depth > 0 && entry.file_type()?.is_dir() {
            remove_leftovers(&entry.path(), depth - 1)?;
        } else if name.ends_with(".tmp") && [".record-", ".checkpoint-"].iter().any(|p| name.starts_with(p)) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_one_holders_until_that_one_lets_go() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/b");
        let first = OutputFolder::open(&path).unwrap();
        let message = OutputFolder::open(&path).unwrap_err().to_string();
        let id = std::process::id();
        assert!(message.contains(&format!("b: another process (process {id}) is writing")), "{message}");
        drop(first);
        OutputFolder::open(&path).unwrap();
    }

    #[test]
    fn a_folder_that_has_gone_is_made_anew_and_held_again() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("out");
        let folder = OutputFolder::open(&path).unwrap();
        assert!(!folder.ensure().unwrap());
        std::fs::remove_dir_all(&path).unwrap();
        assert!(folder.ensure().unwrap());
        assert!(matches!(OutputFolder::open(&path), Err(EvalError::FolderInUse { .. })));
        assert!(!folder.ensure().unwrap());
    }

    #[test]
    fn a_folder_that_somebody_else_made_anew_is_theirs() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("out");
        let ours = OutputFolder::open(&path).unwrap();
        std::fs::rename(&path, parent.path().join("elsewhere")).unwrap();
        let theirs = OutputFolder::open(&path).unwrap();
        assert!(matches!(ours.ensure(), Err(EvalError::FolderInUse { .. })));
        drop(theirs);
        assert!(ours.ensure().unwrap());
    }

    #[test]
    fn temporary_files_of_the_killed_are_removed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let leftovers = [".record-a1.tmp", "logs/.record-b2.tmp", "tensorboard/run/.checkpoint-c3.tmp"];
        let others = ["run.json", "notes.tmp", ".record-kept", "logs/a/b/.record-d4.tmp"];
        for name in leftovers.iter().chain(&others) {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        OutputFolder::open(folder.path()).unwrap();
        assert!(leftovers.iter().all(|name| !folder.path().join(name).exists()));
        assert!(others.iter().all(|name| folder.path().join(name).exists()));
    }
}
