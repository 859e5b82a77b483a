//! Episodes of tasks that can only be solved by remembering what the episode itself showed.
//!
//! A task is an [`EpisodeSource`]: from a random generator and a count it draws an
//! [`EpisodeBatch`], plain row-major arrays that any tensor library can take. Everything that
//! trains or measures meets the tasks at that trait.
//!
//! The decision that shaped the crate: an episode is a function of the generator's bits alone.
//! Draws are of fixed width and floats come from arithmetic that rounds alike everywhere, so a
//! seed gives the same bits on every platform; and `n` episodes drawn at once are the `n` that
//! would have been drawn one by one, so the size of a batch never changes the data.
//!
//! An image task ([`FewShot`]) draws its episodes from images that somebody brings ([`ImageData`]); one kind, the
//! invented characters of [`Glyphs`], is built in.
//!
//! ```
//! use plastica_tasks::{Phase, Targets, TaskConfig};
//! use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
//!
//! let task = TaskConfig::from_name("copying")?.build()?; // the published setting
//! let mut rng = ChaCha8Rng::seed_from_u64(1);
//! let batch = task.sample(&mut rng, 16)?;
//!
//! assert_eq!((batch.batch, batch.steps, batch.input_width), (16, 31, 10));
//! let Targets::Classes(classes) = &batch.targets else { unreachable!("copying classifies") };
//! // What the first step of the first episode shows is the first of its answers.
//! let answer = batch.phases.iter().position(|&phase| phase == Phase::Recall).unwrap();
//! assert_eq!(batch.input(0, 0)[classes[answer] as usize], 1.0);
//! # Ok::<(), plastica_tasks::TaskError>(())
//! ```

mod associative_recall;
mod batch;
mod bounds;
mod concept_shift;
mod config;
mod copying;
mod cue_reward;
mod data;
mod draw;
mod error;
mod images;
mod normal;
mod pairs;
mod regression;
mod source;
mod suggest;

pub use associative_recall::{AssociativeRecall, Presentation};
pub use batch::{EpisodeBatch, EpisodeImages, Phase, Targets};
pub use bounds::{MAX_MAGNITUDE, MAX_STEPS, MAX_WIDTH};
pub use concept_shift::{ConceptShift, Mapping};
pub use config::{TaskConfig, TaskWidths};
pub use copying::Copying;
pub use cue_reward::CueReward;
pub use data::{
    Archive, ArchiveIdentity, DataError, DataFolder, Format, ImageQuery, Images, Lock, Manifest,
    PLASTICA_CACHE, PLASTICA_DATASETS, Part, Scheme, Selection, Shuffled, Span, Split, Trust,
};
pub use error::TaskError;
pub use images::{
    Augmentation, BuiltIn, DataSplit, Dataset, EpisodeOrder, FewShot, Glyphs, ImageClass, ImageData,
    ImageSet, MAX_IMAGE_SIZE, Normalisation, OneShotRuns, Rotations, SplitProtocol, Usage, chance,
    nearest_neighbour,
};
pub use regression::Regression;
pub use source::{EpisodeSource, LossKind};
