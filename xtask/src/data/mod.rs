//! `cargo xtask data`: lists, fetches and verifies the archives of image sets.

mod download;
mod fetch;
mod source;

use std::fmt::Write;

use clap::{Args, Subcommand};
use indicatif::HumanBytes;
use plastica_tasks::{Archive, ArchiveIdentity, DataError, DataFolder, Lock, Manifest, Trust};

use crate::failure::{Failure, Outcome};
use crate::output::{say, tell, tell_result};
use crate::progress::Progress;
use serde_json::json;
use source::Source;

#[derive(Args)]
#[command(after_help = "\
Archives go to the folder that PLASTICA_DATASETS names, else to datasets/data.

Examples:
  cargo xtask data list
  cargo xtask data fetch omniglot
  cargo xtask data verify")]
pub struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Say what sets there are, and which are in the data folder.
    #[command(after_help = "\
Examples:
  cargo xtask data list
  PLASTICA_DATASETS=/mnt/datasets cargo xtask data list

With --json, the result: folder, and sets, of each name, state (there, incomplete or not there), about,
bytes (null where not known), licence, schemes.")]
    List,
    /// Download the archives of a set, or what is still missing of them.
    #[command(after_help = "\
A download that was cut off goes on where it was left. An archive is in its place whole and verified, or
not at all.

Examples:
  cargo xtask data fetch omniglot
  cargo xtask data fetch natural-100 --mirror /mnt/datasets
  cargo xtask data fetch cifar-100 --mirror https://mirror.example.org/archives

With --json, an event archive for each: set, archive, state. The result: set, folder.")]
    Fetch {
        /// The set.
        name: String,
        /// A folder that has the archives, or another address to take them from: MIRROR/FILE.
        #[arg(long, value_name = "DIR_OR_URL")]
        mirror: Option<Source>,
    },
    /// Hold the archives in the data folder against their checksums.
    #[command(after_help = "\
Examples:
  cargo xtask data verify
  cargo xtask data verify omniglot

With --json, an event archive for each: set, archive, state; of one that is wrong, reason instead of
state. The result: wrong (how many).")]
    Verify {
        /// The set; all that are there by default.
        name: Option<String>,
    },
}

/// Does what was asked for.
pub fn run(arguments: &Arguments, quiet: bool) -> Outcome {
    let folder = DataFolder::from_env();
    match &arguments.task {
        Task::List => list(&folder),
        Task::Fetch { name, mirror } => {
            let manifest = named(&folder, name)?;
            fetch::set(&folder, &manifest, mirror.as_ref().unwrap_or(&Source::Published), quiet)
        }
        Task::Verify { name: Some(name) } => {
            let manifest = named(&folder, name)?;
            verify(&folder, &[manifest], true, quiet)
        }
        Task::Verify { name: None } => verify(&folder, &folder.manifests()?, false, quiet),
    }
}

/// The manifest of the set of this name: one that does not exist is the command line's fault.
fn named(folder: &DataFolder, name: &str) -> Outcome<Manifest> {
    folder.manifest(name).map_err(|error| match error {
        DataError::UnknownSet { .. } => Failure::usage(error),
        _ => Failure::from(error),
    })
}

fn list(folder: &DataFolder) -> Outcome {
    say(format_args!("data folder {}", folder.path().display()))?;
    let mut sets = Vec::new();
    for manifest in folder.manifests()? {
        let there = manifest.archives.iter().filter(|a| folder.archive_path(&manifest, a).is_file()).count();
        let state = match there {
            0 => "not there",
            some if some < manifest.archives.len() => "incomplete",
            _ => "there",
        };
        let mut text = format!("\n{}: {state}\n  {}\n", manifest.name, manifest.about);
        let size: Option<u64> = manifest.archives.iter().map(|archive| archive.size).sum();
        let schemes: Vec<&str> = manifest.schemes.iter().map(|scheme| scheme.name.as_str()).collect();
        sets.push(json!({
            "name": manifest.name,
            "state": state,
            "about": manifest.about,
            "bytes": size,
            "licence": manifest.licence,
            "schemes": schemes,
        }));
        let size = size.map_or("unknown".to_owned(), |bytes| HumanBytes(bytes).to_string());
        let written = write!(
            text,
            "  size {size}; licence: {}\n  split schemes: {}",
            manifest.licence,
            schemes.join(", ")
        );
        written.map_err(anyhow::Error::new)?;
        say(text)?;
    }
    tell_result("data list", json!({ "folder": folder.path(), "sets": sets }))
}

/// Verifies archives. One that is not there is wrong if it is `required`.
fn verify(folder: &DataFolder, manifests: &[Manifest], required: bool, quiet: bool) -> Outcome {
    let mut wrong = 0;
    for manifest in manifests {
        for archive in &manifest.archives {
            match verify_archive(folder, manifest, archive, required, quiet) {
                Ok(state) => {
                    say(format_args!("{}: {}: {state}", manifest.name, archive.file))?;
                    tell(
                        "archive",
                        json!({ "set": manifest.name, "archive": archive.file, "state": state }),
                    )?;
                }
                Err(error) => {
                    wrong += 1;
                    eprintln!("failed: {error:#}");
                    let reason = format!("{error:#}");
                    tell(
                        "archive",
                        json!({ "set": manifest.name, "archive": archive.file, "reason": reason }),
                    )?;
                }
            }
        }
    }
    tell_result("data verify", json!({ "wrong": wrong }))?;
    if wrong > 0 { Err(Failure::Told) } else { Ok(()) }
}

fn verify_archive(
    folder: &DataFolder,
    manifest: &Manifest,
    archive: &Archive,
    required: bool,
    quiet: bool,
) -> anyhow::Result<&'static str> {
    let path = folder.archive_path(manifest, archive);
    if !path.is_file() {
        if required {
            return Err(DataError::Missing { set: manifest.name.clone(), file: path }.into());
        }
        return Ok("not there");
    }
    let identity = identify(&path, archive, quiet)?;
    let mut lock = Lock::read(&folder.set_folder(manifest))?;
    Ok(match identity.check(manifest, archive, &lock, &path)? {
        Trust::Manifest => "as published",
        Trust::Lock => "as it was first recorded; no checksum is published",
        // A folder that cannot be written is verified all the same.
        Trust::Unknown => match lock.record(&archive.file, identity) {
            Ok(()) => "recorded now; no checksum is published",
            Err(_) => "no checksum is published, and the folder can't be written to record one",
        },
    })
}

/// The checksums of a file.
fn identify(path: &std::path::Path, archive: &Archive, quiet: bool) -> Result<ArchiveIdentity, DataError> {
    let progress = Progress::bytes(path.metadata().ok().map(|metadata| metadata.len()), quiet);
    let what = format!("checksum of {}", archive.file);
    let identity =
        ArchiveIdentity::of_file(path, archive, &mut |bytes| progress.advance(&what, bytes as usize));
    progress.finish();
    identity
}
