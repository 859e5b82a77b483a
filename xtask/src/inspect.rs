//! `cargo xtask inspect`: what is in a checkpoint.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use plastica_eval::{Column, Table, format_number};
use plastica_model::{Checkpoint, ParameterSummary};
use plastica_tensor::Cpu;
use serde_json::{Value, json};

use crate::failure::Outcome;
use crate::output::{say, tell_result};

#[derive(Args)]
#[command(after_help = "\
The configuration and the metadata are lines of KEY = VALUE, those of the run that it came from with the
keys that --set takes. The norm is Euclidean; the mean is that of the magnitudes. Buffers are what
training changes otherwise than by a gradient.

Examples:
  cargo xtask inspect results/paper-detached/copying-hebbian-2000.safetensors
  cargo xtask inspect runs/regression-none-7000.safetensors --json

With --json, the result: checkpoint, model, metadata, parameters and buffers (how many scalars), and
summaries, of each name, shape, count, norm, mean_abs, buffer.")]
pub struct Arguments {
    /// A checkpoint, as `train` and `reproduce` write them.
    checkpoint: PathBuf,
}

/// Looks and tells.
pub fn run(arguments: &Arguments) -> Outcome {
    let checkpoint = Checkpoint::read(&arguments.checkpoint, &Cpu::<f32>::new())?;
    let summaries = checkpoint.parameters.summaries()?;
    let model = serde_json::to_value(&checkpoint.config)?;
    // what is not JSON is words of somebody else's
    let read = |text: &String| serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.clone()));
    let metadata: BTreeMap<&String, Value> =
        checkpoint.metadata.iter().map(|(key, text)| (key, read(text))).collect();
    let count = |buffer: bool| -> usize {
        summaries.iter().filter(|summary| summary.buffer == buffer).map(|summary| summary.count).sum()
    };
    let (parameters, buffers) = (count(false), count(true));

    say(format_args!("checkpoint {}\n", arguments.checkpoint.display()))?;
    say_lines("model", &model)?;
    for (key, value) in &metadata {
        // the run's model is the model
        let others = match value {
            Value::Object(run) if key.as_str() == "plastica.run" => Value::Object(
                run.iter()
                    .filter(|(section, _)| *section != "model")
                    .map(|(k, v)| (k.clone(), v.clone()))
                    .collect(),
            ),
            _ => value.clone(),
        };
        say(format_args!("\nmetadata {key}"))?;
        say_lines("", &others)?;
    }
    say("")?;
    say(table(&summaries).to_string().trim_end())?;
    say(format_args!("\n{parameters} scalars in parameters, {buffers} in buffers"))?;
    tell_result(
        "inspect",
        json!({
            "checkpoint": arguments.checkpoint,
            "model": model,
            "metadata": metadata,
            "parameters": parameters,
            "buffers": buffers,
            "summaries": summaries,
        }),
    )
}

/// A value as lines of `key = value`, the keys of inner objects after a point.
fn say_lines(key: &str, value: &Value) -> Outcome {
    match value {
        Value::Object(fields) => fields.iter().try_for_each(|(field, value)| {
            let inner = if key.is_empty() { field.clone() } else { format!("{key}.{field}") };
            say_lines(&inner, value)
        }),
        _ if key.is_empty() => say(value),
        _ => say(format_args!("{key} = {value}")),
    }
}

fn table(summaries: &[ParameterSummary]) -> Table {
    let row = |summary: &ParameterSummary| {
        let shape: Vec<String> = summary.shape.iter().map(usize::to_string).collect();
        vec![
            format!("{}{}", summary.name, if summary.buffer { " (buffer)" } else { "" }),
            shape.join(" × "),
            summary.count.to_string(),
            format_number(summary.norm),
            format_number(summary.mean_abs),
        ]
    };
    let heads = ["shape", "count", "norm", "mean magnitude"].map(Column::right);
    Table {
        title: String::new(),
        columns: [Column::left("parameter")].into_iter().chain(heads).collect(),
        rows: summaries.iter().map(row).collect(),
    }
}
