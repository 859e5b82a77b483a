//! `cargo xtask parity`: recorded trajectories, replayed.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use clap::Args;
use plastica_eval::{Deviation, GRADIENT_TOLERANCE, VALUE_TOLERANCE, replay};
use plastica_tensor::Backend;
use serde_json::json;

use crate::device::{On, on_device};
use crate::failure::{Failure, Outcome};
use crate::output::{say, tell, tell_result};

#[derive(Args)]
#[command(after_help = "\
A recording is a safetensors file; tests/golden/README.md of the repository says what is in it.

Examples:
  cargo xtask parity tests/golden

With --json, an event recording for each file: file, holds, and of values, fast_weights and gradients
the largest deviation, error and tensor; or why it could not be replayed, reason. The result: folder,
recordings, failed (how many).")]
pub struct Arguments {
    /// Folder of *.safetensors recordings: parameters, inputs, outputs, gradients.
    folder: PathBuf,
    #[command(flatten)]
    on: On,
}

/// Replays every file of a folder; a line each.
pub fn run(arguments: &Arguments) -> Outcome {
    on_device!(arguments.on.device, |backend| replay_all(arguments, &backend))
}

fn replay_all<B: Backend>(arguments: &Arguments, backend: &B) -> Outcome {
    let files = recordings(&arguments.folder)?;
    if files.is_empty() {
        return Err(Failure::Failed(anyhow!(
            "{}: it holds no *.safetensors file",
            arguments.folder.display()
        )));
    }
    let width = files.iter().filter_map(|f| f.file_name()).map(|f| f.len()).max().unwrap_or(0);
    let mut failed = 0;
    for file in &files {
        let name = file.file_name().map(|n| n.to_string_lossy()).unwrap_or_default();
        match replay(file, backend) {
            Ok(parity) => {
                let show = |d: &Deviation| format!("{:.1e} ({})", d.error, d.tensor);
                let verdict = if parity.holds() { "ok  " } else { "FAIL" };
                failed += usize::from(!parity.holds());
                say(format_args!(
                    "{verdict} {name:width$}  values {}  fast weights {}  gradients {}",
                    show(&parity.values),
                    show(&parity.fast_weights),
                    show(&parity.gradients),
                ))?;
                let of = |d: &Deviation| json!({ "error": d.error, "tensor": d.tensor });
                let told = json!({
                    "file": name,
                    "holds": parity.holds(),
                    "values": of(&parity.values),
                    "fast_weights": of(&parity.fast_weights),
                    "gradients": of(&parity.gradients),
                });
                tell("recording", told)?;
            }
            Err(error) => {
                failed += 1;
                say(format_args!("FAIL {name:width$}  {error}"))?;
                tell("recording", json!({ "file": name, "holds": false, "reason": error.to_string() }))?;
            }
        }
    }
    say(format_args!(
        "{} of {} within {VALUE_TOLERANCE:.0e} for values and fast weights, {GRADIENT_TOLERANCE:.0e} for gradients",
        files.len() - failed,
        files.len()
    ))?;
    let told = json!({ "folder": arguments.folder, "recordings": files.len(), "failed": failed });
    tell_result("parity", told)?;
    if failed == 0 {
        return Ok(());
    }
    let (count, folder) = (files.len(), arguments.folder.display());
    Err(Failure::Failed(anyhow!(
        "{folder}: {failed} of {count} recordings were not reproduced; the lines marked FAIL say how"
    )))
}

/// The folder's recordings, by name.
fn recordings(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let unreadable = || format!("{}: it can't be read as a folder", folder.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(unreadable)? {
        let path = entry.with_context(unreadable)?.path();
        if path.extension().is_some_and(|e| e == "safetensors") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
