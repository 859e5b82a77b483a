//! The Omniglot one-shot challenge (Lake, Salakhutdinov and Tenenbaum, Science 350, 2015): twenty runs of 20-way one-shot
//! classification within an alphabet.

use std::path::Path;

use anyhow::anyhow;
use plastica_eval::{Align, Column, Table, answer_queries};
use plastica_model::{Checkpoint, ModelConfig, ModelKind};
use plastica_rules::Rule;
use plastica_tasks::{EpisodeBatch, OneShotRuns, Targets, chance, nearest_neighbour};
use plastica_tensor::Backend;

use crate::failure::{Failure, Outcome};
use crate::output::say;

/// Answers the runs in `path` with a checkpoint's model and with what it is held against, and tells the error rates.
pub fn run<B: Backend>(file: &Path, checkpoint: &Checkpoint<B>, path: &Path) -> Outcome {
    let (config, parameters) = (&checkpoint.config, &checkpoint.parameters);
    let size = image_size(file, config)?;
    let runs = OneShotRuns::open(path, size)?;
    // the class whose image's embedding is nearest: what the encoder alone is worth
    let encoder = ModelConfig { kind: ModelKind::Prototypical, rule: Rule::None, ..config.clone() };
    let methods = [config.method(), "encoder alone", "nearest pixels", "chance"];
    let mut rows: Vec<Vec<f64>> = Vec::new();
    for batch in runs.runs() {
        let answers = [
            answer_queries(config, parameters, &batch)?,
            answer_queries(&encoder, parameters, &batch)?,
            nearest_neighbour(&batch).unwrap_or_default(),
        ];
        let mut rates: Vec<f64> = answers.iter().map(|answers| error_rate(&batch, answers)).collect();
        rates.push(1.0 - chance(&batch));
        rows.push(rates);
    }
    let means =
        (0..methods.len()).map(|m| rows.iter().map(|row| row[m]).sum::<f64>() / rows.len() as f64).collect();
    let named = rows.into_iter().enumerate().map(|(i, rates)| (format!("run{:02}", i + 1), rates));
    let table = Table {
        title: format!("{}: error rate, 20-way one-shot", file.display()),
        columns: [Column { name: "run".into(), align: Align::Left }]
            .into_iter()
            .chain(methods.map(|name| Column { name: name.to_owned(), align: Align::Right }))
            .collect(),
        rows: named
            .chain([("all".to_owned(), means)])
            .map(|(name, rates)| {
                [name]
                    .into_iter()
                    .chain(rates.into_iter().map(|rate| format!("{:.1} %", 100.0 * rate)))
                    .collect()
            })
            .collect(),
    };
    say(table)
}

/// The side of the images that a model reads.
fn image_size(file: &Path, config: &ModelConfig) -> Result<usize, Failure> {
    let image = config.encoder.as_ref().map(|encoder| encoder.image);
    match image {
        Some([1, height, width]) if height == width && config.output_dim == 20 => Ok(height),
        _ => {
            let found =
                image.map_or("no images".into(), |[c, h, w]| format!("images of {c} channels, {h} by {w}"));
            Err(Failure::Failed(anyhow!(
                "checkpoint {}: it reads {found} and tells {} classes apart; the one-shot runs take square images of 1 \
                 channel and 20 classes, as `cargo xtask train --task omniglot --set task.ways=20 --set task.shots=1` \
                 trains on",
                file.display(),
                config.output_dim
            )))
        }
    }
}

/// The share of a batch's queries that have another answer than theirs.
fn error_rate(batch: &EpisodeBatch, answers: &[u32]) -> f64 {
    let (Targets::Classes(classes), Some(images)) = (&batch.targets, &batch.images) else { return 1.0 };
    let right = classes.chunks_exact(batch.steps).flat_map(|episode| &episode[images.support..]);
    let wrong = right.clone().zip(answers).filter(|(right, answer)| right != answer).count();
    wrong as f64 / right.count() as f64
}
