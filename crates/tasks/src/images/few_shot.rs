//! Few-shot classification of images: what a configuration says.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};

use super::{
    Augmentation, DataSplit, Dataset, ImageData, ImageSet, SplitProtocol, Usage, episodes::FewShotEpisodes,
    layout::EpisodeLayout,
};
use crate::{EpisodeSource, MAX_STEPS, MAX_WIDTH, TaskError, bounds::Bounds};

/// The largest height and width of an image, in pixels.
pub const MAX_IMAGE_SIZE: usize = 256;

/// The order of an episode's steps; the support is always before the queries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EpisodeOrder {
    /// Class by class, and the queries in the same order of classes (published). A query's place in the episode then
    /// tells its class.
    Class,
    /// Every order of the support, and of the queries, is equally likely.
    Shuffled,
}

/// Which sources take each class four times, as a class of its own for every quarter turn of its images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rotations {
    /// None (published).
    None,
    /// Those for training.
    Training,
    /// All.
    Always,
}

/// A task of few-shot classification, `omniglot` or `cifar-fs` of arXiv 2510.21908; their defaults are the published
/// settings.
///
/// An episode has `ways` classes, drawn without replacement, and `shots + queries` images of each, drawn without
/// replacement: `ways * shots` steps of support, then `ways * queries` queries. A step shows an image, beside the input
/// `[label one-hot (0 in a query), flag (1 in a query)]`; its target is the image's label, from 0 to `ways - 1`.
///
/// ```
/// use plastica_tasks::{
///     BuiltIn, Dataset, EpisodeSource, FewShot, SplitProtocol, TaskConfig, Usage, nearest_neighbour,
/// };
/// use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
///
/// let task = TaskConfig::Omniglot(FewShot {
///     data: Dataset::Glyphs, // drawn on the spot; the others are read from files
///     split: SplitProtocol::Disjoint,
///     image_size: 28,
///     ..FewShot::omniglot()
/// });
/// let source = task.build_with(&BuiltIn, Usage::Test)?;
/// let batch = source.sample(&mut ChaCha8Rng::seed_from_u64(1), 2)?;
///
/// let images = batch.images.as_ref().expect("an image task");
/// assert_eq!((images.shape, images.support, batch.steps), ([1, 28, 28], 25, 100));
/// assert_eq!(nearest_neighbour(&batch).map(|answers| answers.len()), Some(2 * 75));
/// # Ok::<(), plastica_tasks::TaskError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct FewShot {
    /// The images. For `omniglot`: `omniglot`, `omniglot-minimal` or `glyphs`; for `cifar-fs`: `cifar-100`,
    /// `natural-100` or `glyphs`.
    pub data: Dataset,
    /// Which classes are for training, and which for evaluation.
    pub split: SplitProtocol,
    /// Classes an episode: at least 2.
    pub ways: usize,
    /// Support images of each class: at least 1.
    pub shots: usize,
    /// Queries of each class: at least 1.
    pub queries: usize,
    /// Height and width of the images in pixels: 1 to [`MAX_IMAGE_SIZE`].
    pub image_size: usize,
    /// The order of the steps.
    pub order: EpisodeOrder,
    /// Whether labels are dealt to an episode's classes at random, or in the order in which the classes come up
    /// (published).
    pub permute_labels: bool,
    /// Whether turned images are classes of their own.
    pub rotations: Rotations,
    /// How training varies the images.
    pub augmentation: Augmentation,
}

impl FewShot {
    /// The name of the task on handwritten characters.
    pub const OMNIGLOT: &'static str = "omniglot";

    /// The name of the task on photographs.
    pub const CIFAR_FS: &'static str = "cifar-fs";

    /// Omniglot as published: 5-way 5-shot, 15 queries a class, 84 by 84 pixels.
    #[must_use]
    pub const fn omniglot() -> Self {
        Self {
            data: Dataset::Omniglot,
            split: SplitProtocol::Published,
            ways: 5,
            shots: 5,
            queries: 15,
            image_size: 84,
            order: EpisodeOrder::Class,
            permute_labels: false,
            rotations: Rotations::None,
            augmentation: Augmentation {
                crop_padding: 0,
                flip: false,
                brightness: 0.0,
                contrast: 0.0,
                saturation: 0.0,
            },
        }
    }

    /// CIFAR-FS as published: 5-way 1-shot, 15 queries a class, 32 by 32 pixels, one set of classes for everything.
    #[must_use]
    pub const fn cifar_fs() -> Self {
        Self { data: Dataset::Cifar100, shots: 1, image_size: 32, ..Self::omniglot() }
    }

