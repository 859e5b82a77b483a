//! `cargo xtask bench throughput`: training steps.

use clap::Args;
use plastica_eval::{RunConfig, Trainer};
use plastica_rules::{Credit, Rule};
use plastica_tasks::{DataFolder, Usage};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::ceilings::{Ceilings, Rated};
use super::timing::Times;
use super::work::Work;
use crate::config;
use crate::device::{On, on_device};
use crate::failure::{Failure, Outcome};
use crate::output::{say, tell_result};

#[derive(Args)]
#[command(after_help = "\
A step is all of it: forward, backward and optimiser, of a batch that has been drawn before.
Operations and bytes are counted from the equations; bytes are those of fast weights, keys and
values, which are each sequence's own. The ceilings are measured after the training, on as many
threads: a product of two matrices of 1024 × 1024, and a copy of 256 MiB. So the peak is the
training's, the program included.

With --device cuda the step ends when the device is done, the memory is what is in use on the device,
everybody's, and the ceilings are the device's: a product of 8192 × 8192, and a copy of 1 GiB on it.

With --json, the result: device, task, rule, credit, batch, threads, steps (how many were timed), ms_per_step
and ms_per_step_p99 (of the whole batch), ms_per_sequence, sequences_per_second, peak_megabytes (10⁶
bytes; null where not known), peak_source (where that was read), mflop_per_sequence, megabytes_per_sequence, and unless --no-ceilings share_of_matmul, share_of_copy
(1 is the ceiling), ceilings.matmul_flops and ceilings.copy_bytes (a second).

Examples:
  cargo xtask bench throughput --task copying --rule hebbian --credit full --batch 64
  cargo xtask bench throughput --rule gradient --credit detached --batch 1 --threads 1 --steps 100
  cargo xtask bench throughput --batch 16 --set task.delay=1013 --set model.num_layers=1 --json")]
pub struct Arguments {
    /// The task: copying, cue-reward or regression.
    #[arg(long, default_value = "copying", value_name = "T")]
    task: String,
    /// The plasticity rule: none, hebbian, gradient, oja, delta, bcm, soft-hebbian, three-factor or hybrid.
    #[arg(long, default_value = "hebbian", value_name = "R")]
    rule: Rule,
    /// What the outer gradient sees of the fast weights: detached, full, truncated(k) or windowed(k).
    #[arg(long, default_value = "full", value_name = "C")]
    credit: Credit,
    /// Episodes a step.
    #[arg(long, default_value_t = 64, value_name = "B")]
    batch: usize,
    /// Steps to time.
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    steps: u32,
    /// Steps before those, in which buffers fill.
    #[arg(long, default_value_t = 2, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    warm_up: u32,
    /// A configuration value, as in `train`; dropout is 0 unless set.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// Leave the machine's ceilings out.
    #[arg(long)]
    no_ceilings: bool,
    #[command(flatten)]
    on: On,
}

/// What was measured; its fields' names are those of `--json`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Measured {
    device: String,
    task: String,
    rule: Rule,
    credit: String,
    batch: usize,
    threads: usize,
    steps: usize,
    pub ms_per_step: f64,
    ms_per_step_p99: f64,
    pub ms_per_sequence: f64,
    sequences_per_second: f64,
    pub peak_megabytes: Option<f64>,
    peak_source: Option<String>,
    mflop_per_sequence: f64,
    megabytes_per_sequence: f64,
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    limits: Option<Limits>,
}

/// The machine's ceilings, and how much of them was used.
#[derive(Debug, Serialize, Deserialize)]
struct Limits {
    share_of_matmul: f64,
    share_of_copy: f64,
    ceilings: Ceilings,
}

/// Measures and tells.
pub fn run(arguments: &Arguments) -> Outcome {
    let measured = on_device!(arguments.on.device, |backend| arguments.measure(&backend))?;
    measured.tell()?;
    tell_result("bench throughput", &measured)
}

