//! What is kept of one training run, as a JSON file.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::Path;

use plastica_model::ModelKind;
use plastica_rules::Rule;
use serde::{Deserialize, Serialize};
use serde_json::error::Category;

pub(crate) use crate::numbers::metrics;
use crate::timing::Timing;
use crate::{EvalError, StepTrace};

/// The version of this crate, for [`RunRecord::crate_version`].
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// One training run: what was run and what it measured.
///
/// Metrics of a run that diverged may be NaN or infinite. JSON has no such numbers, so the file has them as
/// the strings `"NaN"`, `"inf"` and `"-inf"`; every f64 but a NaN's payload survives writing and reading.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunRecord {
    /// Version of the crate that ran it: [`VERSION`].
    pub crate_version: String,
    /// The task's name.
    pub task: String,
    /// The plasticity rule's name, or what stands in its place: `prototypical`.
    pub rule: String,
    /// How much of the fast weights' trajectory the outer gradient sees.
    pub credit: String,
    /// How the run trains and measures, `paper` for the published way.
    pub protocol: String,
    /// Seed of every random draw of the run.
    pub seed: u64,
    /// The run's whole configuration.
    pub config: serde_json::Value,
    /// [`RunConfig::fingerprint`](crate::RunConfig::fingerprint) of that configuration, by which a finished run is known
    /// again; empty in records of versions that had none.
    #[serde(default)]
    pub fingerprint: String,
    /// What computed it: the devices' names in the order in which the run was on them, one for a run that never moved;
    /// none in records of versions that did not say. It is no part of the configuration, since a run is what it is asked
    /// to be wherever it is computed, and may go on elsewhere; but another device rounds otherwise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<String>,
    /// The epochs in order, up to the last that was finished.
    pub history: Vec<EpochRecord>,
    /// Metrics by name after the last epoch.
    #[serde(with = "metrics")]
    pub final_metrics: BTreeMap<String, f64>,
    /// Plasticity along the sequence in the last evaluation; none for rule none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<StepTrace>,
    /// Duration of the run in seconds, all its sittings together; finite, at least 0. It is kept in a file of its own,
    /// `NAME.timing.json` beside `NAME.json`, so that the same run gives the same bytes; 0 where that is missing.
    #[serde(default, skip_serializing)]
    pub wall_seconds: f64,
    /// How the run ended.
    pub status: RunStatus,
}

/// What one epoch measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochRecord {
    /// Number of the epoch.
    pub epoch: usize,
    /// Metrics by name.
    #[serde(with = "metrics")]
    pub metrics: BTreeMap<String, f64>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum RunStatus {
    /// It went through all its epochs.
    Finished,
    /// It stopped before.
    Failed {
        /// Why it stopped.
        reason: String,
    },
}

/// A rule and a credit as one name: `hebbian full`.
fn arm(rule: &str, credit: &str) -> String {
    format!("{rule} {credit}")
}

/// The rule of such a name and its credit; of a rule's name alone, an empty credit.
pub(crate) fn split_arm(name: &str) -> (&str, &str) {
    name.split_once(' ').unwrap_or((name, ""))
}

/// The records of a study of several credits, each under its rule and credit as one name, so that they stand beside each
/// other as rules do. Rule none has no fast weights for credit to train, ran once, and stays as it is.
pub(crate) fn arms(records: &[RunRecord]) -> Vec<RunRecord> {
    let mut credits: Vec<&str> = Vec::new();
    for record in records.iter().filter(|r| has_credit(r)) {
        if !credits.contains(&record.credit.as_str()) {
            credits.push(&record.credit);
        }
    }
    let credits = credits.join(" and ");
    let named = |record: &RunRecord| RunRecord {
        rule: if has_credit(record) { arm(&record.rule, &record.credit) } else { record.rule.clone() },
        credit: credits.clone(),
        ..record.clone()
    };
    records.iter().map(named).collect()
}

/// Whether what the outer gradient sees of fast weights is anything to a run, and not yet part of its name.
fn has_credit(record: &RunRecord) -> bool {
    let without = [Rule::None.name(), ModelKind::Prototypical.name()].contains(&record.rule.as_str());
    !without && split_arm(&record.rule).1.is_empty()
}

