//! Image data: what sets there are, where their archives lie, and how an archive becomes an [`ImageSet`].
//!
//! A manifest (`manifest.rs`, `datasets/*.toml`) says everything about a set that is not pixels. An archive's bytes
//! become a [`Collection`] in `omniglot.rs` or `cifar.rs`, nothing is ever unpacked to the disk, and every size is
//! bounded by the manifest before memory is asked for. `packed.rs` keeps a collection for the next time;
//! `selection.rs` makes the image set of a split from it; `folder.rs` puts these together.

mod cifar;
mod collection;
mod entry;
mod error;
mod few_shot;
mod folder;
mod identity;
mod manifest;
mod omniglot;
mod packed;
mod places;
mod png;
mod query;
mod resample;
mod selection;

pub use error::DataError;
pub use folder::{DataFolder, PLASTICA_CACHE, PLASTICA_DATASETS};
pub use identity::{ArchiveIdentity, Lock, Trust};
pub use manifest::{Archive, Format, Images, Manifest, Part, Scheme, Selection, Shuffled, Span, Split};
pub use query::ImageQuery;

#[cfg(doc)]
use {crate::ImageSet, collection::Collection};
