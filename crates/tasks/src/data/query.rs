//! What is asked of a data folder.

use super::DataError;
use super::manifest::{Format, Manifest, Scheme, Split};

/// Which images to open.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ImageQuery {
    /// The set's name.
    pub set: String,
    /// The split scheme; the set's first where `None`.
    pub scheme: Option<String>,
    /// The split.
    pub split: Split,
    /// Height and width to decode at, in pixels, at most the stored ones; as stored where `None`. Sets in the layout of
    /// CIFAR are had as stored only.
    pub size: Option<usize>,
}

impl ImageQuery {
    /// A split of a set by its first scheme, in the size it is stored in.
    pub fn new(set: impl Into<String>, split: Split) -> Self {
        Self { set: set.into(), scheme: None, split, size: None }
    }

    /// The same by another scheme.
    pub fn scheme(self, scheme: impl Into<String>) -> Self {
        Self { scheme: Some(scheme.into()), ..self }
    }

    /// The same in another size.
    pub fn size(self, size: usize) -> Self {
        Self { size: Some(size), ..self }
    }
}

/// The scheme that a query goes by, which has the split that it asks for.
pub(super) fn scheme<'a>(manifest: &'a Manifest, query: &ImageQuery) -> Result<&'a Scheme, DataError> {
    let wanted = query.scheme.as_ref().unwrap_or(&manifest.schemes[0].name);
    let Some(scheme) = manifest.schemes.iter().find(|scheme| scheme.name == *wanted) else {
        let known: Vec<&str> = manifest.schemes.iter().map(|scheme| scheme.name.as_str()).collect();
        return Err(DataError::UnknownScheme {
            set: manifest.name.clone(),
            scheme: wanted.clone(),
            known: known.join(", "),
        });
    };
    let splits = scheme.splits();
    if query.split != Split::All && splits.iter().all(|&(split, _)| split != query.split) {
        let known: Vec<&str> = splits.iter().map(|(split, _)| split.name()).chain(["all"]).collect();
        return Err(DataError::UnknownSplit {
            set: manifest.name.clone(),
            scheme: scheme.name.clone(),
            split: query.split.name(),
            known: known.join(", "),
        });
    }
    Ok(scheme)
}

/// Channels, height and width of the images that a query gives.
pub(super) fn shape(manifest: &Manifest, size: Option<usize>) -> Result<[usize; 3], DataError> {
    let (height, width) = (manifest.images.height, manifest.images.width);
    let fail = |size, expected: String| Err(DataError::Size { set: manifest.name.clone(), size, expected });
    match (manifest.images.format, size) {
        (Format::Omniglot, None) => Ok([1, height, width]),
        (Format::Omniglot, Some(size)) if (1..=height.min(width)).contains(&size) => Ok([1, size, size]),
        (Format::Omniglot, Some(size)) => {
            fail(size, format!("1 to {}, the size as stored", height.min(width)))
        }
        (Format::Cifar100, Some(size)) if (size, size) != (height, width) => {
            fail(size, format!("{height}, the size as stored"))
        }
        (Format::Cifar100, _) => Ok([3, height, width]),
    }
}
