//! `cargo xtask data`: lists, fetches and verifies the archives of image sets.

mod download;
mod fetch;
mod source;

use std::fmt::Write;

use clap::{Args, Subcommand};
use indicatif::HumanBytes;
use plastica_tasks::{Archive, ArchiveIdentity, DataError, DataFolder, Lock, Manifest, Trust};

use crate::failure::{Failure, Outcome};
use crate::output::say;
use crate::progress::Progress;
use source::Source;

#[derive(Args)]
#[command(after_help = "\
Archives go to the folder that PLASTICA_DATASETS names, else to datasets/data.

Examples:
  cargo xtask data fetch omniglot
  cargo xtask data fetch natural-100 --mirror /mnt/datasets
  cargo xtask data verify")]
pub struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Say what sets there are, and which are in the data folder.
    List,
    /// Download the archives of a set, or what is still missing of them.
    Fetch {
        /// The set.
        name: String,
        /// A folder that has the archives, or another address to take them from: MIRROR/FILE.
        #[arg(long, value_name = "DIR_OR_URL")]
        mirror: Option<Source>,
    },
    /// Hold the archives in the data folder against their checksums.
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
    for manifest in folder.manifests()? {
        let there = manifest.archives.iter().filter(|a| folder.archive_path(&manifest, a).is_file()).count();
        let state = match there {
            0 => "not there",
            some if some < manifest.archives.len() => "incomplete",
            _ => "there",
        };
        let mut text = format!("\n{}: {state}\n  {}\n", manifest.name, manifest.about);
        let size: Option<u64> = manifest.archives.iter().map(|archive| archive.size).sum();
        let size = size.map_or("unknown".to_owned(), |bytes| HumanBytes(bytes).to_string());
        let schemes: Vec<&str> = manifest.schemes.iter().map(|scheme| scheme.name.as_str()).collect();
        let written = write!(
            text,
            "  size {size}; licence: {}\n  split schemes: {}",
            manifest.licence,
            schemes.join(", ")
        );
        written.map_err(anyhow::Error::new)?;
        say(text)?;
    }
    Ok(())
}

/// Verifies archives. One that is not there is wrong if it is `required`.
fn verify(folder: &DataFolder, manifests: &[Manifest], required: bool, quiet: bool) -> Outcome {
    let mut wrong = false;
    for manifest in manifests {
        for archive in &manifest.archives {
            match verify_archive(folder, manifest, archive, required, quiet) {
                Ok(state) => say(format_args!("{}: {}: {state}", manifest.name, archive.file))?,
                Err(error) => {
                    wrong = true;
                    eprintln!("failed: {error:#}");
                }
            }
        }
    }
    if wrong { Err(Failure::Told) } else { Ok(()) }
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
