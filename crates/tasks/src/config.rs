//! The description of a task, as a configuration file holds it.

use serde::{Deserialize, Serialize};

use crate::{
    AssociativeRecall, BuiltIn, ConceptShift, Copying, CueReward, Dataset, EpisodeSource, FewShot, ImageData,
    Regression, TaskError, Usage,
    images::{cifar_fs, omniglot},
    suggest::nearest,
};

/// Any of the tasks with its parameters.
///
/// Serialised as a table whose `name` says which task it is, beside that task's own fields; a field
/// left out has its published value, and a field that the task does not have is an error.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case")]
pub enum TaskConfig {
    /// `copying`: repeat a sequence of tokens after a delay.
    Copying(Copying),
    /// `cue-reward`: recall the reward that came with a cue.
    CueReward(CueReward),
    /// `regression`: predict a linear function from examples of it.
    Regression(Regression),
    /// `associative-recall`: recall the values of many keys, much later.
    AssociativeRecall(AssociativeRecall),
    /// `concept-shift`: predict values of a mapping that changes without notice.
    ConceptShift(ConceptShift),
    /// `omniglot`: few-shot classification of handwritten characters.
    #[serde(deserialize_with = "omniglot")]
    Omniglot(FewShot),
    /// `cifar-fs`: few-shot classification of photographs.
    #[serde(deserialize_with = "cifar_fs")]
    CifarFs(FewShot),
}

/// The widths and the length of a task's episodes, which a model has to fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskWidths {
    /// Inputs a step, beside its image.
    pub input: usize,
    /// Outputs wanted at every step.
    pub output: usize,
    /// Channels, height and width of a step's image, where it shows one.
    pub image: Option<[usize; 3]>,
    /// Steps of an episode, at most.
    pub steps: usize,
}

impl TaskWidths {
    /// Those of a source of episodes.
    #[must_use]
    pub fn of(source: &dyn EpisodeSource) -> Self {
        let (input, output) = (source.input_width(), source.output_width());
        Self { input, output, image: source.image_shape(), steps: source.steps() }
    }
}

impl TaskConfig {
    /// The names of all tasks.
    pub const NAMES: [&'static str; 7] = [
        Copying::NAME,
        CueReward::NAME,
        Regression::NAME,
        FewShot::OMNIGLOT,
        FewShot::CIFAR_FS,
        AssociativeRecall::NAME,
        ConceptShift::NAME,
    ];

    /// The names of the published study's tasks.
    pub const PUBLISHED_NAMES: [&'static str; 5] =
        [Copying::NAME, CueReward::NAME, Regression::NAME, FewShot::OMNIGLOT, FewShot::CIFAR_FS];

    /// The names of the published study's sequence tasks, whose episodes need no data.
    pub const SEQUENCE_NAMES: [&'static str; 3] = [Copying::NAME, CueReward::NAME, Regression::NAME];

    /// The task of this name, in its published setting where it has one, and otherwise in its default one.
    ///
    /// # Errors
    ///
    /// [`TaskError::UnknownTask`] for a name that is not in [`NAMES`](TaskConfig::NAMES).
    pub fn from_name(name: &str) -> Result<Self, TaskError> {
        match name {
            Copying::NAME => Ok(TaskConfig::Copying(Copying::default())),
            CueReward::NAME => Ok(TaskConfig::CueReward(CueReward::default())),
            Regression::NAME => Ok(TaskConfig::Regression(Regression::default())),
            AssociativeRecall::NAME => Ok(TaskConfig::AssociativeRecall(AssociativeRecall::default())),
            ConceptShift::NAME => Ok(TaskConfig::ConceptShift(ConceptShift::default())),
            FewShot::OMNIGLOT => Ok(TaskConfig::Omniglot(FewShot::omniglot())),
            FewShot::CIFAR_FS => Ok(TaskConfig::CifarFs(FewShot::cifar_fs())),
            _ => {
                Err(TaskError::UnknownTask { name: name.to_owned(), suggestion: nearest(name, &Self::NAMES) })
            }
        }
    }

    /// The task's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            TaskConfig::Copying(_) => Copying::NAME,
            TaskConfig::CueReward(_) => CueReward::NAME,
            TaskConfig::Regression(_) => Regression::NAME,
            TaskConfig::AssociativeRecall(_) => AssociativeRecall::NAME,
            TaskConfig::ConceptShift(_) => ConceptShift::NAME,
            TaskConfig::Omniglot(_) => FewShot::OMNIGLOT,
            TaskConfig::CifarFs(_) => FewShot::CIFAR_FS,
        }
    }

