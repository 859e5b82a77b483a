//! Runs that are stopped, killed or robbed of their files, and come to the same end.

mod session;
mod trainer;

use plastica_eval::{RunConfig, TrainingConfig};
use plastica_model::ModelConfig;
use plastica_rules::{Credit, Rule};
use plastica_tasks::{Copying, TaskConfig};

/// A small model with dropout, two epochs of three steps, the last of a step's part, and two batches of evaluation.
fn config(rule: Rule, credit: Credit, seed: u64) -> RunConfig {
    let model =
        ModelConfig { model_dim: 8, num_heads: 2, ffn_dim: 12, aux_dim: 2, rule, ..ModelConfig::default() };
    assert!(model.dropout > 0.0);
    let training =
        TrainingConfig { batch_size: 3, eval_episodes: Some(70), credit, seed, ..TrainingConfig::new(2, 7) };
    let task = TaskConfig::Copying(Copying { seq_length: 2, delay: 1, vocab_size: 5, ..Copying::default() });
    let mut config = RunConfig { model, task, training };
    config.fit_to_task().unwrap();
    config
}

/// Calls of `Trainer::advance` in such a run.
const ADVANCES: usize = 2 * (3 + 2);
