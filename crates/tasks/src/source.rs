//! The trait at which tasks and everything that uses them meet.

use rand::Rng;

use crate::{EpisodeBatch, Phase, TaskError};

/// How a task's outputs are held against its targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LossKind {
    /// Outputs are the logits of classes: [`Targets::Classes`](crate::Targets::Classes).
    CrossEntropy,
    /// The same, but steps of the [`Recall`](Phase::Recall) phase alone count.
    QueryCrossEntropy,
    /// Outputs are values: [`Targets::Values`](crate::Targets::Values).
    SquaredError,
}

/// A task: draws batches of episodes, all of one length and one layout.
pub trait EpisodeSource: Send + Sync {
    /// The task's name in configurations and reports, such as `cue-reward`.
    fn name(&self) -> &'static str;

    /// The name of the data that the episodes are made of, such as `omniglot`, to stand wherever their numbers do; none
    /// for tasks that are made of random numbers alone.
    fn data_name(&self) -> Option<&str> {
        None
    }

    /// Inputs a step.
    fn input_width(&self) -> usize;

    /// Channels, height and width of the image of every step, in the tasks whose steps show one
    /// ([`EpisodeBatch::images`]).
    fn image_shape(&self) -> Option<[usize; 3]> {
        None
    }

    /// Outputs wanted of a model at every step.
    fn output_width(&self) -> usize;

    /// Steps an episode.
    fn steps(&self) -> usize;

    /// The phase of every step, of length [`steps`](EpisodeSource::steps).
    fn phases(&self) -> Vec<Phase>;

    /// The loss that the task is trained on; it tells which kind of targets a batch holds.
    fn loss(&self) -> LossKind;

    /// Draws `count` episodes (none is allowed).
    ///
    /// One call for `n` episodes takes the same bits from `rng`, and gives the same episodes, as
    /// `n` calls for one, unless the task draws a length for each batch ([`Copying`](crate::Copying::shortest_delay),
    /// [`AssociativeRecall`](crate::AssociativeRecall::shortest_steps)).
    ///
    /// # Errors
    ///
    /// [`TaskError::BatchTooLarge`] when the arrays do not fit in memory.
    fn sample(&self, rng: &mut dyn Rng, count: usize) -> Result<EpisodeBatch, TaskError>;
}