impl RunRecord {
    /// Writes the record to `path` in one piece, in place of a record that is there already: whoever reads
    /// `path` meanwhile finds the old record or the new one. Missing parent folders are made. How long the run took goes
    /// to a file beside it.
    ///
    /// # Errors
    ///
    /// [`EvalError::RecordValue`] for a duration that no run has, [`EvalError::RecordWrite`] if the
    /// operating system refuses.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<(), EvalError> {
        let path = path.as_ref();
        self.check(path)?;
        write_json(path, self).map_err(|source| EvalError::RecordWrite { path: path.to_owned(), source })?;
        Timing { wall_seconds: self.wall_seconds }.write(&Timing::beside(path))
    }

    /// Reads a record that [`RunRecord::write`] wrote.
    ///
    /// # Errors
    ///
    /// Each names the file: [`EvalError::RecordMissing`], [`EvalError::RecordRead`],
    /// [`EvalError::RecordNotJson`], [`EvalError::RecordCutShort`], [`EvalError::RecordFields`], and
    /// [`EvalError::RecordValue`] for a duration that no run has.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, EvalError> {
        let path = path.as_ref();
        let owned = || path.to_owned();
        let bytes = fs::read(path).map_err(|source| match source.kind() {
            ErrorKind::NotFound => EvalError::RecordMissing { path: owned() },
            _ => EvalError::RecordRead { path: owned(), source },
        })?;
        let mut record: Self = serde_json::from_slice(&bytes).map_err(|json| match json.classify() {
            Category::Eof => EvalError::RecordCutShort { path: owned(), json },
            Category::Data => EvalError::RecordFields { path: owned(), json },
            Category::Syntax | Category::Io => EvalError::RecordNotJson { path: owned(), json },
        })?;
        record.check(path)?;
        if let Some(timing) = Timing::read(&Timing::beside(path)) {
            record.wall_seconds = timing.wall_seconds;
        }
        Ok(record)
    }

    fn check(&self, path: &Path) -> Result<(), EvalError> {
        let seconds = self.wall_seconds;
        if seconds.is_finite() && seconds >= 0.0 {
            return Ok(());
        }
        Err(EvalError::RecordValue {
            path: path.to_owned(),
            field: "wall_seconds",
            value: seconds.to_string(),
            expected: "a finite number of at least 0",
        })
    }
}

/// Writes a value as JSON in one piece, ended by a line break.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> io::Result<()> {
    replace_file(path, |out| {
        serde_json::to_writer_pretty(&mut *out, value)?;
        out.write_all(b"\n")
    })
}

