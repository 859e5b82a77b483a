//! Archives that are not what the manifest says.

use std::fs;

use crate::support::*;

const AGAIN: &str = "`cargo xtask data fetch";

#[track_caller]
fn check_zip(change: impl FnOnce(&mut Vec<(String, Vec<u8>)>), parts: &[&str]) {
    let mut entries = drawings(["Greek/character01", "Latin/character01"], 0x10);
    change(&mut entries);
    let entries: Vec<(&str, Vec<u8>)> =
        entries.iter().map(|(name, png)| (name.as_str(), png.clone())).collect();
    let data = Data::new();
    data.write("drawings/one.zip", zip(&entries));
    data.refuses("drawings", &[parts, &["drawings/one.zip", AGAIN]].concat());
}

#[test]
fn images_of_another_kind_are_told_by_entry() {
    let first = "set/Greek/character01/0001.png";
    check_zip(|e| e[0].1 = png_of([8, 9], 1, 0, 2, 0), &[first, "an image of 8x9 pixels, expected 8x8"]);
    check_zip(
        |e| e[0].1[16..24].fill(0x40),
        &[first, "an image of 1077952576x1077952576 pixels, expected 8x8"],
    );
    check_zip(
        |e| e[0].1 = png_of([8, 8], 8, 0, 8, 0),
        &[first, "an image of 8 bits, greyscale, expected 1 bit, greyscale"],
    );
    check_zip(|e| e[0].1 = png_of([8, 8], 8, 2, 24, 0), &[first, "an image of 8 bits, RGB"]);
    check_zip(|e| e[0].1 = b"GIF89a".to_vec(), &[first, "no PNG image"]);
    check_zip(|e| e[0].1.truncate(45), &[first]);
    check_zip(|e| e[0].1 = png_of([8, 8], 1, 0, 1, 0).repeat(2000), &[first, "expected a PNG of less"]);
}

#[test]
fn classes_are_counted() {
    check_zip(|e| drop(e.remove(0)), &["Greek/character01: 1 images, expected 2"]);
    check_zip(|e| drop(e.drain(..2)), &["1 characters, expected 2"]);
    let extra = |name: &str| ("set/".to_owned() + name, drawing(0));
    check_zip(|e| e.push(extra("Greek/character01/0003.png")), &["3 images, expected 2"]);
    check_zip(
        |e| e.push(("other/Greek/character01/0001.png".to_owned(), drawing(0))),
        &["other/Greek/character01/0001.png", "a drawing that occurs twice"],
    );
}

#[test]
fn entries_elsewhere_are_refused() {
    let layout = "expected SET/Alphabet/character/NAME.png";
    let check = |name: &str, part: &str| {
        check_zip(|e| e.push((name.to_owned(), drawing(0))), &[&name.escape_default().to_string(), part]);
    };
    check("set/Greek/0001.png", layout);
    check("set/Greek/character01/notes.txt", layout);
    check("../Greek/character01/0003.png", "leaves the folder");
    check("/set/Greek/character01/0003.png", "an absolute path");
    check("C:/Greek/character01/0003.png", "a drive letter");
}

#[test]
fn what_desktops_leave_behind_is_passed_over() {
    let mut entries = drawings(["Greek/character01", "Latin/character01"], 0x10);
    entries.push(("__MACOSX/set/._Greek".to_owned(), vec![0]));
    entries.push(("set/.DS_Store".to_owned(), vec![0]));
    let entries: Vec<(&str, Vec<u8>)> = entries.iter().map(|(n, png)| (n.as_str(), png.clone())).collect();
    let data = Data::new();
    data.write("drawings/one.zip", zip(&entries));
    data.open(&plastica_tasks::ImageQuery::new("drawings", plastica_tasks::Split::All)).unwrap();
}

#[test]
fn an_entry_that_occurs_twice_is_refused() {
    let one = &drawing_zips()[0].1;
    // The writer refuses a second entry of one name, so that it is renamed afterwards, at both places.
    let (from, to) = (b"set/Greek/character01/0002.png", b"set/Greek/character01/0001.png");
    let mut zip = one.clone();
    for at in 0..zip.len() - from.len() {
        if zip[at..].starts_with(from) {
            zip[at..at + from.len()].copy_from_slice(to);
        }
    }
    assert_ne!(zip, *one);
    let data = Data::new();
    data.write("drawings/one.zip", zip);
    data.refuses(
        "drawings",
        &["set/Greek/character01/0001.png: an entry that occurs twice, expected each once"],
    );
}

