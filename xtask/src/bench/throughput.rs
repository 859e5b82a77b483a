//! `cargo xtask bench throughput`: training steps.

use std::time::Instant;

use clap::Args;
use plastica_eval::{RunConfig, Trainer};
use plastica_model::ModelConfig;
use plastica_rules::{Credit, Rule};
use plastica_tensor::Cpu;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::ceilings::Ceilings;
use super::median_and_p99;
use crate::config;
use crate::failure::{Failure, Outcome};

#[derive(Args)]
#[command(after_help = "Example:
  cargo xtask bench throughput --task copying --rule hebbian --credit full --batch 64")]
pub struct Arguments {
    /// The task: copying, cue-reward or regression.
    #[arg(long, default_value = "copying", value_name = "T")]
    task: String,
    /// The plasticity rule.
    #[arg(long, default_value = "hebbian", value_name = "R")]
    rule: Rule,
    /// What the outer gradient sees of the fast weights.
    #[arg(long, default_value = "full", value_name = "C")]
    credit: Credit,
    /// Episodes a step.
    #[arg(long, default_value_t = 64, value_name = "B")]
    batch: usize,
    /// Steps to time, after two to warm up.
    #[arg(long, default_value_t = 10, value_name = "N")]
    steps: usize,
    /// A configuration value, as in `train`; dropout is 0 unless set.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// One JSON object instead of lines.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Measured {
    task: String,
    rule: String,
    credit: String,
    batch: usize,
    threads: usize,
    ms_per_step: f64,
    ms_per_step_p99: f64,
    ms_per_sequence: f64,
    sequences_per_second: f64,
    peak_megabytes: Option<f64>,
    mflop_per_sequence: f64,
    fast_megabytes_per_sequence: f64,
    share_of_matmul: f64,
    share_of_copy: f64,
    ceilings: Ceilings,
}

/// Measures and tells.
pub fn run(arguments: &Arguments) -> Outcome {
    let mut settings = vec![
        "model.dropout=0.0".to_owned(),
        format!("training.credit=\"{}\"", arguments.credit),
        format!("training.batch_size={}", arguments.batch),
    ];
    settings.extend(arguments.settings.iter().cloned());
    let config = config::load(&arguments.task, arguments.rule, None, &settings).map_err(Failure::usage)?;
    let steps = arguments.steps.max(1);
    let source = config.task.build()?;
    let mut trainer = Trainer::new(&config, &Cpu::<f32>::new())?;
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut seconds = Vec::with_capacity(steps);
    for i in 0..steps + 2 {
        let batch = source.sample(&mut rng, arguments.batch)?;
        let begin = Instant::now();
        trainer.train_batch(&batch)?;
        if i >= 2 {
            seconds.push(begin.elapsed().as_secs_f64());
        }
    }
    let peak_megabytes = peak_bytes().map(|bytes| bytes as f64 / 1e6);
    let (median, p99) = median_and_p99(seconds);
    let per_sequence = median / arguments.batch as f64;
    let (flop, bytes) = work(&config, source.steps());
    let ceilings = Ceilings::measure()?;
    let measured = Measured {
        task: arguments.task.clone(),
        rule: arguments.rule.to_string(),
        credit: arguments.credit.to_string(),
        batch: arguments.batch,
        threads: rayon::current_num_threads(),
        ms_per_step: median * 1e3,
        ms_per_step_p99: p99 * 1e3,
        ms_per_sequence: per_sequence * 1e3,
        sequences_per_second: 1.0 / per_sequence,
        peak_megabytes,
        mflop_per_sequence: flop / 1e6,
        fast_megabytes_per_sequence: bytes / 1e6,
        share_of_matmul: flop / per_sequence / ceilings.matmul_flops,
        share_of_copy: bytes / per_sequence / ceilings.copy_bytes,
        ceilings,
    };
    if arguments.json {
        println!("{}", serde_json::to_string(&measured)?);
        return Ok(());
    }
    println!(
        "{} {} {}, batch {}, {} threads, {} steps",
        measured.task, measured.rule, measured.credit, measured.batch, measured.threads, steps
    );
    println!("step      {:.2} ms median, {:.2} ms p99", measured.ms_per_step, measured.ms_per_step_p99);
    println!("sequence  {:.3} ms, {:.0} a second", measured.ms_per_sequence, measured.sequences_per_second);
    if let Some(peak) = measured.peak_megabytes {
        println!("memory    {peak:.0} MB at most");
    }
    println!(
        "work      {:.1} MFLOP and {:.1} MB of fast weights a sequence",
        measured.mflop_per_sequence, measured.fast_megabytes_per_sequence
    );
    println!(
        "ceilings  {:.0} GFLOP/s matrix product, {:.1} GB/s copy",
        ceilings.matmul_flops / 1e9,
        ceilings.copy_bytes / 1e9
    );
    println!(
        "share     {:.1} % of the matrix product, {:.1} % of the copy",
        100.0 * measured.share_of_matmul,
        100.0 * measured.share_of_copy
    );
    Ok(())
}

/// Floating-point operations of a sequence in training, and bytes of fast weights that have to be walked over,
/// counted from the equations: a shared weight takes 2 operations forward and 4 backward a step; a fast one 2 to
/// be read and 4 to be changed forward, and 13 backward under credit (2 to read transposed, 2 to add what was
/// read, 1 to decay, 8 for the derivatives by η, α, p and q), 2 where it is a constant; the gradient rule adds
/// its own pass back through both, and the way back through that.
fn work(config: &RunConfig, steps: usize) -> (f64, f64) {
    let ModelConfig { model_dim: d, ffn_dim: f, num_layers, input_dim, .. } = config.model;
    let shared = num_layers * (4 * d * d + 2 * d * f) + input_dim * d + config.model.head_dim() * d;
    let fast = num_layers * 2 * d * f;
    let full = config.training.credit != Credit::Detached;
    let (shared_ops, fast_ops, walks) = match (config.model.rule, full) {
        (Rule::None, _) => (6, 0, 0),
        (Rule::Hebbian, false) => (6, 8, 4),
        (Rule::Hebbian, true) => (6, 19, 6),
        (Rule::Gradient, false) => (8, 10, 5),
        (Rule::Gradient, true) => (12, 25, 8),
    };
    let count = |weights: usize, ops: usize| (weights * ops * steps) as f64;
    (count(shared, shared_ops) + count(fast, fast_ops), count(fast, walks) * 4.0)
}

/// Most memory that this process has held, in bytes, where the system tells.
fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}