/// Lets `write` fill a temporary file beside `path`, then renames it to `path`.
pub(crate) fn replace_file(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    // A run may have taken hours: a missing folder is no reason to lose it.
    fs::create_dir_all(folder)?;
    let mut builder = tempfile::Builder::new();
    builder.prefix(".record-").suffix(".tmp");
    // The rename keeps the temporary file's mode, which would leave the record to its owner alone.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    // In the same folder, because a rename is atomic within one file system only.
    let file = builder.tempfile_in(folder)?;
    let mut out = BufWriter::new(file);
    write(&mut out)?;
    let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    // Otherwise a power cut after the rename could leave an empty file under the final name.
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn record(values: &[f64], status: RunStatus) -> RunRecord {
        let metrics: BTreeMap<String, f64> =
            values.iter().enumerate().map(|(i, &value)| (format!("metric_{i}"), value)).collect();
        RunRecord {
            crate_version: VERSION.to_owned(),
            task: "copying".to_owned(),
            rule: "hebbian".to_owned(),
            credit: "full".to_owned(),
            protocol: "paper".to_owned(),
            seed: u64::MAX,
            config: json!({ "training": { "lr": 1e-3, "schedule": null }, "note": "η₀ = 0.2" }),
            fingerprint: "00ff".to_owned(),
            devices: Vec::new(),
            history: vec![EpochRecord { epoch: 1, metrics: metrics.clone() }],
            final_metrics: metrics,
            trace: None,
            wall_seconds: 1.5,
            status,
        }
    }

    fn failed() -> RunStatus {
        RunStatus::Failed { reason: "loss is NaN at step 3".to_owned() }
    }

    /// Bits of all metrics, NaNs made one: NaN is not equal to itself.
    fn bits(record: &RunRecord) -> Vec<u64> {
        let all = record
            .history
            .iter()
            .flat_map(|epoch| epoch.metrics.values())
            .chain(record.final_metrics.values());
        all.map(|v| if v.is_nan() { f64::NAN.to_bits() } else { v.to_bits() }).collect()
    }

    fn names_in(folder: &Path) -> Vec<String> {
        let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
        let mut names: Vec<String> = fs::read_dir(folder).unwrap().map(name).collect();
        names.sort();
        names
    }

    proptest! {
        #[test]
        fn every_float_survives(values in prop::collection::vec(prop::num::f64::ANY, 0..8), ok: bool) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("run.json");
            let before = record(&values, if ok { RunStatus::Finished } else { failed() });
            before.write(&path).unwrap();
            let after = RunRecord::read(&path).unwrap();
            prop_assert_eq!(bits(&after), bits(&before));
            let without = |r: &RunRecord| RunRecord { history: vec![], final_metrics: BTreeMap::new(), ..r.clone() };
            prop_assert_eq!(without(&after), without(&before));
        }
    }

    #[test]
    fn a_write_replaces_and_leaves_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let runs = folder.path().join("a/b");
        let path = runs.join("run.json");
        record(&[1.0], failed()).write(&path).unwrap();
        let new = record(&[2.0], RunStatus::Finished);
        new.write(&path).unwrap();
        assert_eq!(RunRecord::read(&path).unwrap(), new);
        assert_eq!(names_in(&runs), ["run.json", "run.timing.json"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_record_is_as_readable_as_any_file() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (ours, plain) = (folder.path().join("run.json"), folder.path().join("plain"));
        record(&[], RunStatus::Finished).write(&ours).unwrap();
        fs::write(&plain, "").unwrap();
        let mode = |path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(ours), mode(plain));
    }

    #[test]
    fn a_failed_write_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.json");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("inside"), "kept").unwrap();
        let error = record(&[1.0], RunStatus::Finished).write(&path).unwrap_err();
        assert_eq!(error.to_string(), format!("{}: the run record could not be written", path.display()));
        assert_eq!(names_in(folder.path()), ["run.json"]);
    }

    #[test]
    fn a_duration_that_no_run_has_is_refused_before_writing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.json");
        for (seconds, shown) in [(f64::NAN, "NaN"), (-1.0, "-1"), (f64::INFINITY, "inf")] {
            let bad = RunRecord { wall_seconds: seconds, ..record(&[], RunStatus::Finished) };
            assert_eq!(
                bad.write(&path).unwrap_err().to_string(),
                format!(
                    "{}: the run record's wall_seconds is {shown}; it must be a finite number of at least 0",
                    path.display()
                )
            );
        }
        assert!(names_in(folder.path()).is_empty());
    }

    #[test]
    fn a_file_cut_anywhere_is_said_to_be_cut_short() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.json");
        record(&[0.25, f64::NAN, -1e-300], failed()).write(&path).unwrap();
        let whole = fs::read(&path).unwrap();
        let end = whole.iter().rposition(|&byte| byte == b'}').unwrap();
        for length in 0..=end {
            fs::write(&path, &whole[..length]).unwrap();
            let error = RunRecord::read(&path).unwrap_err();
            assert!(matches!(error, EvalError::RecordCutShort { .. }), "{length} bytes: {error:?}");
            assert!(error.to_string().contains("run.json"), "{error}");
        }
    }

    #[test]
    fn what_is_no_record_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.json");
        let check = |text: &str, part: &str| {
            fs::write(&path, text).unwrap();
            let message = RunRecord::read(&path).unwrap_err().to_string();
            assert!(message.contains("run.json") && message.contains(part), "{message}");
        };
        let edited = |edit: fn(&mut serde_json::Value)| {
            let mut value = serde_json::to_value(record(&[0.5], RunStatus::Finished)).unwrap();
            edit(&mut value);
            value.to_string()
        };
        check("epoch,loss\n1,0.5\n", "not JSON");
        check(&format!("{}{{", edited(|_| ())), "not JSON");
        check("[]", "fields are not a run record's");
        check(&edited(|v| v["seed"] = json!(-1)), "invalid value: integer `-1`, expected u64");
        check(&edited(|v| v["steps"] = json!(3)), "unknown field `steps`");
        check(
            &edited(|v| v["final_metrics"]["loss"] = json!(null)),
            r#"expected a number, "NaN", "inf" or "-inf""#,
        );
        check(&edited(|v| v["final_metrics"]["loss"] = json!("nan")), r#"invalid value: string "nan""#);
        check(&edited(|v| v["status"] = json!("running")), "unknown variant `running`");
        check(&edited(|v| v["wall_seconds"] = json!(-2.0)), "wall_seconds is -2");
        check(
            &edited(|v| {
                v.as_object_mut().unwrap().remove("rule");
            }),
            "missing field `rule`",
        );
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.json");
        let check = |want: &str| {
            let message = RunRecord::read(&path).unwrap_err().to_string();
            assert_eq!(message, format!("{}: {want}", path.display()));
        };
        check("no such run record");
        fs::create_dir(&path).unwrap();
        check("the run record could not be read");
    }
}
