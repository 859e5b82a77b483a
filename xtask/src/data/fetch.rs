//! Fetching an archive: it is in its place whole and verified, or not at all.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use plastica_tasks::{Archive, DataError, DataFolder, Lock, Manifest, Trust};
use serde_json::json;

use super::source::{Origin, Source};
use super::{download, identify};
use crate::failure::Outcome;
use crate::output::{say, tell, tell_result};
use crate::progress::Progress;

/// Most bytes of an archive whose size is not known.
pub const MAX_SIZE: u64 = 1 << 32;

/// Fetches what is missing of a set.
pub fn set(folder: &DataFolder, manifest: &Manifest, source: &Source, quiet: bool) -> Outcome {
    for archive in &manifest.archives {
        let state = fetch(folder, manifest, archive, source, quiet)?;
        say(format_args!("{}: {state}", archive.file))?;
        tell("archive", json!({ "set": manifest.name, "archive": archive.file, "state": state }))?;
    }
    tell_result("data fetch", json!({ "set": manifest.name, "folder": folder.set_folder(manifest) }))
}

/// Fetches an archive, and says what became of it.
fn fetch(
    folder: &DataFolder,
    manifest: &Manifest,
    archive: &Archive,
    source: &Source,
    quiet: bool,
) -> Result<String> {
    let path = folder.archive_path(manifest, archive);
    let set_folder = folder.set_folder(manifest);
    let mut lock = Lock::read(&set_folder)?;
    let mut wrong = None;
    if path.is_file() {
        let identity = identify(&path, archive, quiet)?;
        match identity.check(manifest, archive, &lock, &path) {
            Ok(Trust::Unknown) => {
                lock.record(&archive.file, identity)?;
                return Ok("already there, its checksum recorded now".to_owned());
            }
            Ok(_) => return Ok("already there".to_owned()),
            Err(error @ DataError::Checksum { .. }) => wrong = Some(difference(&error)),
            Err(error) => return Err(error.into()),
        }
    }
    let origin = source.origin(manifest, archive)?;
    refuse_read_only(&set_folder)?;
    fs::create_dir_all(&set_folder).with_context(|| format!("{}: it can't be made", set_folder.display()))?;
    let part = beside(&path, ".part");
    let mut file = open_part(&part)?;
    let came_from = take(&origin, archive, &mut file, &part, quiet)?;
    file.sync_all().with_context(|| format!("{}: it can't be written", part.display()))?;

    let rejected = beside(&path, ".rejected");
    let identity = identify(&part, archive, quiet)?;
    let trust = match identity.check(manifest, archive, &lock, &part) {
        Ok(trust) => trust,
        Err(error @ DataError::Checksum { .. }) => {
            rename(&part, &rejected)?;
            bail!("{came_from}: {}; what came is kept as {}", difference(&error), rejected.display());
        }
        Err(error) => return Err(error.into()),
    };
    let mut said = format!("fetched from {came_from}");
    if let Some(wrong) = wrong {
        rename(&path, &rejected)?;
        said += &format!("; the file that was there ({wrong}) is kept as {}", rejected.display());
    }
    if trust == Trust::Unknown {
        said += &format!("; no checksum is published, recorded sha256 {}", identity.sha256);
        lock.record(&archive.file, identity)?;
    }
    rename(&part, &path)?;
    Ok(said)
}

/// Brings an archive into `file`, and says from where.
fn take(origin: &Origin, archive: &Archive, file: &mut File, part: &Path, quiet: bool) -> Result<String> {
    let progress = Progress::bytes(archive.size, quiet);
    let limit = archive.size.unwrap_or(MAX_SIZE);
    let came_from = match origin {
        Origin::Address(address) => {
            download::download(address, archive.size, limit, file, &progress)
                .with_context(|| format!("{}: it can't be fetched", archive.file))?;
            address.clone()
        }
        Origin::File(from) => {
            copy(from, limit, file, &progress, &archive.file)
                .with_context(|| format!("{}: it can't be copied to {}", from.display(), part.display()))?;
            from.display().to_string()
        }
    };
    progress.finish();
    Ok(came_from)
}

fn copy(from: &Path, limit: u64, into: &mut File, progress: &Progress, name: &str) -> io::Result<()> {
    download::empty(into)?;
    // One byte more than there may be shows that there are too many.
    let mut from = File::open(from)?.take(limit.saturating_add(1));
    download::pour(&mut from, into, |bytes| progress.advance(name, bytes))
}

/// What differs, without the rest of the message.
fn difference(error: &DataError) -> String {
    match error {
        DataError::Checksum { what, expected, found, .. } => {
            format!("{what} is {found}, expected {expected}")
        }
        other => other.to_string(),
    }
}

/// The file in which an archive grows: one from an earlier try is taken up. Only one fetch may have it.
fn open_part(part: &Path) -> Result<File> {
    let open = File::options().read(true).write(true).create(true).truncate(false).open(part);
    let file = open.with_context(|| format!("{}: it can't be written", part.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            bail!("{}: another fetch is writing it, expected none", part.display())
        }
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("{}: it can't be locked", part.display()))
        }
    }
}

/// Refuses a folder that is marked read-only, or is to be made in one. An administrator could write to it, and should
/// not.
fn refuse_read_only(folder: &Path) -> Result<()> {
    let existing = folder.ancestors().find_map(|folder| Some((folder, folder.metadata().ok()?)));
    match existing {
        Some((folder, metadata)) if metadata.permissions().readonly() => bail!(
            "{}: it is read-only, expected a folder to write to; PLASTICA_DATASETS names another",
            folder.display()
        ),
        _ => Ok(()),
    }
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to)
        .with_context(|| format!("{}: it can't be renamed to {}", from.display(), to.display()))
}

/// The file of this name with something appended.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().map(OsString::from).unwrap_or_default();
    name.push(suffix);
    path.with_file_name(name)
}
