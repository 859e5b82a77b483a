//! A block on the CPU: runs of a fixed number of images in parallel, a few images at a time through all of it while
//! they are in the cache.

use rayon::prelude::*;

use super::aligned::{Aligned, with_scratch};
use super::lowering::Lowering;
use super::shallow::Shallow;
use super::stage::{moments, pool, pool_only, sums, unpool};
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
        let BlockInput { x, groups, sizes, .. } = *block;
        if let Some(shallow) = Shallow::of(sizes) {
            return Ok(shallow.forward(block));
        }
        let (plan, channels) = (Plan::of(sizes), sizes.outputs);
        let u = plan.lowering.lower_kernel(block.weight.as_slice());
        let mut of_images = CpuBuffer::build(sizes.images * 2 * channels, |_| {});
        let convolved = CpuBuffer::build(sizes.images * plan.convolved, |convolved| {
            let runs = convolved
                .par_chunks_mut(RUN * plan.convolved)
                .zip(x.as_slice().par_chunks(RUN * plan.input))
                .zip(of_images.make_mut().par_chunks_mut(RUN * 2 * channels));
            runs.for_each(|((y, x), of_images)| {
                plan.convolve(x, u.as_slice(), y);
                for (y, both) in y.chunks_exact(plan.convolved).zip(of_images.chunks_exact_mut(2 * channels))
                {
                    let (mean, squares) = both.split_at_mut(channels);
                    moments(y, channels, mean, squares);
                }
            });
        });
        let [mean, variance] = of_groups(of_images.as_slice(), groups, channels, plan.pixels);
        let normal = Normal::of(&mean, &variance, block);
        let group_of = group_of_images(groups);
        let mut peaks = CpuBuffer::build(sizes.images * plan.pooled, |_| {});
        let pooled = CpuBuffer::build(sizes.images * plan.pooled, |pooled| {
            let images = pooled
                .par_chunks_mut(plan.pooled)
                .zip(peaks.make_mut().par_chunks_mut(plan.pooled))
                .zip(convolved.as_slice().par_chunks(plan.convolved))
                .zip(&group_of);
            images.for_each(|(((pooled, peaks), y), &group)| {
                let at = group * channels..(group + 1) * channels;
                pool(y, plan.image, &normal.scale[at.clone()], &normal.shift[at], pooled, peaks);
            });
        });
        Ok(BlockForward { pooled, convolved, peaks, mean: mean.into(), variance: variance.into() })
    }

    fn backward(
        &self,
        block: &BlockInput<'_, CpuBuffer<E>>,
        forward: &BlockForward<CpuBuffer<E>>,
        grad: &CpuBuffer<E>,
        input: bool,
    ) -> Result<BlockGrad<CpuBuffer<E>>> {
        let BlockInput { x, groups, sizes, .. } = *block;
        if let Some(shallow) = Shallow::of(sizes) {
            return Ok(shallow.backward(block, forward, grad, input));
        }
        let (plan, channels) = (Plan::of(sizes), sizes.outputs);
        let (normal, slopes) = slopes(block, forward, grad);
        let group_of = group_of_images(groups);
        let lowering = &plan.lowering;
        let u = lowering.lower_kernel(block.weight.as_slice());
        let transposed = input.then(|| lowering.transposed(&u));
        let mut dx = CpuBuffer::build(if input { sizes.images * plan.input } else { 0 }, |_| {});
        let runs = sizes.images.div_ceil(RUN);
        let mut du = CpuBuffer::zeros(runs * lowering.kernel_len());
        let mut images_dx: Vec<&mut [E]> = match input {
            true => dx.make_mut().chunks_mut(RUN * plan.input).collect(),
            false => (0..runs).map(|_| <&mut [E]>::default()).collect(),
        };
        let work = images_dx
            .par_iter_mut()
            .zip(du.make_mut().par_chunks_mut(lowering.kernel_len().max(1)))
            .zip(x.as_slice().par_chunks(RUN * plan.input))
            .zip(forward.convolved.as_slice().par_chunks(RUN * plan.convolved))
            .zip(grad.as_slice().par_chunks(RUN * plan.pooled))
            .zip(group_of.par_chunks(RUN));
        work.for_each(|(((((dx, du), x), y), grad), group_of)| {
            let dy_of = |i: usize, dy: &mut [E]| {
                let at = group_of[i] * channels..(group_of[i] + 1) * channels;
                let by = (
                    &normal.scale[at.clone()],
                    &normal.shift[at.clone()],
                    &slopes.slope[at.clone()],
                    &slopes.offset[at],
                );
                let y = &y[i * plan.convolved..][..plan.convolved];
                unpool(y, plan.image, &grad[i * plan.pooled..][..plan.pooled], by, dy);
            };
            plan.gradients(x, dy_of, transposed.as_ref().map(Aligned::as_slice), du, dx);
        });
        drop(images_dx);
        let du = sum_of_runs(du, lowering.kernel_len());
        let weight = CpuBuffer::build(block.weight.as_slice().len(), |weight| {
            lowering.raise_kernel(du.as_slice(), weight);
        });
        let [gamma, beta] = [slopes.gamma, slopes.beta].map(CpuBuffer::from);
        Ok(BlockGrad { x: input.then_some(dx), weight, gamma, beta })
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
        let plan = Plan::of(sizes);
        let u = plan.lowering.lower_kernel(weight.as_slice());
        Ok(CpuBuffer::build(sizes.images * plan.pooled, |pooled| {
            let runs =
                pooled.par_chunks_mut(RUN * plan.pooled).zip(x.as_slice().par_chunks(RUN * plan.input));
            runs.for_each(|(pooled, x)| {
                let count = plan.lowering.together();
                let chunks = pooled.chunks_mut(count * plan.pooled).zip(x.chunks(count * plan.input));
                CpuBuffer::build(count * plan.convolved, |y| {
                    for (pooled, x) in chunks {
                        let y = &mut y[..x.len() / plan.input * plan.convolved];
                        plan.convolve(x, u.as_slice(), y);
                        for (y, pooled) in
                            y.chunks_exact(plan.convolved).zip(pooled.chunks_exact_mut(plan.pooled))
                        {
                            pool_only(y, plan.image, scale.as_slice(), shift.as_slice(), pooled);
                        }
                    }
                });
            });
        }))
    }
}

