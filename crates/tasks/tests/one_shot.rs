//! The one-shot challenge, read from made files in its layout.

use std::{
    collections::BTreeMap,
    fs,
    io::{Cursor, Write},
    path::Path,
    sync::LazyLock,
};

use image::{GrayImage, ImageFormat};
use plastica_tasks::{Dataset, EpisodeBatch, Glyphs, ImageSet, OneShotRuns, Phase, Targets};
use zip::{ZipWriter, write::SimpleFileOptions};

type Files = BTreeMap<String, Vec<u8>>;

/// An alphabet of 20 characters a run, of two drawings: one to train on, and one to test on.
static DRAWN: LazyLock<ImageSet> = LazyLock::new(|| {
    let glyphs = Glyphs { alphabets: 20, characters_per_alphabet: 20, drawings: 2, size: 105, seed: 3 };
    glyphs.draw().expect("glyphs")
});

static FILES: LazyLock<Files> = LazyLock::new(|| {
    let mut files = Files::new();
    for run in 1..=20 {
        let mut labels = String::new();
        for number in 1..=20 {
            let class = answer(run, number) as usize + 1;
            let drawing =
                |class: usize, which| png(105, DRAWN.image(((run - 1) * 20 + class - 1) * 2 + which));
            let (test, training) =
                (format!("test/item{number:02}.png"), format!("training/class{number:02}.png"));
            files.insert(format!("run{run:02}/{training}"), drawing(number, 0));
            files.insert(format!("run{run:02}/{test}"), drawing(class, 1));
            labels += &format!("run{run:02}/{test} run{run:02}/training/class{class:02}.png\n");
        }
        files.insert(format!("run{run:02}/class_labels.txt"), labels.into_bytes());
    }
    files
});

/// The class, from 0, of an item, from 1: a permutation for every run.
fn answer(run: usize, item: usize) -> u32 {
    ((item * 7 + run) % 20) as u32
}

fn png(size: u32, pixels: &[u8]) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    let image = GrayImage::from_raw(size, size, pixels.to_vec()).expect("as many pixels as the size says");
    image.write_to(&mut bytes, ImageFormat::Png).expect("a PNG");
    bytes.into_inner()
}

fn write_folder(files: &Files, folder: &Path) {
    for (name, bytes) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().expect("in a folder")).expect("a folder");
        fs::write(path, bytes).expect("a file");
    }
}

fn write_zip(files: &Files, prefix: &str, path: &Path) {
    let mut archive = ZipWriter::new(fs::File::create(path).expect("a file"));
    for (name, bytes) in files {
        archive.start_file(format!("{prefix}{name}"), SimpleFileOptions::default()).expect("an entry");
        archive.write_all(bytes).expect("its bytes");
    }
    archive.finish().expect("an archive");
}

/// The files changed by `change`, read from a folder and from an archive, must both be refused with this message.
#[track_caller]
fn check_refused(change: impl Fn(&mut Files), problem: &str) {
    let mut files = FILES.clone();
    change(&mut files);
    let place = tempfile::tempdir().expect("a folder");
    let (folder, archive) = (place.path().join("runs"), place.path().join("runs.zip"));
    write_folder(&files, &folder);
    write_zip(&files, "", &archive);
    for path in [folder, archive] {
        let refused = OneShotRuns::open(&path, 14).map(|_| ()).expect_err("damaged runs").to_string();
        assert_eq!(refused, format!("one-shot runs {}: {problem}", path.display()));
    }
}

/// Replaces the line of an item in a run's labels.
fn relabel(files: &mut Files, run: usize, item: usize, line: &str) {
    let labels = files.get_mut(&format!("run{run:02}/class_labels.txt")).expect("labels");
    let text = String::from_utf8(labels.clone()).expect("text");
    let mut lines: Vec<&str> = text.lines().collect();
    lines[item - 1] = line;
    *labels = lines.join("\n").into_bytes();
}

fn labels(batch: &EpisodeBatch) -> &[u32] {
    let Targets::Classes(labels) = &batch.targets else { panic!("classes expected") };
    labels
}

#[test]
fn runs_are_episodes_in_the_order_of_the_files() {
    let folder = tempfile::tempdir().expect("a folder");
    write_folder(&FILES, folder.path());
    let runs = OneShotRuns::open(folder.path(), 105).expect("the runs");
    assert_eq!((runs.runs().len(), runs.batch().batch), (20, 20));
    let normalisation = Dataset::Omniglot.normalisation();
    for (run, batch) in (1..).zip(runs.runs()) {
        assert_eq!((batch.batch, batch.steps, batch.input_width, batch.output_width), (1, 40, 21, 20));
        assert_eq!(batch.phases, [[Phase::Shown; 20], [Phase::Recall; 20]].concat());
        let answers = (1..=20).map(|item| answer(run, item));
        assert_eq!(labels(&batch), (0..20).chain(answers).collect::<Vec<_>>());
        let images = batch.images.as_ref().expect("images");
        assert_eq!((images.shape, images.support), ([1, 105, 105], 20));
        for (step, (pixels, &label)) in images.pixels.chunks(105 * 105).zip(labels(&batch)).enumerate() {
            let hot = if step < 20 { step } else { 20 };
            assert_eq!(batch.input(0, step).iter().position(|&x| x == 1.0), Some(hot));
            let drawing = ((run - 1) * 20 + label as usize) * 2 + usize::from(step >= 20);
            let back = pixels.iter().map(|&number| normalisation.invert(0, number).round() as u8);
            assert!(back.eq(DRAWN.image(drawing).iter().copied()), "run {run}, step {step}");
        }
    }
}

