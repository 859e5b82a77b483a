//! Archives and packed files with random damage: never a panic, never more memory than the manifests allow.
//!
//! Every kind of file is damaged 2,000 times; `PLASTICA_MUTATIONS` sets another number. All memory of the program is
//! counted, so that an allocation that follows a damaged length shows.

use std::alloc::System;
use std::env;

use cap::Cap;
use plastica_tasks::{ImageQuery, Split};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use support::*;

#[path = "../image_data/support.rs"]
mod support;

#[global_allocator]
static MEMORY: Cap<System> = Cap::new(System, usize::MAX);

/// Most bytes that the program may have at once: the files are of a few kilobytes, what a tar may unpack to of one
/// megabyte, and the tests run at the same time.
const MOST: usize = 4 << 20;

fn number() -> u64 {
    env::var("PLASTICA_MUTATIONS").ok().and_then(|number| number.parse().ok()).unwrap_or(2000)
}

/// Opens a set with the file that `damaged` makes from each generator.
#[track_caller]
fn check(set: &str, file: &str, mut damaged: impl FnMut(&mut ChaCha8Rng) -> Vec<u8>) {
    let data = Data::new();
    let (mut refused, number) = (0, number());
    for seed in 0..number {
        data.write(file, damaged(&mut ChaCha8Rng::seed_from_u64(seed)));
        refused += u64::from(data.open(&ImageQuery::new(set, Split::All)).is_err());
        let most = MEMORY.max_allocated();
        assert!(most < MOST, "{file}, seed {seed}: {most} bytes at once, expected less than {MOST}");
    }
    println!("{file}: {number} damaged, {refused} refused, {} bytes at once", MEMORY.max_allocated());
    assert!(refused > 0, "{file}: no damage was seen");
}

fn below(rng: &mut ChaCha8Rng, end: usize) -> usize {
    (rng.next_u64() % end.max(1) as u64) as usize
}

/// A few bits, bytes, numbers or stretches of the file changed, moved or taken away.
fn damage(rng: &mut ChaCha8Rng, mut file: Vec<u8>) -> Vec<u8> {
    for _ in 0..=below(rng, 4) {
        let (at, other) = (below(rng, file.len()), below(rng, file.len()));
        let stretch = at.min(other)..at.max(other).min(at.min(other) + 64);
        match below(rng, 8) {
            0 | 1 if !file.is_empty() => file[at] ^= 1 << below(rng, 8),
            2 if !file.is_empty() => file[at] = rng.next_u32() as u8,
            3 | 4 => {
                let number = [0, 1, 0xff, 0x7fff_ffff, u32::MAX, rng.next_u32()][below(rng, 6)];
                let bytes = if below(rng, 2) == 0 { number.to_le_bytes() } else { number.to_be_bytes() };
                file.iter_mut().skip(at).zip(bytes).for_each(|(byte, new)| *byte = new);
            }
            5 => file.truncate(at),
            6 => drop(file.drain(stretch)),
            _ => {
                let copy = file[stretch].to_vec();
                file.splice(at..at, copy);
            }
        }
    }
    file
}

#[test]
fn zips() {
    let [(file, zip), _] = drawing_zips();
    check("drawings", file, |rng| damage(rng, zip.clone()));
}

#[test]
fn drawings_in_a_zip() {
    check("drawings", "drawings/one.zip", |rng| {
        let mut entries = drawings(["Greek/character01", "Latin/character01"], 0x10);
        let at = below(rng, 4);
        let png = damage(rng, entries[at].1.clone());
        entries[at].1 = if below(rng, 2) == 0 { png } else { with_checksums(png) };
        zip(&entries.iter().map(|(name, png)| (name.as_str(), png.clone())).collect::<Vec<_>>())
    });
}

/// A PNG whose chunks have the right checksums, as far as they can be found: damage goes deeper.
fn with_checksums(mut png: Vec<u8>) -> Vec<u8> {
    let mut at = 8;
    while let Some(length) = png.get(at..at + 4) {
        let length = u32::from_be_bytes(length.try_into().unwrap()) as usize;
        let end = at + 8 + length;
        let Some(kind) = png.get(at + 4..at + 8).filter(|_| end + 4 <= png.len()) else { break };
        let chunk = chunk(kind.try_into().unwrap(), &png[at + 8..end]);
        png[at..end + 4].copy_from_slice(&chunk);
        at = end + 4;
    }
    png
}

#[test]
fn tars() {
    let (file, packed) = photo_archive();
    let plain = tar(&photo_entries());
    check("photos", file, |rng| match below(rng, 3) {
        0 => damage(rng, packed.clone()),
        1 => gzip(&damage(rng, plain.clone())),
        _ => gzip(&with_header_sums(damage_a_header(rng, plain.clone()))),
    });
}

/// Damage within one of the blocks that have entries' headers.
fn damage_a_header(rng: &mut ChaCha8Rng, mut tar: Vec<u8>) -> Vec<u8> {
    let block = below(rng, tar.len() / 512) * 512;
    let kinds = b"0157LKxgSM";
    for _ in 0..=below(rng, 3) {
        match below(rng, 3) {
            0 => tar[block + 156] = kinds[below(rng, kinds.len())],
            1 => tar[block + 124 + below(rng, 12)] = b'0' + below(rng, 8) as u8,
            _ => tar[block + below(rng, 512)] = rng.next_u32() as u8,
        }
    }
    tar
}

/// A tar whose blocks have the right sums where a header has its own: more damage goes deeper.
fn with_header_sums(mut tar: Vec<u8>) -> Vec<u8> {
    for block in tar.chunks_exact_mut(512).filter(|block| block[257..262] == *b"ustar") {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    tar
}

#[test]
fn records_in_a_tar() {
    let (file, _) = photo_archive();
    check("photos", file, |rng| {
        let mut entries = photo_entries();
        let at = below(rng, 4);
        let length = entries[at].1.len();
        entries[at].1 = damage(rng, entries[at].1.clone());
        // At the right length, more of it is looked at.
        if below(rng, 2) == 0 {
            entries[at].1.resize(length, 0);
        }
        gzip(&tar(&entries))
    });
}

#[test]
fn packed_files() {
    const PACKED: &str = "cache/drawings-4x4.packed";
    let data = Data::new();
    let query = ImageQuery::new("drawings", Split::All).size(4);
    let open = || data.folder().with_cache(data.path("cache")).open(&query).unwrap();
    let right = open();
    let packed = std::fs::read(data.path(PACKED)).unwrap();
    for seed in 0..number() {
        let rng = &mut ChaCha8Rng::seed_from_u64(seed);
        let mut file = damage(rng, packed.clone());
        let summed = below(rng, 2) == 0 && file.len() > 24;
        if summed {
            let sum = xxhash_rust::xxh3::xxh3_64(&file[24..]);
            file[16..24].copy_from_slice(&sum.to_le_bytes());
        }
        data.write(PACKED, file);
        // With its checksum put right a file may have other pixels and names.
        let set = open();
        assert_eq!(set.shape(), right.shape(), "seed {seed}");
        assert!(summed || set == right, "seed {seed}: other images than those of the archives");
        let most = MEMORY.max_allocated();
        assert!(most < MOST, "seed {seed}: {most} bytes at once, expected less than {MOST}");
    }
    println!("{PACKED}: {} damaged, {} bytes at once", number(), MEMORY.max_allocated());
}
