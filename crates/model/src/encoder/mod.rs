//! Conv-4: images to embeddings.
//!
//! Four times a 3×3 convolution with padding 1, batch normalisation, ReLU and 2×2 max-pooling, then a linear map. In
//! training, batch normalisation takes the statistics of groups of images, each group apart from the others: an
//! episode's support images are one, its queries another, so that no query changes what is known of the support. In
//! evaluation it takes running averages of those.

use plastica_tensor::ops::batch_norm::BatchStatistics;
use plastica_tensor::{Array, Backend, Element, Tape, Tensor};

use crate::{ModelError, Parameters, Result};

mod config;

pub use config::{EmbeddingNorm, EncoderConfig, EncoderKind};

/// Added to the variance in batch normalisation.
const BATCH_NORM_EPS: f64 = 1e-5;

/// Added to the variance of an embedding's elements.
const LAYER_NORM_EPS: f64 = 1e-5;

/// Added to an embedding's squared norm.
const L2_EPS: f64 = 1e-12;

/// Share of a running average that a new group takes.
const MOMENTUM: f64 = 0.1;

/// Conv-4, bound to its parameters.
#[derive(Debug)]
pub struct Conv4<B: Backend> {
    config: EncoderConfig,
    blocks: Vec<Block<B>>,
    fc: [Tensor<B>; 2],
}

#[derive(Debug)]
struct Block<B: Backend> {
    weight: Tensor<B>,
    bias: Tensor<B>,
    gamma: Tensor<B>,
    beta: Tensor<B>,
    running: BatchStatistics<B>,
}

/// The statistics of every group of images that a pass in training saw, for the running averages.
#[derive(Debug, Clone)]
pub struct EncoderStatistics<B: Backend> {
    /// Of each block's convolution without its bias, mean and unbiased variance, both `[groups, channels]`.
    blocks: Vec<BatchStatistics<B>>,
}

impl<B: Backend> Conv4<B> {
    /// The encoder for evaluation: nothing is tracked. Parameters and buffers are found by name, so those of a whole
    /// model will do.
    ///
    /// # Errors
    /// When the configuration is not valid, or a parameter is missing or of another shape.
    pub fn new(config: &EncoderConfig, parameters: &Parameters<B>) -> Result<Self> {
        Self::by_name(config, parameters, |array| Tensor::from(array.clone()))
    }

