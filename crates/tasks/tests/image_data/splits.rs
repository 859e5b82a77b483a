//! Which images a split has.

use std::sync::Arc;

use plastica_tasks::{ImageQuery, Split};

use crate::first_values;
use crate::support::Data;

#[track_caller]
fn check(query: &ImageQuery, expected: &[(&str, &[u8])]) {
    let set = Data::new().open(query).unwrap();
    let expected: Vec<(String, Vec<u8>)> =
        expected.iter().map(|&(name, values)| (name.to_owned(), values.to_owned())).collect();
    assert_eq!(first_values(&set), expected, "{query:?}");
}

#[test]
fn images_of_a_class_are_together_whatever_the_records_order() {
    let photos = |scheme| ImageQuery::new("photos", Split::All).scheme(scheme);
    let all: [(&str, &[u8]); 3] =
        [("living/rose", &[2, 4, 9]), ("made/lamp", &[3, 5, 7]), ("living/wolf", &[1, 6, 8])];
    check(&photos("same"), &all);
    check(&photos("disjoint"), &all);
}

#[test]
fn a_split_has_the_classes_and_parts_that_its_scheme_says() {
    let photos = |scheme, split| ImageQuery::new("photos", split).scheme(scheme);
    check(&photos("disjoint", Split::Train), &[("living/rose", &[2, 4, 9]), ("living/wolf", &[1, 6, 8])]);
    check(&photos("disjoint", Split::Test), &[("made/lamp", &[3, 5, 7])]);
    check(
        &photos("same", Split::Train),
        &[("living/rose", &[2, 4]), ("made/lamp", &[3, 5]), ("living/wolf", &[1, 6])],
    );
    check(&photos("same", Split::Test), &[("living/rose", &[9]), ("made/lamp", &[7]), ("living/wolf", &[8])]);
}

#[test]
fn paper_is_white_as_stored_and_alphabets_of_the_other_part_are_left_out() {
    // The first pixel is the highest bit of the drawing's rows, 0 throughout.
    let drawings = |split| ImageQuery::new("drawings", split);
    check(&drawings(Split::Train), &[("Greek/character01", &[0, 0]), ("Latin/character01", &[0, 0])]);
    check(&drawings(Split::Test), &[("Tagalog/character02", &[0, 0])]);
    let set = Data::new().open(&drawings(Split::Test)).unwrap();
    assert_eq!(set.shape(), [1, 8, 8]);
    // 0x22 and 0x23: the third bit of the byte, and in the second drawing the last.
    assert_eq!(set.image(0)[..8], [0, 0, 255, 0, 0, 0, 255, 0]);
    assert_eq!(set.image(1)[..8], [0, 0, 255, 0, 0, 0, 255, 255]);
}

#[test]
fn shuffled_splits_share_no_class_and_leave_none_out() {
    let names = |split| {
        let set = Data::new().open(&ImageQuery::new("drawings", split).scheme("shuffled")).unwrap();
        first_values(&set).into_iter().map(|(name, _)| name).collect::<Vec<_>>()
    };
    let (train, test, all) = (names(Split::Train), names(Split::Test), names(Split::All));
    assert_eq!((train.len(), test.len(), all.len()), (2, 1, 3));
    assert!(test.iter().all(|name| !train.contains(name) && all.contains(name)));
}

#[test]
fn classes_of_one_alphabet_and_name_are_one_class_wherever_they_come_from() {
    let set = Data::new().open(&ImageQuery::new("drawings", Split::All).scheme("shuffled")).unwrap();
    let greek = set.classes().iter().find(|class| class.group == "Greek").unwrap();
    let rows = greek.images.clone().map(|index| set.image(index)[..8].iter().map(|&p| p / 255).collect());
    let bits = |row: Vec<u8>| row.into_iter().fold(0, |bits, bit| bits << 1 | bit);
    assert_eq!(rows.map(bits).collect::<Vec<u8>>(), [0x10, 0x11, 0x20, 0x21]);
}

#[test]
fn a_set_that_was_opened_is_shared() {
    let data = Data::new();
    let folder = data.folder();
    let query = ImageQuery::new("drawings", Split::Train);
    let set = folder.open(&query).unwrap();
    assert!(Arc::ptr_eq(&set, &folder.open(&query).unwrap()));
    assert!(Arc::ptr_eq(&set, &folder.open(&query.clone().scheme("alphabets")).unwrap()));
    let small = folder.open(&query.size(4)).unwrap();
    assert_eq!((small.shape(), small.len()), ([1, 4, 4], set.len()));
}

#[test]
fn what_there_is_not_is_told_with_what_there_is() {
    let check = |query: ImageQuery, part: &str| {
        let message = Data::new().open(&query).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    };
    let drawings = ImageQuery::new("drawings", Split::Train);
    check(
        ImageQuery::new("drawing", Split::Train),
        "unknown image set `drawing`, did you mean `drawings`?; the sets are omniglot, omniglot-minimal, cifar-100, \
         natural-100, drawings, photos",
    );
    check(
        drawings.clone().scheme("fair"),
        "unknown split scheme `fair`, expected one of alphabets, shuffled",
    );
    check(
        ImageQuery::new("drawings", Split::Validation),
        "scheme alphabets has no validation split, expected one of train, test, all",
    );
    check(drawings.clone().size(9), "size = 9, expected 1 to 8, the size as stored");
    check(drawings.size(0), "size = 0, expected 1 to 8");
    check(ImageQuery::new("photos", Split::All).size(3), "size = 3, expected 2, the size as stored");
}
