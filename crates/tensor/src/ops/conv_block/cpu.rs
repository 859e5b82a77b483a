//! A block on the CPU: runs of a fixed number of images in parallel, [shallow](Shallow) or [deep](Deep); and what both have
//! in common.

use rayon::prelude::*;

use super::channels::{Wide, with_channels, with_kernels};
use super::deep::Deep;
use super::shallow::Shallow;
use super::stage::sums;
use super::{BlockForward, BlockGrad, BlockInput, BlockSizes, ConvBlockKernels, FusedBlock};
use crate::Result;
use crate::cpu::{Cpu, CpuBuffer, CpuElement};

/// Images that one thread takes. Sums over images are made by run, and then in the runs' order, so that bits don't
/// depend on how many threads there are.
pub(super) const RUN: usize = 8;

impl<E: CpuElement> ConvBlockKernels for Cpu<E> {
    fn fused_block(&self) -> Option<&dyn FusedBlock<CpuBuffer<E>>> {
        Some(self)
    }
}

impl<E: CpuElement> FusedBlock<CpuBuffer<E>> for Cpu<E> {
    fn forward(&self, block: &BlockInput<'_, CpuBuffer<E>>) -> Result<BlockForward<CpuBuffer<E>>> {
        if let Some(shallow) = Shallow::of(block.sizes) {
            return Ok(shallow.forward(block));
        }
        let Some(wide) = Wide::of(block) else { return Ok(Deep::of(block.sizes).forward(block)) };
        let forward = Deep::of(wide.sizes).forward(&wide.block(block));
        let [pooled, mean, variance] = [&forward.pooled, &forward.mean, &forward.variance]
            .map(|x| with_channels(x, [wide.sizes.outputs, block.sizes.outputs], E::zero()));
        Ok(BlockForward { pooled, mean, variance, ..forward })
    }

    fn backward(
        &self,
        block: &BlockInput<'_, CpuBuffer<E>>,
        forward: &BlockForward<CpuBuffer<E>>,
        grad: &CpuBuffer<E>,
        input: bool,
    ) -> Result<BlockGrad<CpuBuffer<E>>> {
        if let Some(shallow) = Shallow::of(block.sizes) {
            return Ok(shallow.backward(block, forward, grad, input));
        }
        let Some(wide) = Wide::of(block) else {
            return Ok(Deep::of(block.sizes).backward(block, forward, grad, input));
        };
        let (few, many) = (block.sizes, wide.sizes);
        let widen = |x, fill| with_channels(x, [few.outputs, many.outputs], fill);
        // the added channels are zeros, of variance 1
        let of_wide = BlockForward {
            pooled: CpuBuffer::zeros(0),
            mean: widen(&forward.mean, E::zero()),
            variance: widen(&forward.variance, E::one()),
            ..forward.clone()
        };
        let grad = widen(grad, E::zero());
        let found = Deep::of(many).backward(&wide.block(block), &of_wide, &grad, input);
        let [gamma, beta] =
            [&found.gamma, &found.beta].map(|x| with_channels(x, [many.outputs, few.outputs], E::zero()));
        let x = found.x.map(|x| with_channels(&x, [many.inputs, few.inputs], E::zero()));
        let weight = with_kernels(&found.weight, [many.inputs, few.inputs], few.outputs);
        Ok(BlockGrad { x, weight, gamma, beta })
    }

    fn by(
        &self,
        x: &CpuBuffer<E>,
        weight: &CpuBuffer<E>,
        scale: &CpuBuffer<E>,
        shift: &CpuBuffer<E>,
        sizes: BlockSizes,
    ) -> Result<CpuBuffer<E>> {
        if let Some(shallow) = Shallow::of(sizes) {
            let [x, weight, scale, shift] = [x, weight, scale, shift].map(CpuBuffer::as_slice);
            return Ok(shallow.by(x, weight, scale, shift));
        }
        let block = BlockInput { x, weight, gamma: scale, beta: shift, groups: &[], eps: 0.0, sizes };
        let Some(wide) = Wide::of(&block) else { return Ok(Deep::of(sizes).by(&block)) };
        let pooled = Deep::of(wide.sizes).by(&wide.block(&block));
        Ok(with_channels(&pooled, [wide.sizes.outputs, sizes.outputs], E::zero()))
    }
}

/// The number of each image's group.
pub(super) fn group_of_images(groups: &[usize]) -> Vec<usize> {
    groups.iter().enumerate().flat_map(|(group, &images)| std::iter::repeat_n(group, images)).collect()
}

/// Mean and population variance of each channel in each group, from those of images: mean and sum of squares about it.
pub(super) fn of_groups<E: CpuElement>(
    of_images: &[E],
    groups: &[usize],
    channels: usize,
    pixels: usize,
) -> [Vec<E>; 2] {
    let (mut means, mut variances) = (Vec::new(), Vec::new());
    let mut images = of_images.chunks_exact(2 * channels);
    for &count in groups {
        let group: Vec<(&[E], &[E])> =
            images.by_ref().take(count).map(|both| both.split_at(channels)).collect();
        let one_by = E::one() / E::of(count as f64);
        let n = E::of(pixels as f64);
        for c in 0..channels {
            let mean = group.iter().map(|(mean, _)| mean[c]).sum::<E>() * one_by;
            let squares = group.iter().map(|(m, s)| s[c] + n * (m[c] - mean) * (m[c] - mean)).sum::<E>();
            means.push(mean);
            variances.push(squares * one_by / n);
        }
    }
    [means, variances]
}

