//! A block of few input channels, such as an image's one or three.
//!
//! Its convolution's result is many times its input, and cheap to make. So it is made a few windows at a time, normalised and
//! pooled in registers; nothing of its size is ever stored. Its statistics don't need it (see [`Patches`]), nor does the
//! way back to the kernel. With g the gradient of a window's largest, which is at place k of it, and p the pixels under
//! the kernel there: batch normalisation takes from g its mean and its part along `y = w·p`, so that the kernel's
//! gradient is `scale (Σ g p − Σ g mean(p))` less a multiple of `cov(p) w`. All that has to be kept is k.

use std::ops::Range;

use rayon::prelude::*;

use super::aligned::{Aligned, with_scratch};
use super::cpu::{Normal, RUN, group_of_images};
use super::patches::Patches;
use super::stage::unpool;
use super::windows::{add_peak_sums, pool_rows};
use super::{BlockForward, BlockGrad, BlockInput, BlockSizes};
use crate::cpu::simd::{fma, kernel};
use crate::cpu::{CpuBuffer, CpuElement};

/// Input channels from which on a block is not shallow.
const MANY: usize = 8;

/// Elements of a register, for f32 and the widest instruction set.
pub(super) const LANES: usize = 16;

/// Output channels that are computed together.
pub(super) const WIDE: usize = 2 * LANES;

/// Places of the kernel.
pub(super) const PLACES: usize = 9;

/// Sizes of a shallow block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shallow {
    sizes: BlockSizes,
    /// Output channels, up to whole tiles.
    outer: usize,
    /// Elements of a row of a channel with its border.
    line: usize,
    /// Elements of a channel with its border.
    plane: usize,
}

impl Shallow {
    /// The block, if it has few input channels.
    pub fn of(sizes: BlockSizes) -> Option<Self> {
        let line = sizes.width + 2;
        let plane = line * (sizes.height + 2);
        let outer = sizes.outputs.next_multiple_of(WIDE);
        (sizes.inputs < MANY).then_some(Self { sizes, outer, line, plane })
    }

    #[inline(always)]
    pub fn height(&self) -> usize {
        self.sizes.height
    }

    #[inline(always)]
    pub fn width(&self) -> usize {
        self.sizes.width
    }

    /// Input channels.
    #[inline(always)]
    pub fn inputs(&self) -> usize {
        self.sizes.inputs
    }

    /// Output channels.
    #[inline(always)]
    pub fn outputs(&self) -> usize {
        self.sizes.outputs
    }

    /// Output channels, up to whole tiles.
    #[inline(always)]
    pub fn outer(&self) -> usize {
        self.outer
    }

    /// Elements of a channel with its border.
    #[inline(always)]
    pub fn plane(&self) -> usize {
        self.plane
    }

    /// Elements of a row of a channel with its border.
    #[inline(always)]
    pub fn line(&self) -> usize {
        self.line
    }

    /// Pixels under the kernel, all channels'.
    #[inline(always)]
    pub fn taps(&self) -> usize {
        PLACES * self.sizes.inputs
    }

    /// Where the pixel under a tap of the kernel lies, from that under its first.
    #[inline(always)]
    pub fn offset(&self, tap: usize) -> usize {
        let place = tap % PLACES;
        tap / PLACES * self.plane + place / 3 * self.line + place % 3
    }

    /// Elements of a padded image, and of a register behind it, which is read but not used.
    #[inline(always)]
    pub fn padded_len(&self) -> usize {
        self.sizes.inputs * self.plane + LANES
    }

    pub fn input_len(&self) -> usize {
        self.sizes.height * self.sizes.width * self.sizes.inputs
    }

    fn row_len(&self) -> usize {
        self.sizes.width * self.sizes.outputs
    }

    fn pooled_len(&self) -> usize {
        self.sizes.height / 2 * self.pooled_row_len()
    }

    fn pooled_row_len(&self) -> usize {
        self.sizes.width / 2 * self.sizes.outputs
    }

