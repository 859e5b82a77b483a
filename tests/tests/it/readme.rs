//! The README's table of configuration keys, held against the configurations themselves. (Its snippets are doc tests
//! of this crate.)

use std::collections::BTreeSet;

use plastica_eval::RunConfig;
use plastica_rules::Rule;
use plastica_tasks::TaskConfig;

const README: &str = include_str!("../../../README.md");

/// Every `section.key` of the published configurations of the sequence tasks.
fn configured() -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    for task in TaskConfig::SEQUENCE_NAMES {
        let mut config = RunConfig::published(task, Rule::Gradient).unwrap();
        config.training.eval_episodes = Some(1); // left out, it would not be written
        for (section, fields) in toml::Table::try_from(config).unwrap() {
            keys.extend(fields.as_table().unwrap().keys().map(|key| format!("{section}.{key}")));
        }
    }
    keys
}

/// Every `section.key` that the README puts in backticks.
fn documented() -> BTreeSet<String> {
    let is_key = |code: &&str| {
        let section = code.split_once('.').map(|(section, _)| section);
        section.is_some_and(|s| ["model", "task", "training"].contains(&s)) && !code.contains('=')
    };
    README.split('`').skip(1).step_by(2).filter(is_key).map(str::to_owned).collect()
}

#[test]
fn every_configuration_key_is_documented_and_every_documented_key_exists() {
    assert_eq!(documented(), configured());
}
