//! Progress of long work: a bar with rate and time left on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// How often a plain line is written at most.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Progress through a number of episodes, told on standard error. May be advanced from any thread.
pub struct Progress {
    total: usize,
    begin: Instant,
    show: Show,
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

impl Progress {
    /// Progress through `total` episodes.
    pub fn new(total: usize, quiet: bool) -> Self {
        let begin = Instant::now();
        let show = if quiet {
            Show::Nothing
        } else if std::io::stderr().is_terminal() {
            let bar = ProgressBar::new(total as u64);
            let template = "{bar:32} {pos}/{len} episodes, {per_sec}, {eta} left  {wide_msg}";
            bar.set_style(
                ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()),
            );
            bar.enable_steady_tick(Duration::from_millis(200));
            Show::Bar(bar)
        } else {
            Show::Lines(Mutex::new(Lines { done: 0, last: begin }))
        };
        Self { total, begin, show }
    }

    /// `what` has done so many more episodes.
    pub fn advance(&self, what: &str, episodes: usize) {
        match &self.show {
            Show::Nothing => {}
            Show::Bar(bar) => {
                bar.set_message(what.to_owned());
                bar.inc(episodes as u64);
            }
            Show::Lines(lines) => {
                let Ok(mut lines) = lines.lock() else { return };
                lines.done += episodes;
                if lines.last.elapsed() >= LINE_EVERY || lines.done >= self.total {
                    lines.last = Instant::now();
                    eprintln!("{}", self.line(what, lines.done));
                }
            }
        }
    }

    fn line(&self, what: &str, done: usize) -> String {
        let seconds = self.begin.elapsed().as_secs_f64();
        let rate = done as f64 / seconds.max(1e-9);
        let left = self.total.saturating_sub(done) as f64 / rate.max(1e-9);
        format!("{done}/{} episodes, {rate:.0}/s, {left:.0} s left  {what}", self.total)
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Show::Bar(bar) = &self.show {
            bar.finish_and_clear();
        }
    }
}