    /// The weight `[out, in, 3, 3]` as `[taps, outer]`.
    fn lower_kernel<E: CpuElement>(&self, weight: &[E]) -> Aligned<E> {
        Aligned::build(self.taps() * self.outer, |w| {
            w.fill(E::zero());
            for (out, weight) in weight.chunks_exact(self.taps()).enumerate() {
                weight.iter().enumerate().for_each(|(tap, &value)| w[tap * self.outer + out] = value);
            }
        })
    }

    /// The weight times the scale `[out]` as `[taps, outer]`, and after it the shift: `[outer]`.
    fn lower_scaled_kernel<E: CpuElement>(&self, weight: &[E], scale: &[E], shift: &[E]) -> Aligned<E> {
        Aligned::build((self.taps() + 1) * self.outer, |w| {
            w.fill(E::zero());
            let channels = weight.chunks_exact(self.taps()).zip(scale).zip(shift).enumerate();
            for (out, ((weight, &scale), &shift)) in channels {
                let taps = weight.iter().map(|&value| value * scale).chain([shift]);
                taps.enumerate().for_each(|(tap, value)| w[tap * self.outer + out] = value);
            }
        })
    }

    /// The rows `[row, channel, column]` of an image `[H, W, in]`, with the places of their elements in a padded one.
    pub fn spread<E: CpuElement>(&self, x: &[E], padded: &mut [E]) {
        let inputs = self.sizes.inputs;
        for (row, x) in x.chunks_exact(self.sizes.width * inputs).enumerate() {
            for channel in 0..inputs {
                let to = &mut padded[channel * self.plane + (row + 1) * self.line + 1..][..self.sizes.width];
                to.iter_mut().zip(x[channel..].iter().step_by(inputs)).for_each(|(to, &x)| *to = x);
            }
        }
    }

    /// The block as in training.
    pub fn forward<E: CpuElement>(&self, block: &BlockInput<'_, CpuBuffer<E>>) -> BlockForward<CpuBuffer<E>> {
        let BlockSizes { images, outputs, .. } = self.sizes;
        let Patches { mean, variance, with_results } = Patches::of(self, block);
        let normal = Normal::of(&mean, &variance, block);
        let group_of = group_of_images(block.groups);
        let of_group = normal.scale.chunks_exact(outputs).zip(normal.shift.chunks_exact(outputs));
        let weight = block.weight.as_slice();
        let kernels: Vec<_> =
            of_group.map(|(scale, shift)| self.lower_scaled_kernel(weight, scale, shift)).collect();
        let (len, row_len) = (self.pooled_len(), self.pooled_row_len());
        // a byte for each element of the result
        let mut peaks = CpuBuffer::build((images * len).div_ceil(size_of::<E>()), |_| {});
        let pooled = CpuBuffer::build(images * len, |pooled| {
            let runs = pooled
                .par_chunks_mut(RUN * len)
                .zip(bytes_mut(peaks.make_mut()).par_chunks_mut(RUN * len))
                .zip(block.x.as_slice().par_chunks(RUN * self.input_len()))
                .zip(group_of.par_chunks(RUN));
            runs.for_each(|(((pooled, places), x), group_of)| {
                with_scratch([self.padded_len()], |[padded]| {
                    padded.fill(E::zero());
                    let images = pooled.chunks_exact_mut(len).zip(places.chunks_exact_mut(len));
                    for (((pooled, places), x), &group) in
                        images.zip(x.chunks_exact(self.input_len())).zip(group_of)
                    {
                        self.spread(x, padded);
                        let rows = pooled.chunks_exact_mut(row_len).zip(places.chunks_exact_mut(row_len));
                        for (row, (pooled, places)) in rows.enumerate() {
                            let w = kernels[group].as_slice();
                            pool_rows::<E, 1>(padded, w, *self, 2 * row, pooled, places);
                        }
                    }
                });
            });
        });
        BlockForward {
            pooled,
            convolved: with_results.into(),
            peaks,
            mean: mean.into(),
            variance: variance.into(),
        }
    }