    /// Whether every field is in its range, for the task of this name: [`OMNIGLOT`](FewShot::OMNIGLOT) or
    /// [`CIFAR_FS`](FewShot::CIFAR_FS).
    ///
    /// # Errors
    /// [`TaskError::InvalidField`], for the first field that is not.
    pub fn validate(&self, task: &'static str) -> Result<(), TaskError> {
        use Dataset::{Cifar100, Glyphs, Natural100, Omniglot, OmniglotMinimal};
        let bounds = Bounds(task);
        let known = match task {
            Self::OMNIGLOT => [Omniglot, OmniglotMinimal, Glyphs],
            _ => [Cifar100, Natural100, Glyphs],
        };
        bounds
            .ensure(known.contains(&self.data), "data", self.data, || known.map(Dataset::name).join(", "))?;
        bounds.within("ways", self.ways, 2..=MAX_WIDTH - 1)?;
        bounds.within("shots", self.shots, 1..=MAX_STEPS)?;
        bounds.within("queries", self.queries, 1..=MAX_STEPS)?;
        let steps = self.ways.saturating_mul(self.shots + self.queries);
        bounds.within("ways * (shots + queries) steps", steps, 1..=MAX_STEPS)?;
        bounds.within("image_size", self.image_size, 1..=MAX_IMAGE_SIZE)?;
        self.augmentation.validate(&bounds, self.image_size, self.data)
    }

    /// The source of the episodes of the task of this name, for one usage, from the images that `data` brings.
    ///
    /// # Errors
    /// Those of [`validate`](FewShot::validate), of [`ImageData::open`], and of [`episodes`](FewShot::episodes).
    pub fn open(
        &self,
        task: &'static str,
        data: &dyn ImageData,
        usage: Usage,
    ) -> Result<impl EpisodeSource + use<>, TaskError> {
        self.validate(task)?;
        let split = DataSplit { protocol: self.split, usage };
        self.episodes(task, data.open(self.data.name(), split, self.image_size)?, usage)
    }

    /// The source of the episodes of the task of this name, for one usage, from all classes of `set`.
    ///
    /// # Errors
    /// Those of [`validate`](FewShot::validate); [`TaskError::ImageSet`] for images of another shape;
    /// [`TaskError::InvalidField`] for more ways than the set has classes, or more images of a class than it has.
    pub fn episodes(
        &self,
        task: &'static str,
        set: Arc<ImageSet>,
        usage: Usage,
    ) -> Result<impl EpisodeSource + use<>, TaskError> {
        self.validate(task)?;
        FewShotEpisodes::new(task, self, set, usage)
    }

    /// Channels, height and width of the images.
    #[must_use]
    pub fn image_shape(&self) -> [usize; 3] {
        [self.data.channels(), self.image_size, self.image_size]
    }

    pub(crate) fn layout(&self) -> EpisodeLayout {
        let Self { ways, shots, queries, .. } = *self;
        EpisodeLayout { ways, support: ways * shots, queries: ways * queries }
    }
}

/// What a file says of a [`FewShot`], whose defaults depend on the task.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    data: Option<Dataset>,
    split: Option<SplitProtocol>,
    ways: Option<usize>,
    shots: Option<usize>,
    queries: Option<usize>,
    image_size: Option<usize>,
    order: Option<EpisodeOrder>,
    permute_labels: Option<bool>,
    rotations: Option<Rotations>,
    augmentation: Option<Augmentation>,
}

impl Given {
    fn over(self, default: FewShot) -> FewShot {
        FewShot {
            data: self.data.unwrap_or(default.data),
            split: self.split.unwrap_or(default.split),
            ways: self.ways.unwrap_or(default.ways),
            shots: self.shots.unwrap_or(default.shots),
            queries: self.queries.unwrap_or(default.queries),
            image_size: self.image_size.unwrap_or(default.image_size),
            order: self.order.unwrap_or(default.order),
            permute_labels: self.permute_labels.unwrap_or(default.permute_labels),
            rotations: self.rotations.unwrap_or(default.rotations),
            augmentation: self.augmentation.unwrap_or(default.augmentation),
        }
    }
}

/// Reads the task `omniglot`; a field left out has its published value.
pub(crate) fn omniglot<'de, D: Deserializer<'de>>(deserializer: D) -> Result<FewShot, D::Error> {
    Ok(Given::deserialize(deserializer)?.over(FewShot::omniglot()))
}

/// Reads the task `cifar-fs`; a field left out has its published value.
pub(crate) fn cifar_fs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<FewShot, D::Error> {
    Ok(Given::deserialize(deserializer)?.over(FewShot::cifar_fs()))
}
