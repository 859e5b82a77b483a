//! Manifests: those that come with the crate, and those that won't do.

use plastica_tasks::{ArchiveIdentity, DataFolder, ImageQuery, Lock, Split, Trust};

use crate::support::{DRAWINGS, Data, PHOTOS};

#[test]
fn every_published_archive_has_a_checksum_and_an_address_or_says_that_it_has_none() {
    let manifests = DataFolder::at("nowhere").manifests().unwrap();
    let names: Vec<&str> = manifests.iter().map(|manifest| manifest.name.as_str()).collect();
    assert_eq!(names, ["omniglot", "omniglot-minimal", "cifar-100", "natural-100"]);
    for archive in manifests.iter().flat_map(|manifest| &manifest.archives) {
        assert!(archive.sha256.is_some() && archive.size.is_some(), "{}", archive.file);
    }
    let without: Vec<&str> = manifests
        .iter()
        .filter(|manifest| manifest.archives.iter().any(|archive| archive.url.is_none()))
        .map(|manifest| manifest.name.as_str())
        .collect();
    assert_eq!(without, ["natural-100"]);
}

#[test]
fn cifar_fs_has_64_16_and_20_disjoint_classes() {
    let manifest = DataFolder::at("nowhere").manifest("cifar-100").unwrap();
    let scheme = &manifest.schemes[0];
    let classes = scheme.splits().into_iter().map(|(_, selection)| selection.classes.clone().unwrap());
    let classes: Vec<Vec<String>> = classes.collect();
    assert_eq!(
        (scheme.name.as_str(), classes.iter().map(Vec::len).collect()),
        ("cifar-fs", vec![64, 16, 20])
    );
    let mut all = classes.concat();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 100);
}

#[track_caller]
fn check(text: &str, from: &str, to: &str, part: &str) {
    assert!(text.contains(from), "{from}");
    let data = Data::new();
    let file = if text == DRAWINGS { "drawings.toml" } else { "photos.toml" };
    data.write(file, text.replacen(from, to, 1));
    let message = data.folder().manifests().unwrap_err().to_string();
    assert!(message.contains(part) && message.contains(file), "{message}");
}

#[test]
fn a_manifest_that_says_something_impossible_is_refused_by_field() {
    check(DRAWINGS, "name = \"drawings\"", "name = \"../x\"", "name = \"../x\", expected lower-case letters");
    check(DRAWINGS, "name = \"drawings\"", "name = \"omniglot\"", "expected one that no other set has");
    check(DRAWINGS, "folder = \"drawings\"", "folder = \"..\"", "folder = \"..\", expected a plain name");
    check(DRAWINGS, "file = \"one.zip\"", "file = \"/one.zip\"", "archive.file = \"/one.zip\"");
    check(DRAWINGS, "file = \"two.zip\"", "file = \"one.zip\"", "archive \"one.zip\" occurs twice");
    check(DRAWINGS, "height = 8", "height = 0", "images.height = 0, expected 1 to 1024");
    check(DRAWINGS, "width = 8", "width = 8\ngroup_names = \"a\"", "images.group_names");
    check(DRAWINGS, "classes = 2", "classes = 1000000", "part one: classes = 1000000, expected 1 to 100000");
    check(DRAWINGS, "archive = \"one.zip\"", "archive = \"six.zip\"", "there is no archive \"six.zip\"");
    check(DRAWINGS, "archive = \"two.zip\"", "archive = \"one.zip\"", "another part has the same images");
    check(DRAWINGS, "[\"one\"]", "[\"six\"]", "scheme alphabets: train: there is no part \"six\"");
    check(DRAWINGS, "[\"one\"]", "[]", "parts: empty");
    check(DRAWINGS, "_of = \"one\"", "_of = \"six\"", "scheme alphabets: test: there is no part \"six\"");
    check(DRAWINGS, "first = 0", "first = 4", "shuffled: first = 4 is after last = 1");
    check(DRAWINGS, "train = { parts", "trian = { parts", "unknown field `trian`");
    check(DRAWINGS, "file = \"one.zip\"", "file = \"one.zip\"\nsha256 = \"12\"", "expected 64 lower-case");
    check(
        DRAWINGS,
        "file = \"one.zip\"",
        "file = \"one.zip\"\nurl = \"http://a\"",
        "expected an https address",
    );
    check(DRAWINGS, "file = \"one.zip\"", "file = \"one.zip\"\nsize = 0", "size = 0, expected 1 to");
    check(PHOTOS, "class_names = \"photos/fine.txt\"", "", "images.class_names: missing");
    check(PHOTOS, "member = \"photos/train.bin\"", "", "part train: member: missing");
    check(PHOTOS, "classes = 3", "classes = 300", "part train: classes = 300, expected 1 to 256");
}