/// Sizes of a block's parts, an image's.
struct Plan {
    lowering: Lowering,
    /// Height, width and channels of the convolution's result.
    image: (usize, usize, usize),
    /// Pixels of it.
    pixels: usize,
    /// Elements of the input.
    input: usize,
    /// Elements of the convolution's result.
    convolved: usize,
    /// Elements of the block's result.
    pooled: usize,
}

impl Plan {
    fn of(sizes: BlockSizes) -> Self {
        let BlockSizes { height, width, inputs, outputs, .. } = sizes;
        Self {
            lowering: Lowering::of(sizes),
            image: (height, width, outputs),
            pixels: height * width,
            input: height * width * inputs,
            convolved: height * width * outputs,
            pooled: (height / 2) * (width / 2) * outputs,
        }
    }

    /// Convolves a run of images with the lowered kernel.
    fn convolve<E: CpuElement>(&self, x: &[E], u: &[E], y: &mut [E]) {
        let l = &self.lowering;
        let count = l.together().min(x.len() / self.input);
        let (v_len, m_len) = (l.matrices * l.rows * l.inner, l.matrices * l.rows * l.outer);
        with_scratch([l.padded_len(), count * v_len, count * m_len], |[padded, v, m]| {
            for (x, y) in x.chunks(count * self.input).zip(y.chunks_mut(count * self.convolved)) {
                let images = x.len() / self.input;
                let v = &mut v[..images * v_len];
                for (i, x) in x.chunks_exact(self.input).enumerate() {
                    l.lower(x, padded, v, i);
                }
                let m = &mut m[..images * m_len];
                l.products(v, u, m);
                for (i, y) in y.chunks_exact_mut(self.convolved).enumerate() {
                    l.raise(m, y, i);
                }
            }
        });
    }

    /// The gradients of a run of images: that of the lowered kernel is added to `du`; those of the images are written to
    /// `dx` if the kernel's matrices are given `transposed`. `dy_of` writes the gradient of an image's result.
    fn gradients<E: CpuElement>(
        &self,
        x: &[E],
        dy_of: impl Fn(usize, &mut [E]),
        transposed: Option<&[E]>,
        du: &mut [E],
        dx: &mut [E],
    ) {
        let l = &self.lowering;
        let count = l.together().min(x.len() / self.input);
        let (v_len, m_len) = (l.matrices * l.rows * l.inner, l.matrices * l.rows * l.outer);
        let lens = [l.padded_len(), count * v_len, count * m_len, self.convolved];
        with_scratch(lens, |[padded, v, dm, dy]| {
            for (chunk, x) in x.chunks(count * self.input).enumerate() {
                let images = x.len() / self.input;
                let (v, dm) = (&mut v[..images * v_len], &mut dm[..images * m_len]);
                for (i, x) in x.chunks_exact(self.input).enumerate() {
                    l.lower(x, padded, v, i);
                    dy_of(chunk * count + i, dy);
                    l.unraise(dy, dm, i);
                }
                l.add_kernel_products(v, dm, du);
                let Some(transposed) = transposed else { continue };
                // the images have been read
                l.input_products(dm, transposed, v);
                let dx = &mut dx[chunk * count * self.input..][..images * self.input];
                for (i, dx) in dx.chunks_exact_mut(self.input).enumerate() {
                    l.unlower(v, padded, dx, i);
                }
            }
        });
    }
}

/// The number of each image's group.
pub(super) fn group_of_images(groups: &[usize]) -> Vec<usize> {
    groups.iter().enumerate().flat_map(|(group, &images)| std::iter::repeat_n(group, images)).collect()
}

/// Mean and population variance of each channel in each group, from those of images: mean and sum of squares about it.
fn of_groups<E: CpuElement>(
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
    r: Vec<E>,
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
