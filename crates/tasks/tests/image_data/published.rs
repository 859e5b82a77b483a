//! The published archives, where `PLASTICA_DATASETS` has them.

use std::collections::BTreeSet;
use std::env;
use std::sync::Arc;

use plastica_tasks::{DataFolder, ImageQuery, ImageSet, PLASTICA_DATASETS, Split};

/// The set's splits, or `None` with a word on why.
fn open(set: &str, splits: &[(Option<&str>, Split)], size: Option<usize>) -> Option<Vec<Arc<ImageSet>>> {
    let folder = env::var(PLASTICA_DATASETS).map(DataFolder::at);
    match folder {
        Ok(folder) if folder.available(set) => {
            let open = |&(scheme, split): &(Option<&str>, Split)| {
                let query = ImageQuery { size, ..ImageQuery::new(set, split) };
                folder.open(&ImageQuery { scheme: scheme.map(str::to_owned), ..query }).unwrap()
            };
            Some(splits.iter().map(open).collect())
        }
        Ok(folder) => {
            println!("skipped: {set} is not in {}", folder.path().display());
            None
        }
        Err(_) => {
            println!("skipped: {PLASTICA_DATASETS} is unset");
            None
        }
    }
}

fn names(set: &ImageSet) -> BTreeSet<String> {
    set.classes().iter().map(|class| format!("{}/{}", class.group, class.name)).collect()
}

#[test]
fn omniglot_minimal_tests_on_the_alphabets_it_did_not_train_on() {
    let splits = [(None, Split::Train), (None, Split::Test), (None, Split::All)];
    let Some(sets) = open("omniglot-minimal", &splits, None) else { return };
    let counts: Vec<_> = sets.iter().map(|set| (set.classes().len(), set.len())).collect();
    assert_eq!(counts, [(136, 2720), (106, 2120), (242, 4840)]);
    let groups = |set: &ImageSet| set.classes().iter().map(|class| class.group.clone()).collect();
    let [train, test]: [BTreeSet<String>; 2] = [groups(&sets[0]), groups(&sets[1])];
    assert_eq!(train.iter().collect::<Vec<_>>(), ["Balinese", "Early_Aramaic", "Greek", "Korean", "Latin"]);
    assert_eq!(test.iter().collect::<Vec<_>>(), ["Japanese_(katakana)", "Sanskrit", "Tagalog"]);
    // Black ink on white paper, and mostly paper.
    let pixels = sets[2].pixels();
    assert!(pixels.iter().all(|pixel| [0, 255].contains(pixel)));
    let ink = pixels.iter().filter(|&&pixel| pixel == 0).count() as f64 / pixels.len() as f64;
    assert!((0.01..0.2).contains(&ink), "{ink}");
}

#[test]
fn resizing_keeps_the_mean_of_a_drawing() {
    let train = [(None, Split::Train)];
    let mean = |set: &ImageSet| {
        set.pixels().iter().map(|&pixel| f64::from(pixel)).sum::<f64>() / set.pixels().len() as f64
    };
    let Some(stored) = open("omniglot-minimal", &train, None) else { return };
    for size in [28, 84] {
        let Some(resized) = open("omniglot-minimal", &train, Some(size)) else { return };
        assert_eq!(resized[0].shape(), [1, size, size]);
        let (expected, found) = (mean(&stored[0]), mean(&resized[0]));
        assert!((expected - found).abs() < 1.0, "{size}: {expected} and {found}");
    }
}

#[test]
fn natural_100_is_split_by_fine_label() {
    let splits = [Split::Train, Split::Validation, Split::Test, Split::All].map(|split| (None, split));
    let Some(sets) = open("natural-100", &splits, None) else { return };
    let counts: Vec<_> = sets.iter().map(|set| (set.classes().len(), set.len())).collect();
    assert_eq!(counts, [(64, 8320), (16, 2080), (20, 2600), (100, 13000)]);
    let all: BTreeSet<String> = sets[..3].iter().flat_map(|set| names(set)).collect();
    assert_eq!((all.len(), &all), (100, &names(&sets[3])));
    assert_eq!((sets[0].shape(), sets[0].classes()[0].name.as_str()), ([3, 32, 32], "German_shepherd"));
}

#[test]
fn natural_100_has_110_and_20_images_a_class_in_its_two_files() {
    let splits = [(Some("same-classes"), Split::Train), (Some("same-classes"), Split::Test)];
    let Some(sets) = open("natural-100", &splits, Some(32)) else { return };
    let counts: Vec<_> = sets.iter().map(|set| (set.classes().len(), set.len())).collect();
    assert_eq!(counts, [(100, 11000), (100, 2000)]);
}
