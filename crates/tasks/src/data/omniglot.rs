//! Omniglot's zips: `SET/Alphabet/characterNN/NAME.png`.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};

use rayon::prelude::*;
use zip::ZipArchive;

use super::collection::{Decoded, PartClass};
use super::error::Flaw;
use super::manifest::{Manifest, Part};
use super::resample::Resampler;
use super::{entry, png};

/// Most bytes of one PNG beyond those of its pixels.
const PNG_OVERHEAD: u64 = 1 << 14;

type Zip<'a> = ZipArchive<Cursor<&'a [u8]>>;
/// For each alphabet and character, the entries by file name.
type Characters = BTreeMap<(String, String), BTreeMap<String, usize>>;

/// The classes of a part, by alphabet and character, and their images resized to `size` (height and width).
pub(super) fn read(
    manifest: &Manifest,
    part_index: usize,
    archive: &[u8],
    size: [usize; 2],
) -> Result<Decoded, Flaw> {
    let part = &manifest.parts[part_index];
    let resampler = Resampler::new([manifest.images.height, manifest.images.width], size);
    let zip = ZipArchive::new(Cursor::new(archive)).map_err(|error| Flaw::whole(error.to_string()))?;
    if zip.has_duplicate_names() {
        let name = duplicate(archive, zip.central_directory_start()).unwrap_or_default();
        return Err(Flaw::at(name, "an entry that occurs twice, expected each once"));
    }
    let characters = characters(&zip, part)?;
    let entries: Vec<usize> = characters.values().flat_map(BTreeMap::values).copied().collect();
    let image = size[0] * size[1];
    let mut pixels = vec![0; entries.len() * image];
    let flaw = pixels
        .par_chunks_mut(image)
        .zip(&entries)
        .map_init(
            || Worker { zip: zip.clone(), png: Vec::new(), image: Vec::new(), scratch: Vec::new() },
            |worker, (into, &index)| worker.read(index, &resampler, into).err(),
        )
        .find_map_first(|flaw| flaw);
    if let Some(flaw) = flaw {
        return Err(flaw);
    }
    let class = |(label, ((group, name), files)): (usize, ((String, String), BTreeMap<_, _>))| PartClass {
        part: part_index,
        label,
        group,
        name,
        images: files.len(),
    };
    Ok(Decoded { classes: characters.into_iter().enumerate().map(class).collect(), pixels })
}

/// Sorts the entries, and counts them.
fn characters(zip: &Zip, part: &Part) -> Result<Characters, Flaw> {
    let mut characters = Characters::new();
    for (index, name) in zip.file_names_raw().enumerate() {
        let parts = entry::components(name)?;
        if name.ends_with(b"/") || entry::is_litter(&parts) {
            continue;
        }
        let &[_, alphabet, character, file] = parts.as_slice() else {
            return Err(Flaw::at(parts.join("/"), "expected SET/Alphabet/character/NAME.png"));
        };
        if !file.ends_with(".png") {
            return Err(Flaw::at(parts.join("/"), "expected SET/Alphabet/character/NAME.png"));
        }
        let files = characters.entry((alphabet.to_owned(), character.to_owned())).or_default();
        if files.insert(file.to_owned(), index).is_some() {
            return Err(Flaw::at(parts.join("/"), "a drawing that occurs twice, expected each once"));
        }
    }
    for ((alphabet, character), files) in &characters {
        if files.len() != part.images_per_class {
            let problem = format!("{} images, expected {}", files.len(), part.images_per_class);
            return Err(Flaw::at(format!("{alphabet}/{character}"), problem));
        }
    }
    if characters.len() != part.classes {
        return Err(Flaw::whole(format!("{} characters, expected {}", characters.len(), part.classes)));
    }
    Ok(characters)
}

/// What a thread needs to read images, kept from one to the next.
struct Worker<'a> {
    zip: Zip<'a>,
    png: Vec<u8>,
    image: Vec<u8>,
    scratch: Vec<f32>,
}

impl Worker<'_> {
    fn read(&mut self, index: usize, resampler: &Resampler, into: &mut [u8]) -> Result<(), Flaw> {
        let Self { zip, png, image, scratch } = self;
        let name = zip.name_for_index(index).and_then(Result::ok).unwrap_or_default().into_owned();
        let fail = |problem: String| Flaw::at(name.clone(), problem);
        let stored = resampler.stored();
        let limit = (stored[0] * stored[1]) as u64 + PNG_OVERHEAD;
        let file = zip.by_index(index).map_err(|error| fail(error.to_string()))?;
        if file.is_symlink() {
            return Err(fail("a link, expected a file".to_owned()));
        }
        png.clear();
        file.take(limit + 1).read_to_end(png).map_err(|error| fail(error.to_string()))?;
        if png.len() as u64 > limit {
            return Err(fail(format!("more than {limit} bytes when unpacked, expected a PNG of less")));
        }
        image.resize(stored[0] * stored[1], 0);
        png::decode(png, stored, image).map_err(fail)?;
        resampler.resize(image, scratch, into);
        Ok(())
    }
}

/// The first name that the central directory has twice.
fn duplicate(archive: &[u8], directory: u64) -> Option<String> {
    const HEADER: usize = 46;
    let mut seen = std::collections::HashSet::new();
    let mut rest = archive.get(usize::try_from(directory).ok()?..)?;
    loop {
        let header = rest.get(..HEADER).filter(|header| header.starts_with(b"PK\x01\x02"))?;
        let length = |at: usize| usize::from(u16::from_le_bytes([header[at], header[at + 1]]));
        let (name, extra, comment) = (length(28), length(30), length(32));
        let name = rest.get(HEADER..HEADER + name)?;
        if !seen.insert(name) {
            return Some(String::from_utf8_lossy(name).into_owned());
        }
        rest = rest.get(HEADER + name.len() + extra + comment..)?;
    }
}
