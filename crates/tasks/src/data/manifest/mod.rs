//! Manifests: everything about an image set but its pixels.

mod check;

pub(super) use check::MAX_ARCHIVE;
use serde::{Deserialize, Serialize};

/// The manifests of `datasets/`, by file name.
pub(super) const BUILT_IN: [(&str, &str); 4] = [
    ("datasets/omniglot.toml", include_str!("../../../../../datasets/omniglot.toml")),
    ("datasets/omniglot-minimal.toml", include_str!("../../../../../datasets/omniglot-minimal.toml")),
    ("datasets/cifar-100.toml", include_str!("../../../../../datasets/cifar-100.toml")),
    ("datasets/natural-100.toml", include_str!("../../../../../datasets/natural-100.toml")),
];

/// An image set: where it comes from, what its archives hold, and its splits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The set's name: lower-case letters, digits and `-`.
    pub name: String,
    /// One line on what the images are.
    pub about: String,
    /// The licence, or what is known of it.
    pub licence: String,
    /// A page on the set.
    pub homepage: String,
    /// The folder of the archives, inside the data folder; sets may share one.
    pub folder: String,
    /// How the images are stored.
    pub images: Images,
    /// The files to fetch.
    #[serde(rename = "archive")]
    pub archives: Vec<Archive>,
    /// What is inside the archives.
    #[serde(rename = "part")]
    pub parts: Vec<Part>,
    /// The ways to split the set; the first is the default.
    #[serde(rename = "scheme")]
    pub schemes: Vec<Scheme>,
}

/// How a set's images are stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Images {
    /// The layout of the archives.
    pub format: Format,
    /// Height as stored, in pixels, 1 to 1024.
    pub height: usize,
    /// Width as stored, in pixels, 1 to 1024.
    pub width: usize,
    /// Format `cifar-100`: the archive's entry with the names of the coarse labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_names: Option<String>,
    /// Format `cifar-100`: the archive's entry with the names of the fine labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_names: Option<String>,
}

/// The layout of archives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// A zip of `SET/Alphabet/characterNN/NAME.png`, 1-bit greyscale. White paper is 255, ink 0.
    Omniglot,
    /// A tar.gz with files of records: coarse label, fine label, then the planes red, green and blue.
    #[serde(rename = "cifar-100")]
    Cifar100,
}

/// A file to fetch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Archive {
    /// Its name in the set's folder.
    pub file: String,
    /// Where it is published, an https address; none where it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Its size in bytes, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Its sha256 in lower-case hexadecimal digits, where it is known; otherwise that of the first download is
    /// recorded in the folder's [`Lock`](crate::Lock) and holds from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Its md5 likewise, where that is what its author published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub md5: Option<String>,
}

/// Images of an archive that belong together. Counts are exact: an archive that holds others is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Its name, for the schemes.
    pub name: String,
    /// The archive's file name.
    pub archive: String,
    /// Format `cifar-100`: the archive's entry with the records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<String>,
    /// Number of classes.
    pub classes: usize,
    /// Images of each class.
    pub images_per_class: usize,
}

/// A way to split a set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scheme {
    /// Its name.
    pub name: String,
    /// One line on what it is and where it comes from.
    pub about: String,
    /// What is trained on.
    #[serde(default)]
    pub train: Option<Selection>,
    /// What choices are made on.
    #[serde(default)]
    pub validation: Option<Selection>,
    /// What is reported.
    #[serde(default)]
    pub test: Option<Selection>,
}

impl Scheme {
    /// The splits that the scheme has, in order.
    pub fn splits(&self) -> Vec<(Split, &Selection)> {
        let all =
            [(Split::Train, &self.train), (Split::Validation, &self.validation), (Split::Test, &self.test)];
        all.into_iter().filter_map(|(split, selection)| Some((split, selection.as_ref()?))).collect()
    }
}

/// A part of a scheme.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Split {
    /// What is trained on.
    Train,
    /// What choices are made on.
    Validation,
    /// What is reported.
    Test,
    /// All of the scheme's splits together, each image once.
    All,
}

impl Split {
    /// The split's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
            Self::All => "all",
        }
    }
}

/// The classes of a split: those that meet every condition given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Selection {
    /// Images of these parts only.
    #[serde(default)]
    pub parts: Option<Vec<String>>,
    /// Not the groups (alphabets) that this part has.
    #[serde(default)]
    pub without_groups_of: Option<String>,
    /// Classes of these names.
    #[serde(default)]
    pub classes: Option<Vec<String>>,
    /// Classes with these numbers in their part, counted from 0: the fine labels, in format `cifar-100`.
    #[serde(default)]
    pub labels: Option<Span>,
    /// A range of the classes in shuffled order, after the conditions above.
    #[serde(default)]
    pub shuffled: Option<Shuffled>,
}

/// Numbers `first` to `last`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Span {
    /// The first number.
    pub first: usize,
    /// The last number.
    pub last: usize,
}

/// A range of the classes ordered by the sha256 of `SEED/GROUP/CLASS`: a shuffle that is the same everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shuffled {
    /// The shuffle's seed.
    pub seed: u64,
    /// The first place taken, counted from 0.
    pub first: usize,
    /// The last place taken.
    pub last: usize,
}