    /// The gradients.
    pub fn backward<E: CpuElement>(
        &self,
        block: &BlockInput<'_, CpuBuffer<E>>,
        forward: &BlockForward<CpuBuffer<E>>,
        grad: &CpuBuffer<E>,
        input: bool,
    ) -> BlockGrad<CpuBuffer<E>> {
        let outputs = self.sizes.outputs;
        let normal = Normal::of(forward.mean.as_slice(), forward.variance.as_slice(), block);
        let mut images = self.peak_sums(block.x.as_slice(), forward.peaks.as_slice(), grad.as_slice());
        let (taps, of_image) = (self.taps(), (self.taps() + 1) * self.outer);
        let mut weight = vec![0.0; outputs * taps];
        let (mut gamma, mut beta) = (vec![0.0; outputs], vec![0.0; outputs]);
        let (mut slope, mut offset) = (Vec::new(), Vec::new());
        let patches = forward.convolved.as_slice().chunks_exact(Patches::<E>::of_group(taps, outputs));
        let mut of_images = images.make_mut().chunks_exact(of_image);
        for ((group, &count), patches) in block.groups.iter().enumerate().zip(patches) {
            let mut total = vec![0.0; of_image];
            for image in of_images.by_ref().take(count) {
                total.iter_mut().zip(image).for_each(|(total, x)| *total += x.wide());
            }
            let (mean, with_results) = patches.split_at(taps);
            let one_by = 1.0 / (count * self.sizes.height * self.sizes.width) as f64;
            let channels = weight.chunks_exact_mut(taps).zip(block.weight.as_slice().chunks_exact(taps));
            for (c, ((dw, w), with_result)) in channels.zip(with_results.chunks_exact(taps)).enumerate() {
                let at = group * outputs + c;
                let (scale, r) = (normal.scale[at].wide(), normal.r[at].wide());
                let g = total[taps * self.outer + c];
                // Σ g (p − mean(p))
                let about_mean = |tap: usize| total[tap * self.outer + c] - g * mean[tap].wide();
                let along = r * w.iter().enumerate().map(|(tap, w)| w.wide() * about_mean(tap)).sum::<f64>();
                for (tap, dw) in dw.iter_mut().enumerate() {
                    *dw += scale * (about_mean(tap) - r * along * with_result[tap].wide());
                }
                gamma[c] += along;
                beta[c] += g;
                let by_y = -scale * r * along * one_by;
                slope.push(E::of(by_y));
                offset.push(E::of(-scale * g * one_by - by_y * forward.mean.as_slice()[at].wide()));
            }
        }
        let x = input.then(|| self.input_gradient(block, &normal, (&slope, &offset), grad.as_slice()));
        let [weight, gamma, beta] =
            [weight, gamma, beta].map(|x| x.into_iter().map(E::of).collect::<Vec<_>>().into());
        BlockGrad { x, weight, gamma, beta }
    }

    /// For each image `Σ g p` of each pixel under the kernel, `[taps, outer]`, and `Σ g`, `[outer]`; `peaks` are what forward
    /// has left.
    fn peak_sums<E: CpuElement>(&self, x: &[E], peaks: &[E], grad: &[E]) -> CpuBuffer<E> {
        let images = self.sizes.images;
        let (len, row_len) = (self.pooled_len(), self.pooled_row_len());
        let of_image = (self.taps() + 1) * self.outer;
        let mut of_images = CpuBuffer::zeros(images * of_image);
        let runs = of_images
            .make_mut()
            .par_chunks_mut(RUN * of_image)
            .zip(bytes(peaks)[..images * len].par_chunks(RUN * len))
            .zip(grad.par_chunks(RUN * len))
            .zip(x.par_chunks(RUN * self.input_len()));
        runs.for_each(|(((of_images, places), grad), x)| {
            with_scratch([self.padded_len()], |[padded]| {
                padded.fill(E::zero());
                let of_result = places.chunks_exact(len).zip(grad.chunks_exact(len));
                let images = of_images.chunks_exact_mut(of_image).zip(x.chunks_exact(self.input_len()));
                for ((sums, x), (places, grad)) in images.zip(of_result) {
                    self.spread(x, padded);
                    let rows = places.chunks_exact(row_len).zip(grad.chunks_exact(row_len));
                    for (row, (places, grad)) in rows.enumerate() {
                        add_peak_sums(padded, places, grad, sums, *self, 2 * row);
                    }
                }
            });
        });
        of_images
    }

