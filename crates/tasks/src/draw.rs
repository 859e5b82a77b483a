//! Draws without replacement, the same bits on every platform.

use std::ops::RangeInclusive;

use rand::Rng;
use rand_distr::{Distribution, Uniform};

/// Uniform in `0..count`; `count` is at least 1.
// Over u32, because over usize the bits drawn depend on the platform's width; and by `Uniform`, because those of
// `random_range` depend on rand's feature `unbiased`.
pub(crate) fn below(rng: &mut dyn Rng, count: u32) -> u32 {
    Uniform::new(0, count).expect("something to draw from").sample(rng)
}

/// Uniform in `range`, which is finite and not reversed.
pub(crate) fn within(rng: &mut dyn Rng, range: RangeInclusive<f64>) -> f64 {
    Uniform::new_inclusive(range.start(), range.end()).expect("a finite range").sample(rng)
}

/// Makes the first `hand` of `deck` distinct numbers of `0..count`, every ordered choice equally likely; whatever the
/// deck held before has no part in it. `hand` is at most `count`.
pub(crate) fn deal(rng: &mut dyn Rng, deck: &mut Vec<u32>, count: u32, hand: usize) {
    deck.clear();
    deck.extend(0..count);
    for dealt in 0..hand {
        deck.swap(dealt, dealt + below(rng, count - dealt as u32) as usize);
    }
}

/// Fisher and Yates' shuffle: every order equally likely.
pub(crate) fn shuffle<T>(rng: &mut dyn Rng, items: &mut [T]) {
    for left in (2..=items.len()).rev() {
        items.swap(left - 1, below(rng, left as u32) as usize);
    }
}
