//! `cargo xtask bench`: how fast, beside what the machine could do.

use clap::{Args, Subcommand};

use crate::failure::Outcome;

mod ceilings;
mod fit;
mod latency;
mod memory;
mod scaling;
mod throughput;
mod timing;
mod work;

#[derive(Args)]
#[command(after_help = "\
Examples:
  cargo xtask bench throughput --task copying --rule hebbian --credit full --batch 64
  cargo xtask bench latency
  cargo xtask bench scaling --only t --longest 1024

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
}

/// Measures.
pub fn run(arguments: &Arguments, quiet: bool) -> Outcome {
    match &arguments.what {
        What::Throughput(a) => throughput::run(a),
        What::Latency(a) => latency::run(a),
        What::Scaling(a) => scaling::run(a, quiet),
    }
}
