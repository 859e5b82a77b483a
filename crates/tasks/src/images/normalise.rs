//! Bytes to the numbers that a model reads, and back.

/// Mean and deviation of each channel, of pixels scaled to 0..1; grey images use the first of each.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Normalisation {
    /// Mean of each channel.
    pub mean: [f32; 3],
    /// Standard deviation of each channel, above 0.
    pub deviation: [f32; 3],
}

impl Normalisation {
    /// The statistics of CIFAR-100's training images, as in arXiv 2510.21908.
    pub const CIFAR: Self = Self { mean: [0.5071, 0.4867, 0.4408], deviation: [0.2675, 0.2565, 0.2761] };

    /// White 1 and black -1, as arXiv 2510.21908 has it for Omniglot.
    pub const PAPER: Self = Self { mean: [0.5; 3], deviation: [0.5; 3] };

    /// `(value / 255 - mean) / deviation`, for a value from 0 to 255.
    #[must_use]
    pub fn apply(&self, channel: usize, value: f32) -> f32 {
        (value / 255.0 - self.mean[channel]) / self.deviation[channel]
    }

    /// The value from 0 to 255 that [`apply`](Normalisation::apply) gave this number for.
    #[must_use]
    pub fn invert(&self, channel: usize, number: f32) -> f32 {
        (number * self.deviation[channel] + self.mean[channel]) * 255.0
    }

    /// What each byte becomes, for each channel.
    pub(crate) fn tables(&self, channels: usize) -> Vec<[f32; 256]> {
        (0..channels).map(|c| std::array::from_fn(|byte| self.apply(c, byte as f32))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_comes_back() {
        for normalisation in [Normalisation::CIFAR, Normalisation::PAPER] {
            for (channel, table) in normalisation.tables(3).iter().enumerate() {
                for (byte, &number) in table.iter().enumerate() {
                    let back = normalisation.invert(channel, number);
                    assert!((back - byte as f32).abs() < 1e-3, "{byte} became {number}, and {back}");
                }
            }
        }
    }

    #[test]
    fn the_mean_is_zero_and_a_deviation_is_one() {
        let cifar = Normalisation::CIFAR;
        let Normalisation { mean, deviation } = cifar;
        for channel in 0..3 {
            let at = |value: f32| cifar.apply(channel, 255.0 * value);
            assert!(at(mean[channel]).abs() < 1e-6);
            assert!((at(mean[channel] + deviation[channel]) - 1.0).abs() < 1e-6);
        }
        assert_eq!([0.0, 255.0].map(|ink| Normalisation::PAPER.apply(0, ink)), [-1.0, 1.0]);
    }
}
