//! A whole set, decoded.

use serde::{Deserialize, Serialize};

use super::Manifest;

/// All images of a set at one size, as its parts have them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Collection {
    /// Channels, height and width of every image.
    pub shape: [usize; 3],
    /// The classes, in the order of the manifest's parts; the images of each follow those of the one before.
    pub classes: Vec<PartClass>,
    /// `[images, channels, height, width]`.
    pub pixels: Vec<u8>,
}

/// What was decoded of one part.
#[derive(Debug)]
pub(super) struct Decoded {
    /// The part's classes, in the order of their images.
    pub classes: Vec<PartClass>,
    /// `[images, channels, height, width]`.
    pub pixels: Vec<u8>,
}

/// A class within a part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PartClass {
    /// The part, counted from 0.
    pub part: usize,
    /// The class's number in the part: the fine label, where the format has one.
    pub label: usize,
    /// What it belongs to.
    pub group: String,
    /// Its name.
    pub name: String,
    /// Number of images.
    pub images: usize,
}

/// Bytes of all pixels of a set whose images have this shape.
pub(super) fn pixel_bytes(manifest: &Manifest, shape: [usize; 3]) -> usize {
    let images: usize = manifest.parts.iter().map(|part| part.classes * part.images_per_class).sum();
    images * shape.iter().product::<usize>()
}
