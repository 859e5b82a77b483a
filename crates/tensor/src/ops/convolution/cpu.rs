//! Convolution on the CPU: the patches under the kernel are written out as columns, a block of rows of
//! the result at a time, and the rest is a matrix product.

use rayon::prelude::*;

use super::{ConvolutionKernels, ConvolutionSizes, Patches};
use crate::Result;
use crate::cpu::{Cpu, CpuBuffer, CpuElement};

/// Multiply-adds from which images are spread over threads.
const PARALLEL_WORK: usize = 1 << 22;

/// Elements of patches written out at a time: they stay in the second-level cache until the product has
/// read them.
const BLOCK: usize = 1 << 17;

/// Images whose weight gradients are added up one after the other. The groups' sums are then added in
/// order, so that the bits don't depend on how many threads there are.
const GROUP: usize = 4;

impl<E: CpuElement> ConvolutionKernels for Cpu<E> {
    fn convolve(&self, x: &CpuBuffer<E>, w: &CpuBuffer<E>, s: ConvolutionSizes) -> Result<CpuBuffer<E>> {
        let Some(p) = Patches::of(s) else { return Ok(CpuBuffer::zeros(s.output_shape().len())) };
        let (x, w) = (x.as_slice(), w.as_slice());
        Ok(CpuBuffer::build(s.output_shape().len(), |y| {
            p.each_image(y, p.output_len(), x, p.input_len(), |y, x| {
                p.each_block(|first, rows, cols| {
                    p.gather(x, first, rows, cols);
                    let (width, start) = (rows * s.area[1], first * s.area[1]);
                    gemm(
                        (s.outputs, p.height, width),
                        (w, p.height, 1),
                        (cols, width, 1),
                        E::zero(),
                        (&mut y[start..], p.area),
                    );
                });
            });
        }))
    }

    fn convolve_input(
        &self,
        g: &CpuBuffer<E>,
        w: &CpuBuffer<E>,
        s: ConvolutionSizes,
    ) -> Result<CpuBuffer<E>> {
        let Some(p) = Patches::of(s) else { return Ok(CpuBuffer::zeros(s.input_shape().len())) };
        let (g, w) = (g.as_slice(), w.as_slice());
        Ok(CpuBuffer::build(s.input_shape().len(), |x| {
            p.each_image(x, p.input_len(), g, p.output_len(), |x, g| {
                x.fill(E::zero());
                p.each_block(|first, rows, cols| {
                    let (width, start) = (rows * s.area[1], first * s.area[1]);
                    gemm(
                        (p.height, s.outputs, width),
                        (w, 1, p.height),
                        (&g[start..], p.area, 1),
                        E::zero(),
                        (cols, width),
                    );
                    p.scatter(cols, first, rows, x);
                });
            });
        }))
    }

    fn convolve_weight(
        &self,
        x: &CpuBuffer<E>,
        g: &CpuBuffer<E>,
        s: ConvolutionSizes,
    ) -> Result<CpuBuffer<E>> {
        let len = s.weight_shape().len();
        let Some(p) = Patches::of(s) else { return Ok(CpuBuffer::zeros(len)) };
        let (x, g) = (x.as_slice(), g.as_slice());
        let add_images = |w: &mut [E], x: &[E], g: &[E]| {
            w.fill(E::zero());
            for (x, g) in x.chunks_exact(p.input_len()).zip(g.chunks_exact(p.output_len())) {
                p.each_block(|first, rows, cols| {
                    p.gather(x, first, rows, cols);
                    let (width, start) = (rows * s.area[1], first * s.area[1]);
                    gemm(
                        (s.outputs, width, p.height),
                        (&g[start..], p.area, 1),
                        (cols, 1, width),
                        E::one(),
                        (w, p.height),
                    );
                });
            }
        };
        let mut sums = CpuBuffer::build(len * s.images.div_ceil(GROUP), |sums| {
            let images = x.chunks(GROUP * p.input_len()).zip(g.chunks(GROUP * p.output_len()));
            let groups = sums.chunks_exact_mut(len).zip(images);
            if p.is_small() {
                groups.for_each(|(w, (x, g))| add_images(w, x, g));
            } else {
                let groups: Vec<_> = groups.collect();
                groups.into_par_iter().with_max_len(1).for_each(|(w, (x, g))| add_images(w, x, g));
            }
        });
        if s.images <= GROUP {
            return Ok(sums);
        }
        Ok(CpuBuffer::build(len, |w| {
            let (first, others) = sums.make_mut().split_at(len);
            w.copy_from_slice(first);
            for sum in others.chunks_exact(len) {
                for (w, &sum) in w.iter_mut().zip(sum) {
                    *w += sum;
                }
            }
        }))
    }
}

