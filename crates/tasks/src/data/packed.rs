//! The packed cache: a decoded set as one file, so that an archive is taken apart once.
//!
//! ```text
//! 8 bytes   "PLSTPACK"
//! 4 bytes   version, little-endian as all numbers
//! 4 bytes   length of the header
//! 8 bytes   XXH3 of everything that follows
//! header    JSON: what the pixels were made from and how (`Recipe`), their shape, the classes
//! pixels    [images, channels, height, width]
//! ```
//!
//! A file that is not exactly this, or was made from something else, is not used but made anew.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use super::collection::{Collection, PartClass, pixel_bytes};
use super::identity::write_whole;
use super::manifest::{Images, Manifest, Part};
use super::selection::Plan;
use super::{ArchiveIdentity, resample};

const MAGIC: &[u8; 8] = b"PLSTPACK";
/// To be raised whenever decoding gives other pixels or the layout changes.
const VERSION: u32 = 1;
/// Bytes before the header.
const FIXED: usize = 24;
/// Most bytes of a header.
const MAX_HEADER: u64 = 1 << 24;

/// What a packed set was made from, and how. Two that are equal give the same pixels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Recipe {
    set: String,
    archives: Vec<ArchiveIdentity>,
    images: Images,
    parts: Vec<Part>,
    shape: [usize; 3],
    filter: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    recipe: Recipe,
    classes: Vec<PartClass>,
}

impl Recipe {
    /// The recipe of a set's images in this shape, from archives of these identities in the manifest's order.
    pub fn new(manifest: &Manifest, archives: Vec<ArchiveIdentity>, shape: [usize; 3]) -> Self {
        // What identifies a file is its sha256; an md5 is there or not as the manifest asks.
        let archives = archives.into_iter().map(|archive| ArchiveIdentity { md5: None, ..archive }).collect();
        Self {
            set: manifest.name.clone(),
            archives,
            images: manifest.images.clone(),
            parts: manifest.parts.clone(),
            shape,
            filter: format!("{:?}", resample::FILTER),
        }
    }

    /// The name of its file.
    pub fn file_name(&self) -> String {
        let [_, height, width] = self.shape;
        format!("{}-{height}x{width}.packed", self.set)
    }
}

/// Writes a packed set into `folder`, which is made if it is not there.
pub(super) fn write(folder: &Path, recipe: &Recipe, collection: &Collection) -> io::Result<()> {
    let header = Header { recipe: recipe.clone(), classes: collection.classes.clone() };
    let header = serde_json::to_vec(&header).map_err(io::Error::other)?;
    let length = u32::try_from(header.len()).map_err(io::Error::other)?;
    let mut fixed = Vec::with_capacity(FIXED);
    fixed.extend_from_slice(MAGIC);
    fixed.extend_from_slice(&VERSION.to_le_bytes());
    fixed.extend_from_slice(&length.to_le_bytes());
    fixed.extend_from_slice(&checksum(&header, &collection.pixels).to_le_bytes());
    fs::create_dir_all(folder)?;
    write_whole(&folder.join(recipe.file_name()), &[&fixed, &header, &collection.pixels])
}

/// A packed set that has been opened: all but its pixels is known.
pub(super) struct Packed {
    /// The set's classes.
    pub classes: Vec<PartClass>,
    shape: [usize; 3],
    file: File,
    /// Of what has been read.
    hash: Xxh3,
    checksum: u64,
}

/// Opens the packed set of this recipe, or says why it cannot be used.
pub(super) fn open(folder: &Path, manifest: &Manifest, recipe: &Recipe) -> Result<Packed, String> {
    let mut file = File::open(folder.join(recipe.file_name())).map_err(|error| error.to_string())?;
    let length = file.metadata().map_err(|error| error.to_string())?.len();
    let mut fixed = [0; FIXED];
    file.read_exact(&mut fixed).map_err(|_| format!("{length} bytes, expected at least {FIXED}"))?;
    let [magic, version, checksum] = [&fixed[..8], &fixed[8..16], &fixed[16..]].map(little_endian);
    let (version, header_bytes) = (version as u32, version >> 32);
    if magic != u64::from_le_bytes(*MAGIC) {
        return Err("no packed set".to_owned());
    }
    if version != VERSION {
        return Err(format!("version {version}, expected {VERSION}"));
    }
    let expected = FIXED as u64 + header_bytes + pixel_bytes(manifest, recipe.shape) as u64;
    if header_bytes > MAX_HEADER || length != expected {
        return Err(format!("{length} bytes with a header of {header_bytes}, expected {expected}"));
    }
    let mut header = vec![0; header_bytes as usize];
    file.read_exact(&mut header).map_err(|error| error.to_string())?;
    let mut hash = Xxh3::new();
    hash.update(&header);
    let Header { recipe: found, classes } =
        serde_json::from_slice(&header).map_err(|error| error.to_string())?;
    if found != *recipe {
        return Err("made from something else".to_owned());
    }
    let fits = |class: &PartClass| {
        recipe.parts.get(class.part).is_some_and(|part| part.images_per_class == class.images)
    };
    let images: usize = recipe.parts.iter().map(|part| part.classes * part.images_per_class).sum();
    if !classes.iter().all(fits) || classes.iter().map(|class| class.images).sum::<usize>() != images {
        return Err("its classes are not those of the manifest".to_owned());
    }
    Ok(Packed { classes, shape: recipe.shape, file, hash, checksum })
}

impl Packed {
    /// The pixels of a selection of its classes, read once from front to back.
    pub fn read(mut self, plan: &Plan) -> Result<Vec<u8>, String> {
        let image: usize = self.shape.iter().product();
        let mut pixels = vec![0; plan.images() * image];
        let mut others = Vec::new();
        for (place, class) in self.classes.iter().enumerate() {
            let bytes = class.images * image;
            let into = match plan.first_image(place) {
                Some(first) => &mut pixels[first * image..first * image + bytes],
                None => {
                    others.resize(bytes, 0);
                    &mut others
                }
            };
            self.file.read_exact(into).map_err(|error| error.to_string())?;
            self.hash.update(into);
        }
        if self.hash.digest() != self.checksum {
            return Err("its checksum is wrong".to_owned());
        }
        Ok(pixels)
    }
}

/// A number of up to 8 bytes.
fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

fn checksum(header: &[u8], pixels: &[u8]) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(header);
    hash.update(pixels);
    hash.digest()
}
