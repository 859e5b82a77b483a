//! Results on standard output.

use std::fmt::Display;
use std::io::{ErrorKind, Write};

use crate::failure::{Failure, Outcome};

/// Writes a line. A reader that has gone away, as in `cargo xtask reproduce | head`, is no failure: files are
/// written before anything is said of them.
pub fn say(line: impl Display) -> Outcome {
    match writeln!(std::io::stdout().lock(), "{line}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::Failed(anyhow::Error::new(error).context("standard output: it can't be written")))
        }
        _ => Ok(()),
    }
}
