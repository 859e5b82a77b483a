//! What can be wrong with a task's description or with a request for episodes.

use crate::TaskConfig;

/// An unusable task configuration, or a batch that cannot be drawn.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TaskError {
    /// No task has this name.
    #[error(
        "unknown task `{name}`{}; the tasks are {}",
        suggestion.map(|near| format!(", did you mean `{near}`?")).unwrap_or_default(),
        TaskConfig::NAMES.join(", ")
    )]
    UnknownTask {
        /// The name that was asked for.
        name: String,
        /// The task that was probably meant, where one is close.
        suggestion: Option<&'static str>,
    },

    /// A field, or a number that follows from several fields, is outside its range.
    #[error("{task}: {field} = {value}, expected {expected}")]
    InvalidField {
        /// The task's name.
        task: &'static str,
        /// The field, or the expression over fields.
        field: &'static str,
        /// Its value.
        value: String,
        /// What would have been right.
        expected: String,
    },

    /// The arrays of a batch exceed the address space or what the allocator gives.
    #[error(
        "{task}: {count} episodes of {steps} steps with {width} numbers a step do not fit in \
         memory, expected a smaller count"
    )]
    BatchTooLarge {
        /// The task's name.
        task: &'static str,
        /// The number of episodes asked for.
        count: usize,
        /// Steps an episode.
        steps: usize,
        /// Numbers a step, in the array that did not fit.
        width: usize,
    },

    /// An image set contradicts itself.
    #[error("image set {name}: {problem}")]
    ImageSet {
        /// The set's name.
        name: String,
        /// What is wrong, and what was expected.
        problem: String,
    },

    /// A file or folder of images is missing, or is not what it has to be.
    #[error("{place}: {problem}")]
    Data {
        /// Which file, folder or set.
        place: String,
        /// What is wrong, and what would have been right.
        problem: String,
    },
}
