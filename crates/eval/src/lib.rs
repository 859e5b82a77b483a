//! Measuring plastic Transformers: how a run is configured, what is kept of it, and how runs are summed up
//! and set beside the figures of the paper (arXiv 2510.21908).
//!
//! ```
//! use plastica_eval::{RuleRow, Summary, comparison_table, published};
//!
//! let loss = Summary::of(&[0.34, 0.36, 0.35])?;
//! let row = RuleRow {
//!     rule: "hebbian".to_owned(),
//!     metrics: [("loss".to_owned(), loss)].into(),
//!     runs: 3,
//!     failures: Vec::new(),
//!     empty_answer: Some(11.0 / 16.0),
//! };
//! println!("{}", comparison_table("copying", &[row]));
//!
//! let copying = published().task("copying").expect("one of the paper's tasks");
//! assert_eq!(copying.config.training.epochs, 2);
//! # Ok::<(), plastica_eval::EvalError>(())
//! ```

mod claims;
mod comparison;
mod config;
mod divergence;
mod episode;
mod error;
mod evaluation;
mod folder;
mod layout;
mod numbers;
mod objective;
mod parity;
mod plateau;
mod preset;
mod published;
mod record;
mod report;
mod run;
mod session;
mod shard;
mod snapshot;
mod statistics;
mod study;
mod table;
mod tally;
mod tensorboard;
mod tensors;
mod timing;
mod trace;
mod trainer;

pub use claims::{
    Assertion, Claim, Comparison, Effect, Finding, Group, Sample, Scale, Side, Test, Verdict, claims,
};
pub use comparison::{RuleRow, comparison_table};
pub use config::TrainingConfig;
pub use divergence::Whereabouts;
pub use episode::{EpisodeTrace, HeadAttention, LayerNorms};
pub use error::EvalError;
pub use evaluation::{Evaluation, answer_queries, evaluate};
pub use folder::OutputFolder;
pub use layout::{LogAggregate, LogConfig, LogEpoch, LogRun, StudyLog, write_logs};
pub use objective::{Objective, SequenceObjective};
pub use parity::{Deviation, GRADIENT_TOLERANCE, Parity, VALUE_TOLERANCE, replay};
pub use plateau::Plateau;
pub use preset::Preset;
pub use published::{
    Published, PublishedConfig, PublishedMetric, PublishedModel, PublishedRule, PublishedTask,
    TaskParameters, published,
};
pub(crate) use record::split_arm;
pub use record::{EpochRecord, RunRecord, RunStatus, VERSION};
pub use report::{
    Baseline, Curve, Machine, Measured, Point, PublishedFigure, Report, RuleReport, Series, TaskReport,
    Versions,
};
pub use run::RunConfig;
pub use session::{Event, Note, Session, StudyOutcome, execute_all};
pub use snapshot::Snapshot;
pub use statistics::{Summary, difference_in_standard_errors};
pub use study::{PlannedRun, Protocol, Study};
pub use table::{Align, Column, Table, format_number};
pub use tally::Tally;
pub use tensorboard::write_events;
pub use trace::StepTrace;
pub use trainer::Trainer;
