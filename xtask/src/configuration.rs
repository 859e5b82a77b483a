//! `cargo xtask config`: the configuration that a run would have, and where it comes from.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use plastica_eval::Preset;
use plastica_rules::Rule;
use serde_json::json;
use toml::Table;

use crate::config;
use crate::failure::{Failure, Outcome};
use crate::output::{say, tell_result};

#[derive(Args)]
#[command(after_help = "\
Values are the published ones of the task and rule, or --preset's, under those of --config, under those of --set.
docs/configuration.md describes every key.

Without --show it says only whether the whole will do. What --show prints is a file for --config, with a
comment at each value: default, --task, --rule, the task (it follows from it), the file's name, or --set.

Examples:
  cargo xtask config --show --task copying --rule hebbian
  cargo xtask config --show --task copying --rule gradient --set training.credit=full > run.toml
  cargo xtask config --task copying --rule gradient --config run.toml

With --json, the result: config, and sources by key.")]
pub struct Arguments {
    /// Print the whole configuration, as TOML.
    #[arg(long)]
    show: bool,
    /// The task.
    #[arg(long, value_name = "T")]
    task: String,
    /// The plasticity rule: none, hebbian, gradient, oja, delta, bcm, soft-hebbian, three-factor or hybrid.
    #[arg(long, value_name = "R")]
    rule: Rule,
    /// Settings in place of the published ones: images (docs/images.md) or converged (docs/configuration.md).
    #[arg(long, value_name = "NAME")]
    preset: Option<Preset>,
    /// Configuration to lay over the published one, in TOML, with sections model, task and training.
    #[arg(long, value_name = "FILE.toml")]
    config: Option<PathBuf>,
    /// One more value to lay over it, such as training.lr=0.003; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
}

/// Checks, and shows.
pub fn run(arguments: &Arguments) -> Outcome {
    let Arguments { task, rule, preset, config: file, settings, .. } = arguments;
    let config = config::load(task, *rule, *preset, file.as_deref(), settings).map_err(Failure::usage)?;
    let whole = Table::try_from(&config).context("the configuration can't be written as TOML")?;
    let sources = arguments.sources(&whole)?;
    let comment = |key: &str| sources.get(key).map_or("", String::as_str);
    for (i, (section, fields)) in whole.iter().enumerate().filter(|_| arguments.show) {
        say(format_args!("{}[{section}]", if i == 0 { "" } else { "\n" }))?;
        for (key, value) in fields.as_table().into_iter().flatten() {
            say(format_args!(
                "{:40} # {}",
                format!("{key} = {value}"),
                comment(&format!("{section}.{key}"))
            ))?;
        }
    }
    if !arguments.show {
        say(format_args!("{task} {rule}: the configuration will do"))?;
    }
    tell_result("config", json!({ "config": config, "sources": sources }))
}

impl Arguments {
    /// Where each `section.key` comes from.
    fn sources(&self, whole: &Table) -> anyhow::Result<BTreeMap<String, String>> {
        let file = match &self.config {
            Some(path) => std::fs::read_to_string(path)?.parse::<Table>()?,
            None => Table::new(),
        };
        let name = self.config.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
        let mut sources = BTreeMap::new();
        for (section, fields) in whole {
            for (key, value) in fields.as_table().into_iter().flatten() {
                let full = format!("{section}.{key}");
                let in_file = file.get(section).and_then(|fields| fields.get(key)).is_some();
                let set = self.settings.iter().any(|setting| sets(setting, &full));
                let mut from = vec![self.unless_given(&full)];
                from.extend(in_file.then_some(name.as_str()));
                from.extend(set.then_some("--set"));
                // a table may have parts from everywhere
                let from = if value.is_table() { &from[..] } else { &from[from.len() - 1..] };
                // a file's name may have a line break in it
                sources.insert(full, from.join(", ").replace(char::is_control, " "));
            }
        }
        Ok(sources)
    }

    /// Where a key's value comes from that nobody gave.
    fn unless_given(&self, key: &str) -> &'static str {
        match key {
            "model.rule" => "--rule",
            "task.name" => "--task",
            "model.input_dim" | "model.output_dim" => "the task",
            _ => "default",
        }
    }
}

/// Whether a setting is of this key, of a part of it, or of the whole section.
fn sets(setting: &str, key: &str) -> bool {
    let set = setting.split_once('=').map_or(setting, |(set, _)| set).trim();
    let within = |inner: &str, outer: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    within(set, key) || within(key, set)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_of_the_keys_that_they_touch() {
        let check = |setting: &str, key: &str, expected: bool| {
            assert_eq!(sets(setting, key), expected, "{setting} {key}")
        };
        check("training.lr=1", "training.lr", true);
        check(" training.lr = 1", "training.lr", true);
        check("training.lr=1", "training.lr_end", false);
        check("training.schedule.kind=constant", "training.schedule", true);
        check("training={lr=1}", "training.lr", true);
        check("task.delay=1", "training.delay", false);
    }
}
