//! A block of many channels: tiles of images, a few at a time, through all of it while they are in the cache.

use rayon::prelude::*;

use super::aligned::{Aligned, with_scratch};
use super::cpu::{Normal, RUN, group_of_images, of_groups, slopes, sum_of_runs};
use super::lowering::Lowering;
use super::stage::{alive, moments};
use super::tiles::PoolSlopes;
use super::{BlockForward, BlockGrad, BlockInput, BlockSizes};
use crate::cpu::{CpuBuffer, CpuElement};

/// Tiles that go together: of 64 channels their matrices take some 0.8 MB, which leaves the kernel's 1 MB room in a
/// second-level cache of 2. Whole rows of the products' tiles.
const TILES: usize = 24;

/// A block whose numbers of channels are whole registers.
pub(super) struct Deep {
    sizes: BlockSizes,
    lowering: Lowering,
    /// Elements of an image.
    input: usize,
    /// Elements of the convolution's result for it.
    convolved: usize,
    /// Elements of the block's result for it.
    pooled: usize,
}

impl Deep {
    pub fn of(sizes: BlockSizes) -> Self {
        let BlockSizes { height, width, inputs, outputs, .. } = sizes;
        Self {
            sizes,
            lowering: Lowering::of(sizes),
            input: height * width * inputs,
            convolved: height * width * outputs,
            pooled: (height / 2) * (width / 2) * outputs,
        }
    }

    /// The tiles of a run of images, by their first one and their number.
    fn chunks(&self, images: usize) -> impl Iterator<Item = (usize, usize)> {
        let tiles = images * self.lowering.tiles();
        (0..tiles).step_by(TILES).map(move |first| (first, TILES.min(tiles - first)))
    }

    /// Tiles of a chunk, of this many images.
    fn most_tiles(&self, images: usize) -> usize {
        TILES.min(images * self.lowering.tiles())
    }

    /// Convolves a run of images with the lowered kernel: to `y`, if there is room, and the peaks of windows. After each
    /// chunk `done` is told how many images are, and is given y.
    fn convolve<E: CpuElement>(
        &self,
        (x, u, sign): (&[E], &[E], &[E]),
        (y, peaks): (&mut [E], &mut [E]),
        mut done: impl FnMut(usize, &[E]),
    ) {
        let l = &self.lowering;
        let images = x.len() / self.input;
        let tiles = self.most_tiles(images);
        let lens = [l.input_len(tiles), l.output_len(tiles), self.sizes.inputs, self.sizes.outputs];
        with_scratch(lens, |[v, m, nothing, spare]| {
            nothing.fill(E::zero());
            for (first, count) in self.chunks(images) {
                let (v, m) = (&mut v[..l.input_len(count)], &mut m[..l.output_len(count)]);
                l.lower(x, v, first, nothing);
                l.products(v, u, m);
                l.raise(m, (&mut *y, &mut *peaks), sign, first, spare);
                done((first + count) / l.tiles(), y);
            }
        });
    }

