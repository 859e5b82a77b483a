//! Image tasks from the command line, on drawn glyphs, and the one-shot challenge on files made of them.

use std::io::Cursor;

use image::{GrayImage, ImageFormat};
use plastica_tasks::Glyphs;

use crate::support::{FAILURE, Folder, USAGE};

/// A model and a budget that take a second, 20-way.
const SETTINGS: [&str; 14] = [
    "task.data=glyphs",
    "task.split=disjoint",
    "task.ways=20",
    "task.shots=1",
    "task.queries=1",
    "task.image_size=16",
    "model.encoder.channels=4",
    "model.encoder.embedding_dim=8",
    "model.model_dim=8",
    "model.num_heads=2",
    "model.ffn_dim=8",
    "training.epochs=1",
    "training.dataset_size=2",
    "training.eval_episodes=2",
];

fn train<'a>(rule: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["train", "--task", "omniglot", "--rule", rule, "--out", "out"];
    for setting in SETTINGS.iter().chain(more) {
        arguments.extend(["--set", setting]);
    }
    arguments
}

fn png(pixels: &[u8]) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    let image = GrayImage::from_raw(105, 105, pixels.to_vec()).unwrap();
    image.write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

/// Twenty runs in which item k shows the very image of class k.
fn write_runs(folder: &Folder) {
    let glyphs = Glyphs { alphabets: 1, characters_per_alphabet: 20, drawings: 1, size: 105, seed: 3 };
    let drawn = glyphs.draw().unwrap();
    for run in 1..=20 {
        let mut labels = String::new();
        for k in 1..=20 {
            let bytes = png(drawn.image(k - 1));
            folder.write(&format!("runs/run{run:02}/training/class{k:02}.png"), &bytes);
            folder.write(&format!("runs/run{run:02}/test/item{k:02}.png"), &bytes);
            labels += &format!("run{run:02}/test/item{k:02}.png run{run:02}/training/class{k:02}.png\n");
        }
        folder.write(&format!("runs/run{run:02}/class_labels.txt"), labels);
    }
}

#[test]
fn the_one_shot_runs_are_answered_run_by_run() {
    let folder = Folder::new();
    folder.succeeds(&train("hebbian", &[]));
    write_runs(&folder);
    let checkpoint = "out/omniglot-hebbian-14000.safetensors";
    let printed = folder.succeeds(&["eval", checkpoint, "--one-shot-runs", "runs"]);
    let cells = |name: &str| -> Vec<String> {
        let row = printed.lines().find(|line| line.contains(&format!("| {name} "))).unwrap_or_default();
        row.split('|').map(|cell| cell.trim().to_owned()).filter(|cell| !cell.is_empty()).collect()
    };
    assert_eq!(cells("run")[1..], ["hebbian", "encoder alone", "nearest pixels", "chance"], "{printed}");
    for run in ["run01", "run20", "all"] {
        // the same image is the nearest to itself, by pixels and by any embedding
        assert_eq!(cells(run)[2..], ["0.0 %", "0.0 %", "95.0 %"], "{printed}");
        let rate: f64 = cells(run)[1].trim_end_matches(" %").parse().unwrap();
        assert!((0.0..=100.0).contains(&rate), "{printed}");
    }
    std::fs::remove_file(folder.path("runs/run07/test/item03.png")).unwrap();
    folder.refuses(&["eval", checkpoint, "--one-shot-runs", "runs"], FAILURE, &["run07", "item03.png"]);
}

#[test]
fn a_model_of_other_classes_is_refused() {
    let folder = Folder::new();
    folder.succeeds(&train("none", &["task.ways=5", "model.kind=prototypical"]));
    let checkpoint = "out/omniglot-prototypical-13000.safetensors";
    folder.refuses(
        &["eval", checkpoint, "--one-shot-runs", "runs"],
        FAILURE,
        &["tells 5 classes apart", "20"],
    );
    folder.refuses(
        &["eval", checkpoint, "--one-shot-runs", "runs", "--task", "omniglot"],
        USAGE,
        &["--task"],
    );
    folder.refuses(&["eval", checkpoint], USAGE, &["--task"]);
    let printed = folder.succeeds(&["eval", checkpoint, "--task", "omniglot", "--episodes", "2"]);
    assert!(printed.contains("prototypical on omniglot") && printed.contains("accuracy_nearest_neighbour"));
}

#[test]
fn images_that_no_task_draws_from_are_refused() {
    let folder = Folder::new();
    let smoke = |more: &[&str]| {
        let common = ["reproduce", "--protocol", "smoke", "--seeds", "1", "--out", "out"];
        folder.refuses(
            &[&common[..], more].concat(),
            USAGE,
            &["--data natural-100: no task here draws from it"],
        )
    };
    smoke(&["--task", "copying", "--data", "natural-100"]);
    smoke(&["--task", "omniglot", "--data", "natural-100"]);
}