impl Arguments {
    fn config(&self) -> anyhow::Result<RunConfig> {
        let mut settings = vec![
            "model.dropout=0.0".to_owned(),
            format!("training.credit=\"{}\"", self.credit),
            format!("training.batch_size={}", self.batch),
        ];
        settings.extend(self.settings.iter().cloned());
        config::load(&self.task, self.rule, None, None, &settings)
    }

    fn measure<B: Rated>(&self, backend: &B) -> Outcome<Measured> {
        let config = self.config().map_err(Failure::usage)?;
        let batch = config.training.batch_size;
        let source = config.task.build_with(DataFolder::shared(), Usage::Training)?;
        let mut trainer = Trainer::new(&config, backend)?;
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let times =
            Times::take(self.warm_up as usize, self.steps as usize, |_, watch| -> anyhow::Result<()> {
                let batch = source.sample(&mut rng, batch)?;
                watch.time(|| -> anyhow::Result<()> {
                    trainer.train_batch(&batch)?;
                    Ok(backend.synchronize()?)
                })
            })?;
        // before the ceilings, which take memory of their own
        let (peak_bytes, peak_source) = backend.peak_bytes().unzip();
        let per_sequence = times.median() / batch as f64;
        let work = Work::of(&config, source.steps());
        let limits =
            if self.no_ceilings { None } else { Some(Limits::measure(backend, work, per_sequence)?) };
        Ok(Measured {
            device: backend.name(),
            task: self.task.clone(),
            rule: self.rule,
            credit: config.training.credit.to_string(),
            batch,
            threads: rayon::current_num_threads(),
            steps: times.count(),
            ms_per_step: times.median() * 1e3,
            ms_per_step_p99: times.quantile(0.99) * 1e3,
            ms_per_sequence: per_sequence * 1e3,
            sequences_per_second: 1.0 / per_sequence,
            peak_megabytes: peak_bytes.map(|bytes| bytes as f64 / 1e6),
            peak_source: peak_source.map(str::to_owned),
            mflop_per_sequence: work.flop / 1e6,
            megabytes_per_sequence: work.bytes / 1e6,
            limits,
        })
    }
}

impl Limits {
    fn measure<B: Rated>(backend: &B, work: Work, per_sequence: f64) -> anyhow::Result<Self> {
        let ceilings = backend.ceilings()?;
        Ok(Self {
            share_of_matmul: work.flop / per_sequence / ceilings.matmul_flops,
            share_of_copy: work.bytes / per_sequence / ceilings.copy_bytes,
            ceilings,
        })
    }
}

impl Measured {
    fn tell(&self) -> Outcome {
        let Self { task, rule, credit, batch, threads, steps, .. } = self;
        say(format_args!("{task} {rule} {credit}, batch {batch}, {threads} threads, {steps} steps"))?;
        say(format_args!("device    {}", self.device))?;
        say(format_args!("step      {:.2} ms median, {:.2} ms p99", self.ms_per_step, self.ms_per_step_p99))?;
        say(format_args!(
            "sequence  {:.3} ms, {:.0} a second",
            self.ms_per_sequence, self.sequences_per_second
        ))?;
        match (self.peak_megabytes, &self.peak_source) {
            (Some(peak), Some(source)) => say(format_args!("memory    {peak:.0} MB at most ({source})"))?,
            _ => say("memory    not known here")?,
        }
        say(format_args!(
            "work      {:.1} MFLOP and {:.1} MB of fast weights, keys and values a sequence",
            self.mflop_per_sequence, self.megabytes_per_sequence
        ))?;
        let Some(Limits { share_of_matmul, share_of_copy, ceilings }) = &self.limits else { return Ok(()) };
        say(format_args!(
            "ceilings  {:.0} GFLOP/s matrix product, {:.1} GB/s copy",
            ceilings.matmul_flops / 1e9,
            ceilings.copy_bytes / 1e9
        ))?;
        say(format_args!(
            "share     {:.1} % of the matrix product, {:.1} % of the copy",
            100.0 * share_of_matmul,
            100.0 * share_of_copy
        ))
    }
}
