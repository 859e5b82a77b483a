//! Batch normalisation of images (Ioffe and Szegedy, arXiv 1502.03167).

use crate::{Array, Backend, Result, Tensor};

/// Mean and variance of each channel, both `[C]`.
#[derive(Clone, Debug)]
pub struct BatchStatistics<B: Backend> {
    /// Mean over images and pixels.
    pub mean: Array<B>,
    /// Variance over images and pixels; of a batch, the unbiased one, of which running statistics are
    /// averages.
    pub variance: Array<B>,
}

impl<B: Backend> Tensor<B> {
    /// Batch normalisation as in training: each channel of `[N, C, H, W]` is standardised by its own mean
    /// and population variance over images and pixels, `(x − mean) / sqrt(variance + eps)`, then scaled by
    /// `gamma` and shifted by `beta`, both `[C]`. The statistics are returned for running averages; no
    /// derivative flows through those. The usual `eps` is 1e-5.
    ///
    /// # Errors
    /// [`TensorError::Incompatible`](crate::TensorError::Incompatible) when the shapes don't fit,
    /// [`TensorError::Unsuitable`](crate::TensorError::Unsuitable) when a channel has fewer than two values.
    pub fn batch_norm(&self, gamma: &Self, beta: &Self, eps: f64) -> Result<(Self, BatchStatistics<B>)> {
        let channels = self.channels("batch_norm", [gamma, beta])?;
        let values = self.shape().len() / channels.max(1);
        if values < 2 {
            return Err(
                self.unsuitable("batch_norm", "a channel needs at least two values to be normalised by")
            );
        }
        let (normal, [mean, variance]) = self.normalize_channels(eps)?;
        let out = normal.mul(&gamma.reshape([channels, 1, 1])?)?.add(&beta.reshape([channels, 1, 1])?)?;
        let unbiased = Self::from(variance).scale(values as f64 / (values - 1) as f64)?;
        Ok((out, BatchStatistics { mean, variance: unbiased.array }))
    }

    /// Batch normalisation as in evaluation, by given statistics.
    ///
    /// # Errors
    /// [`TensorError::Incompatible`](crate::TensorError::Incompatible) when the shapes don't fit.
    pub fn batch_norm_by(
        &self,
        statistics: &BatchStatistics<B>,
        gamma: &Self,
        beta: &Self,
        eps: f64,
    ) -> Result<Self> {
        let BatchStatistics { mean, variance } = statistics.clone();
        let (mean, variance) = (Self::from(mean), Self::from(variance));
        let channels = self.channels("batch_norm_by", [gamma, beta, &mean, &variance])?;
        // γ (x − mean) / σ + β, put together by channel first, so that only two walks over the images are left
        let scale = gamma.div(&variance.shift(eps)?.sqrt()?)?;
        let shift = beta.sub(&mean.mul(&scale)?)?;
        self.mul(&scale.reshape([channels, 1, 1])?)?.add(&shift.reshape([channels, 1, 1])?)
    }

    /// The number of channels of `[N, C, H, W]`, all of `by_channel` being `[C]`.
    fn channels<const N: usize>(&self, op: &'static str, by_channel: [&Self; N]) -> Result<usize> {
        let &[_, channels, _, _] = &self.shape()[..] else {
            return Err(self.unsuitable(op, "it works on images, [N, C, H, W]"));
        };
        match by_channel.into_iter().find(|t| t.shape()[..] != [channels]) {
            Some(wrong) => {
                Err(self.incompatible(op, wrong, "there must be one number a channel, [C] for [N, C, H, W]"))
            }
            None => Ok(channels),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check, check_error, noise, tensor};

    #[test]
    fn a_channel_by_hand() {
        // one channel of mean 3 and variance 4, unbiased 16/3; another of equal values
        let x = tensor(&[1.0, 5.0, 2.0, 2.0, 1.0, 5.0, 2.0, 2.0], [2, 2, 1, 2]);
        let (gamma, beta) = (tensor(&[2.0, 3.0], [2]), tensor(&[10.0, 20.0], [2]));
        let (y, statistics) = x.batch_norm(&gamma, &beta, 1e-30).unwrap();
        check(Ok(y), &[8.0, 12.0, 20.0, 20.0, 8.0, 12.0, 20.0, 20.0], [2, 2, 1, 2]);
        check(Ok(statistics.mean.into()), &[3.0, 2.0], [2]);
        check(Ok(statistics.variance.into()), &[16.0 / 3.0, 0.0], [2]);
    }

    #[test]
    fn evaluation_by_a_batchs_own_population_statistics_is_training() {
        let (x, gamma, beta) = (noise([3, 4, 5, 6]), noise([4]), noise([4]).square().unwrap());
        let (trained, mut statistics) = x.batch_norm(&gamma, &beta, 1e-5).unwrap();
        statistics.variance = Tensor::from(statistics.variance).scale(89.0 / 90.0).unwrap().array;
        let evaluated = x.batch_norm_by(&statistics, &gamma, &beta, 1e-5);
        check(evaluated, &trained.to_vec().unwrap(), [3, 4, 5, 6]);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let two = noise([2]);
        check_error(
            noise([3, 4]).batch_norm(&two, &two, 1e-5),
            "batch_norm: a tensor of shape [3, 4] won't do: it works on images, [N, C, H, W]",
        );
        check_error(
            noise([1, 2, 2, 2]).batch_norm(&two, &noise([3]), 1e-5),
            "batch_norm: shapes [1, 2, 2, 2] and [3] don't go together: \
             there must be one number a channel, [C] for [N, C, H, W]",
        );
        check_error(
            noise([1, 2, 1, 1]).batch_norm(&two, &two, 1e-5),
            "batch_norm: a tensor of shape [1, 2, 1, 1] won't do: \
             a channel needs at least two values to be normalised by",
        );
    }
}
