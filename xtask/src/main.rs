//! The tasks of the workspace, as `cargo xtask TASK`.
//!
//! Exit status: 0 when all went well, 1 for a failure, 2 for a command line or configuration that won't do.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;
mod config;
mod data;
mod eval;
mod failure;
mod one_shot;
mod output;
mod parity;
mod progress;
mod reproduce;
mod train;

use failure::{Failure, Outcome};

#[derive(Parser)]
#[command(name = "xtask", bin_name = "cargo xtask", version)]
#[command(about = "Transformers whose weights keep changing while they read")]
struct Arguments {
    /// Worker threads; one a core by default. Results do not depend on it.
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Say nothing but results and errors.
    #[arg(long, global = true)]
    quiet: bool,
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Re-run the paper's study on the sequence tasks, and set the results beside the published ones.
    Reproduce(reproduce::Arguments),
    /// List, fetch and verify image data.
    Data(data::Arguments),
    /// Train one model on one task.
    Train(train::Arguments),
    /// Evaluate a checkpoint on fresh episodes.
    Eval(eval::Arguments),
    /// Measure speed and memory.
    Bench(bench::Arguments),
    /// Replay recorded trajectories and compare values and gradients.
    Parity(parity::Arguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let quiet = arguments.quiet;
    let task = || match &arguments.task {
        Task::Reproduce(a) => reproduce::run(a, quiet),
        Task::Data(a) => data::run(a, quiet),
        Task::Train(a) => train::run(a, quiet),
        Task::Eval(a) => eval::run(a),
        Task::Bench(a) => bench::run(a, quiet),
        Task::Parity(a) => parity::run(a),
    };
    let outcome: Outcome = match arguments.threads {
        None => task(),
        Some(threads) => match plastica_tensor::cpu::with_threads(threads.into(), task) {
            Ok(outcome) => outcome,
            Err(error) => Err(Failure::usage(error)),
        },
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Some(message) = failure.message() {
                eprintln!("error: {message}");
            }
            ExitCode::from(failure.status())
        }
    }
}
