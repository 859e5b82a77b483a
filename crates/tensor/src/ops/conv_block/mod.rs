//! A block of a convolutional encoder: 3×3 convolution with padding 1, batch normalisation, ReLU, 2×2 max-pooling.
//!
//! Images are channels-last, `[N, H, W, C]`: every step but the products then works on whole registers of channels.
//! Batch normalisation takes its statistics from groups of consecutive images, each apart from the others.
//!
//! A device may have the block in one piece ([`FusedBlock`]). The block as it is written ([`Tensor::conv_block_plain`])
//! is what a device without it computes, what a tracked sweep differentiates, and what tests hold the fused one to.

use smallvec::SmallVec;

use super::batch_norm::BatchStatistics;
use crate::tape::{Grads, Op, Recorded};
use crate::{Array, Backend, GradMode, Result, Shape, Storage, Tape, Tensor};

mod aligned;
mod channels;
mod cpu;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;
mod deep;
mod grid;
mod lowering;
mod patches;
mod products;
mod shallow;
mod stage;
#[cfg(test)]
mod tests;
mod tiles;
mod transforms;
mod windows;

/// Sizes of a block: `x [images, height, width, inputs]` to `[images, ⌊height/2⌋, ⌊width/2⌋, outputs]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockSizes {
    /// Number of images.
    pub images: usize,
    /// Rows of an image, at least 2.
    pub height: usize,
    /// Columns of an image, at least 2.
    pub width: usize,
    /// Channels of the input, at least 1.
    pub inputs: usize,
    /// Channels of the result, at least 1.
    pub outputs: usize,
}

impl BlockSizes {
    /// Shape of the convolution's result, before pooling.
    pub fn convolved_shape(&self) -> Shape {
        [self.images, self.height, self.width, self.outputs].into()
    }

    /// Shape of the block's result.
    pub fn pooled_shape(&self) -> Shape {
        [self.images, self.height / 2, self.width / 2, self.outputs].into()
    }
}

/// What a block's forward in training gives, and leaves for its backward.
#[derive(Clone, Debug)]
pub struct BlockForward<Buffer> {
    /// The result.
    pub pooled: Buffer,
    /// The convolution's result, or what else the backward knows it by.
    pub convolved: Buffer,
    /// For each element of the result, the convolution's element that it comes from, or what else that is known by.
    pub peaks: Buffer,
    /// Mean of each channel in each group, `[groups, outputs]`.
    pub mean: Buffer,
    /// Population variance of each channel in each group, `[groups, outputs]`.
    pub variance: Buffer,
}

/// A block's gradients.
#[derive(Debug)]
pub struct BlockGrad<Buffer> {
    /// By x, where it was asked for.
    pub x: Option<Buffer>,
    /// By the weight.
    pub weight: Buffer,
    /// By γ.
    pub gamma: Buffer,
    /// By β.
    pub beta: Buffer,
}

/// What a block in training works on.
#[derive(Debug)]
pub struct BlockInput<'a, Buffer> {
    /// The images, `[images, height, width, inputs]`.
    pub x: &'a Buffer,
    /// The convolution's weight, `[outputs, inputs, 3, 3]`.
    pub weight: &'a Buffer,
    /// The scale of batch normalisation, `[outputs]`.
    pub gamma: &'a Buffer,
    /// Its shift, `[outputs]`.
    pub beta: &'a Buffer,
    /// Images of each group.
    pub groups: &'a [usize],
    /// What is added to variances.
    pub eps: f64,
    /// The sizes.
    pub sizes: BlockSizes,
}

/// The block in one piece.
pub trait FusedBlock<Buffer> {
    /// The block as in training, normalised by the statistics of each group of images.
    ///
    /// # Errors
    /// Device errors.
    fn forward(&self, block: &BlockInput<'_, Buffer>) -> Result<BlockForward<Buffer>>;

    /// The gradients, given that of the result; that by x only if `input`.
    ///
    /// # Errors
    /// Device errors.
    fn backward(
        &self,
        block: &BlockInput<'_, Buffer>,
        forward: &BlockForward<Buffer>,
        grad: &Buffer,
        input: bool,
    ) -> Result<BlockGrad<Buffer>>;

    /// The block as in evaluation, each channel of the convolution scaled and shifted: `scale`, `shift` `[outputs]`.
    ///
    /// # Errors
    /// Device errors.
    fn by(
        &self,
        x: &Buffer,
        weight: &Buffer,
        scale: &Buffer,
        shift: &Buffer,
        sizes: BlockSizes,
    ) -> Result<Buffer>;
}

/// Where a device says whether it has the block in one piece.
pub trait ConvBlockKernels: Storage {
    /// The block in one piece; `None` where the device puts it together from other operations.
    fn fused_block(&self) -> Option<&dyn FusedBlock<Self::Buffer>> {
        None
    }
}

struct ConvBlock<B: Backend> {
    forward: BlockForward<B::Buffer>,
    groups: Vec<usize>,
    eps: f64,
    sizes: BlockSizes,
}

impl<B: Backend> Op<B> for ConvBlock<B> {
    fn name(&self) -> &'static str {
        "conv_block"
    }

