//! Conv-4: images to embeddings.
//!
//! Four times a 3×3 convolution with padding 1, batch normalisation, ReLU and 2×2 max-pooling, then a linear map. In
//! training, batch normalisation takes the statistics of groups of images, each group apart from the others: an
//! episode's support images are one, its queries another, so that no query changes what is known of the support. In
//! evaluation it takes running averages of those.
//!
//! Embeddings come out as the linear map gives them. [`Conv4::normalise`] makes of them what a model reads.

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
    /// The running mean of embeddings, where they are centred.
    centre: Option<Tensor<B>>,
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
    /// The mean embedding, `[groups, embedding_dim]`, where embeddings are centred.
    centre: Option<Array<B>>,
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
        let fc = [next()?, next()?];
        let centre =
            (config.norm == EmbeddingNorm::CentredL2).then(&mut buffer).transpose()?.map(Tensor::from);
        Ok(Self { config: config.clone(), blocks, fc, centre })
    }

    /// The configuration.
    pub fn config(&self) -> &EncoderConfig {
        &self.config
    }

    /// Encodes images `[N, channels, height, width]` as in evaluation, by running statistics: `[N, embedding_dim]`, not
    /// normalised.
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

    /// Encodes images `[N, channels, height, width]` as in training: `[N, embedding_dim]`, not normalised. The images are in
    /// groups that follow each other, `groups` saying how many each has; each block normalises each group by its own
    /// statistics, which come back for [`update_running_statistics`](Parameters::update_running_statistics).
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
        let embeddings = self.embed(&x)?;
        let centre = self.centre.as_ref().map(|_| group_means(&embeddings, groups)).transpose()?;
        Ok((embeddings, EncoderStatistics { blocks, centre }))
    }

    /// Encodes the images of whole episodes, `[B, T, channels, height, width]`, in one pass: `[B, T, embedding_dim]`, not
    /// normalised.
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

    /// The linear map, from `[N, H, W, C]`.
    fn embed(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        let [weight, bias] = &self.fc;
        let flat = x.permute(&[0, 3, 1, 2])?.reshape([x.shape()[0], self.config.flat_len()])?;
        Ok(flat.linear(weight, bias)?)
    }

    /// Embeddings `[.., embedding_dim]`, normalised each by itself as the configuration has it: what a model reads of them.
    ///
    /// # Errors
    /// [`ModelError::Input`] for embeddings of another width.
    pub fn normalise(&self, embeddings: &Tensor<B>) -> Result<Tensor<B>> {
        let shape = embeddings.shape();
        let width = self.config.embedding_dim;
        if shape.last() != Some(&width) {
            return Err(ModelError::Input { found: shape, expected: format!("embeddings [.., {width}]") });
        }
        match (self.config.norm, &self.centre) {
            (EmbeddingNorm::None, _) => Ok(embeddings.clone()),
            (EmbeddingNorm::LayerNorm, _) => Ok(embeddings.normalize(LAYER_NORM_EPS)?),
            (EmbeddingNorm::CentredL2, Some(centre)) => to_unit_length(&embeddings.sub(centre)?),
            (EmbeddingNorm::L2 | EmbeddingNorm::CentredL2, _) => to_unit_length(embeddings),
        }
    }
}

/// Rows `[.., e]`, each divided by its Euclidean norm.
fn to_unit_length<B: Backend>(x: &Tensor<B>) -> Result<Tensor<B>> {
    let shape = x.shape();
    let [.., width] = shape[..] else { unreachable!("the caller has seen a last dimension") };
    let rows = shape.len() / width;
    let squares = x.square()?.reshape([rows, width])?.sum_axis(1)?;
    let norms = squares.shift(L2_EPS)?.sqrt()?.reshape([rows, 1])?;
    Ok(x.reshape([rows, width])?.div(&norms)?.reshape(shape)?)
}

/// The mean row of each group of rows `[N, e]` that follow each other: `[groups, e]`, plain.
fn group_means<B: Backend>(rows: &Tensor<B>, groups: &[usize]) -> Result<Array<B>> {
    let total = rows.shape()[0];
    let mut shares = vec![B::Elem::of(0.0); groups.len() * total];
    let mut start = 0;
    for (share, &len) in shares.chunks_exact_mut(total.max(1)).zip(groups) {
        share[start..start + len].fill(B::Elem::of(1.0 / len as f64));
        start += len;
    }
    let shares = Tensor::from_vec(rows.backend(), shares, [groups.len(), total])?;
    Ok(shares.matmul(&rows.detach())?.array().clone())
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
            self.take_in(&format!("encoder.bn{block}.running_mean"), &of_block.mean, &bias)?;
            self.take_in(&format!("encoder.bn{block}.running_var"), &of_block.variance, &zero)?;
        }
        if let Some(centre) = &statistics.centre {
            let zero = vec![B::Elem::of(0.0); centre.shape()[1]];
            self.take_in("encoder.centre.running_mean", centre, &zero)?;
        }
        Ok(())
    }

    /// Lets the buffer of this name `[C]` take in `groups` `[groups, C]` one after the other, each moved by `shift`.
    fn take_in(&mut self, name: &str, groups: &Array<B>, shift: &[B::Elem]) -> Result<()> {
        let shape = groups.shape();
        let buffer = match self.buffer_mut(name) {
            Some(buffer) if buffer.shape()[..] == shape[1..] => buffer,
            _ => return Err(ModelError::MissingParameter { name: name.to_owned(), shape }),
        };
        let mut running = buffer.to_vec()?;
        for group in groups.to_vec()?.chunks_exact(running.len()) {
            for ((running, &value), &shift) in running.iter_mut().zip(group).zip(shift) {
                let (keep, take) = (B::Elem::of(1.0 - MOMENTUM), B::Elem::of(MOMENTUM));
                *running = keep * *running + take * (value + shift);
            }
        }
        *buffer = Array::from_vec(&buffer.backend().clone(), running, buffer.shape())?;
        Ok(())
    }
}
