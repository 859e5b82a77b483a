//! A block of few input channels, such as an image's one or three.
//!
//! Its convolution's result is many times its input, and cheap to make. So it is made two rows at a time, pooled while
//! they are in the cache, and made again on the way back; nothing of its size is ever stored. Its statistics don't need
//! it: of `y = w·p`, p being the pixels under the kernel, the mean is `w·mean(p)` and the variance `w·cov(p) w`.

use std::ops::Range;

use rayon::prelude::*;

use super::aligned::{Aligned, with_scratch};
use super::cpu::{Normal, RUN, group_of_images, slopes, sum_of_runs};
use super::stage::{pool, pool_only, unpool};
use super::{BlockForward, BlockGrad, BlockInput, BlockSizes};
use crate::cpu::simd::{fma, kernel};
use crate::cpu::{CpuBuffer, CpuElement};

/// Input channels from which on a block is not shallow.
const MANY: usize = 8;

/// Elements of a register, for f32 and the widest instruction set.
const LANES: usize = 16;

/// Output channels that are computed together.
const WIDE: usize = 2 * LANES;

/// Places of the kernel.
const PLACES: usize = 9;

/// Rows whose products are added up before they are widened.
const ROWS: usize = 8;

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

    /// Pixels under the kernel, all channels'.
    fn taps(&self) -> usize {
        PLACES * self.sizes.inputs
    }

    /// Where the pixel under a tap of the kernel lies, from that under its first.
    #[inline(always)]
    fn offset(&self, tap: usize) -> usize {
        let place = tap % PLACES;
        tap / PLACES * self.plane + place / 3 * self.line + place % 3
    }

    /// Elements of a padded image, and of a register behind it, which is read but not used.
    fn padded_len(&self) -> usize {
        self.sizes.inputs * self.plane + LANES
    }

    fn input_len(&self) -> usize {
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

    /// The rows `[row, channel, column]` of an image `[H, W, in]`, with the places of their elements in a padded one.
    fn spread<E: CpuElement>(&self, x: &[E], padded: &mut [E]) {
        let inputs = self.sizes.inputs;
        for (row, x) in x.chunks_exact(self.sizes.width * inputs).enumerate() {
            for channel in 0..inputs {
                let to = &mut padded[channel * self.plane + (row + 1) * self.line + 1..][..self.sizes.width];
                to.iter_mut().zip(x[channel..].iter().step_by(inputs)).for_each(|(to, &x)| *to = x);
            }
        }
    }

    /// Mean and population variance of each channel of the result in each group.
    fn statistics<E: CpuElement>(&self, block: &BlockInput<'_, CpuBuffer<E>>) -> [Vec<E>; 2] {
        let taps = self.taps();
        let of_one = taps * (1 + taps);
        let mut of_images = vec![0.0_f64; self.sizes.images * of_one];
        let runs =
            of_images.par_chunks_mut(RUN * of_one).zip(block.x.as_slice().par_chunks(RUN * self.input_len()));
        runs.for_each(|(of_images, x)| {
            with_scratch([self.padded_len()], |[padded]| {
                padded.fill(E::zero());
                for (sums, x) in of_images.chunks_exact_mut(of_one).zip(x.chunks_exact(self.input_len())) {
                    self.spread(x, padded);
                    let (sums, products) = sums.split_at_mut(taps);
                    patch_sums(padded, sums, products, *self);
                }
            });
        });
        let (mut means, mut variances) = (Vec::new(), Vec::new());
        let mut images = of_images.chunks_exact(of_one);
        let mut covariance = vec![0.0; taps * taps];
        for &count in block.groups {
            let mut total = vec![0.0; of_one];
            for image in images.by_ref().take(count) {
                total.iter_mut().zip(image).for_each(|(total, x)| *total += x);
            }
            let n = (count * self.sizes.height * self.sizes.width) as f64;
            total.iter_mut().for_each(|x| *x /= n);
            let (mean, products) = total.split_at(taps);
            for a in 0..taps {
                for b in 0..taps {
                    covariance[a * taps + b] = products[a.min(b) * taps + a.max(b)] - mean[a] * mean[b];
                }
            }
            for weight in block.weight.as_slice().chunks_exact(taps) {
                let along = |x: &[f64]| weight.iter().zip(x).map(|(w, x)| w.wide() * x).sum::<f64>();
                let by_row = covariance.chunks_exact(taps).zip(weight);
                let variance = by_row.map(|(row, w)| w.wide() * along(row)).sum::<f64>();
                means.push(E::of(along(mean)));
                // rounding may leave less than nothing of a constant channel; a NaN stays one
                variances.push(E::of(if variance < 0.0 { 0.0 } else { variance }));
            }
        }
        [means, variances]
    }

    /// The block as in training.
    pub fn forward<E: CpuElement>(&self, block: &BlockInput<'_, CpuBuffer<E>>) -> BlockForward<CpuBuffer<E>> {
        let BlockSizes { images, width, outputs, .. } = self.sizes;
        let [mean, variance] = self.statistics(block);
        let normal = Normal::of(&mean, &variance, block);
        let group_of = group_of_images(block.groups);
        let w = self.lower_kernel(block.weight.as_slice());
        let (len, row_len) = (self.pooled_len(), self.pooled_row_len());
        let mut peaks = CpuBuffer::build(images * len, |_| {});
        let pooled = CpuBuffer::build(images * len, |pooled| {
            let runs = pooled
                .par_chunks_mut(RUN * len)
                .zip(peaks.make_mut().par_chunks_mut(RUN * len))
                .zip(block.x.as_slice().par_chunks(RUN * self.input_len()))
                .zip(group_of.par_chunks(RUN));
            runs.for_each(|(((pooled, peaks), x), group_of)| {
                with_scratch([self.padded_len(), 2 * self.row_len()], |[padded, y]| {
                    padded.fill(E::zero());
                    let images = pooled.chunks_exact_mut(len).zip(peaks.chunks_exact_mut(len));
                    for (((pooled, peaks), x), group) in
                        images.zip(x.chunks_exact(self.input_len())).zip(group_of)
                    {
                        let of_group = group * outputs..(group + 1) * outputs;
                        let (scale, shift) = (&normal.scale[of_group.clone()], &normal.shift[of_group]);
                        self.spread(x, padded);
                        let rows = pooled.chunks_exact_mut(row_len).zip(peaks.chunks_exact_mut(row_len));
                        for (row, (pooled, peaks)) in rows.enumerate() {
                            convolve(padded, w.as_slice(), y, *self, 2 * row..2 * row + 2);
                            pool(y, (2, width, outputs), scale, shift, pooled, peaks);
                        }
                    }
                });
            });
        });
        let convolved = CpuBuffer::zeros(0);
        BlockForward { pooled, convolved, peaks, mean: mean.into(), variance: variance.into() }
    }

    /// The gradients.
    pub fn backward<E: CpuElement>(
        &self,
        block: &BlockInput<'_, CpuBuffer<E>>,
        forward: &BlockForward<CpuBuffer<E>>,
        grad: &CpuBuffer<E>,
        input: bool,
    ) -> BlockGrad<CpuBuffer<E>> {
        let BlockSizes { images, height, width, outputs, .. } = self.sizes;
        let (normal, slopes) = slopes(block, forward, grad);
        let group_of = group_of_images(block.groups);
        let w = self.lower_kernel(block.weight.as_slice());
        let kernel_len = self.taps() * self.outer;
        let runs = images.div_ceil(RUN);
        let mut du = CpuBuffer::zeros(runs * kernel_len);
        let mut dx = CpuBuffer::build(if input { images * self.input_len() } else { 0 }, |_| {});
        let mut images_dx: Vec<&mut [E]> = match input {
            true => dx.make_mut().chunks_mut(RUN * self.input_len()).collect(),
            false => (0..runs).map(|_| <&mut [E]>::default()).collect(),
        };
        let work = images_dx
            .par_iter_mut()
            .zip(du.make_mut().par_chunks_mut(kernel_len))
            .zip(block.x.as_slice().par_chunks(RUN * self.input_len()))
            .zip(grad.as_slice().par_chunks(RUN * self.pooled_len()))
            .zip(group_of.par_chunks(RUN));
        work.for_each(|((((dx, du), x), grad), group_of)| {
            let slopes_len = if input { self.padded_len() } else { 0 };
            let lens = [self.padded_len(), 2 * self.row_len(), 2 * self.row_len() + WIDE, slopes_len];
            with_scratch(lens, |[padded, y, dy, slopes_of_padded]| {
                padded.fill(E::zero());
                dy.fill(E::zero());
                let images = x.chunks_exact(self.input_len()).zip(grad.chunks_exact(self.pooled_len()));
                for (image, ((x, grad), group)) in images.zip(group_of).enumerate() {
                    let of = group * outputs..(group + 1) * outputs;
                    let [scale, shift, slope, offset] =
                        [&normal.scale, &normal.shift, &slopes.slope, &slopes.offset]
                            .map(|by| &by[of.clone()]);
                    self.spread(x, padded);
                    slopes_of_padded.fill(E::zero());
                    for first in (0..height).step_by(2) {
                        let rows = first..(first + 2).min(height);
                        let y = &mut y[..rows.len() * self.row_len()];
                        convolve(padded, w.as_slice(), y, *self, rows.clone());
                        let grad = &grad[first / 2 * self.pooled_row_len()..];
                        unpool(y, (rows.len(), width, outputs), grad, (scale, shift, slope, offset), dy);
                        add_kernel_slopes(padded, dy, du, *self, rows.clone());
                        if input {
                            self.add_input_slopes(dy, w.as_slice(), slopes_of_padded, rows);
                        }
                    }
                    if input {
                        self.gather(
                            slopes_of_padded,
                            &mut dx[image * self.input_len()..][..self.input_len()],
                        );
                    }
                }
            });
        });
        drop(images_dx);
        let du = sum_of_runs(du, kernel_len);
        let weight = CpuBuffer::build(block.weight.as_slice().len(), |weight| {
            for (out, weight) in weight.chunks_exact_mut(self.taps()).enumerate() {
                let du = du.as_slice()[out..].iter().step_by(self.outer);
                weight.iter_mut().zip(du).for_each(|(weight, &du)| *weight = du);
            }
        });
        let [gamma, beta] = [slopes.gamma, slopes.beta].map(CpuBuffer::from);
        BlockGrad { x: input.then_some(dx), weight, gamma, beta }
    }

    /// The block as in evaluation.
    pub fn by<E: CpuElement>(&self, x: &[E], weight: &[E], scale: &[E], shift: &[E]) -> CpuBuffer<E> {
        let BlockSizes { images, width, outputs, .. } = self.sizes;
        let w = self.lower_kernel(weight);
        let len = self.pooled_len();
        CpuBuffer::build(images * len, |pooled| {
            let runs = pooled.par_chunks_mut(RUN * len).zip(x.par_chunks(RUN * self.input_len()));
            runs.for_each(|(pooled, x)| {
                with_scratch([self.padded_len(), 2 * self.row_len()], |[padded, y]| {
                    padded.fill(E::zero());
                    for (pooled, x) in pooled.chunks_exact_mut(len).zip(x.chunks_exact(self.input_len())) {
                        self.spread(x, padded);
                        for (row, pooled) in pooled.chunks_exact_mut(self.pooled_row_len()).enumerate() {
                            convolve(padded, w.as_slice(), y, *self, 2 * row..2 * row + 2);
                            pool_only(y, (2, width, outputs), scale, shift, pooled);
                        }
                    }
                });
            });
        })
    }

    /// Adds to a padded image's gradient what comes from that of these rows of its result. Images are seldom
    /// parameters, so this is as it is written.
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

/// Adds the products of three registers with three that lie beside each other in `q`; and to the last three sums the
/// registers themselves.
#[inline(always)]
fn add_products<E: CpuElement, const FUSED: bool>(p: [&[E]; 3], q: &[E], sums: &mut [[[E; LANES]; 3]; 4]) {
    let [p0, p1, p2] = p.map(|p| &p[..LANES]);
    let q = &q[..LANES + 2];
    for l in 0..LANES {
        let p = [p0[l], p1[l], p2[l]];
        for (i, p) in p.into_iter().enumerate() {
            sums[i][0][l] = fma::<E, FUSED>(p, q[l], sums[i][0][l]);
            sums[i][1][l] = fma::<E, FUSED>(p, q[l + 1], sums[i][1][l]);
            sums[i][2][l] = fma::<E, FUSED>(p, q[l + 2], sums[i][2][l]);
            sums[3][i][l] += p;
        }
    }
}

kernel! {
    /// Sums over an image's places of the pixels under the kernel, `[taps]`, and of their products two by two, `[taps,
    /// taps]`, those above the diagonal.
    fn patch_sums<E>(padded: &[E], sums: &mut [f64], products: &mut [f64], s: Shallow) {
        let (taps, height, width) = (sums.len(), s.sizes.height, s.sizes.width);
        // three taps that lie beside each other, with three
        let lines = taps / 3;
        for (a, b) in (0..lines).flat_map(|a| (a..lines).map(move |b| (3 * a, 3 * b))) {
            let mut total = [[[0.0_f64; LANES]; 3]; 4];
            for first in (0..height).step_by(ROWS) {
                let mut lanes = [[[E::zero(); LANES]; 3]; 4];
                for row in first..(first + ROWS).min(height) {
                    let p = &padded[s.offset(a) + row * s.line..][..width + 2];
                    let q = &padded[s.offset(b) + row * s.line..];
                    for at in (0..width).step_by(LANES) {
                        let q = &q[at..at + LANES + 2];
                        if at + LANES <= width {
                            let p = &p[at..at + LANES + 2];
                            add_products::<E, FUSED>([p, &p[1..], &p[2..]], q, &mut lanes);
                        } else {
                            // what is not of the row stays zero
                            let mut rest = [[E::zero(); LANES]; 3];
                            for (t, rest) in rest.iter_mut().enumerate() {
                                rest[..width - at].copy_from_slice(&p[at + t..][..width - at]);
                            }
                            add_products::<E, FUSED>(rest.each_ref().map(|p| &p[..]), q, &mut lanes);
                        }
                    }
                }
                let pairs = total.as_flattened_mut().iter_mut().zip(lanes.as_flattened());
                pairs.for_each(|(total, lanes)| {
                    total.iter_mut().zip(lanes).for_each(|(total, lane)| *total += lane.wide());
                });
            }
            let total = total.map(|three| three.map(|lanes| lanes.iter().sum::<f64>()));
            for i in 0..3 {
                products[(a + i) * taps + b..][..3].copy_from_slice(&total[i]);
            }
            sums[a..a + 3].copy_from_slice(&total[3]);
        }
    }
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

kernel! {
    /// Adds to the kernel's gradient `[taps, outer]` what comes of rows of the result, whose gradient is `dy`: `[rows, W,
    /// out]` and `WIDE` elements more, any numbers.
    fn add_kernel_slopes<E>(padded: &[E], dy: &[E], du: &mut [E], s: Shallow, rows: Range<usize>) {
        let BlockSizes { height, width, inputs, outputs, .. } = s.sizes;
        assert!(padded.len() == s.padded_len() && rows.end <= height);
        assert!(dy.len() >= rows.len() * width * outputs + WIDE && du.len() == s.taps() * s.outer);
        for (channel, col) in (0..inputs).flat_map(|c| (0..s.outer).step_by(WIDE).map(move |col| (c, col))) {
            let mut sums = [[[E::zero(); LANES]; 2]; PLACES];
            for (i, row) in rows.clone().enumerate() {
                // SAFETY: below the width, all places of the kernel see pixels of the padded image's channel, and `dy`
                // has WIDE elements from any channel of any pixel on, as was asserted
                unsafe {
                    let x = padded.as_ptr().add(channel * s.plane + row * s.line);
                    let dy = dy.as_ptr().add(i * width * outputs + col);
                    for j in 0..width {
                        let (x, dy) = (x.add(j), dy.add(j * outputs));
                        for l in 0..LANES {
                            let (d0, d1) = (*dy.add(l), *dy.add(LANES + l));
                            for (place, sums) in sums.iter_mut().enumerate() {
                                let x = *x.add(place / 3 * s.line + place % 3);
                                sums[0][l] = fma::<E, FUSED>(x, d0, sums[0][l]);
                                sums[1][l] = fma::<E, FUSED>(x, d1, sums[1][l]);
                            }
                        }
                    }
                }
            }
            for (place, sums) in sums.iter().enumerate() {
                let du = &mut du[(channel * PLACES + place) * s.outer + col..][..WIDE];
                du.iter_mut().zip(sums.as_flattened()).for_each(|(du, &sum)| *du += sum);
            }
        }
    }
}
