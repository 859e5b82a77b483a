//! The packed cache: used when it is right, and made anew when it is not.

use std::fs;
use std::sync::Arc;

use plastica_tasks::{ImageQuery, ImageSet, Split};

use crate::support::{Data, drawing, drawing_zips, drawings, zip};

const PACKED: &str = "cache/drawings-4x4.packed";

fn query(split: Split) -> ImageQuery {
    ImageQuery::new("drawings", split).size(4)
}

fn open(data: &Data, split: Split) -> Arc<ImageSet> {
    data.folder().with_cache(data.path("cache")).open(&query(split)).unwrap()
}

#[test]
fn packed_images_are_those_of_the_archives() {
    let data = Data::new();
    for split in [Split::Train, Split::Test, Split::All] {
        let archives = data.open(&query(split)).unwrap();
        assert_eq!(open(&data, split), archives, "written");
        assert_eq!(open(&data, split), archives, "read");
    }
    let photos = ImageQuery::new("photos", Split::Train);
    let cached = || data.folder().with_cache(data.path("cache")).open(&photos).unwrap();
    assert_eq!((cached(), cached()), (data.open(&photos).unwrap(), data.open(&photos).unwrap()));
}

#[test]
fn a_packed_file_is_what_is_read() {
    // Otherwise the tests below would show nothing: the checksum is put right after the change.
    let data = Data::new();
    let right = open(&data, Split::Train);
    let mut packed = fs::read(data.path(PACKED)).unwrap();
    let last = packed.len() - 1;
    let header = u32::from_le_bytes(packed[12..16].try_into().unwrap()) as usize;
    packed[24 + header] ^= 1;
    let sum = xxhash_rust::xxh3::xxh3_64(&packed[24..=last]);
    packed[16..24].copy_from_slice(&sum.to_le_bytes());
    data.write(PACKED, &packed);
    assert_eq!(open(&data, Split::Train).image(0)[0], right.image(0)[0] ^ 1);
}

#[test]
fn a_damaged_or_other_packed_file_is_made_anew() {
    let data = Data::new();
    let right = open(&data, Split::All);
    let packed = fs::read(data.path(PACKED)).unwrap();
    let check = |what: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let mut damaged = packed.clone();
        change(&mut damaged);
        data.write(PACKED, &damaged);
        assert_eq!(open(&data, Split::All), right, "{what}");
        assert_eq!(fs::read(data.path(PACKED)).unwrap(), packed, "{what}");
    };
    check("magic", &|p| p[0] ^= 1);
    check("version", &|p| p[8] += 1);
    check("header's length", &|p| p[15] = 0xff);
    check("checksum", &|p| p[16] ^= 1);
    check("header", &|p| p[30] ^= 1);
    check("pixels", &|p| *p.last_mut().unwrap() ^= 1);
    check("cut off", &|p| p.truncate(p.len() - 1));
    check("too long", &|p| p.push(0));
    check("empty", &|p| p.clear());
}

#[test]
fn another_archive_is_seen() {
    let data = Data::new();
    let before = open(&data, Split::Train);
    let mut entries = drawings(["Greek/character01", "Latin/character01"], 0x10);
    entries[0].1 = drawing(0xff);
    let entries: Vec<(&str, Vec<u8>)> =
        entries.iter().map(|(name, png)| (name.as_str(), png.clone())).collect();
    data.write("drawings/one.zip", zip(&entries));
    let after = open(&data, Split::Train);
    assert_eq!(after.image(0), [255; 16]);
    assert_ne!(before, after);
    data.write("drawings/one.zip", &drawing_zips()[0].1);
    assert_eq!(open(&data, Split::Train), before);
}

#[test]
fn nothing_is_written_into_the_data_folder_and_a_cache_is_not_needed() {
    let data = Data::new();
    let names = || {
        let mut names: Vec<_> =
            fs::read_dir(data.path(".")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = names();
    data.open(&query(Split::Train)).unwrap();
    assert_eq!(names(), before);
    // A file where the cache's folder should be: nothing can be written, and all is there all the same.
    data.write("file", "");
    let folder = data.folder().with_cache(data.path("file/cache"));
    for split in [Split::Train, Split::Test] {
        assert_eq!(folder.open(&query(split)).unwrap(), data.open(&query(split)).unwrap());
    }
}
