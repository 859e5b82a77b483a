//! How long something took, in a file apart from what came of it: a result is the same at every run, a duration is not.

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::EvalError;
use crate::record::write_json;

/// A duration.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Timing {
    /// Seconds, all sittings together.
    pub wall_seconds: f64,
}

impl Timing {
    /// `NAME.timing.json` beside `NAME.json`.
    pub(crate) fn beside(path: &Path) -> PathBuf {
        path.with_extension("timing.json")
    }

    /// The duration in a file; `None` where there is no such file or no duration in it. No result depends on it.
    pub(crate) fn read(path: &Path) -> Option<Self> {
        let timing: Self = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
        (timing.wall_seconds.is_finite() && timing.wall_seconds >= 0.0).then_some(timing)
    }

    pub(crate) fn write(self, path: &Path) -> Result<(), EvalError> {
        write_json(path, &self).map_err(|source| EvalError::ReportWrite { path: path.to_owned(), source })
    }
}

/// The time spent on a folder's study, over all sittings.
pub(crate) struct StudyClock {
    path: PathBuf,
    before: f64,
    begin: Instant,
}

impl StudyClock {
    /// Goes on from what the folder says.
    pub(crate) fn start(folder: &Path) -> Self {
        let path = folder.join("study.timing.json");
        let before = Timing::read(&path).map_or(0.0, |timing| timing.wall_seconds);
        Self { path, before, begin: Instant::now() }
    }

    /// Seconds so far.
    pub(crate) fn seconds(&self) -> f64 {
        self.before + self.begin.elapsed().as_secs_f64()
    }

    /// Seconds of the sittings before this.
    pub(crate) fn before(&self) -> f64 {
        self.before
    }

    /// Writes down the seconds so far.
    pub(crate) fn save(&self) -> Result<(), EvalError> {
        Timing { wall_seconds: self.seconds() }.write(&self.path)
    }
}
