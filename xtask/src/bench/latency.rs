//! `cargo xtask bench latency`: one step of one episode, read as a stream.

use anyhow::Context;
use clap::Args;
use plastica_model::{ModelConfig, Parameters, PlasticTransformer, SequenceModel};
use plastica_rules::Rule;
use plastica_tensor::{Backend, Element, Tensor};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::ceilings::Rated;
use super::timing::Times;
use crate::device::{On, on_device};
use crate::failure::{Failure, Outcome};
use crate::output::{say, tell_result};

/// Steps before the timed ones, in which buffers and caches fill.
const WARM_UP: usize = 200;

/// Inputs and outputs: those of the copying task as published.
const WIDTH: usize = 10;

#[derive(Args)]
#[command(after_help = "\
A step is a call of SequenceModel::step with a batch of one: forward, no dropout, fast weights
changed. After --length steps a new episode begins, so attention looks at 1 to --length steps, or at
no more than --window; the first step of an episode, which takes memory for its state, is timed like
the others. The peak of memory is the process's so far, and so the largest of this rule and of those
before it: --rule measures one alone.

With --json, a result for each rule: device, rule, model_dim, ffn_dim, num_layers,
num_heads, length, window (null without one), steps (how many were timed), median_us and p99_us
(microseconds a step), peak_megabytes (10⁶ bytes; null where not known).

Examples:
  cargo xtask bench latency
  cargo xtask bench latency --rule hebbian --length 1024 --steps 20000
  cargo xtask bench latency --rule hebbian --length 100000 --steps 100000 --window 16
  cargo xtask bench latency --model-dim 64 --ffn-dim 128 --layers 1 --json")]
pub struct Arguments {
    /// The plasticity rule; none, hebbian and gradient unless given.
    #[arg(long, value_name = "R")]
    rule: Option<Rule>,
    /// Steps to time.
    #[arg(long, default_value_t = 5000, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    steps: u32,
    /// Steps of an episode.
    #[arg(long, default_value_t = 31, value_name = "T", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    length: u32,
    /// W, the steps that attention looks back at, the current one among them; all of the episode's unless given.
    #[arg(long, value_name = "W")]
    window: Option<usize>,
    /// d, the model's width; a multiple of --heads.
    #[arg(long, default_value_t = 128, value_name = "D")]
    model_dim: usize,
    /// f, the width of the feed-forward layers.
    #[arg(long, default_value_t = 256, value_name = "F")]
    ffn_dim: usize,
    /// L, blocks.
    #[arg(long, default_value_t = 2, value_name = "L")]
    layers: usize,
    /// H, attention heads.
    #[arg(long, default_value_t = 4, value_name = "H")]
    heads: usize,
    #[command(flatten)]
    on: On,
}

#[derive(Serialize)]
struct Measured {
    device: String,
    rule: Rule,
    model_dim: usize,
    ffn_dim: usize,
    num_layers: usize,
    num_heads: usize,
    length: u32,
    window: Option<usize>,
    steps: usize,
    median_us: f64,
    p99_us: f64,
    peak_megabytes: Option<f64>,
}

/// Measures and tells.
pub fn run(arguments: &Arguments) -> Outcome {
    on_device!(arguments.on.device, |backend| measure(arguments, &backend))
}

fn measure<B: Rated>(arguments: &Arguments, backend: &B) -> Outcome {
    let rules = arguments.rule.map_or(Rule::PUBLISHED.to_vec(), |rule| vec![rule]);
    for rule in &rules {
        arguments.config(*rule).validate().map_err(Failure::usage)?;
    }
    let Arguments { model_dim, ffn_dim, layers, heads, length, steps, .. } = arguments;
    say(format_args!(
        "one step of one episode, {steps} steps in episodes of {length}: \
         d = {model_dim}, f = {ffn_dim}, L = {layers}, H = {heads}"
    ))?;
    say(format_args!("{:10} {:>12} {:>12} {:>12}", "rule", "median, µs", "p99, µs", "peak, MB"))?;
    for rule in rules {
        let config = arguments.config(rule);
        let times = arguments.measure(&config, backend).with_context(|| format!("rule {rule}"))?;
        let (median_us, p99_us) = (times.median() * 1e6, times.quantile(0.99) * 1e6);
        let peak_megabytes = backend.peak_bytes().map(|(bytes, _)| bytes as f64 / 1e6);
        let peak = peak_megabytes.map_or("not known".to_owned(), |peak| format!("{peak:.1}"));
        say(format_args!("{rule:10} {median_us:>12.1} {p99_us:>12.1} {peak:>12}"))?;
        let ModelConfig { model_dim, ffn_dim, num_layers, num_heads, .. } = config;
        let (length, steps) = (arguments.length, times.count());
        let device = backend.name();
        let measured = Measured {
            device,
            rule,
            model_dim,
            ffn_dim,
            num_layers,
            num_heads,
            length,
            window: arguments.window,
            steps,
            median_us,
            p99_us,
            peak_megabytes,
        };
        tell_result("bench latency", &measured)?;
    }
    Ok(())
}

impl Arguments {
    fn config(&self, rule: Rule) -> ModelConfig {
        ModelConfig {
            input_dim: WIDTH,
            output_dim: WIDTH,
            model_dim: self.model_dim,
            ffn_dim: self.ffn_dim,
            num_layers: self.layers,
            num_heads: self.heads,
            rule,
            attention_window: self.window,
            ..ModelConfig::default()
        }
    }

    fn measure<B: Backend>(&self, config: &ModelConfig, backend: &B) -> anyhow::Result<Times> {
        let parameters = Parameters::init(config, backend, &mut ChaCha8Rng::seed_from_u64(0))?;
        let model = PlasticTransformer::new(config, &parameters)?;
        let tokens: Vec<Tensor<B>> = (0..WIDTH)
            .map(|token| {
                let one_hot = (0..WIDTH).map(|i| B::Elem::of(if i == token { 1.0 } else { 0.0 })).collect();
                Tensor::from_vec(backend, one_hot, [1, WIDTH])
            })
            .collect::<Result<_, _>>()?;
        let mut state = model.init_state(1);
        Times::take(WARM_UP, self.steps as usize, |turn, watch| {
            if turn.is_multiple_of(self.length as usize) {
                state = model.init_state(1);
            }
            // 7 and 10 have no common divisor: every token comes, in no order that repeats a step later
            let token = &tokens[turn * 7 % WIDTH];
            watch.time(|| -> anyhow::Result<()> {
                model.step(token, &mut state)?;
                Ok(backend.synchronize()?)
            })
        })
    }
}
