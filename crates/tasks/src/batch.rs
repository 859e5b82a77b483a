//! What a task hands over: a batch of episodes as plain arrays.

use std::{fmt, ops::Range};

use serde::{Deserialize, Serialize};

use crate::TaskError;

/// Which part of the episode a step belongs to.
///
/// Steps of [`Recall`](Phase::Recall) are the ones that a headline metric counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The step presents something to remember.
    Shown,
    /// The step presents nothing, and nothing is asked.
    Delay,
    /// The step asks for something shown before.
    Recall,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Phase::Shown => "shown",
            Phase::Delay => "delay",
            Phase::Recall => "recall",
        })
    }
}

/// The wanted outputs of a batch of `B` episodes of `T` steps.
#[derive(Debug, Clone, PartialEq)]
pub enum Targets {
    /// A class below `output_width` at every step: `[B, T]`, row-major.
    Classes(Vec<u32>),
    /// A vector at every step: `[B, T, output_width]`, row-major.
    Values(Vec<f32>),
}

/// The images of a batch of `B` episodes: one at every step.
///
/// A model encodes them, and puts each embedding in front of its step's inputs.
#[derive(Debug, Clone, PartialEq)]
pub struct EpisodeImages {
    /// Channels, height and width of an image.
    pub shape: [usize; 3],
    /// `[B, T, channels, height, width]`, row-major, normalised.
    pub pixels: Vec<f32>,
    /// Steps from the first that show support images; the rest show queries. The two are encoded as two groups.
    pub support: usize,
}

/// A batch of episodes of equal length and layout, episode-major.
#[derive(Debug, Clone, PartialEq)]
pub struct EpisodeBatch {
    /// Number of episodes, `B`.
    pub batch: usize,
    /// Steps an episode, `T`.
    pub steps: usize,
    /// Inputs a step.
    pub input_width: usize,
    /// Outputs that the task wants of a model at every step: classes to score, or values.
    pub output_width: usize,
    /// `[B, T, input_width]`, row-major.
    pub inputs: Vec<f32>,
    /// The images of an image task.
    pub images: Option<EpisodeImages>,
    /// The wanted outputs.
    pub targets: Targets,
    /// The step of each episode from which another mapping holds, `[B]`, in the task whose mapping changes.
    pub shifts: Option<Vec<u32>>,
    /// The phase of every step, length `T`; the same for every episode.
    pub phases: Vec<Phase>,
}

impl EpisodeBatch {
    /// The input of one step of one episode, `[input_width]`.
    ///
    /// # Panics
    ///
    /// Like any indexing, when the episode or the step is not in the batch.
    #[must_use]
    pub fn input(&self, episode: usize, step: usize) -> &[f32] {
        assert!(step < self.steps, "step {step} of an episode of {} steps", self.steps);
        let row = episode * self.steps + step;
        &self.inputs[row * self.input_width..(row + 1) * self.input_width]
    }

    /// A batch of the episodes in `episodes` alone, in their order: a worker's shard, say.
    ///
    /// # Panics
    ///
    /// Like any slicing, when the range is reversed or ends beyond the batch.
    #[must_use]
    pub fn select(&self, episodes: Range<usize>) -> EpisodeBatch {
        let rows = episodes.start * self.steps..episodes.end * self.steps;
        let of_width = |width: usize| rows.start * width..rows.end * width;
        EpisodeBatch {
            batch: episodes.len(),
            inputs: self.inputs[of_width(self.input_width)].to_vec(),
            images: self.images.as_ref().map(|images| EpisodeImages {
                pixels: images.pixels[of_width(images.shape.iter().product())].to_vec(),
                ..*images
            }),
            targets: match &self.targets {
                Targets::Classes(classes) => Targets::Classes(classes[of_width(1)].to_vec()),
                Targets::Values(values) => Targets::Values(values[of_width(self.output_width)].to_vec()),
            },
            shifts: self.shifts.as_ref().map(|shifts| shifts[episodes].to_vec()),
            phases: self.phases.clone(),
            ..*self
        }
    }