    fn backward(&self, r: &Recorded<'_, B>, grad: &Tensor<B>) -> Result<Grads<B>> {
        let backend = grad.backend();
        let [x, weight, gamma, beta] = r.inputs else { unreachable!("a block has four inputs") };
        if let (true, Some(fused)) = (r.is_plain(), backend.fused_block()) {
            let block = block([x, weight, gamma, beta], &self.groups, self.eps, self.sizes);
            let found = fused.backward(&block, &self.forward, &grad.array.buffer, r.wanted[0])?;
            let plain = |buffer, like: &Tensor<B>| Tensor::from(Array::new(backend, buffer, like.shape()));
            return Ok(SmallVec::from_iter([
                found.x.map(|dx| plain(dx, x)),
                Some(plain(found.weight, weight)),
                Some(plain(found.gamma, gamma)),
                Some(plain(found.beta, beta)),
            ]));
        }
        // the derivative of the block as it is written, at inputs of its own: the sweep ends at them
        let scratch = Tape::new();
        let own = |(input, &wanted): (&Tensor<B>, &bool)| match (wanted, input.is_tracked()) {
            (false, _) => Ok(input.detach()),
            (true, true) => input.scale(1.0),
            (true, false) => Ok(scratch.leaf(&input.array)),
        };
        let inputs = r.inputs.iter().zip(r.wanted).map(own).collect::<Result<Vec<_>>>()?;
        let [x, weight, gamma, beta] = &inputs[..] else { unreachable!("as many as the block's inputs") };
        let (y, _) = x.conv_block_plain(weight, gamma, beta, &self.groups, self.eps)?;
        let wanted: Vec<_> = inputs.iter().zip(r.wanted).filter(|(_, wanted)| **wanted).collect();
        let mode = if r.is_plain() { GradMode::Plain } else { GradMode::Tracked };
        let variables: Vec<_> = wanted.iter().map(|(input, _)| *input).collect();
        let mut found = crate::grad(&y.mul(grad)?.sum()?, &variables, mode)?.into_iter();
        Ok(r.wanted.iter().map(|&wanted| if wanted { found.next().flatten() } else { None }).collect())
    }
}

fn block<'a, B: Backend>(
    [x, weight, gamma, beta]: [&'a Tensor<B>; 4],
    groups: &'a [usize],
    eps: f64,
    sizes: BlockSizes,
) -> BlockInput<'a, B::Buffer> {
    let [x, weight, gamma, beta] = [x, weight, gamma, beta].map(|t| &t.array.buffer);
    BlockInput { x, weight, gamma, beta, groups, eps, sizes }
}

impl<B: Backend> Tensor<B> {
    /// A block as in training: 3×3 convolution with padding 1, batch normalisation, ReLU, 2×2 max-pooling, of
    /// channels-last images `[N, H, W, in]` to `[N, ⌊H/2⌋, ⌊W/2⌋, out]`; weight `[out, in, 3, 3]`, γ and β `[out]`.
    ///
    /// Images are in groups that follow each other, `groups` saying how many each has; a channel is normalised by its
    /// mean and population variance in its group. The statistics come back for running averages: mean and unbiased
    /// variance, both `[groups, out]`; no derivative flows through those.
    ///
    /// A bias of the convolution would be taken away again with the mean, so there is none.
    ///
    /// # Errors
    /// [`TensorError::Incompatible`](crate::TensorError::Incompatible) when the shapes don't fit,
    /// [`TensorError::Unsuitable`](crate::TensorError::Unsuitable) when images are smaller than a window, or the groups
    /// have not N images together and one each.
    pub fn conv_block(
        &self,
        weight: &Self,
        gamma: &Self,
        beta: &Self,
        groups: &[usize],
        eps: f64,
    ) -> Result<(Self, BatchStatistics<B>)> {
        let sizes = self.block_sizes(weight, [gamma, beta])?;
        self.check_groups(groups)?;
        let backend = self.backend();
        let Some(fused) = backend.fused_block() else {
            return self.conv_block_plain(weight, gamma, beta, groups, eps);
        };
        let forward = fused.forward(&block([self, weight, gamma, beta], groups, eps, sizes))?;
        let of_groups =
            |buffer: &B::Buffer| Array::new(backend, buffer.clone(), [groups.len(), sizes.outputs].into());
        let statistics = self.unbiased(of_groups(&forward.mean), of_groups(&forward.variance), groups)?;
        let pooled = Array::new(backend, forward.pooled.clone(), sizes.pooled_shape());
        let op = ConvBlock { forward, groups: groups.to_vec(), eps, sizes };
        Ok((Tape::record(op, &[self, weight, gamma, beta], pooled)?, statistics))
    }

