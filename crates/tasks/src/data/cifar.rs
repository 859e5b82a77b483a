//! The binary layout of CIFAR-100: a tar.gz with files of records.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};

use flate2::read::GzDecoder;
use tar::{Archive, EntryType};

use super::collection::{Decoded, PartClass};
use super::entry;
use super::error::Flaw;
use super::manifest::{Manifest, Part};

/// Most bytes of a file of label names.
const MAX_NAMES: u64 = 1 << 16;
/// Most bytes that the archive may unpack to beyond its records and names: headers, padding, a readme.
const SLACK: u64 = 1 << 20;
/// Labels of a record: coarse, then fine.
const LABELS: usize = 2;
/// Red, green and blue.
const CHANNELS: usize = 3;

/// The classes of the parts that one archive has, by fine label, and their images in the order of the records.
pub(super) fn read(manifest: &Manifest, archive: &str, bytes: &[u8]) -> Result<Vec<Decoded>, Flaw> {
    let parts: Vec<(usize, &Part)> =
        manifest.parts.iter().enumerate().filter(|(_, part)| part.archive == archive).collect();
    let record = LABELS + CHANNELS * manifest.images.height * manifest.images.width;
    let mut wanted = BTreeMap::new();
    for name in [&manifest.images.group_names, &manifest.images.class_names].into_iter().flatten() {
        wanted.insert(name.as_str(), Expected::AtMost(MAX_NAMES));
    }
    for (_, part) in &parts {
        let records = (part.classes * part.images_per_class) as u64;
        wanted.insert(part.member.as_deref().unwrap_or_default(), Expected::Records(records, record as u64));
    }
    let files = unpack(bytes, &wanted)?;
    let names = |entry: &Option<String>| label_names(entry.as_deref().unwrap_or_default(), &files);
    let groups = names(&manifest.images.group_names)?;
    let classes = names(&manifest.images.class_names)?;
    parts
        .into_iter()
        .map(|(index, part)| {
            let member = part.member.as_deref().unwrap_or_default();
            read_records(index, part, member, &files[member], record, &groups, &classes)
        })
        .collect()
}

/// How long an entry may be.
enum Expected {
    AtMost(u64),
    /// So many records of so many bytes.
    Records(u64, u64),
}

/// The wanted entries, whole.
fn unpack<'a>(
    bytes: &[u8],
    wanted: &BTreeMap<&'a str, Expected>,
) -> Result<BTreeMap<&'a str, Vec<u8>>, Flaw> {
    let most = |expected: &Expected| match *expected {
        Expected::AtMost(bytes) => bytes,
        Expected::Records(records, bytes) => records * bytes,
    };
    let limit = SLACK + wanted.values().map(most).sum::<u64>();
    let mut archive = Archive::new(Bounded { inner: GzDecoder::new(bytes), left: limit, limit });
    let mut files = BTreeMap::new();
    let whole = |error: io::Error| Flaw::whole(error.to_string());
    for item in archive.entries().map_err(whole)? {
        let mut item = item.map_err(whole)?;
        let raw = item.path_bytes().into_owned();
        let name = entry::components(&raw)?.join("/");
        match item.header().entry_type() {
            EntryType::Regular | EntryType::Continuous => {}
            EntryType::Directory | EntryType::XGlobalHeader => continue,
            other => return Err(Flaw::at(name, format!("an entry of kind {other:?}, expected a file"))),
        }
        let Some((&key, expected)) = wanted.get_key_value(name.as_str()) else { continue };
        let size = item.size();
        match *expected {
            Expected::Records(records, bytes) if size != records * bytes => {
                let right = format!("{} ({records} records of {bytes} bytes)", records * bytes);
                return Err(Flaw::at(name, format!("{size} bytes, expected {right}")));
            }
            Expected::AtMost(bytes) if size > bytes => {
                return Err(Flaw::at(name, format!("{size} bytes, expected at most {bytes}")));
            }
            _ => {}
        }
        let mut content = Vec::with_capacity(size as usize);
        item.read_to_end(&mut content).map_err(|error| Flaw::at(name.clone(), error.to_string()))?;
        if content.len() as u64 != size {
            let found = content.len();
            return Err(Flaw::at(
                name,
                format!("it ends after {found} bytes of {size}, expected the whole entry"),
            ));
        }
        if files.insert(key, content).is_some() {
            return Err(Flaw::at(name, "an entry that occurs twice, expected each once"));
        }
    }
    // The checksum of a gzip stream is at its very end, after what tar looks at.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(whole)?;
    match wanted.keys().find(|&&name| !files.contains_key(name)) {
        Some(&missing) => Err(Flaw::at(missing, "there is no such entry, expected one")),
        None => Ok(files),
    }
}

/// A reader that refuses to give more than so many bytes.
struct Bounded<R> {
    inner: R,
    left: u64,
    limit: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(into)?;
        match self.left.checked_sub(read as u64) {
            Some(left) => self.left = left,
            None => {
                return Err(io::Error::other(format!(
                    "it unpacks to more than {} bytes, expected no more than the manifest says",
                    self.limit
                )));
            }
        }
        Ok(read)
    }
}

/// One name a line.
fn label_names(name: &str, files: &BTreeMap<&str, Vec<u8>>) -> Result<Vec<String>, Flaw> {
    let content = files.get(name).map(Vec::as_slice).unwrap_or_default();
    let text = std::str::from_utf8(content).map_err(|_| Flaw::at(name, "not UTF-8, expected label names"))?;
    Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

fn read_records(
    index: usize,
    part: &Part,
    member: &str,
    content: &[u8],
    record: usize,
    groups: &[String],
    names: &[String],
) -> Result<Decoded, Flaw> {
    let fail = |problem: String| Err(Flaw::at(member, problem));
    if names.len() != part.classes {
        return fail(format!("{} names of fine labels, expected {}", names.len(), part.classes));
    }
    let different: BTreeSet<&String> = names.iter().collect();
    if different.len() != names.len() {
        return fail("two fine labels of the same name, expected different ones".to_owned());
    }
    let image = record - LABELS;
    let mut pixels = vec![0; content.len() / record * image];
    let mut seen = vec![(0, None); part.classes];
    for (number, record) in content.chunks_exact(record).enumerate() {
        let (coarse, fine) = (usize::from(record[0]), usize::from(record[1]));
        if coarse >= groups.len() {
            return fail(format!(
                "record {number}: coarse label {coarse}, expected less than {}",
                groups.len()
            ));
        }
        let Some((count, group)) = seen.get_mut(fine) else {
            return fail(format!("record {number}: fine label {fine}, expected less than {}", part.classes));
        };
        if *group.get_or_insert(coarse) != coarse {
            return fail(format!(
                "record {number}: coarse label {coarse} for fine label {fine}, expected the one of its other records"
            ));
        }
        if *count == part.images_per_class {
            return fail(format!("record {number}: one more image of {}, expected {count}", names[fine]));
        }
        let at = (fine * part.images_per_class + *count) * image;
        pixels[at..at + image].copy_from_slice(&record[LABELS..]);
        *count += 1;
    }
    let class = |(label, (count, group)): (usize, (usize, Option<usize>))| PartClass {
        part: index,
        label,
        group: group.map(|group| groups[group].clone()).unwrap_or_default(),
        name: names[label].clone(),
        images: count,
    };
    // As there is a place for every record and none for one too many, no class has too few.
    Ok(Decoded { classes: seen.into_iter().enumerate().map(class).collect(), pixels })
}
