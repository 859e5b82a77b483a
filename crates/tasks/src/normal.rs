//! Standard normal draws that are the same bits on every platform.
//!
//! `rand_distr::StandardNormal` takes its exponentials and logarithms from whichever mathematics
//! library `num-traits` was built with, which may be the platform's, and those differ in the last
//! bits. Here they come from the `libm` crate, which is plain arithmetic, rounded alike everywhere.

use std::f64::consts::TAU;

use rand::Rng;
use rand_distr::{Distribution, OpenClosed01, StandardUniform};

/// N(0, 1) by the transform of Box and Muller (1958): `sqrt(-2 ln u) · cos(2π v)` with `u` uniform
/// in (0, 1] and `v` in [0, 1).
///
/// The transform's second value, the sine, is not kept: a draw then depends on nothing but the
/// generator, wherever in an episode it happens. `u` is at least 2⁻⁵³, so no draw exceeds 8.58.
pub(crate) struct StandardNormal;

impl Distribution<f64> for StandardNormal {
    fn sample<R: Rng + ?Sized>(&self, rng: &mut R) -> f64 {
        let u: f64 = OpenClosed01.sample(rng);
        let v: f64 = StandardUniform.sample(rng);
        libm::sqrt(-2.0 * libm::log(u)) * libm::cos(TAU * v)
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

    use super::*;

    fn draws(seed: u64, count: usize) -> Vec<f64> {
        let rng = ChaCha8Rng::seed_from_u64(seed);
        StandardNormal.sample_iter(rng).take(count).collect()
    }

    #[test]
    fn agrees_with_the_transform_in_the_standard_library() {
        let mut bits = ChaCha8Rng::seed_from_u64(3);
        for z in draws(3, 1000) {
            let unit = |word: u64| (word >> 11) as f64 / 2f64.powi(53);
            let u = unit(bits.next_u64()) + 2f64.powi(-53);
            let v = unit(bits.next_u64());
            let expected = (-2.0 * u.ln()).sqrt() * (TAU * v).cos();
            assert!((z - expected).abs() < 1e-14, "{z} against {expected}");
        }
    }

    #[test]
    fn draws_are_these_bits_everywhere() {
        let bits: Vec<u64> = draws(2023, 3).into_iter().map(f64::to_bits).collect();
        assert_eq!(bits, [0x3fd4_e85b_0cfe_3daa, 0xbfc9_4c2f_ea36_ec5b, 0xbfd1_3025_aefb_7abe]);
    }

    /// Kolmogorov's statistic against Φ; `sqrt(n)·D` exceeds 1.95 once in a thousand samples.
    #[test]
    fn follows_the_normal_distribution() {
        let mut sample = draws(4, 100_000);
        sample.sort_by(f64::total_cmp);
        let n = sample.len() as f64;
        let distance = sample
            .iter()
            .enumerate()
            .map(|(below, z)| {
                let phi = 0.5 * libm::erfc(-z / 2f64.sqrt());
                (phi - below as f64 / n).abs().max((phi - (below + 1) as f64 / n).abs())
            })
            .fold(0.0, f64::max);
        assert!(n.sqrt() * distance < 1.95, "{}", n.sqrt() * distance);
    }

    #[test]
    fn successive_draws_are_uncorrelated() {
        let sample = draws(5, 100_000);
        let products = sample.windows(2).map(|pair| pair[0] * pair[1]).sum::<f64>();
        let correlation = products / (sample.len() - 1) as f64;
        assert!(correlation.abs() < 4.0 / (sample.len() as f64).sqrt(), "{correlation}");
    }
}