/// Batch normalisation as a scale and a shift of each channel in each group.
pub(super) struct Normal<E> {
    /// `1/sqrt(variance + eps)`
    pub r: Vec<E>,
    pub scale: Vec<E>,
    pub shift: Vec<E>,
}

impl<E: CpuElement> Normal<E> {
    pub fn of(mean: &[E], variance: &[E], block: &BlockInput<'_, CpuBuffer<E>>) -> Self {
        let r: Vec<E> = variance.iter().map(|&v| E::one() / (v + E::of(block.eps)).sqrt()).collect();
        let gammas = block.gamma.as_slice().iter().cycle();
        let betas = block.beta.as_slice().iter().cycle();
        let scale: Vec<E> = r.iter().zip(gammas).map(|(&r, &gamma)| r * gamma).collect();
        let shift = scale.iter().zip(mean).zip(betas).map(|((&scale, &mean), &beta)| beta - mean * scale);
        Self { r, shift: shift.collect(), scale }
    }
}

/// The way back through batch normalisation: `dy = scale g + slope y + offset`, and the gradients by γ and β.
pub(super) struct Slopes<E> {
    pub slope: Vec<E>,
    pub offset: Vec<E>,
    pub gamma: Vec<E>,
    pub beta: Vec<E>,
}

impl<E: CpuElement> Slopes<E> {
    /// From each image's `Σ g` and `Σ g x̂`: `dy = γ r (g − mean(g) − x̂ mean(g x̂))` with `x̂ = (y − mean) r`.
    fn of(of_images: &[E], mean: &[E], normal: &Normal<E>, groups: &[usize], pixels: usize) -> Self {
        let channels = mean.len() / groups.len().max(1);
        let (mut slope, mut offset) = (Vec::new(), Vec::new());
        let (mut gamma, mut beta) = (vec![E::zero(); channels], vec![E::zero(); channels]);
        let mut images = of_images.chunks_exact(2 * channels);
        for (group, &count) in groups.iter().enumerate() {
            let mut total = vec![E::zero(); 2 * channels];
            for both in images.by_ref().take(count) {
                total.iter_mut().zip(both).for_each(|(total, &x)| *total += x);
            }
            let one_by = E::one() / E::of((count * pixels) as f64);
            for c in 0..channels {
                let (i, g, along) = (group * channels + c, total[c], total[channels + c]);
                let by_y = -normal.scale[i] * normal.r[i] * along * one_by;
                slope.push(by_y);
                offset.push(-normal.scale[i] * g * one_by - by_y * mean[i]);
                beta[c] += g;
                gamma[c] += along;
            }
        }
        Self { slope, offset, gamma, beta }
    }
}

/// The way back through the pooling and, as far as it does not go by pixel, batch normalisation.
pub(super) fn slopes<E: CpuElement>(
    block: &BlockInput<'_, CpuBuffer<E>>,
    forward: &BlockForward<CpuBuffer<E>>,
    grad: &CpuBuffer<E>,
) -> (Normal<E>, Slopes<E>) {
    let BlockSizes { images, height, width, outputs: channels, .. } = block.sizes;
    let pooled = (height / 2) * (width / 2) * channels;
    let (mean, variance) = (forward.mean.as_slice(), forward.variance.as_slice());
    let normal = Normal::of(mean, variance, block);
    let group_of = group_of_images(block.groups);
    let mut of_images = CpuBuffer::zeros(images * 2 * channels);
    let work = of_images
        .make_mut()
        .par_chunks_mut(2 * channels)
        .zip(forward.peaks.as_slice().par_chunks(pooled))
        .zip(grad.as_slice().par_chunks(pooled))
        .zip(&group_of);
    work.for_each(|(((both, peaks), grad), &group)| {
        let (sum, along) = both.split_at_mut(channels);
        let at = || group * channels..(group + 1) * channels;
        let by = (&normal.scale[at()], &normal.shift[at()], &mean[at()], &normal.r[at()]);
        sums(peaks, grad, by, sum, along);
    });
    let slopes = Slopes::of(of_images.as_slice(), mean, &normal, block.groups, height * width);
    (normal, slopes)
}

/// The sum of equally long parts, in order; of none, zero.
pub(super) fn sum_of_runs<E: CpuElement>(mut parts: CpuBuffer<E>, len: usize) -> CpuBuffer<E> {
    CpuBuffer::build(len, |sum| {
        let Some((first, others)) = parts.make_mut().split_at_checked(len) else {
            return sum.fill(E::zero());
        };
        sum.copy_from_slice(first);
        for part in others.chunks_exact(len) {
            sum.iter_mut().zip(part).for_each(|(sum, &x)| *sum += x);
        }
    })
}