#[test]
fn archives_and_folders_with_all_runs_inside_are_the_same() {
    let place = tempfile::tempdir().expect("a folder");
    let path = |name: &str| place.path().join(name);
    write_folder(&FILES, &path("flat"));
    write_folder(&FILES, &path("nested/all_runs"));
    write_zip(&FILES, "", &path("flat.zip"));
    write_zip(&FILES, "all_runs/", &path("nested.zip"));
    let [flat, others @ ..] = ["flat", "nested", "flat.zip", "nested.zip"]
        .map(|name| OneShotRuns::open(path(name), 28).expect("runs"));
    assert!(others.iter().all(|other| *other == flat));
}

#[test]
fn smaller_images_keep_the_ink() {
    let folder = tempfile::tempdir().expect("a folder");
    write_folder(&FILES, folder.path());
    let means = [105, 84, 28].map(|size| {
        let runs = OneShotRuns::open(folder.path(), size).expect("the runs");
        let pixels = &runs.batch().images.as_ref().expect("images").pixels;
        pixels.iter().map(|&pixel| f64::from(pixel)).sum::<f64>() / pixels.len() as f64
    });
    assert!(means.iter().all(|mean| (mean - means[0]).abs() < 2e-3), "{means:?}");
}

#[test]
fn missing_files_are_named() {
    let missing = "it is missing, expected with all of run01 to run20";
    let remove =
        |begin: &'static str| move |files: &mut Files| files.retain(|name, _| !name.starts_with(begin));
    check_refused(remove("run07/"), &format!("run07/class_labels.txt: {missing}"));
    check_refused(remove("run20/test/item13"), &format!("run20/test/item13.png: {missing}"));
    check_refused(remove("run02/training/class20"), &format!("run02/training/class20.png: {missing}"));
    check_refused(remove("run11/class_labels"), &format!("run11/class_labels.txt: {missing}"));
}

#[test]
fn images_that_are_not_the_challenges_are_refused() {
    let check = |bytes: Vec<u8>, problem: &str| {
        let name = "run03/test/item05.png";
        let replace = |files: &mut Files| drop(files.insert(name.to_owned(), bytes.clone()));
        check_refused(replace, &format!("{name}: {problem}"));
    };
    check(png(104, &[255; 104 * 104]), "it is 104 pixels wide and 104 high, expected 105 by 105");
    check(vec![0; (1 << 20) + 1], "it is larger than the 1048576 bytes expected at most");
    check(Vec::new(), "it cannot be read as a PNG: unexpected end of file");
}

#[test]
fn labels_name_each_item_and_its_class() {
    let check = |line: &'static str, problem: &str| {
        check_refused(|files| relabel(files, 4, 2, line), &format!("run04/class_labels.txt: {problem}"));
    };
    check("", "19 items have labels, expected all 20");
    check(
        "run04/test/item02.png",
        "line 2: `run04/test/item02.png`, expected a test item and its class, as \
         `run04/test/item01.png run04/training/class01.png`",
    );
    check(
        "run04/test/item01.png run04/training/class01.png",
        "line 2: `run04/test/item01.png` has a label already, expected one each",
    );
    check(
        "run04/test/item21.png run04/training/class01.png",
        "line 2: unknown file `run04/test/item21.png`, expected one of run04/test/item01.png to \
         run04/test/item20.png",
    );
    check(
        "run04/test/item02.png run05/training/class01.png",
        "line 2: unknown file `run05/training/class01.png`, expected one of run04/training/class01.png to \
         run04/training/class20.png",
    );
    check(
        "run04/test/item02.png ../run04/training/class01.png",
        "line 2: `../run04/training/class01.png` leaves the folder",
    );
    check(
        "/run04/test/item02.png run04/training/class01.png",
        "line 2: `/run04/test/item02.png` leaves the folder",
    );
}

#[test]
fn what_is_no_folder_of_runs_is_refused() {
    let place = tempfile::tempdir().expect("a folder");
    let check = |name: &str, part: &str| {
        let path = place.path().join(name);
        let refused = OneShotRuns::open(&path, 28).map(|_| ()).expect_err("no runs").to_string();
        assert!(refused.starts_with(&format!("one-shot runs {}: ", path.display())), "{refused}");
        assert!(refused.contains(part), "{refused}");
    };
    check("nowhere", "; a folder or a zip archive of run01 to run20 was expected");
    fs::write(place.path().join("text.zip"), "no archive").expect("a file");
    check("text.zip", "; a folder or a zip archive of run01 to run20 was expected");
    let refused = OneShotRuns::open(place.path(), 0).map(|_| ()).expect_err("no size").to_string();
    assert_eq!(refused, "omniglot: image_size = 0, expected 1 to 256");
}