#[test]
fn a_scheme_that_asks_for_what_is_not_there_is_refused_when_it_is_opened() {
    let check = |from: &str, to: &str, part: &str| {
        let data = Data::new();
        data.write("photos.toml", PHOTOS.replacen(from, to, 1));
        data.refuses("photos", &["image set photos: scheme disjoint: ", part]);
    };
    check("\"wolf\"", "\"wolves\"", "train: there is no class \"wolves\"");
    check(
        "first = 1, last = 1",
        "first = 1, last = 3",
        "test: labels.last = 3, expected less than the 3 classes",
    );
    check(
        "[\"rose\", \"wolf\"]",
        "[\"rose\"], labels = { first = 1, last = 1 }",
        "no class meets all its conditions",
    );
}

#[test]
fn checksums_of_the_manifest_and_of_the_lock_are_held() {
    let data = Data::new();
    let (folder, query) = (data.folder(), ImageQuery::new("photos", Split::All));
    let manifest = folder.manifest("photos").unwrap();
    let (path, archive) = (folder.archive_path(&manifest, &manifest.archives[0]), &manifest.archives[0]);
    let identity = ArchiveIdentity::of_file(&path, archive, &mut |_| {}).unwrap();
    let lock = |data: &Data| Lock::read(&data.path("photos")).unwrap();
    assert_eq!(identity.check(&manifest, archive, &lock(&data), &path).unwrap(), Trust::Unknown);

    lock(&data).record(&archive.file, identity.clone()).unwrap();
    assert_eq!(identity.check(&manifest, archive, &lock(&data), &path).unwrap(), Trust::Lock);
    data.open(&query).unwrap();
    lock(&data)
        .record(&archive.file, ArchiveIdentity { sha256: "0".repeat(64), ..identity.clone() })
        .unwrap();
    data.refuses("photos", &["photos.tar.gz: sha256 is", &identity.sha256, "expected 000000"]);

    // What the manifest says counts more than what was recorded.
    let with = |line: String| PHOTOS.replacen("tar.gz\"\n", &format!("tar.gz\"\n{line}\n"), 1);
    data.write("photos.toml", with(format!("sha256 = \"{}\"", identity.sha256)));
    data.open(&query).unwrap();
    data.write("photos.toml", with(format!("sha256 = \"{}\"", "1".repeat(64))));
    data.refuses("photos", &["sha256 is", "expected 111111", "`cargo xtask data fetch photos`"]);
    data.write("photos.toml", with(format!("md5 = \"{}\"", "2".repeat(32))));
    data.refuses("photos", &["md5 is", "expected 222222"]);
    data.write("photos.toml", with("size = 1".to_owned()));
    data.refuses("photos", &["size is", "expected 1;"]);
    data.write("photos/checksums.lock", "?");
    data.refuses("photos", &["checksums.lock: no lock file"]);
}

#[test]
fn identities_are_those_of_the_published_test_vectors() {
    let identity = ArchiveIdentity::of(&b"abc"[..], true, &mut |_| {}).unwrap();
    let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let md5 = "900150983cd24fb0d6963f7d28e17f72";
    assert_eq!(identity, ArchiveIdentity { size: 3, sha256: sha256.into(), md5: Some(md5.into()) });
}
