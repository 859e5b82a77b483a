//! The study's report: as data, as a page, as text.
//!
//! [`Report::new`] sums records up; [`Report::write`] leaves `report.html`, `report.md` and `report.json` in a
//! folder. The page is one file without references to others: it opens offline, in light and dark, on a wide
//! screen and on a phone, and needs no script to be read.

mod chart;
mod curves;
mod episode;
mod heat;
mod html;
mod machine;
mod markdown;
mod style;
mod task;
mod ticks;
mod words;

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::record::{arms, replace_file, write_json};
use crate::{Claim, EvalError, Protocol, RunRecord, RunStatus, claims};

pub use curves::{Curve, Point, Series};
pub use machine::{Machine, Versions};
pub use task::{Baseline, Measured, PublishedFigure, RuleReport, TaskReport};

/// The layout of `report.json`, with a number that changes when a field does.
const FORMAT: &str = "plastica-report 2";

/// Everything that the report says, before it is given a form.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The layout of this structure as JSON.
    pub format: &'static str,
    /// How much was run: `paper`, `converged`, `smoke` or `custom`.
    pub protocol: String,
    /// What the outer gradient saw of the fast weights.
    pub credit: String,
    /// Number of runs.
    pub runs: usize,
    /// How many of them failed.
    pub failed: usize,
    /// The tasks, in the order of the records.
    pub tasks: Vec<TaskReport>,
    /// The claims and their verdicts: the paper's, or those of the converged protocol.
    pub claims: Vec<Claim>,
    /// What it ran on.
    pub machine: Machine,
    /// The devices that computed it.
    pub devices: Vec<String>,
    /// What it ran with.
    pub versions: Versions,
    /// Duration of the study in seconds.
    pub wall_seconds: f64,
}

impl Report {
    /// Sums up a study's records, all of one protocol and, but for the converged one, of one credit.
    ///
    /// # Errors
    /// Those of [`RuleRow::from_records`](crate::RuleRow::from_records), such as for no records at all, or for a seed
    /// that occurs twice.
    pub fn new(records: &[RunRecord], machine: Machine, wall_seconds: f64) -> Result<Self, EvalError> {
        let first = records.first().ok_or(EvalError::EmptySample)?;
        let of_several = first.protocol == Protocol::Converged.name();
        let named = of_several.then(|| arms(records));
        let records = named.as_deref().unwrap_or(records);
        let first = records.first().ok_or(EvalError::EmptySample)?;
        let tasks = distinct(records.iter().map(|r| &r.task));
        Ok(Self {
            format: FORMAT,
            protocol: first.protocol.clone(),
            credit: first.credit.clone(),
            runs: records.len(),
            failed: records.iter().filter(|r| r.status != RunStatus::Finished).count(),
            tasks: tasks.iter().map(|task| TaskReport::new(task, records)).collect::<Result<_, _>>()?,
            claims: claims(records),
            machine,
            devices: distinct(records.iter().flat_map(|r| &r.devices)),
            versions: Versions::current(),
            wall_seconds,
        })
    }

    /// The page.
    ///
    /// # Errors
    /// [`EvalError::Report`] for a figure that cannot be drawn.
    pub fn html(&self) -> Result<String, EvalError> {
        html::page(self)
    }

    /// The text: tables and claims, in markdown.
    pub fn markdown(&self) -> String {
        markdown::text(self)
    }

    /// The tables and the claims alone, as a terminal shows them.
    pub fn summary(&self) -> String {
        markdown::summary(self)
    }

    /// Writes `report.html`, `report.md` and `report.json` to `folder`, each in one piece; returns the files.
    ///
    /// # Errors
    /// [`EvalError::Report`] for a figure that cannot be drawn, [`EvalError::ReportWrite`] for a file that cannot be
    /// written.
    pub fn write(&self, folder: &Path) -> Result<Vec<PathBuf>, EvalError> {
        let texts = [("report.html", self.html()?), ("report.md", self.markdown())];
        let mut files = Vec::new();
        for (name, text) in texts {
            let path = folder.join(name);
            replace_file(&path, |out| out.write_all(text.as_bytes()))
                .map_err(|source| EvalError::ReportWrite { path: path.clone(), source })?;
            files.push(path);
        }
        let path = folder.join("report.json");
        write_json(&path, self).map_err(|source| EvalError::ReportWrite { path: path.clone(), source })?;
        files.push(path);
        Ok(files)
    }

    /// The rules of all tasks, in order of appearance.
    fn rules(&self) -> Vec<String> {
        distinct(self.tasks.iter().flat_map(|task| &task.rules).map(|rule| &rule.rule))
    }
}

/// Each name once, in order of appearance.
fn distinct<'a>(names: impl Iterator<Item = &'a String>) -> Vec<String> {
    let mut kept: Vec<String> = Vec::new();
    for name in names {
        if !kept.contains(name) {
            kept.push(name.clone());
        }
    }
    kept
}
