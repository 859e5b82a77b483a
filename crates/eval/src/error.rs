//! What can go wrong in this crate, in one enum.

use std::path::PathBuf;

use crate::Whereabouts;

/// An error of a summary, a configuration or a run record.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvalError {
    /// A summary of no values at all.
    #[error("a summary was asked for of no values; it needs at least one")]
    EmptySample,
    /// A NaN or an infinity among the values to sum up.
    #[error("value {index} of a sample of {count} is {value}; every value of a sample must be finite")]
    NonFiniteSample {
        /// Position of the value in the sample, from 0.
        index: usize,
        /// Number of values in the sample.
        count: usize,
        /// The value.
        value: f64,
    },
    /// Finite values so far apart that their variance is no f64.
    #[error(
        "a sample of {count} values, the largest of magnitude {largest:e}, has a mean or variance beyond \
         f64; values below 1e150 in magnitude always have one"
    )]
    SampleOverflow {
        /// Number of values in the sample.
        count: usize,
        /// The largest magnitude among them.
        largest: f64,
    },
    /// A configuration's field with a value that it cannot have.
    #[error("{field} is {value}; it must be {expected}")]
    Config {
        /// The field's name, as it is written in a configuration file.
        field: &'static str,
        /// The value that was given.
        value: String,
        /// What would have been right.
        expected: String,
    },
    /// There is no run record under this name.
    #[error("{}: no such run record", path.display())]
    RecordMissing {
        /// The file that was asked for.
        path: PathBuf,
    },
    /// A run record that exists and could not be read.
    #[error("{}: the run record could not be read", path.display())]
    RecordRead {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A run record that ends in the middle.
    #[error("{}: the run record is cut short: {json}", path.display())]
    RecordCutShort {
        /// The file.
        path: PathBuf,
        /// Where the JSON ended.
        json: serde_json::Error,
    },
    /// A file that is not JSON where a run record was expected.
    #[error("{}: not a run record: it is not JSON: {json}", path.display())]
    RecordNotJson {
        /// The file.
        path: PathBuf,
        /// Where the JSON breaks.
        json: serde_json::Error,
    },
    /// JSON whose fields are not a run record's.
    #[error("{}: JSON, but its fields are not a run record's: {json}", path.display())]
    RecordFields {
        /// The file.
        path: PathBuf,
        /// The field that is missing, unknown or of the wrong type.
        json: serde_json::Error,
    },
    /// A run record's field with a value that it cannot have.
    #[error("{}: the run record's {field} is {value}; it must be {expected}", path.display())]
    RecordValue {
        /// The file.
        path: PathBuf,
        /// The field's name.
        field: &'static str,
        /// The value that it has.
        value: String,
        /// What would have been right.
        expected: &'static str,
    },
    /// A run record that could not be written; a record already under this name is untouched.
    #[error("{}: the run record could not be written", path.display())]
    RecordWrite {
        /// The file that was to be written.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// Records of different experiments put into one row.
    #[error(
        "runs of one table row must agree in their {field}, but seed {first_seed} has {first:?} and seed \
         {other_seed} has {other:?}"
    )]
    MixedRecords {
        /// The field in which they differ.
        field: &'static str,
        /// Seed of the first record.
        first_seed: u64,
        /// Its value of the field.
        first: String,
        /// Seed of the record that differs from it.
        other_seed: u64,
        /// Its value of the field.
        other: String,
    },
    /// The same run twice in one row, which would make the standard error too small.
    #[error("seed {seed} occurs twice among the runs of one table row; every run must have its own seed")]
    RepeatedSeed {
        /// The seed.
        seed: u64,
    },
    /// A recorded trajectory that cannot be replayed.
    #[error("recording {}: {message}", path.display())]
    Recording {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what would have been right.
        message: String,
    },
    /// A run whose loss or gradient left the numbers.
    #[error(
        "diverged at step {step}: loss {loss}, first in the gradient of '{parameter}', fast-weight norm² {plastic_norm:.4e}{}",
        at.as_ref().map(|at| format!("; {at}")).unwrap_or_default()
    )]
    Diverged {
        /// Optimiser steps made before.
        step: usize,
        /// The loss of that step, a mean over episodes and steps.
        loss: f64,
        /// The first parameter whose gradient is not finite, or words to say that only the loss is not.
        parameter: String,
        /// Largest `Σ ‖F‖²` of the step's episodes.
        plastic_norm: f64,
        /// The layer and the step of the sequence, where there are fast weights.
        at: Option<Box<Whereabouts>>,
    },
    /// A model whose loss on held-out episodes is no finite number.
    #[error(
        "diverged in evaluation: the loss of a batch is {loss}, fast-weight norm² {plastic_norm:.4e}{}",
        at.as_ref().map(|at| format!("; {at}")).unwrap_or_default()
    )]
    EvaluationDiverged {
        /// The loss of the batch, a mean over episodes and steps.
        loss: f64,
        /// Largest `Σ ‖F‖²` of the batch's episodes.
        plastic_norm: f64,
        /// The layer and the step of the sequence, where there are fast weights.
        at: Option<Box<Whereabouts>>,
    },
    /// A folder for results that cannot be made or written.
    #[error("output folder {}: it can't be written", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A folder for results that another process is writing to.
    #[error(
        "output folder {}: another process{} is writing results to it; wait for its end, or choose another folder",
        path.display(),
        holder.as_ref().map(|id| format!(" ({id})")).unwrap_or_default()
    )]
    FolderInUse {
        /// The folder.
        path: PathBuf,
        /// The other's process id, where it is known.
        holder: Option<String>,
    },
    /// The state of an unfinished run that cannot be read or written.
    #[error("snapshot {}: {message}", path.display())]
    Snapshot {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// A configuration that JSON cannot hold.
    #[error("the run's configuration can't be written as JSON: {message}")]
    Unserialisable {
        /// Why not.
        message: String,
    },
    /// A part of the report that could not be made of what the runs measured.
    #[error("the report's {part} can't be made: {message}")]
    Report {
        /// The figure or file.
        part: String,
        /// Why not.
        message: String,
    },
    /// A file of the report that could not be written; a file already under this name is untouched.
    #[error("{}: it can't be written", path.display())]
    ReportWrite {
        /// The file that was to be written.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A model failed.
    #[error(transparent)]
    Model(#[from] plastica_model::ModelError),
    /// A task failed.
    #[error(transparent)]
    Task(#[from] plastica_tasks::TaskError),
    /// A rule failed.
    #[error(transparent)]
    Rule(#[from] plastica_rules::RuleError),
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] plastica_tensor::TensorError),
}