    /// The encoder for training, with its parameters as leaves of `tape`; the leaves come back beside it, in the
    /// parameters' order.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn tracked(
        config: &EncoderConfig,
        parameters: &Parameters<B>,
        tape: &Tape<B>,
    ) -> Result<(Self, Vec<Tensor<B>>)> {
        let mut leaves = Vec::new();
        let encoder = Self::by_name(config, parameters, |array| {
            let leaf = tape.leaf(array);
            leaves.push(leaf.clone());
            leaf
        })?;
        Ok((encoder, leaves))
    }

    fn by_name(
        config: &EncoderConfig,
        parameters: &Parameters<B>,
        mut tensor: impl FnMut(&Array<B>) -> Tensor<B>,
    ) -> Result<Self> {
        config.validate()?;
        let mut specs = config.parameters().into_iter();
        let mut next = || {
            let Some(spec) = specs.next() else { unreachable!("the specification has all that is bound") };
            match parameters.iter().find(|(name, _)| *name == spec.name) {
                Some((_, array)) if array.shape() == spec.shape => Ok(tensor(array)),
                Some((_, array)) => Err(ModelError::ParameterShape {
                    name: spec.name,
                    found: array.shape().to_vec(),
                    expected: spec.shape,
                }),
                None => Err(ModelError::MissingParameter { name: spec.name, shape: spec.shape }),
            }
        };
        let mut buffers = config.buffers().into_iter();
        let mut buffer = || {
            let Some(spec) = buffers.next() else { unreachable!("two for each block") };
            match parameters.buffer(&spec.name) {
                Some(array) if array.shape() == spec.shape => Ok(array.clone()),
                _ => Err(ModelError::MissingParameter { name: spec.name, shape: spec.shape }),
            }
        };
        let mut blocks = Vec::with_capacity(config::BLOCKS);
        for _ in 0..config::BLOCKS {
            blocks.push(Block {
                weight: next()?,
                bias: next()?,
                gamma: next()?,
                beta: next()?,
                running: BatchStatistics { mean: buffer()?, variance: buffer()? },
            });
        }
        Ok(Self { config: config.clone(), blocks, fc: [next()?, next()?] })
    }

    /// The configuration.
    pub fn config(&self) -> &EncoderConfig {
        &self.config
    }

    /// Encodes images `[N, channels, height, width]` as in evaluation, by running statistics: `[N, embedding_dim]`.
    ///
    /// # Errors
    /// [`ModelError::Input`] for images of another shape.
    pub fn encode(&self, images: &Tensor<B>) -> Result<Tensor<B>> {
        let mut x = self.channels_last(images)?;
        for block in &self.blocks {
            let (scale, shift) = block.by_running_statistics()?;
            x = x.conv_block_by(&block.weight, &scale, &shift)?;
        }
        self.embed(&x)
    }

    /// Encodes images `[N, channels, height, width]` as in training: `[N, embedding_dim]`. The images are in groups that
    /// follow each other, `groups` saying how many each has; each is normalised by its own statistics, which come back
    /// for [`update_running_statistics`](Parameters::update_running_statistics).
    ///
    /// A bias of a convolution is taken away again with the mean: it has no gradient here, and is left as it is.
    ///
    /// # Errors
    /// [`ModelError::Input`] for images of another shape, or groups that have not N images together and one each.
    pub fn encode_groups(
        &self,
        images: &Tensor<B>,
        groups: &[usize],
    ) -> Result<(Tensor<B>, EncoderStatistics<B>)> {
        let mut x = self.channels_last(images)?;
        let mut blocks = Vec::with_capacity(self.blocks.len());
        for block in &self.blocks {
            let (y, statistics) =
                x.conv_block(&block.weight, &block.gamma, &block.beta, groups, BATCH_NORM_EPS)?;
            x = y;
            blocks.push(statistics);
        }
        Ok((self.embed(&x)?, EncoderStatistics { blocks }))
    }

    /// Encodes the images of whole episodes, `[B, T, channels, height, width]`, in one pass: `[B, T, embedding_dim]`.
    /// In training `support` says how many of an episode's images, from the first on, are its support; they are one
    /// group, the others another. In evaluation it is `None`, and no statistics come back.
    ///
    /// # Errors
    /// As [`encode_groups`](Self::encode_groups).
    pub fn encode_episodes(
        &self,
        images: &Tensor<B>,
        support: Option<usize>,
    ) -> Result<(Tensor<B>, Option<EncoderStatistics<B>>)> {
        let &[batch, steps, channels, height, width] = &images.shape()[..] else {
            return Err(self.wrong_input(images, "B, T"));
        };
        let images = images.reshape([batch * steps, channels, height, width])?;
        let shape = [batch, steps, self.config.embedding_dim];
        let Some(support) = support else {
            return Ok((self.encode(&images)?.reshape(shape)?, None));
        };
        // an episode may have no support, or no queries
        let of_episode = [support.min(steps), steps.saturating_sub(support)];
        let groups: Vec<usize> = (0..batch).flat_map(|_| of_episode).filter(|&images| images > 0).collect();
        let (embeddings, statistics) = self.encode_groups(&images, &groups)?;
        Ok((embeddings.reshape(shape)?, Some(statistics)))
    }

    fn wrong_input(&self, images: &Tensor<B>, lead: &str) -> ModelError {
        let [channels, height, width] = self.config.image;
        let expected = format!("images [{lead}, {channels}, {height}, {width}]");
        ModelError::Input { found: images.shape(), expected }
    }

    /// `[N, C, H, W]` to `[N, H, W, C]`.
    fn channels_last(&self, images: &Tensor<B>) -> Result<Tensor<B>> {
        match &images.shape()[..] {
            // one channel lies the same either way
            &[count, 1, height, width] if [1, height, width] == self.config.image => {
                Ok(images.reshape([count, height, width, 1])?)
            }
            [_, image @ ..] if image == self.config.image => Ok(images.permute(&[0, 2, 3, 1])?),
            _ => Err(self.wrong_input(images, "N")),
        }
    }

    /// The linear map and the embedding's norm, from `[N, H, W, C]`.
    fn embed(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        let [weight, bias] = &self.fc;
        let flat = x.permute(&[0, 3, 1, 2])?.reshape([x.shape()[0], self.config.flat_len()])?;
        let embedding = flat.linear(weight, bias)?;
        Ok(match self.config.norm {
            EmbeddingNorm::None => embedding,
            EmbeddingNorm::LayerNorm => embedding.normalize(LAYER_NORM_EPS)?,
            EmbeddingNorm::L2 => {
                let squares = embedding.square()?.sum_axis(1)?.reshape([x.shape()[0], 1])?;
                embedding.div(&squares.shift(L2_EPS)?.sqrt()?)?
            }
        })
    }
}

