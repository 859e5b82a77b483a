//! A run's configuration from defaults, a TOML file and `--set`, in that order.

use std::path::Path;

use anyhow::{Context, anyhow, bail};
use plastica_eval::RunConfig;
use plastica_rules::Rule;
use toml::{Table, Value};

/// The published configuration of a task and rule, overridden by a file's sections `[model]`, `[task]` and
/// `[training]`, then by `section.key=value` settings.
///
/// # Errors
/// When the file cannot be read, a key is unknown, a value is of the wrong type, or the whole contradicts itself.
pub fn load(task: &str, rule: Rule, file: Option<&Path>, settings: &[String]) -> anyhow::Result<RunConfig> {
    let mut table = Table::try_from(RunConfig::published(task, rule)?).context("the defaults")?;
    if let Some(path) = file {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("{}: it can't be read", path.display()))?;
        let overrides: Table = text.parse().with_context(|| format!("{}: it is not TOML", path.display()))?;
        merge(&mut table, overrides, &path.display().to_string())?;
    }
    for setting in settings {
        let (key, value) = setting.split_once('=').ok_or_else(|| {
            anyhow!("--set {setting}: expected section.key=value, such as training.lr=0.003")
        })?;
        let mut overrides = parse_value(value);
        for part in key.trim().rsplit('.') {
            overrides = Value::Table([(part.to_owned(), overrides)].into_iter().collect());
        }
        let Value::Table(overrides) = overrides else { bail!("--set {setting}: the key is empty") };
        merge(&mut table, overrides, &format!("--set {setting}"))?;
    }
    let mut config: RunConfig = table.try_into().context("the configuration")?;
    if config.task.name() != task {
        bail!("the configuration's task.name is {}, but --task is {task}", config.task.name());
    }
    if config.model.rule != rule {
        bail!("the configuration's model.rule is {}, but --rule is {rule}", config.model.rule);
    }
    config.fit_to_task()?;
    config.validate()?;
    Ok(config)
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
    use super::*;

    fn load_settings(settings: &[&str]) -> anyhow::Result<RunConfig> {
        let settings: Vec<String> = settings.iter().map(|&s| s.to_owned()).collect();
        load("copying", Rule::Hebbian, None, &settings)
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
        check(&["model.rule=oja"], "unknown variant `oja`");
        check(&["training.credit=most"], "unknown credit 'most'");
    }
}
