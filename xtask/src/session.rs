//! What training tasks share: how often runs are saved, how signals stop them, and what is told of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::Args;
use plastica_eval::{EvalError, Event, Note};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::failure::Failure;
use crate::progress::Progress;

/// Arguments of every task that trains.
#[derive(Args)]
pub struct Saving {
    /// Seconds from one saving of an unfinished run's state to the next; 0 saves after every step.
    #[arg(long, default_value = "30", value_name = "SECONDS", value_parser = seconds)]
    pub checkpoint_every: Duration,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let expected = |_| "expected a number of seconds of at least 0, such as 30 or 0.5".to_owned();
    let seconds: f64 = text.parse().map_err(|_| ()).map_err(expected)?;
    Duration::try_from_secs_f64(seconds).map_err(|_| ()).map_err(expected)
}

/// Interruption and termination: the first signal asks the runs to stop, the second ends the process at once.
pub struct Signals {
    stop: Arc<AtomicBool>,
    received: Arc<AtomicUsize>,
}

impl Signals {
    /// Handles them from here on.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn handle() -> anyhow::Result<Self> {
        let signals = Self { stop: Arc::default(), received: Arc::default() };
        for signal in [SIGINT, SIGTERM] {
            // first of all, or the first signal would find what it has set itself
            flag::register_conditional_shutdown(signal, 128 + signal, signals.stop.clone())
                .and_then(|_| flag::register_usize(signal, signals.received.clone(), signal as usize))
                .and_then(|_| flag::register(signal, signals.stop.clone()))
                .with_context(|| format!("signal {signal} can't be handled"))?;
        }
        Ok(signals)
    }

    /// Whether runs are to stop.
    pub fn stop(&self) -> &AtomicBool {
        &self.stop
    }

    /// The task's end after a signal, and what would go on from there.
    pub fn stopped(&self, how_to_go_on: &str) -> Failure {
        let signal = self.received.load(Ordering::Relaxed);
        let name = if signal == SIGTERM as usize { "SIGTERM" } else { "SIGINT" };
        eprintln!("stopped by {name}: {how_to_go_on}");
        Failure::Stopped { signal: signal as u8 }
    }
}

/// A run's outcome; a failure says how to go on where its state has been saved.
///
/// # Errors
/// The outcome's.
pub fn with_way_on<T>(
    outcome: Result<T, EvalError>,
    saved: impl FnOnce() -> bool,
    how_to_go_on: &str,
) -> anyhow::Result<T> {
    outcome.map_err(|error| {
        let way =
            if saved() { format!("; {how_to_go_on} goes on from what was saved") } else { String::new() };
        anyhow!("{:#}{way}", anyhow::Error::new(error))
    })
}

/// What is told of runs: episodes advance the progress, notes are lines on standard error.
pub struct Telling<'a> {
    progress: &'a Progress,
    quiet: bool,
    kept: AtomicUsize,
}

impl<'a> Telling<'a> {
    /// Tells of nothing yet.
    pub fn new(progress: &'a Progress, quiet: bool) -> Self {
        Self { progress, quiet, kept: AtomicUsize::new(0) }
    }

    /// Something happened to a run.
    pub fn told(&self, run: &str, event: Event) {
        match event {
            Event::Episodes(episodes) => self.progress.advance(run, episodes),
            Event::Note(Note::Kept) => {
                self.kept.fetch_add(1, Ordering::Relaxed);
            }
            Event::Note(Note::GoesOn { .. }) if self.quiet => {}
            Event::Note(note) => eprintln!("note: {run} {note}"),
        }
    }

    /// Runs that were finished before.
    pub fn kept(&self) -> usize {
        self.kept.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use plastica_tensor::TensorError;

    use super::*;

    #[test]
    fn a_failure_says_how_to_go_on_where_something_was_saved() {
        let lost = || {
            let (device, message) = ("cuda:0 (sm_90, f32)".to_owned(), "a kernel failed".to_owned());
            Err::<(), _>(EvalError::from(TensorError::Device { device, message }))
        };
        let told = |saved: bool| with_way_on(lost(), || saved, "the same command").unwrap_err().to_string();
        assert_eq!(told(false), "cuda:0 (sm_90, f32): a kernel failed");
        assert_eq!(
            told(true),
            "cuda:0 (sm_90, f32): a kernel failed; the same command goes on from what was saved"
        );
        assert_eq!(with_way_on(Ok(3), || true, "the same command").unwrap(), 3);
    }
}
