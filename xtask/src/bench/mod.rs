//! `cargo xtask bench`: how fast, beside what the machine could do.

use clap::{Args, Subcommand};

use crate::failure::Outcome;

mod ceilings;
mod throughput;

#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Training steps: time, memory, arithmetic, and the share of the machine's ceilings.
    Throughput(throughput::Arguments),
}

/// Measures.
pub fn run(arguments: &Arguments) -> Outcome {
    match &arguments.what {
        What::Throughput(a) => throughput::run(a),
    }
}

/// The median of measurements, and the 99th percentile.
fn median_and_p99(mut seconds: Vec<f64>) -> (f64, f64) {
    seconds.sort_by(f64::total_cmp);
    let at = |share: f64| seconds[((seconds.len() - 1) as f64 * share).round() as usize];
    (at(0.5), at(0.99))
}
