//! A run's configuration from defaults, a TOML file and `--set`, in that order.

use std::path::Path;

use anyhow::{Context, anyhow, bail};
use plastica_eval::{Preset, RunConfig};
use plastica_rules::Rule;
use toml::{Table, Value};

/// Fields of `[model]` that the task decides.
const WIDTHS: [&str; 2] = ["input_dim", "output_dim"];

/// The published configuration of a task and rule, or a preset's, overridden by a file's sections `[model]`, `[task]` and
/// `[training]`, then by `section.key=value` settings.
///
/// # Errors
/// When the file cannot be read, a key is unknown, a value is of the wrong type, or the whole contradicts itself.
pub fn load(
    task: &str,
    rule: Rule,
    preset: Option<Preset>,
    file: Option<&Path>,
    settings: &[String],
) -> anyhow::Result<RunConfig> {
    let mut defaults = RunConfig::published(task, rule)?;
    let overrides = overrides(file, settings)?;
    if let Some(preset) = preset {
        // what a preset sets depends on the kind
        let kind = |over: &Override| over.table.get("model")?.get("kind").cloned();
        if let Some(kind) = overrides.iter().rev().find_map(kind) {
            defaults.model.kind = kind.try_into().map_err(|e| anyhow!("model.kind: {}", trimmed(&e)))?;
        }
        preset.apply(&mut defaults);
    }
    lay(defaults, overrides)
}

/// A configuration overridden by a file and by settings, as [`load`] has it.
///
/// # Errors
/// Those of [`load`].
pub fn lay_over(defaults: RunConfig, file: Option<&Path>, settings: &[String]) -> anyhow::Result<RunConfig> {
    lay(defaults, overrides(file, settings)?)
}

/// What is laid over a configuration.
struct Override {
    table: Table,
    source: String,
    /// Whether the configuration must be one after it, and not only after what follows.
    whole: bool,
}

/// What a file and then settings say.
fn overrides(file: Option<&Path>, settings: &[String]) -> anyhow::Result<Vec<Override>> {
    let mut list = Vec::new();
    if let Some(path) = file {
        let source = path.display().to_string();
        let text = std::fs::read_to_string(path).with_context(|| format!("{source}: it can't be read"))?;
        let table = text.parse().map_err(|e| anyhow!("{source}: it is not TOML: {}", trimmed(&e)))?;
        list.push(Override { table, source, whole: true });
    }
    for setting in settings {
        let (key, value) = setting.split_once('=').ok_or_else(|| {
            anyhow!("--set {setting}: expected section.key=value, such as training.lr=0.003")
        })?;
        let mut over = parse_value(value);
        for part in key.trim().rsplit('.') {
            over = Value::Table([(part.to_owned(), over)].into_iter().collect());
        }
        let Value::Table(table) = over else { bail!("--set {setting}: the key is empty") };
        // a table may be set key by key
        list.push(Override { table, source: format!("--set {setting}"), whole: false });
    }
    Ok(list)
}

/// A configuration overridden by `overrides`, one after the other.
fn lay(defaults: RunConfig, overrides: Vec<Override>) -> anyhow::Result<RunConfig> {
    let (task, rule) = (defaults.task.name(), defaults.model.rule);
    let mut table = Table::try_from(defaults).context("the defaults")?;
    // the widths follow from the task: what stands here afterwards was asked for
    if let Some(Value::Table(model)) = table.get_mut("model") {
        for width in WIDTHS {
            model.remove(width);
        }
    }
    for Override { table: over, source, whole } in overrides {
        merge(&mut table, over, &source)?;
        if whole {
            read(&table, task, &source)?;
        }
    }
    let mut config = read(&table, task, "--set")?;
    if config.model.rule != rule {
        bail!("the configuration's model.rule is {}, but --rule is {rule}", config.model.rule);
    }
    config.fit_to_task()?;
    for (width, fitted) in WIDTHS.into_iter().zip([config.model.input_dim, config.model.output_dim]) {
        match table.get("model").and_then(|model| model.get(width)) {
            Some(given) if given.as_integer() != i64::try_from(fitted).ok() => {
                bail!(
                    "model.{width} = {given} won't do: it follows from the task, and is {fitted}; leave it out"
                )
            }
            _ => {}
        }
    }
    config.training.validate().context("[training]")?;
    config.validate()?;
    Ok(config)
}