    /// The block as in training.
    pub fn forward<E: CpuElement>(&self, block: &BlockInput<'_, CpuBuffer<E>>) -> BlockForward<CpuBuffer<E>> {
        let BlockSizes { images, height, width, outputs: channels, .. } = self.sizes;
        let u = self.lowering.lower_kernel(block.weight.as_slice());
        let sign = signs(block.gamma.as_slice());
        let mut of_images = CpuBuffer::build(images * 2 * channels, |_| {});
        let mut peaks = CpuBuffer::build(images * self.pooled, |_| {});
        let convolved = CpuBuffer::build(images * self.convolved, |convolved| {
            let runs = convolved
                .par_chunks_mut(RUN * self.convolved)
                .zip(peaks.make_mut().par_chunks_mut(RUN * self.pooled))
                .zip(of_images.make_mut().par_chunks_mut(RUN * 2 * channels))
                .zip(block.x.as_slice().par_chunks(RUN * self.input));
            runs.for_each(|(((y, peaks), of_images), x)| {
                let mut of_images = of_images.chunks_exact_mut(2 * channels).enumerate();
                let mut seen = 0;
                self.convolve((x, u.as_slice(), &sign), (y, peaks), |done, y| {
                    for (i, both) in of_images.by_ref().take(done - seen) {
                        let (mean, squares) = both.split_at_mut(channels);
                        moments(&y[i * self.convolved..][..self.convolved], channels, mean, squares);
                    }
                    seen = done;
                });
            });
        });
        let [mean, variance] = of_groups(of_images.as_slice(), block.groups, channels, height * width);
        let normal = Normal::of(&mean, &variance, block);
        let group_of = group_of_images(block.groups);
        let pooled = CpuBuffer::build(images * self.pooled, |pooled| {
            let images = pooled
                .par_chunks_mut(self.pooled)
                .zip(peaks.as_slice().par_chunks(self.pooled))
                .zip(&group_of);
            images.for_each(|((pooled, peaks), &group)| {
                let at = group * channels..(group + 1) * channels;
                alive(peaks, &normal.scale[at.clone()], &normal.shift[at], pooled);
            });
        });
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
        let BlockSizes { images, .. } = self.sizes;
        let (normal, slopes) = slopes(block, forward, grad);
        let group_of = group_of_images(block.groups);
        let transposed = input.then(|| self.lowering.lower_transposed_kernel(block.weight.as_slice()));
        let mut dx = CpuBuffer::build(if input { images * self.input } else { 0 }, |_| {});
        let runs = images.div_ceil(RUN);
        let kernel_len = block.weight.as_slice().len();
        let mut of_runs = CpuBuffer::build(runs * kernel_len, |_| {});
        let mut images_dx: Vec<&mut [E]> = match input {
            true => dx.make_mut().chunks_mut(RUN * self.input).collect(),
            false => (0..runs).map(|_| <&mut [E]>::default()).collect(),
        };
        let work = images_dx
            .par_iter_mut()
            .zip(of_runs.make_mut().par_chunks_mut(kernel_len))
            .zip(block.x.as_slice().par_chunks(RUN * self.input))
            .zip(forward.convolved.as_slice().par_chunks(RUN * self.convolved))
            .zip(grad.as_slice().par_chunks(RUN * self.pooled))
            .zip(group_of.par_chunks(RUN));
        work.for_each(|(((((dx, of_run), x), y), grad), group_of)| {
            let by = PoolSlopes {
                y,
                grad,
                group_of,
                scale: &normal.scale,
                shift: &normal.shift,
                slope: &slopes.slope,
                offset: &slopes.offset,
            };
            self.gradients(x, &by, transposed.as_ref().map(Aligned::as_slice), of_run, dx);
        });
        drop(images_dx);
        let places = sum_of_runs(of_runs, kernel_len);
        let weight =
            CpuBuffer::build(kernel_len, |weight| self.lowering.gather_kernel(places.as_slice(), weight));
        let [gamma, beta] = [slopes.gamma, slopes.beta].map(CpuBuffer::from);
        BlockGrad { x: input.then_some(dx), weight, gamma, beta }
    }

    /// The gradients of a run of images: that of the kernel by its places, and those of the images if the kernel's
    /// matrices are given `transposed`.
    fn gradients<E: CpuElement>(
        &self,
        x: &[E],
        by: &PoolSlopes<'_, E>,
        transposed: Option<&[E]>,
        of_kernel: &mut [E],
        dx: &mut [E],
    ) {
        let l = &self.lowering;
        let BlockSizes { inputs, outputs, .. } = self.sizes;
        let images = x.len() / self.input;
        let tiles = self.most_tiles(images);
        let lens = [l.input_len(tiles), l.output_len(tiles), l.kernel_len(), inputs.max(outputs), inputs];
        with_scratch(lens, |[v, dm, du, nothing, spare]| {
            nothing.fill(E::zero());
            // a number, whatever was there
            spare.fill(E::zero());
            for (first, count) in self.chunks(images) {
                let (v, dm) = (&mut v[..l.input_len(count)], &mut dm[..l.output_len(count)]);
                l.lower(x, v, first, nothing);
                l.unraise(by, dm, first, nothing);
                l.unproducts(v, dm, (&mut *du, first > 0), transposed);
                if transposed.is_some() {
                    l.add_unlowered(v, dx, first, (&mut *spare, &*nothing));
                }
            }
            l.raise_kernel(du, of_kernel);
        });
    }

    /// The block as in evaluation, γ and β being scale and shift.
    pub fn by<E: CpuElement>(&self, block: &BlockInput<'_, CpuBuffer<E>>) -> CpuBuffer<E> {
        let [x, weight, scale, shift] =
            [block.x, block.weight, block.gamma, block.beta].map(CpuBuffer::as_slice);
        let u = self.lowering.lower_kernel(weight);
        let sign = signs(scale);
        CpuBuffer::build(self.sizes.images * self.pooled, |pooled| {
            let runs = pooled.par_chunks_mut(RUN * self.pooled).zip(x.par_chunks(RUN * self.input));
            runs.for_each(|(pooled, x)| {
                CpuBuffer::build(pooled.len(), |peaks| {
                    self.convolve((x, u.as_slice(), &sign), (&mut [], peaks), |_, _| {});
                    alive(peaks, scale, shift, pooled);
                });
            });
        })
    }
}

