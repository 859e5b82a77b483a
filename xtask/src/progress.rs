//! Progress of long work: a bar with rate and time left on a terminal, plain lines elsewhere, events with `--json`.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::output::{is_json, tell};

/// How often a plain line or an event is written at most.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Progress through a number of episodes or bytes, told on standard error, or as events on standard output. May be
/// advanced from any thread.
pub struct Progress {
    total: usize,
    unit: Unit,
    begin: Instant,
    show: Show,
}

#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
enum Unit {
    Episodes,
    Bytes,
}

enum Show {
    Nothing,
    Bar(ProgressBar),
    Lines(Mutex<Lines>),
}

struct Lines {
    done: usize,
    last: Instant,
}

/// How far it is, as `--json` has it.
#[derive(Serialize)]
struct Event<'a> {
    what: &'a str,
    done: usize,
    total: Option<usize>,
    unit: Unit,
    per_second: f64,
    seconds_left: Option<f64>,
}

impl Progress {
    /// Progress through `total` episodes.
    pub fn new(total: usize, quiet: bool) -> Self {
        Self::of(total, Unit::Episodes, quiet)
    }

    /// Progress through `total` bytes, where it is known how many.
    pub fn bytes(total: Option<u64>, quiet: bool) -> Self {
        Self::of(total.and_then(|total| total.try_into().ok()).unwrap_or(0), Unit::Bytes, quiet)
    }

    fn of(total: usize, unit: Unit, quiet: bool) -> Self {
        let begin = Instant::now();
        let show = if quiet {
            Show::Nothing
        } else if !is_json() && std::io::stderr().is_terminal() {
            let bar = ProgressBar::new(total as u64);
            let template = match unit {
                Unit::Episodes => "{bar:32} {pos}/{len} episodes, {per_sec}, {eta} left  {wide_msg}",
                Unit::Bytes if total == 0 => "{bytes}, {bytes_per_sec}  {wide_msg}",
                Unit::Bytes => "{bar:32} {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left  {wide_msg}",
            };
            bar.set_style(
                ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()),
            );
            bar.enable_steady_tick(Duration::from_millis(200));
            Show::Bar(bar)
        } else {
            Show::Lines(Mutex::new(Lines { done: 0, last: begin }))
        };
        Self { total, unit, begin, show }
    }

    /// `what` has done so many more episodes or bytes.
    pub fn advance(&self, what: &str, more: usize) {
        match &self.show {
            Show::Nothing => {}
            Show::Bar(bar) => {
                bar.set_message(what.to_owned());
                bar.inc(more as u64);
            }
            Show::Lines(lines) => {
                let Ok(mut lines) = lines.lock() else { return };
                lines.done += more;
                let last = self.total > 0 && lines.done >= self.total;
                if lines.last.elapsed() >= LINE_EVERY || last {
                    lines.last = Instant::now();
                    self.write(what, lines.done);
                }
            }
        }
    }

    /// So many are done in all.
    pub fn position(&self, done: u64) {
        match &self.show {
            Show::Nothing => {}
            Show::Bar(bar) => bar.set_position(done),
            Show::Lines(lines) => {
                let Ok(mut lines) = lines.lock() else { return };
                lines.done = done as usize;
            }
        }
    }

    /// One line of how far it is.
    fn write(&self, what: &str, done: usize) {
        let seconds = self.begin.elapsed().as_secs_f64();
        let rate = done as f64 / seconds.max(1e-9);
        let left = self.total.saturating_sub(done) as f64 / rate.max(1e-9);
        if !is_json() {
            eprintln!("{}", self.line(what, done, rate, left));
            return;
        }
        let known = self.total > 0;
        let event = Event {
            what,
            done,
            total: known.then_some(self.total),
            unit: self.unit,
            per_second: rate,
            seconds_left: known.then_some(left),
        };
        // where the results can't be written either, they say so
        let _ = tell("progress", event);
    }

    fn line(&self, what: &str, done: usize, rate: f64, left: f64) -> String {
        let bytes = |count: usize| HumanBytes(count as u64);
        match self.unit {
            Unit::Episodes => {
                format!("{done}/{} episodes, {rate:.0}/s, {left:.0} s left  {what}", self.total)
            }
            Unit::Bytes if self.total == 0 => {
                format!("{}, {}/s  {what}", bytes(done), bytes(rate as usize))
            }
            Unit::Bytes => {
                let (done, total, rate) = (bytes(done), bytes(self.total), bytes(rate as usize));
                format!("{done}/{total}, {rate}/s, {left:.0} s left  {what}")
            }
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Show::Bar(bar) = &self.show {
            bar.finish_and_clear();
        }
    }
}
