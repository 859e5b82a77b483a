//! The tasks of the workspace, as `cargo xtask TASK`.
//!
//! Exit status: 0 when all went well, 1 for a failure, 2 for a command line or configuration that won't do,
//! 130 and 143 when SIGINT or SIGTERM stopped it.

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use serde_json::json;

mod bench;
mod completions;
mod config;
mod configuration;
mod data;
mod device;
mod eval;
mod failure;
mod inspect;
mod one_shot;
mod output;
mod parity;
mod progress;
mod reproduce;
mod session;
mod trace;
mod train;

use failure::{Failure, Outcome};

/// What `--json` tells, in lines that fit a terminal.
const JSON_HELP: &str = "\
Tell progress and results as JSON lines on standard output.

Every line is an object whose event says what it is:
  progress  what, done, total, unit (episodes or bytes), per_second, seconds_left (null
            like total where the total is not known); every 5 s at most, none with --quiet
  result    command says whose; the rest is what that task's help says
  error     message, status; the message is on standard error too
and others, in the tasks' helps. A number that is not finite is null. A command line that
cannot be understood at all is told on standard error alone.";

#[derive(Parser)]
#[command(name = "xtask", bin_name = "cargo xtask", version)]
#[command(about = "Transformers whose weights keep changing while they read")]
#[command(after_help = "\
Exit status: 0 when all went well, 1 for a failure (a run that diverged, a file that cannot be read or
written), 2 for a command line or configuration that won't do. A failure is one message on standard
error.

Examples:
  cargo xtask reproduce --protocol smoke                 the paper's whole study, in seconds
  cargo xtask train --task copying --rule hebbian --out runs
  cargo xtask eval runs/copying-hebbian-2000.safetensors --task copying
  cargo xtask trace runs/copying-hebbian-2000.safetensors --task copying --out episode.svg
  cargo xtask help train                                 the same as cargo xtask train --help

Configuration keys are described in docs/configuration.md.")]
struct Arguments {
    /// Worker threads; one a core by default. Results do not depend on it.
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Say nothing but results and errors.
    #[arg(long, global = true)]
    quiet: bool,
    /// Tell progress and results as JSON lines on standard output.
    #[arg(long, global = true, long_help = JSON_HELP)]
    json: bool,
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
    /// Say what is in a checkpoint: configuration, parameters, the run that it came from.
    Inspect(inspect::Arguments),
    /// Draw what a model does along one episode: plasticity, fast weights, attention.
    Trace(trace::Arguments),
    /// Check a configuration, and show where each value comes from.
    Config(configuration::Arguments),
    /// Measure speed and memory.
    Bench(bench::Arguments),
    /// Replay recorded trajectories and compare values and gradients.
    Parity(parity::Arguments),
    /// Write a shell's completions of these tasks and their arguments.
    Completions(completions::Arguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let quiet = arguments.quiet;
    output::set_json(arguments.json);
    let task = || match &arguments.task {
        Task::Reproduce(a) => reproduce::run(a, quiet),
        Task::Data(a) => data::run(a, quiet),
        Task::Train(a) => train::run(a, quiet),
        Task::Eval(a) => eval::run(a),
        Task::Inspect(a) => inspect::run(a),
        Task::Trace(a) => trace::run(a),
        Task::Config(a) => configuration::run(a),
        Task::Bench(a) => bench::run(a, quiet),
        Task::Parity(a) => parity::run(a),
        Task::Completions(a) => completions::run(a, Arguments::command()),
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
                // where that can't be written, standard error has it
                let _ = output::tell("error", json!({ "message": message, "status": failure.status() }));
            }
            ExitCode::from(failure.status())
        }
    }
}