/// 1, 0 or −1 as a channel's scale is: of a window's results, the one that is largest times that becomes the largest when
/// they are scaled.
fn signs<E: CpuElement>(scale: &[E]) -> Vec<E> {
    let sign = |&x: &E| {
        if x > E::zero() {
            E::one()
        } else if x < E::zero() {
            -E::one()
        } else {
            x
        }
    };
    scale.iter().map(sign).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::noise;

    /// The convolution of `x` `[images, H, W, in]`, as it is written; and for the gradient `dy` of its result those by
    /// the weight and by x.
    fn written(sizes: BlockSizes, x: &[f64], w: &[f64], dy: &[f64]) -> [Vec<f64>; 3] {
        let BlockSizes { images, height, width, inputs, outputs } = sizes;
        let (mut y, mut dw, mut dx) = (vec![0.0; dy.len()], vec![0.0; w.len()], vec![0.0; x.len()]);
        for (image, row, column) in (0..images)
            .flat_map(|image| (0..height).flat_map(move |row| (0..width).map(move |c| (image, row, c))))
        {
            for place in 0..9 {
                let (r, c) = ((row + place / 3).wrapping_sub(1), (column + place % 3).wrapping_sub(1));
                if r >= height || c >= width {
                    continue;
                }
                let from = ((image * height + r) * width + c) * inputs;
                let to = ((image * height + row) * width + column) * outputs;
                for (i, o) in (0..inputs).flat_map(|i| (0..outputs).map(move |o| (i, o))) {
                    let at = (o * inputs + i) * 9 + place;
                    y[to + o] += x[from + i] * w[at];
                    dw[at] += x[from + i] * dy[to + o];
                    dx[from + i] += w[at] * dy[to + o];
                }
            }
        }
        [y, dw, dx]
    }

    /// The same by tiles.
    fn by_tiles<E: CpuElement>(sizes: BlockSizes, [x, w, dy]: [&[f64]; 3]) -> [Vec<f64>; 3] {
        let [x, w, dy] = [x, w, dy].map(|x| x.iter().map(|&x| E::of(x)).collect::<Vec<E>>());
        let deep = Deep::of(sizes);
        let l = &deep.lowering;
        let zeros = |len| vec![E::zero(); len];
        let (mut y, mut peaks) = (zeros(dy.len()), zeros(sizes.images * deep.pooled));
        let sign = zeros(sizes.outputs);
        deep.convolve((&x, l.lower_kernel(&w).as_slice(), &sign), (&mut y, &mut peaks), |_, _| {});
        // nothing comes from what was pooled, and the rest of the gradient is once what is said to be the result
        let (none, once) = (zeros(sizes.outputs), vec![E::one(); sizes.outputs]);
        let by = PoolSlopes {
            y: &dy,
            grad: &peaks,
            group_of: &vec![0; sizes.images],
            scale: &none,
            shift: &none,
            slope: &once,
            offset: &none,
        };
        let (mut places, mut dw, mut dx) = (zeros(w.len()), zeros(w.len()), zeros(x.len()));
        let transposed = l.lower_transposed_kernel(&w);
        deep.gradients(&x, &by, Some(transposed.as_slice()), &mut places, &mut dx);
        l.gather_kernel(&places, &mut dw);
        [y, dw, dx].map(|x| x.into_iter().map(E::wide).collect())
    }

    /// Root of the mean square of what `a` is off, in terms of that of `b`.
    fn off(a: &[f64], b: &[f64]) -> f64 {
        let squares = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>();
        (squares(&mut a.iter().zip(b).map(|(a, b)| a - b)) / squares(&mut b.iter().copied())).sqrt()
    }

    #[test]
    fn tiles_give_what_is_written() {
        // (height, width), side of tiles; edges of every remainder
        for (height, width, side) in [
            (2, 2, 4),
            (2, 6, 4),
            (4, 2, 4),
            (4, 4, 6),
            (7, 3, 6),
            (8, 11, 6),
            (13, 16, 6),
            (3, 3, 6),
            (5, 6, 8),
            (9, 10, 8),
            (10, 10, 8),
            (12, 18, 8),
            (17, 11, 8),
            (21, 22, 8),
        ] {
            let sizes = BlockSizes { images: 5, height, width, inputs: 32, outputs: 48 };
            assert_eq!(Lowering::of(sizes).matrices(), side * side, "{height} × {width}");
            let [x, w, dy] = [[5, height, width, 32], [48, 32, 3, 3], [5, height, width, 48]]
                .map(|shape| noise(shape).to_vec().unwrap());
            let expected = written(sizes, &x, &w, &dy);
            let wide = by_tiles::<f64>(sizes, [&x, &w, &dy]);
            let single = by_tiles::<f32>(sizes, [&x, &w, &dy]);
            let [most_wide, most] = match side {
                4 => [5e-15, 5e-7],
                6 => [5e-15, 2e-6],
                _ => [2e-14, 6e-6],
            };
            for (what, i) in [("result", 0), ("gradient by the weight", 1), ("gradient by the images", 2)] {
                let name = format!("{what}, {height} × {width}");
                let (wide, single) = (off(&wide[i], &expected[i]), off(&single[i], &expected[i]));
                assert!(wide < most_wide, "{name}: off by {wide:e} in f64");
                assert!(single < most, "{name}: off by {single:e} in f32");
            }
        }
    }
}
