//! Results on standard output: words, or with `--json` an object a line.

use std::fmt::Display;
use std::io::{ErrorKind, Write};
use std::sync::OnceLock;

use serde::Serialize;

use crate::failure::{Failure, Outcome};

/// Whether this process tells JSON; like standard output, there is one of it.
static JSON: OnceLock<bool> = OnceLock::new();

/// Decides, once and before anything is told, whether it is told as JSON.
pub fn set_json(json: bool) {
    JSON.get_or_init(|| json);
}

/// Whether things are told as JSON.
pub fn is_json() -> bool {
    JSON.get().copied().unwrap_or(false)
}

/// Writes a line for people: nothing with `--json`.
pub fn say(line: impl Display) -> Outcome {
    if is_json() { Ok(()) } else { write(line) }
}

/// Writes an event for programs, one line: nothing without `--json`. Fields that are numbers and not finite are null.
pub fn tell(event: &str, fields: impl Serialize) -> Outcome {
    #[derive(Serialize)]
    struct Event<'a, T> {
        event: &'a str,
        #[serde(flatten)]
        fields: T,
    }
    if is_json() { write(serde_json::to_string(&Event { event, fields })?) } else { Ok(()) }
}

/// Writes what a task came to, for programs.
pub fn tell_result(command: &str, fields: impl Serialize) -> Outcome {
    #[derive(Serialize)]
    struct Of<'a, T> {
        command: &'a str,
        #[serde(flatten)]
        fields: T,
    }
    tell("result", Of { command, fields })
}

/// A reader that has gone away, as in `cargo xtask reproduce | head`, is no failure: files are written before anything is
/// said of them.
fn write(line: impl Display) -> Outcome {
    match writeln!(std::io::stdout().lock(), "{line}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::Failed(anyhow::Error::new(error).context("standard output: it can't be written")))
        }
        _ => Ok(()),
    }
}
