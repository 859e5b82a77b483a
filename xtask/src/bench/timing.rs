//! Times of something done again and again.

use std::time::Instant;

/// Measured times, in seconds, from the shortest to the longest; at least one.
#[derive(Debug)]
pub struct Times(Vec<f64>);

impl Times {
    /// Does `f` `warm_up` times, then at least once and up to `times` times more, which are timed. `f` gets the
    /// number of the turn, from 0, and does its own preparing before it calls what it is given, which alone is timed.
    ///
    /// # Errors
    /// The first that `f` has.
    pub fn take<E>(
        warm_up: usize,
        times: usize,
        mut f: impl FnMut(usize, &mut Stopwatch) -> Result<(), E>,
    ) -> Result<Self, E> {
        let mut seconds = Vec::with_capacity(times.max(1));
        for turn in 0..warm_up + times.max(1) {
            let mut watch = Stopwatch(0.0);
            f(turn, &mut watch)?;
            if turn >= warm_up {
                seconds.push(watch.0);
            }
        }
        seconds.sort_by(f64::total_cmp);
        Ok(Self(seconds))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The time that this share of the times, from 0 to 1, does not exceed: the smallest one with that property, so
    /// always one that was measured.
    pub fn quantile(&self, share: f64) -> f64 {
        let rank = (share.clamp(0.0, 1.0) * self.0.len() as f64).ceil() as usize;
        self.0[rank.clamp(1, self.0.len()) - 1]
    }

    /// Half of the times are not above it.
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }
}

/// Measures one turn's time.
#[derive(Debug)]
pub struct Stopwatch(f64);

impl Stopwatch {
    /// Runs `f` against the clock.
    pub fn time<R>(&mut self, f: impl FnOnce() -> R) -> R {
        let begin = Instant::now();
        let result = f();
        self.0 += begin.elapsed().as_secs_f64();
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(seconds: &[f64], share: f64, expected: f64) {
        let mut sorted = seconds.to_vec();
        sorted.sort_by(f64::total_cmp);
        assert_eq!(Times(sorted).quantile(share), expected, "{share} of {seconds:?}");
    }

    #[test]
    fn quantiles_are_the_smallest_times_that_enough_others_do_not_exceed() {
        let hundred: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        for (share, expected) in
            [(0.0, 1.0), (0.01, 1.0), (0.5, 50.0), (0.99, 99.0), (0.995, 100.0), (1.0, 100.0)]
        {
            check(&hundred, share, expected);
        }
        check(&[7.0], 0.5, 7.0);
        check(&[7.0], 0.99, 7.0);
        check(&[3.0, 1.0], 0.5, 1.0);
        check(&[3.0, 1.0, 2.0], 0.5, 2.0);
        check(&[3.0, 1.0, 2.0], 0.99, 3.0);
    }

    #[test]
    fn turns_to_warm_up_and_preparations_are_not_counted() {
        let mut turns = Vec::new();
        let times = Times::take(2, 3, |turn, watch| -> Result<(), ()> {
            turns.push(turn);
            if turn == 3 {
                watch.time(|| std::hint::black_box(()));
            }
            Ok(())
        });
        let times = times.unwrap();
        assert_eq!((turns, times.count(), times.median()), (vec![0, 1, 2, 3, 4], 3, 0.0));
        assert_eq!(Times::take(0, 5, |turn, _| if turn < 3 { Ok(()) } else { Err(turn) }).unwrap_err(), 3);
    }
}
