//! Draws that take the same bits on every platform.

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

/// What draws uniformly from `shortest..=longest`, which are at most [`MAX_STEPS`](crate::MAX_STEPS) and not reversed; over u32
/// and kept for the reasons of [`below`].
pub(crate) fn lengths(shortest: usize, longest: usize) -> Uniform<u32> {
    Uniform::new_inclusive(shortest as u32, longest as u32)
        .expect("the shortest is no longer than the longest")
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

#[cfg(test)]
mod tests {
    use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

    use super::*;

    /// Every outcome of `draw` comes up as often as every other, within 5 standard deviations.
    fn check_uniform(outcomes: usize, mut draw: impl FnMut(&mut ChaCha8Rng) -> Vec<u32>) {
        let mut rng = ChaCha8Rng::seed_from_u64(9);
        let mut counts = std::collections::BTreeMap::new();
        let expected = 2000.0;
        (0..outcomes * 2000).for_each(|_| *counts.entry(draw(&mut rng)).or_insert(0) += 1);
        assert_eq!(counts.len(), outcomes);
        for (outcome, count) in counts {
            assert!((f64::from(count) - expected).abs() < 5.0 * expected.sqrt(), "{outcome:?}: {count}");
        }
    }

    #[test]
    fn hands_are_ordered_choices_whatever_the_deck_was() {
        let mut deck = vec![7; 9];
        check_uniform(4 * 3, |rng| {
            deal(rng, &mut deck, 4, 2);
            deck[..2].to_vec()
        });
        check_uniform(3 * 2, |rng| {
            deal(rng, &mut deck, 3, 3);
            deck.clone()
        });
    }

    #[test]
    fn shuffles_are_uniform() {
        check_uniform(4 * 3 * 2, |rng| {
            let mut items = vec![0, 1, 2, 3];
            shuffle(rng, &mut items);
            items
        });
        let mut rng = ChaCha8Rng::seed_from_u64(9);
        shuffle::<u32>(&mut rng, &mut []);
        shuffle(&mut rng, &mut [1]);
        assert_eq!(rng, ChaCha8Rng::seed_from_u64(9), "nothing to shuffle takes no bits");
    }
}