    /// The gradient by the images, for which the result is made again. Images are seldom parameters.
    fn input_gradient<E: CpuElement>(
        &self,
        block: &BlockInput<'_, CpuBuffer<E>>,
        normal: &Normal<E>,
        (slope, offset): (&[E], &[E]),
        grad: &[E],
    ) -> CpuBuffer<E> {
        let BlockSizes { images, height, width, outputs, .. } = self.sizes;
        let group_of = group_of_images(block.groups);
        let w = self.lower_kernel(block.weight.as_slice());
        CpuBuffer::build(images * self.input_len(), |dx| {
            let images = dx
                .par_chunks_mut(self.input_len())
                .zip(block.x.as_slice().par_chunks(self.input_len()))
                .zip(grad.par_chunks(self.pooled_len()))
                .zip(&group_of);
            images.for_each(|(((dx, x), grad), group)| {
                let of = group * outputs..(group + 1) * outputs;
                let by =
                    (&normal.scale[of.clone()], &normal.shift[of.clone()], &slope[of.clone()], &offset[of]);
                let lens = [self.padded_len(), 2 * self.row_len(), 2 * self.row_len(), self.padded_len()];
                with_scratch(lens, |[padded, y, dy, slopes_of_padded]| {
                    padded.fill(E::zero());
                    slopes_of_padded.fill(E::zero());
                    self.spread(x, padded);
                    for first in (0..height).step_by(2) {
                        let rows = first..(first + 2).min(height);
                        let y = &mut y[..rows.len() * self.row_len()];
                        convolve(padded, w.as_slice(), y, *self, rows.clone());
                        let grad = &grad[first / 2 * self.pooled_row_len()..];
                        unpool(y, (rows.len(), width, outputs), grad, by, dy);
                        self.add_input_slopes(dy, w.as_slice(), slopes_of_padded, rows);
                    }
                    self.gather(slopes_of_padded, dx);
                });
            });
        })
    }

    /// The block as in evaluation.
    pub fn by<E: CpuElement>(&self, x: &[E], weight: &[E], scale: &[E], shift: &[E]) -> CpuBuffer<E> {
        let w = self.lower_scaled_kernel(weight, scale, shift);
        let (len, row_len) = (self.pooled_len(), self.pooled_row_len());
        CpuBuffer::build(self.sizes.images * len, |pooled| {
            let runs = pooled.par_chunks_mut(RUN * len).zip(x.par_chunks(RUN * self.input_len()));
            runs.for_each(|(pooled, x)| {
                with_scratch([self.padded_len()], |[padded]| {
                    padded.fill(E::zero());
                    for (pooled, x) in pooled.chunks_exact_mut(len).zip(x.chunks_exact(self.input_len())) {
                        self.spread(x, padded);
                        for (row, pooled) in pooled.chunks_exact_mut(row_len).enumerate() {
                            pool_rows::<E, 0>(padded, w.as_slice(), *self, 2 * row, pooled, &mut []);
                        }
                    }
                });
            });
        })
    }

    /// Adds to a padded image's gradient what comes from that of these rows of its result. As it is
    /// written.
    fn add_input_slopes<E: CpuElement>(&self, dy: &[E], w: &[E], padded: &mut [E], rows: Range<usize>) {
        let BlockSizes { width, outputs, .. } = self.sizes;
        for (i, dy) in dy.chunks_exact(outputs).take(rows.len() * width).enumerate() {
            let corner = (rows.start + i / width) * self.line + i % width;
            for (tap, w) in w.chunks_exact(self.outer).enumerate() {
                padded[corner + self.offset(tap)] += dy.iter().zip(w).map(|(&dy, &w)| dy * w).sum::<E>();
            }
        }
    }

    /// An image `[H, W, in]` from a padded one.
    fn gather<E: CpuElement>(&self, padded: &[E], x: &mut [E]) {
        let inputs = self.sizes.inputs;
        for (row, x) in x.chunks_exact_mut(self.sizes.width * inputs).enumerate() {
            for channel in 0..inputs {
                let from = &padded[channel * self.plane + (row + 1) * self.line + 1..][..self.sizes.width];
                x[channel..].iter_mut().step_by(inputs).zip(from).for_each(|(x, &from)| *x = from);
            }
        }
    }
}

