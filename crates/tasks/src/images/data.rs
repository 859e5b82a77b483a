//! Which images a few-shot task draws from, how they are divided, and who brings them.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{Glyphs, ImageSet, Normalisation};
use crate::TaskError;

/// A set of images that a few-shot task can draw from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Dataset {
    /// `omniglot`: 1623 handwritten characters of 50 alphabets, 20 drawings each (Lake et al., 2015).
    #[serde(rename = "omniglot")]
    Omniglot,
    /// `omniglot-minimal`: the two published small background sets of it, of 5 alphabets each.
    #[serde(rename = "omniglot-minimal")]
    OmniglotMinimal,
    /// `cifar-100`: photographs of 100 kinds of things (Krizhevsky, 2009).
    #[serde(rename = "cifar-100")]
    Cifar100,
    /// `natural-100`: other photographs in CIFAR-100's format. Not CIFAR-100, and never to be reported as it.
    #[serde(rename = "natural-100")]
    Natural100,
    /// `glyphs`: invented characters, drawn on the spot ([`Glyphs`]). Not Omniglot, and never to be reported as it.
    #[serde(rename = "glyphs")]
    Glyphs,
}

impl Dataset {
    /// Every set.
    pub const ALL: [Self; 5] =
        [Self::Omniglot, Self::OmniglotMinimal, Self::Cifar100, Self::Natural100, Self::Glyphs];

    /// Its name in configurations and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Omniglot => "omniglot",
            Self::OmniglotMinimal => "omniglot-minimal",
            Self::Cifar100 => "cifar-100",
            Self::Natural100 => "natural-100",
            Self::Glyphs => "glyphs",
        }
    }

    /// Channels of its images: 3 for photographs, 1 for ink on paper.
    #[must_use]
    pub const fn channels(self) -> usize {
        match self {
            Self::Cifar100 | Self::Natural100 => 3,
            Self::Omniglot | Self::OmniglotMinimal | Self::Glyphs => 1,
        }
    }

    /// How its pixels are normalised: the published figures for CIFAR-100 and Omniglot, and those of the one that it
    /// stands in for otherwise.
    #[must_use]
    pub const fn normalisation(self) -> Normalisation {
        if self.channels() == 3 { Normalisation::CIFAR } else { Normalisation::PAPER }
    }

    /// The byte outside of an image: black around a photograph, white around ink on paper.
    #[must_use]
    pub const fn blank(self) -> u8 {
        if self.channels() == 3 { 0 } else { 255 }
    }
}

impl fmt::Display for Dataset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What a source's episodes are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Usage {
    /// Training: images may be augmented.
    Training,
    /// Choosing among models.
    Validation,
    /// Measuring the one chosen.
    Test,
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Usage::Training => "training",
            Usage::Validation => "validation",
            Usage::Test => "test",
        })
    }
}

/// How classes are divided among training, validation and test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SplitProtocol {
    /// As in arXiv 2510.21908: Omniglot's background alphabets to train on, its evaluation alphabets otherwise; of
    /// CIFAR-100, and of glyphs, the same classes for everything.
    Published,
    /// No class has two uses: Omniglot's alphabets, CIFAR-FS's classes (Bertinetto et al., 2019); of glyphs, the first
    /// 60% of the alphabets, the next 20%, and the last 20%.
    Disjoint,
}

/// A part of a set of images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DataSplit {
    /// How the set is divided.
    pub protocol: SplitProtocol,
    /// Which of the parts.
    pub usage: Usage,
}

/// Who brings the images: a folder of downloaded sets, say, or [`BuiltIn`].
pub trait ImageData: Send + Sync {
    /// The part `split` of the set `data` (a [`Dataset::name`]), its images `size` pixels high and wide.
    ///
    /// # Errors
    /// [`TaskError::Data`] when the set is not there or is damaged.
    fn open(&self, data: &str, split: DataSplit, size: usize) -> Result<Arc<ImageSet>, TaskError>;
}

/// The data that needs no files: `glyphs` alone, 50 alphabets of 20 characters, as [`Glyphs`] draws them by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BuiltIn;

impl ImageData for BuiltIn {
    fn open(&self, data: &str, split: DataSplit, size: usize) -> Result<Arc<ImageSet>, TaskError> {
        if data != Dataset::Glyphs.name() {
            return Err(TaskError::Data {
                place: format!("data {data}"),
                problem: format!(
                    "it is not built in, as {} is; a folder that holds it has to be given",
                    Dataset::Glyphs
                ),
            });
        }
        let glyphs = Glyphs { size, ..Glyphs::default() };
        let all = glyphs.alphabets;
        let (train, validation) = (all * 3 / 5, all * 4 / 5);
        let part = match (split.protocol, split.usage) {
            (SplitProtocol::Published, _) => 0..all,
            (SplitProtocol::Disjoint, Usage::Training) => 0..train,
            (SplitProtocol::Disjoint, Usage::Validation) => train..validation,
            (SplitProtocol::Disjoint, Usage::Test) => validation..all,
        };
        glyphs.draw_alphabets(part).map(Arc::new)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn groups(protocol: SplitProtocol, usage: Usage) -> BTreeSet<String> {
        let set = BuiltIn.open("glyphs", DataSplit { protocol, usage }, 2).unwrap();
        set.classes().iter().map(|class| class.group.clone()).collect()
    }

    #[test]
    fn disjoint_splits_share_no_alphabet_and_leave_none_out() {
        let parts = [Usage::Training, Usage::Validation, Usage::Test]
            .map(|usage| groups(SplitProtocol::Disjoint, usage));
        assert_eq!(parts.each_ref().map(BTreeSet::len), [30, 10, 10]);
        let all: BTreeSet<String> = parts.into_iter().flatten().collect();
        assert_eq!(all.len(), 50);
        assert_eq!(groups(SplitProtocol::Published, Usage::Test), all);
    }

    #[test]
    fn data_that_is_not_built_in_is_refused_by_name() {
        let split = DataSplit { protocol: SplitProtocol::Published, usage: Usage::Test };
        assert_eq!(
            BuiltIn.open("omniglot", split, 28).unwrap_err().to_string(),
            "data omniglot: it is not built in, as glyphs is; a folder that holds it has to be given"
        );
    }

    #[test]
    fn names_are_those_of_configurations() {
        for data in Dataset::ALL {
            assert_eq!(serde_json::to_value(data).unwrap(), data.name());
            assert_eq!(format!("{data:>17}").trim_start(), data.name());
        }
    }
}