impl Patches {
    fn is_small(&self) -> bool {
        self.s.images * self.s.outputs * self.height * self.area < PARALLEL_WORK
    }

    /// Writes each image's part of `to` from its part of `from`.
    fn each_image<E: CpuElement>(
        &self,
        to: &mut [E],
        to_len: usize,
        from: &[E],
        from_len: usize,
        write: impl Fn(&mut [E], &[E]) + Sync,
    ) {
        if self.is_small() {
            to.chunks_exact_mut(to_len)
                .zip(from.chunks_exact(from_len))
                .for_each(|(to, from)| write(to, from));
        } else {
            to.par_chunks_exact_mut(to_len)
                .zip(from.par_chunks_exact(from_len))
                .for_each(|(to, from)| write(to, from));
        }
    }

    /// Calls `f` with blocks of the result's rows, the first and how many, and scratch for their columns.
    fn each_block<E: CpuElement>(&self, mut f: impl FnMut(usize, usize, &mut [E])) {
        let row = self.height * self.s.area[1];
        let most = (BLOCK / row).clamp(1, self.s.area[0]);
        CpuBuffer::build(most * row, |cols| {
            for first in (0..self.s.area[0]).step_by(most) {
                let rows = most.min(self.s.area[0] - first);
                f(first, rows, &mut cols[..rows * row]);
            }
        });
    }

    fn gather<E: CpuElement>(&self, x: &[E], first: usize, rows: usize, cols: &mut [E]) {
        if self.s.padding > 0 {
            cols.fill(E::zero());
        }
        self.each_run(first, rows, |col, pixel, len| {
            cols[col..col + len].copy_from_slice(&x[pixel..pixel + len]);
        });
    }

    fn scatter<E: CpuElement>(&self, cols: &[E], first: usize, rows: usize, x: &mut [E]) {
        self.each_run(first, rows, |col, pixel, len| {
            for (x, &col) in x[pixel..pixel + len].iter_mut().zip(&cols[col..col + len]) {
                *x += col;
            }
        });
    }

    /// Calls `f` with each run of elements that lie beside each other both in the columns of the result's
    /// rows `first..first + rows` and in the image: where in the columns, where in the image, how many.
    fn each_run(&self, first: usize, rows: usize, mut f: impl FnMut(usize, usize, usize)) {
        let ConvolutionSizes { inputs, image: [h, w], kernel: [kh, kw], area: [_, width], padding, .. } =
            self.s;
        let mut col = 0;
        for channel in 0..inputs {
            for a in 0..kh {
                for b in 0..kw {
                    let left = padding.saturating_sub(b).min(width);
                    let right = (w + padding).saturating_sub(b).clamp(left, width);
                    for row in first..first + rows {
                        let y = row + a;
                        if y >= padding && y < h + padding && left < right {
                            let pixel = (channel * h + y - padding) * w + left + b - padding;
                            f(col + left, pixel, right - left);
                        }
                        col += width;
                    }
                }
            }
        }
    }
}

/// `c ← a b + beta c`: slices with (row, column) strides, c with a row stride.
fn gemm<E: CpuElement>(
    (m, k, n): (usize, usize, usize),
    (a, ra, ca): (&[E], usize, usize),
    (b, rb, cb): (&[E], usize, usize),
    beta: E,
    (c, rc): (&mut [E], usize),
) {
    let reach = |rows: usize, rs: usize, cols: usize, cs: usize| (rows - 1) * rs + (cols - 1) * cs;
    assert!(m > 0 && k > 0 && n > 0 && n <= rc);
    assert!(reach(m, ra, k, ca) < a.len() && reach(k, rb, n, cb) < b.len() && reach(m, rc, n, 1) < c.len());
    // SAFETY: the last element that the sizes and strides reach is in bounds, as just asserted; `c` is
    // borrowed mutably, thus apart from `a` and `b`
    unsafe {
        E::gemm(
            (m, k, n),
            (a.as_ptr(), ra as isize, ca as isize),
            (b.as_ptr(), rb as isize, cb as isize),
            beta,
            (c.as_mut_ptr(), rc as isize, 1),
        );
    }
}