impl<B: Backend> Block<B> {
    /// Batch normalisation by running statistics, behind a convolution without its bias, as a scale and a shift.
    fn by_running_statistics(&self) -> Result<(Tensor<B>, Tensor<B>)> {
        let [mean, variance] = [&self.running.mean, &self.running.variance].map(|a| Tensor::from(a.clone()));
        let scale = self.gamma.div(&variance.shift(BATCH_NORM_EPS)?.sqrt()?)?;
        let shift = self.beta.add(&self.bias.sub(&mean)?.mul(&scale)?)?;
        Ok((scale, shift))
    }
}

impl<B: Backend> Parameters<B> {
    /// Lets the encoder's running mean and variance take in the groups that a pass in training saw, in their order:
    /// `running ← 0.9 running + 0.1 of the group`, the variance unbiased, as PyTorch does.
    ///
    /// # Errors
    /// [`ModelError::MissingParameter`] when these are not the parameters of a model with such an encoder.
    pub fn update_running_statistics(&mut self, statistics: &EncoderStatistics<B>) -> Result<()> {
        for (block, of_block) in (1..).zip(&statistics.blocks) {
            let name = format!("encoder.conv{block}.bias");
            let Some((_, bias)) = self.iter().find(|(n, _)| *n == name) else {
                let shape = of_block.mean.shape();
                return Err(ModelError::MissingParameter { name, shape });
            };
            let bias = bias.to_vec()?;
            let zero = vec![B::Elem::of(0.0); bias.len()];
            // the statistics are of the convolution without its bias
            for (of, groups, shift) in [("mean", &of_block.mean, &bias), ("var", &of_block.variance, &zero)] {
                let name = format!("encoder.bn{block}.running_{of}");
                let shape = groups.shape();
                let buffer = match self.buffer_mut(&name) {
                    Some(buffer) if buffer.shape()[..] == shape[1..] => buffer,
                    _ => return Err(ModelError::MissingParameter { name, shape }),
                };
                let mut running = buffer.to_vec()?;
                for group in groups.to_vec()?.chunks_exact(running.len()) {
                    for ((running, &value), &shift) in running.iter_mut().zip(group).zip(shift) {
                        let (keep, take) = (B::Elem::of(1.0 - MOMENTUM), B::Elem::of(MOMENTUM));
                        *running = keep * *running + take * (value + shift);
                    }
                }
                *buffer = Array::from_vec(&buffer.backend().clone(), running, buffer.shape())?;
            }
        }
        Ok(())
    }
}
