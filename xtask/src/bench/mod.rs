//! `cargo xtask bench`: how fast, beside what the machine could do, and how stable.

use clap::{Args, Subcommand};

use crate::failure::Outcome;

mod ceilings;
mod fit;
mod latency;
mod memory;
mod scaling;
mod stability;
mod throughput;
mod timing;
mod work;

#[derive(Args)]
#[command(after_help = "\
Examples:
  cargo xtask bench throughput --task copying --rule hebbian --credit full --batch 64
  cargo xtask bench latency
  cargo xtask bench scaling --only t --longest 1024
  cargo xtask bench stability --layers 8 --updates 100

With --json, each of them tells results in lines of its own; its --help names the fields.")]
pub struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Training steps: time, memory, arithmetic, and the share of the machine's ceilings.
    Throughput(throughput::Arguments),
    /// One step of one episode, read as a stream: median and 99th percentile, for each rule.
    Latency(latency::Arguments),
    /// Training steps against T, batch, width and layers, with fitted exponents.
    Scaling(scaling::Arguments),
    /// Whether training stays finite: rules and credits at ever more layers and ever longer sequences.
    Stability(stability::Arguments),
}

/// Measures.
pub fn run(arguments: &Arguments, quiet: bool) -> Outcome {
    match &arguments.what {
        What::Throughput(a) => throughput::run(a),
        What::Latency(a) => latency::run(a),
        What::Scaling(a) => scaling::run(a, quiet),
        What::Stability(a) => stability::run(a, quiet),
    }
}