    /// A batch of the steps in `steps` alone, of every episode: what a loss over them wants. Where an episode's mapping
    /// changes is a place in the whole, and is left out.
    ///
    /// # Panics
    ///
    /// Like any slicing, when the range is reversed or ends beyond an episode's end.
    #[must_use]
    pub fn select_steps(&self, steps: Range<usize>) -> EpisodeBatch {
        fn rows<N: Copy>(of: &EpisodeBatch, all: &[N], steps: &Range<usize>, width: usize) -> Vec<N> {
            let episode = |episode: usize| {
                let first = episode * of.steps;
                &all[(first + steps.start) * width..(first + steps.end) * width]
            };
            (0..of.batch).flat_map(episode).copied().collect()
        }
        EpisodeBatch {
            steps: steps.len(),
            inputs: rows(self, &self.inputs, &steps, self.input_width),
            images: self.images.as_ref().map(|images| EpisodeImages {
                pixels: rows(self, &images.pixels, &steps, images.shape.iter().product()),
                support: images.support.clamp(steps.start, steps.end) - steps.start,
                ..*images
            }),
            targets: match &self.targets {
                Targets::Classes(classes) => Targets::Classes(rows(self, classes, &steps, 1)),
                Targets::Values(values) => Targets::Values(rows(self, values, &steps, self.output_width)),
            },
            shifts: None,
            phases: self.phases[steps].to_vec(),
            ..*self
        }
    }
}

/// How a sequence task's episodes are laid out: what all batches of one length share.
pub(crate) struct Layout {
    pub task: &'static str,
    pub input_width: usize,
    pub output_width: usize,
    pub phases: Vec<Phase>,
}

/// What is wanted at a step: a class or a value.
pub(crate) trait Wanted: Clone + Default {
    fn targets(all: Vec<Self>) -> Targets;
}

impl Wanted for u32 {
    fn targets(all: Vec<Self>) -> Targets {
        Targets::Classes(all)
    }
}

impl Wanted for f32 {
    fn targets(all: Vec<Self>) -> Targets {
        Targets::Values(all)
    }
}

impl Layout {
    /// A batch of `count` episodes, each filled by `draw` from zeroed inputs `[T, input_width]` and wanted outputs `[T]`.
    pub fn sample<N: Wanted>(
        self,
        count: usize,
        mut draw: impl FnMut(&mut [f32], &mut [N]),
    ) -> Result<EpisodeBatch, TaskError> {
        let (steps, width) = (self.phases.len(), self.input_width);
        let mut inputs = zeros(self.task, count, steps, width)?;
        let mut wanted = zeros(self.task, count, steps, 1)?;
        for (inputs, wanted) in inputs.chunks_exact_mut(steps * width).zip(wanted.chunks_exact_mut(steps)) {
            draw(inputs, wanted);
        }
        Ok(EpisodeBatch {
            batch: count,
            steps,
            input_width: width,
            output_width: self.output_width,
            inputs,
            targets: N::targets(wanted),
            images: None,
            shifts: None,
            phases: self.phases,
        })
    }
}

/// A zero array of `count` episodes of `steps` rows of `width` numbers.
///
/// Refuses what the address space or the allocator cannot hold, so that a mistyped count is an
/// error and not an abort.
pub(crate) fn zeros<N: Clone + Default>(
    task: &'static str,
    count: usize,
    steps: usize,
    width: usize,
) -> Result<Vec<N>, TaskError> {
    let too_large = || TaskError::BatchTooLarge { task, count, steps, width };
    let length =
        steps.checked_mul(width).and_then(|episode| episode.checked_mul(count)).ok_or_else(too_large)?;
    let mut numbers = Vec::new();
    numbers.try_reserve_exact(length).map_err(|_| too_large())?;
    numbers.resize(length, N::default());
    Ok(numbers)
}