/// What numbers are made of. Whatever is written there, they are numbers.
fn bytes_mut<E: CpuElement>(values: &mut [E]) -> &mut [u8] {
    // SAFETY: E is f32 or f64, which have no padding and for which all bits are values; a byte may lie anywhere
    unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), size_of_val(values)) }
}

/// What numbers are made of.
fn bytes<E: CpuElement>(values: &[E]) -> &[u8] {
    // SAFETY: as above
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
}

/// The results at `R` places beside each other, `WIDE` channels.
///
/// # Safety
/// `x` must have the pixels under the kernel at each place, and `w` `WIDE` channels of each tap.
#[inline(always)]
unsafe fn tile<E: CpuElement, const R: usize, const FUSED: bool>(
    x: *const E,
    w: *const E,
    s: &Shallow,
) -> [[[E; LANES]; 2]; R] {
    let mut sums = [[[E::zero(); LANES]; 2]; R];
    for channel in 0..s.sizes.inputs {
        for place in 0..PLACES {
            // SAFETY: both are of the kernel, r below R and l below LANES, half of WIDE
            unsafe {
                let x = x.add(channel * s.plane + place / 3 * s.line + place % 3);
                let w = w.add((channel * PLACES + place) * s.outer);
                for l in 0..LANES {
                    let (w0, w1) = (*w.add(l), *w.add(LANES + l));
                    for (r, sums) in sums.iter_mut().enumerate() {
                        let x = *x.add(r);
                        sums[0][l] = fma::<E, FUSED>(x, w0, sums[0][l]);
                        sums[1][l] = fma::<E, FUSED>(x, w1, sums[1][l]);
                    }
                }
            }
        }
    }
    sums
}

/// Writes the results at `R` places of a padded image, from that at `x` and `col` on, to the first of `y`.
#[inline(always)]
fn put_tile<E: CpuElement, const R: usize, const FUSED: bool>(
    x: &[E],
    w: &[E],
    y: &mut [E],
    s: &Shallow,
    col: usize,
) {
    assert!(x.len() >= s.offset(s.taps() - 1) + R && w.len() == s.taps() * s.outer && col + WIDE <= s.outer);
    // SAFETY: the last tap's pixel lies furthest, R of them are there from its place on, and each tap has WIDE channels
    // from `col` on, as just asserted
    let sums = unsafe { tile::<E, R, FUSED>(x.as_ptr(), w.as_ptr().add(col), s) };
    let channels = WIDE.min(s.sizes.outputs - col);
    for (sums, y) in sums.iter().zip(y.chunks_exact_mut(s.sizes.outputs)) {
        let y = &mut y[col..];
        if channels == WIDE {
            y[..WIDE].copy_from_slice(sums.as_flattened());
        } else {
            y.copy_from_slice(&sums.as_flattened()[..channels]);
        }
    }
}

kernel! {
    /// Rows of a padded image's convolution with the kernel `[taps, outer]`, `[rows, W, out]`.
    fn convolve<E>(padded: &[E], w: &[E], y: &mut [E], s: Shallow, rows: Range<usize>) {
        let BlockSizes { width, outputs, .. } = s.sizes;
        for (row, y) in rows.zip(y.chunks_exact_mut(width * outputs)) {
            let x = &padded[row * s.line..];
            for col in (0..s.outer).step_by(WIDE) {
                let mut at = 0;
                while at + 8 <= width {
                    put_tile::<E, 8, FUSED>(&x[at..], w, &mut y[at * outputs..], &s, col);
                    at += 8;
                }
                while at + 4 <= width {
                    put_tile::<E, 4, FUSED>(&x[at..], w, &mut y[at * outputs..], &s, col);
                    at += 4;
                }
                while at < width {
                    put_tile::<E, 1, FUSED>(&x[at..], w, &mut y[at * outputs..], &s, col);
                    at += 1;
                }
            }
        }
    }
}
