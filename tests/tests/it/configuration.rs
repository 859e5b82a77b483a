//! The page of configuration keys, held against the structures themselves: its keys are their fields, and its defaults
//! theirs.

use std::collections::{BTreeMap, BTreeSet};

use plastica_eval::{Plateau, TrainingConfig};
use plastica_model::{
    AttentionInit, EncoderConfig, FastNorm, Gates, ModelConfig, ModelKind, PlasticLayers, Positions,
};
use plastica_rules::{ClipMode, Rule};
use plastica_tasks::{
    AssociativeRecall, Augmentation, ConceptShift, Copying, CueReward, FewShot, Regression, TaskConfig,
};
use plastica_tensor::optim::Schedule;
use serde::Serialize;
use toml::{Table, Value};

const PAGE: &str = include_str!("../../../docs/configuration.md");

/// The rows of every table, the cells without the outer bars, by the heading above.
fn tables() -> BTreeMap<&'static str, Vec<Vec<&'static str>>> {
    let mut tables: BTreeMap<&str, Vec<Vec<&str>>> = BTreeMap::new();
    let mut heading = "";
    for line in PAGE.lines() {
        if line.starts_with('#') {
            heading = line.trim_start_matches(['#', ' ']);
        } else if let Some(row) = line.strip_prefix("| `") {
            let row = row.trim_end_matches([' ', '|']);
            tables.entry(heading).or_default().push(row.split(" | ").map(str::trim).collect());
        }
    }
    tables
}

/// What stands in backticks.
fn code(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

fn value(code: &str) -> Option<Value> {
    format!("value = {code}").parse::<Table>().ok()?.remove("value")
}

/// Holds a heading's table against structures: one with all fields that there can be, and the defaults. Where the page
/// gives a field's default as TOML, it is that of the first structure, or it has one for each.
#[track_caller]
fn check(heading: &str, full: impl Serialize, defaults: &[Table]) {
    let tables = tables();
    let rows = tables.get(heading).unwrap_or_else(|| panic!("{heading}: there is no such table"));
    let keys: BTreeSet<&str> = rows.iter().map(|row| row[0].trim_end_matches('`')).collect();
    let full = Table::try_from(full).unwrap();
    assert_eq!(keys, full.keys().map(String::as_str).collect(), "{heading}");
    for row in rows {
        let [key, _, _, default, _] = row[..] else { panic!("{heading}: five cells were expected: {row:?}") };
        let key = key.trim_end_matches('`');
        let said: Vec<Value> = code(default).filter_map(value).collect();
        for (i, defaults) in defaults.iter().enumerate().filter(|_| !said.is_empty()) {
            // a value that is not written where it is the default
            let Some(actual) = defaults.get(key) else { continue };
            assert_eq!(&said[i.min(said.len() - 1)], actual, "{heading}: {key}");
        }
    }
}

fn table(value: impl Serialize) -> Table {
    Table::try_from(value).unwrap()
}

#[test]
fn the_models_keys_are_those_of_the_page() {
    let full = ModelConfig {
        kind: ModelKind::Prototypical,
        encoder: Some(EncoderConfig::default()),
        // values that are not written where they are the default
        attention_init: AttentionInit::KeysAsQueries,
        positions: Positions::Rotary,
        max_positions: 1,
        attention_window: Some(1),
        plastic_layers: PlasticLayers::Both,
        gates: Gates::PerLayer,
        clip: ClipMode::Rms,
        learn_eta0: true,
        fast_norm: FastNorm::Bound,
        ..ModelConfig::default()
    };
    check("`[model]`", full, &[table(ModelConfig::default())]);
    check("`[model.encoder]`", EncoderConfig::default(), &[table(EncoderConfig::default())]);
}

#[test]
fn every_rule_is_on_the_page() {
    for rule in Rule::ALL {
        assert!(PAGE.contains(&format!("\n| {rule} | ")), "{rule} has no row");
    }
}

#[test]
fn every_tasks_keys_are_those_of_the_page() {
    let full = Copying { shortest_delay: Some(1), ..Copying::default() };
    check("`copying`", full, &[table(Copying::default())]);
    check("`cue-reward`", CueReward::default(), &[table(CueReward::default())]);
    check("`regression`", Regression::default(), &[table(Regression::default())]);
    let full = AssociativeRecall { shortest_steps: Some(16), ..AssociativeRecall::default() };
    check("`associative-recall`", full, &[table(AssociativeRecall::default())]);
    check("`concept-shift`", ConceptShift::default(), &[table(ConceptShift::default())]);
    let both = [table(FewShot::omniglot()), table(FewShot::cifar_fs())];
    check("`omniglot` and `cifar-fs`", FewShot::omniglot(), &both);
    check("`augmentation`", Augmentation::default(), &[table(Augmentation::default())]);
    let headings: Vec<&str> = tables().into_keys().flat_map(code).collect();
    for name in TaskConfig::NAMES {
        assert!(headings.contains(&name), "{name} has no table");
    }
}

#[test]
fn trainings_keys_are_those_of_the_page() {
    let plateau = Some(Plateau::default());
    let training = TrainingConfig {
        eval_episodes: Some(1),
        prototypical_loss: 1.0,
        plateau,
        ..TrainingConfig::new(1, 1)
    };
    check("`[training]`", training, &[table(TrainingConfig::new(1, 1))]);
    check("`[training.plateau]`", Plateau::default(), &[table(Plateau::default())]);
    let schedule = Schedule::WarmupCosine { warmup_steps: 1, final_ratio: 0.0 };
    check("`[training.schedule]`", schedule, &[table(Schedule::default())]);
}
