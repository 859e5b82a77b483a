//! A model whose plasticity rule is not one of ours: registered by name, named by the configuration, trained, evaluated,
//! written to a checkpoint and read again. The rule is one file (`covariance.rs`, in the example `own_rule` of
//! plastica-rules).
//!
//! Run it with `cargo run --release -p plastica-eval --example train_own_rule`.

use plastica_eval::{EvalError, RunConfig, Trainer, TrainingConfig, evaluate};
use plastica_model::{Checkpoint, ModelConfig};
use plastica_rules::{Credit, register};
use plastica_tasks::{Copying, TaskConfig};
use plastica_tensor::Cpu;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

#[path = "../../rules/examples/own_rule/covariance.rs"]
mod covariance;

use covariance::Covariance;

/// A tiny model with the rule, on copying two tokens.
fn config() -> Result<RunConfig, EvalError> {
    // from here on, configurations and checkpoints may say `rule = "covariance"`
    let rule = register(Covariance)?;
    let model = ModelConfig {
        model_dim: 16,
        num_heads: 2,
        ffn_dim: 24,
        max_norm: 100.0,
        dropout: 0.0,
        rule,
        ..ModelConfig::default()
    };
    let task = TaskConfig::Copying(Copying { seq_length: 2, delay: 2, vocab_size: 6, ..Copying::default() });
    let training =
        TrainingConfig { batch_size: 8, lr: 3e-3, credit: Credit::Full, ..TrainingConfig::new(5, 80) };
    let mut config = RunConfig { model, task, training };
    config.fit_to_task()?;
    Ok(config)
}

/// Trains it, and gives the loss of every epoch's evaluation, nats a step, with what is kept of the run.
fn train(config: &RunConfig) -> Result<(Vec<f64>, Checkpoint<Cpu<f32>>), EvalError> {
    let mut trainer = Trainer::new(config, &Cpu::<f32>::new())?;
    let mut losses = Vec::new();
    while !trainer.is_finished() {
        let (record, _) = trainer.epoch_step(&mut |_| ())?;
        losses.extend(record.metrics.get("loss"));
    }
    let (config, parameters) = (config.model.clone(), trainer.parameters().clone());
    Ok((losses, Checkpoint { config, parameters, metadata: [].into() }))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let config = config()?;
    let (losses, checkpoint) = train(&config)?;
    println!("{}: loss of each epoch's evaluation, nats a step: {losses:.3?}", config.model.rule);
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("model.safetensors");
    checkpoint.write(&path)?;
    let read = Checkpoint::read(&path, &Cpu::<f32>::new())?;
    let (source, mut rng) = (config.task.build()?, ChaCha8Rng::seed_from_u64(1));
    let found = evaluate(&read.config, &read.parameters, source.as_ref(), &mut rng, 100, &mut |_| ())?;
    println!("{}: read again, {:.3?}", read.config.rule, found.metrics);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// One test, as one process has one list of rules: before the rule is in it, and after.
    #[test]
    fn a_model_is_trained_with_a_rule_of_ones_own_and_its_checkpoint_names_it() {
        let unknown =
            serde_json::from_str::<ModelConfig>(r#"{ "rule": "covariance" }"#).unwrap_err().to_string();
        assert!(
            unknown.contains("unknown rule 'covariance': it is one of none, hebbian, gradient"),
            "{unknown}"
        );
        assert!(unknown.contains("plastica_rules::register"), "{unknown}");

        let config = config().unwrap();
        assert_eq!(config.model.rule.name(), "covariance");
        let text = toml::to_string(&config).unwrap();
        assert!(text.contains(r#"rule = "covariance""#), "{text}");
        assert_eq!(toml::from_str::<RunConfig>(&text).unwrap(), config);

        let (losses, checkpoint) = train(&config).unwrap();
        assert!(losses.iter().all(|loss| loss.is_finite()) && losses[4] < 0.9 * losses[0], "{losses:?}");
        // the task has trained the rule's own parameter, from 0 on
        let decays: Vec<f32> = checkpoint
            .parameters
            .iter()
            .filter(|(name, _)| name.ends_with(".decay"))
            .flat_map(|(_, decay)| decay.to_vec().unwrap())
            .collect();
        assert!(decays.len() == 4 && decays.iter().all(|&decay| decay != 0.0), "{decays:?}");

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        checkpoint.write(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let read = Checkpoint::parse(&bytes, &path, &Cpu::<f64>::new()).unwrap();
        assert_eq!(read.config, config.model);

        // the same file under a name of the same length that nobody has registered
        let (ours, other) = (br#"covariance\""#, br#"correlator\""#);
        let at = bytes.windows(ours.len()).position(|part| part == ours).unwrap();
        let mut bytes = bytes;
        bytes[at..at + other.len()].copy_from_slice(other);
        let error =
            Checkpoint::parse(&bytes, Path::new("model.safetensors"), &Cpu::<f32>::new()).unwrap_err();
        let error = error.to_string();
        let begin =
            "checkpoint model.safetensors: its configuration can't be read: unknown rule 'correlator'";
        assert!(error.starts_with(begin), "{error}");
    }
}