    /// The images of an image task.
    #[must_use]
    pub fn data(&self) -> Option<Dataset> {
        match self {
            TaskConfig::Omniglot(task) | TaskConfig::CifarFs(task) => Some(task.data),
            _ => None,
        }
    }

    /// The few-shot task that an image task is.
    pub fn few_shot_mut(&mut self) -> Option<&mut FewShot> {
        match self {
            TaskConfig::Omniglot(task) | TaskConfig::CifarFs(task) => Some(task),
            _ => None,
        }
    }

    /// Whether every field is in its range.
    ///
    /// # Errors
    ///
    /// [`TaskError::InvalidField`], for the first field that is not.
    pub fn validate(&self) -> Result<(), TaskError> {
        match self {
            TaskConfig::Copying(task) => task.validate(),
            TaskConfig::CueReward(task) => task.validate(),
            TaskConfig::Regression(task) => task.validate(),
            TaskConfig::AssociativeRecall(task) => task.validate(),
            TaskConfig::ConceptShift(task) => task.validate(),
            TaskConfig::Omniglot(task) | TaskConfig::CifarFs(task) => task.validate(self.name()),
        }
    }

    /// The widths of this task's episodes; no data is opened for it.
    ///
    /// # Errors
    ///
    /// Those of [`validate`](TaskConfig::validate).
    pub fn widths(&self) -> Result<TaskWidths, TaskError> {
        if let TaskConfig::Omniglot(task) | TaskConfig::CifarFs(task) = self {
            task.validate(self.name())?;
            let image = Some(task.image_shape());
            let steps = task.layout().steps();
            return Ok(TaskWidths { input: task.ways + 1, output: task.ways, image, steps });
        }
        Ok(TaskWidths::of(self.build()?.as_ref()))
    }

    /// The source of this task's episodes for training, where they need no files: an image task's `data` is `glyphs`.
    ///
    /// # Errors
    ///
    /// Those of [`build_with`](TaskConfig::build_with) on [`BuiltIn`] data.
    pub fn build(&self) -> Result<Box<dyn EpisodeSource>, TaskError> {
        self.build_with(&BuiltIn, Usage::Training)
    }

    /// The source of this task's episodes for one usage. Sequence tasks take nothing from `data`, and are the same for
    /// every usage, but for [`shortest_delay`](Copying::shortest_delay) and
    /// [`shortest_steps`](AssociativeRecall::shortest_steps).
    ///
    /// # Errors
    ///
    /// Those of [`validate`](TaskConfig::validate), and of an image task's [`FewShot::open`].
    pub fn build_with(
        &self,
        data: &dyn ImageData,
        usage: Usage,
    ) -> Result<Box<dyn EpisodeSource>, TaskError> {
        Ok(match self {
            TaskConfig::Copying(task) if usage == Usage::Training => Box::new(task.build()?),
            TaskConfig::Copying(task) => Box::new(task.build_for_evaluation()?),
            TaskConfig::CueReward(task) => Box::new(task.build()?),
            TaskConfig::Regression(task) => Box::new(task.build()?),
            TaskConfig::AssociativeRecall(task) if usage == Usage::Training => Box::new(task.build()?),
            TaskConfig::AssociativeRecall(task) => Box::new(task.build_for_evaluation()?),
            TaskConfig::ConceptShift(task) => Box::new(task.build()?),
            TaskConfig::Omniglot(task) | TaskConfig::CifarFs(task) => {
                Box::new(task.open(self.name(), data, usage)?)
            }
        })
    }
}