    /// [`conv_block`](Self::conv_block) put together from its parts.
    ///
    /// # Errors
    /// As that.
    pub fn conv_block_plain(
        &self,
        weight: &Self,
        gamma: &Self,
        beta: &Self,
        groups: &[usize],
        eps: f64,
    ) -> Result<(Self, BatchStatistics<B>)> {
        let sizes = self.block_sizes(weight, [gamma, beta])?;
        self.check_groups(groups)?;
        let convolved = self.permute(&[0, 3, 1, 2])?.conv2d(weight, 1)?;
        let (mut parts, mut means, mut variances) = (Vec::new(), Vec::new(), Vec::new());
        let mut start = 0;
        for &images in groups {
            let (part, statistics) = convolved.slice(0, start, images)?.batch_norm(gamma, beta, eps)?;
            parts.push(part);
            means.push(Self::from(statistics.mean).reshape([1, sizes.outputs])?);
            variances.push(Self::from(statistics.variance).reshape([1, sizes.outputs])?);
            start += images;
        }
        let join = |parts: &[Self]| Self::concat(&parts.iter().collect::<Vec<_>>(), 0);
        let pooled = join(&parts)?.relu()?.max_pool2d()?.permute(&[0, 2, 3, 1])?;
        let statistics = BatchStatistics { mean: join(&means)?.array, variance: join(&variances)?.array };
        Ok((pooled, statistics))
    }

    /// The block as in evaluation: each channel of the convolution times `scale` plus `shift`, both `[out]`, then ReLU
    /// and pooling. Normalising by running statistics is scaling by `γ/sqrt(variance + eps)` and shifting by
    /// `β − mean · scale`.
    ///
    /// # Errors
    /// As [`conv_block`](Self::conv_block).
    pub fn conv_block_by(&self, weight: &Self, scale: &Self, shift: &Self) -> Result<Self> {
        let sizes = self.block_sizes(weight, [scale, shift])?;
        let tracked = [self, weight, scale, shift].iter().any(|t| t.is_tracked());
        if let (false, Some(fused)) = (tracked, self.backend().fused_block()) {
            let [x, weight, scale, shift] = [self, weight, scale, shift].map(|t| &t.array.buffer);
            let pooled = fused.by(x, weight, scale, shift, sizes)?;
            return Ok(Array::new(self.backend(), pooled, sizes.pooled_shape()).into());
        }
        let convolved = self.permute(&[0, 3, 1, 2])?.conv2d(weight, 1)?;
        let [scale, shift] = [scale, shift].map(|t| t.reshape([sizes.outputs, 1, 1]));
        convolved.mul(&scale?)?.add(&shift?)?.relu()?.max_pool2d()?.permute(&[0, 2, 3, 1])
    }

    /// The variance of a sample from the population's, with the mean: both `[groups, C]`.
    fn unbiased(&self, mean: Array<B>, variance: Array<B>, groups: &[usize]) -> Result<BatchStatistics<B>> {
        let &[_, height, width, _] = &self.shape()[..] else { unreachable!("images have four axes") };
        let factor = |&images: &usize| {
            let n = (images * height * width) as f64;
            <B::Elem as crate::Element>::of(n / (n - 1.0))
        };
        let factors = groups.iter().map(factor).collect();
        let factors = Self::from_vec(self.backend(), factors, [groups.len(), 1])?;
        Ok(BatchStatistics { mean, variance: Self::from(variance).mul(&factors)?.array })
    }

    fn check_groups(&self, groups: &[usize]) -> Result<()> {
        if groups.contains(&0) || groups.iter().sum::<usize>() != self.shape()[0] {
            let rule = format!("groups of {groups:?} images were given: at least one each, N together");
            return Err(self.unsuitable("conv_block", rule));
        }
        Ok(())
    }

    fn block_sizes(&self, weight: &Self, by_channel: [&Self; 2]) -> Result<BlockSizes> {
        let op = "conv_block";
        let (&[images, height, width, inputs], &[outputs, inputs_w, 3, 3]) =
            (&self.shape()[..], &weight.shape()[..])
        else {
            return Err(self.incompatible(op, weight, "images are [N, H, W, in], weights [out, in, 3, 3]"));
        };
        if inputs != inputs_w {
            return Err(self.incompatible(op, weight, "the numbers of input channels must be equal"));
        }
        if height < 2 || width < 2 || inputs == 0 || outputs == 0 {
            return Err(self.unsuitable(op, "it needs a channel, and a window of 2 × 2 to pool"));
        }
        if let Some(wrong) = by_channel.into_iter().find(|t| t.shape()[..] != [outputs]) {
            return Err(weight.incompatible(op, wrong, "there must be one number an output channel"));
        }
        Ok(BlockSizes { images, height, width, inputs, outputs })
    }
}