#[test]
fn a_file_that_is_cut_off_is_refused_wherever_it_is_cut() {
    let check = |set: &str, file: &str, content: &[u8]| {
        for end in (0..content.len()).step_by(7) {
            let data = Data::new();
            data.write(file, &content[..end]);
            data.refuses(set, &[file, AGAIN]);
        }
    };
    let (file, zip) = &drawing_zips()[0];
    check("drawings", file, zip);
    let (file, tar) = photo_archive();
    check("photos", file, &tar);
}

#[test]
fn a_missing_archive_is_told_with_how_to_get_it() {
    let data = Data::new();
    fs::remove_file(data.path("drawings/two.zip")).unwrap();
    assert!(!data.folder().available("drawings") && data.folder().available("photos"));
    data.refuses("drawings", &["there is no", "drawings/two.zip", "`cargo xtask data fetch drawings`"]);
    data.refuses("omniglot", &["there is no", "omniglot/images_background.zip"]);
    assert!(!data.folder().available("omniglot") && !data.folder().available("nothing"));
}

#[track_caller]
fn check_tar(change: impl FnOnce(&mut Vec<(&'static str, Vec<u8>)>), parts: &[&str]) {
    let mut entries = photo_entries();
    change(&mut entries);
    let data = Data::new();
    data.write("photos/photos.tar.gz", gzip(&tar(&entries)));
    data.refuses("photos", &[parts, &["photos/photos.tar.gz", AGAIN]].concat());
}

#[test]
fn records_are_counted_and_their_labels_looked_at() {
    let train = "photos/train.bin";
    check_tar(|e| e[0].1.truncate(83), &[train, "83 bytes, expected 84 (6 records of 14 bytes)"]);
    check_tar(|e| e[0].1.extend([0; 14]), &[train, "98 bytes, expected 84"]);
    check_tar(|e| e[0].1[1] = 3, &[train, "record 0: fine label 3, expected less than 3"]);
    check_tar(|e| e[0].1[0] = 2, &[train, "record 0: coarse label 2, expected less than 2"]);
    check_tar(|e| e[0].1[14] = 1, &[train, "record 3: coarse label 0 for fine label 0"]);
    check_tar(|e| e[0].1[1] = 0, &[train, "record 3: one more image of rose, expected 2"]);
    check_tar(|e| e[3].1 = b"rose\nlamp\n".to_vec(), &["2 names of fine labels, expected 3"]);
    check_tar(|e| e[3].1 = b"rose\nlamp\nrose\n".to_vec(), &["two fine labels of the same name"]);
    check_tar(|e| e[3].1 = vec![0xff], &["photos/fine.txt", "not UTF-8"]);
    check_tar(|e| e[3].1 = vec![b'a'; 70_000], &["photos/fine.txt", "70000 bytes, expected at most 65536"]);
}

#[test]
fn entries_of_a_tar_are_looked_at() {
    check_tar(|e| drop(e.remove(1)), &["photos/test.bin: there is no such entry"]);
    check_tar(|e| e.push(e[1].clone()), &["photos/test.bin: an entry that occurs twice"]);
    check_tar(|e| e.push(("../photos/test.bin", vec![])), &["../photos/test.bin", "leaves the folder"]);
    check_tar(|e| e.push(("/etc/passwd", vec![])), &["/etc/passwd", "an absolute path"]);
    check_tar(|e| e.push(("photos\\a", vec![])), &["a name with a backslash"]);
    check_tar(
        |e| e.push(("photos/zeros", vec![0; 3 << 20])),
        &["it unpacks to more than", "expected no more than the manifest says"],
    );
}

#[test]
fn links_in_a_tar_are_refused() {
    for (kind, name) in [(tar::EntryType::Symlink, "Symlink"), (tar::EntryType::Link, "Link")] {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        builder.append_link(&mut header, "photos/train.bin", "/etc/passwd").unwrap();
        let data = Data::new();
        data.write("photos/photos.tar.gz", gzip(&builder.into_inner().unwrap()));
        data.refuses("photos", &[&format!("photos/train.bin: an entry of kind {name}, expected a file")]);
    }
}
