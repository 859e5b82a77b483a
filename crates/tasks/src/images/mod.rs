//! Image sets and the few-shot episodes drawn from them.

mod augment;
mod data;
mod episodes;
mod few_shot;
mod glyphs;
mod layout;
mod nearest;
mod normalise;
mod one_shot;
mod set;

pub use augment::Augmentation;
pub use data::{BuiltIn, DataSplit, Dataset, ImageData, SplitProtocol, Usage};
pub use few_shot::{EpisodeOrder, FewShot, MAX_IMAGE_SIZE, Rotations};
pub(crate) use few_shot::{cifar_fs, omniglot};
pub use glyphs::Glyphs;
pub use nearest::{chance, nearest_neighbour};
pub use normalise::Normalisation;
pub use one_shot::OneShotRuns;
pub use set::{ImageClass, ImageSet};