/// The whole as it stands after `source` was laid upon it.
fn read(table: &Table, task: &str, source: &str) -> anyhow::Result<RunConfig> {
    // before anything else, because the fields of two tasks are not the same
    let name = table.get("task").and_then(|task| task.get("name")).and_then(Value::as_str).unwrap_or(task);
    if name != task {
        bail!("{source}: task.name is {name}, but --task is {task}");
    }
    table.clone().try_into().map_err(|e| anyhow!("{source}: {}", trimmed(&e).replace('\n', " ")))
}

/// The parser's message without the line break at its end.
fn trimmed(error: &toml::de::Error) -> String {
    error.to_string().trim_end().to_owned()
}

/// A value as TOML reads it; a bare word is a string.
fn parse_value(text: &str) -> Value {
    let document = format!("value = {text}");
    match document.parse::<Table>().ok().and_then(|mut table| table.remove("value")) {
        Some(value) => value,
        None => Value::String(text.trim().to_owned()),
    }
}

/// Lays `over` upon `base`. Sections must be known; keys inside them are checked when the whole is read, against
/// the fields of the structures themselves.
fn merge(base: &mut Table, over: Table, source: &str) -> anyhow::Result<()> {
    for (section, value) in over {
        let Some(Value::Table(base)) = base.get_mut(&section) else {
            bail!("{source}: unknown section '{section}': the sections are model, task and training");
        };
        let Value::Table(over) = value else {
            bail!("{source}: '{section}' is a section, such as [{section}], not a value");
        };
        for (key, value) in over {
            match (base.get_mut(&key), value) {
                (Some(Value::Float(old)), Value::Integer(new)) => *old = new as f64,
                // a table that names its kind stands for itself; one that does not adds to what is there
                (Some(Value::Table(old)), Value::Table(new)) if !new.contains_key("kind") => old.extend(new),
                (_, value) => {
                    base.insert(key, value);
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use plastica_model::EmbeddingNorm;
    use plastica_tensor::optim::Schedule;

    use super::*;

    fn load_settings(settings: &[&str]) -> anyhow::Result<RunConfig> {
        let settings: Vec<String> = settings.iter().map(|&s| s.to_owned()).collect();
        load("copying", Rule::Hebbian, None, None, &settings)
    }

    #[test]
    fn settings_override_defaults_and_widths_follow_the_task() {
        let config = load_settings(&[
            "training.lr=1",
            "model.model_dim=64",
            "task.vocab_size=12",
            "training.credit=full",
        ])
        .unwrap();
        assert_eq!((config.training.lr, config.model.model_dim, config.model.input_dim), (1.0, 64, 12));
        assert_eq!(config.training.credit.to_string(), "full");
        assert_eq!(config.training.seed, 2000);
    }

    #[test]
    fn a_schedule_is_set_key_by_key_or_as_a_whole() {
        let steps = |settings: &[&str]| match load_settings(settings).unwrap().training.schedule {
            Schedule::Constant {} => None,
            Schedule::WarmupCosine { warmup_steps, .. } => Some(warmup_steps),
        };
        let whole = r#"training.schedule={kind="warmup-cosine", warmup_steps=10, final_ratio=0.5}"#;
        let parts = [
            "training.schedule.kind=warmup-cosine",
            "training.schedule.warmup_steps=10",
            "training.schedule.final_ratio=0.5",
        ];
        assert_eq!((steps(&[whole]), steps(&parts)), (Some(10), Some(10)));
        assert_eq!(steps(&[whole, "training.schedule.warmup_steps=7"]), Some(7));
        assert_eq!(steps(&[whole, "training.schedule.kind=constant"]), None);
    }

    #[test]
    fn a_preset_knows_the_kind_of_the_model() {
        let load = |settings: &[&str]| {
            let settings: Vec<String> = settings.iter().map(|&s| s.to_owned()).collect();
            load("omniglot", Rule::None, Some(Preset::Images), None, &settings)
        };
        let plastic = load(&[]).unwrap();
        let prototypical = load(&["model.kind=prototypical"]).unwrap();
        assert_eq!((plastic.training.prototypical_loss, prototypical.training.prototypical_loss), (1.0, 0.0));
        assert_eq!(prototypical.model.encoder.unwrap().norm, EmbeddingNorm::None);
        let message = format!("{:#}", load(&["model.kind=protypical"]).unwrap_err());
        assert!(message.starts_with("model.kind: unknown variant `protypical`"), "{message}");
    }

    #[test]
    fn what_goes_past_the_paper_is_set_like_the_rest() {
        let settings = ["positions=learned", "attention_window=16", "plastic_layers=both", "gates=per-layer"];
        let more = ["clip=rms", "learn_eta0=true", "fast_norm=bound", "max_positions=64"];
        let settings: Vec<String> = settings.iter().chain(&more).map(|s| format!("model.{s}")).collect();
        let model = load_settings(&settings.iter().map(String::as_str).collect::<Vec<_>>()).unwrap().model;
        let names = "blocks.0.value blocks.0.out_proj blocks.0.fc1 blocks.0.fc2";
        assert_eq!(model.plastic_layer_names()[..4].join(" "), names);
        assert_eq!((model.gate_count(), model.attention_window, model.max_positions), (8, Some(16), 64));
    }

    #[test]
    fn widths_may_be_given_if_they_are_the_tasks() {
        let config = load_settings(&["model.input_dim=12", "task.vocab_size=12"]).unwrap();
        assert_eq!((config.model.input_dim, config.model.output_dim), (12, 12));
    }

    #[test]
    fn what_cannot_be_set_is_said() {
        let check = |settings: &[&str], part: &str| {
            let message = format!("{:#}", load_settings(settings).unwrap_err());
            assert!(message.contains(part), "{message}");
        };
        check(&["training.lr"], "expected section.key=value");
        check(&["training.learning_rate=1"], "unknown field `learning_rate`");
        check(&["trainin.lr=1"], "unknown section 'trainin'");
        check(&["model=3"], "'model' is a section");
        check(&["training.lr=fast"], "invalid type: string \"fast\"");
        check(&["model.num_heads=3"], "model.num_heads = 3 won't do: it must divide model_dim = 128");
        check(&["task.vocab_size=3"], "vocab_size = 3");
        check(&["model.rule=none"], "model.rule is none, but --rule is hebbian");
        check(&["model.rule=stdp"], "unknown rule 'stdp'");
        check(
            &["model.clip=norm"],
            "unknown variant `norm`, expected one of `published`, `per-layer`, `rms`",
        );
        check(
            &["model.attention_window=0"],
            "model.attention_window = 0 won't do: it must lie in 1..=1048576",
        );
        check(&["model.max_positions=0"], "model.max_positions = 0 won't do");
        check(
            &["model.positions=learned", "model.max_positions=30"],
            "model.max_positions is 30; it must be at least 31, the steps of an episode of copying",
        );
        check(
            &["model.positions=rotary", "model.num_heads=128"],
            "model.positions = rotary won't do: rotary",
        );
        check(
            &["model.learn_eta0=true", "model.eta0=1"],
            "model.eta0 = 1 won't do: a learned η0 starts below 1",
        );
        check(&["task.name=regression"], "task.name is regression, but --task is copying");
        check(&["model.input_dim=3"], "model.input_dim = 3 won't do: it follows from the task, and is 10");
        check(&["training.lr=-1"], "[training]: lr is -1; it must be");
        check(&["training.credit=most"], "unknown credit 'most'");
    }
}
