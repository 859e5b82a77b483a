//! Statistics of a shallow block's result without the result: of `y = w·p`, p being the pixels under the kernel, the mean is
//! `w·mean(p)` and the variance `w·cov(p) w`.

#![allow(
    clippy::needless_range_loop,
    reason = "loops over lanes of several arrays become vector code as they are"
)]

use rayon::prelude::*;

use super::BlockInput;
use super::aligned::with_scratch;
use super::cpu::RUN;
use super::shallow::Shallow;
use crate::cpu::simd::{fma, kernel};
use crate::cpu::{CpuBuffer, CpuElement};

/// Elements of a register, for f32 and the widest instruction set.
const LANES: usize = 16;

/// Rows whose products are added up before they are widened.
const ROWS: usize = 8;

/// What the pixels under the kernel are like in each group of images.
pub(super) struct Patches<E> {
    /// Mean of each channel of the result in each group.
    pub mean: Vec<E>,
    /// Its population variance.
    pub variance: Vec<E>,
    /// For each group the mean of each pixel, `[taps]`, and its covariance with each channel of the result, `[outputs,
    /// taps]`.
    pub with_results: Vec<E>,
}

impl<E: CpuElement> Patches<E> {
    /// Elements of [`with_results`](Self::with_results), a group's.
    pub fn of_group(taps: usize, outputs: usize) -> usize {
        taps * (1 + outputs)
    }

    pub fn of(shallow: &Shallow, block: &BlockInput<'_, CpuBuffer<E>>) -> Self {
        let (taps, sizes) = (shallow.taps(), block.sizes);
        let of_one = taps * (1 + taps);
        let mut of_images = vec![0.0_f64; sizes.images * of_one];
        let len = shallow.input_len();
        let runs = of_images.par_chunks_mut(RUN * of_one).zip(block.x.as_slice().par_chunks(RUN * len));
        runs.for_each(|(of_images, x)| {
            with_scratch([shallow.padded_len()], |[padded]| {
                padded.fill(E::zero());
                for (sums, x) in of_images.chunks_exact_mut(of_one).zip(x.chunks_exact(len)) {
                    shallow.spread(x, padded);
                    let (sums, products) = sums.split_at_mut(taps);
                    patch_sums(padded, sums, products, *shallow);
                }
            });
        });
        let mut found = Self { mean: Vec::new(), variance: Vec::new(), with_results: Vec::new() };
        let mut images = of_images.chunks_exact(of_one);
        let mut covariance = vec![0.0; taps * taps];
        for &count in block.groups {
            let mut total = vec![0.0; of_one];
            for image in images.by_ref().take(count) {
                total.iter_mut().zip(image).for_each(|(total, x)| *total += x);
            }
            let n = (count * sizes.height * sizes.width) as f64;
            total.iter_mut().for_each(|x| *x /= n);
            let (mean, products) = total.split_at(taps);
            for a in 0..taps {
                for b in 0..taps {
                    covariance[a * taps + b] = products[a.min(b) * taps + a.max(b)] - mean[a] * mean[b];
                }
            }
            found.with_results.extend(mean.iter().map(|&mean| E::of(mean)));
            for weight in block.weight.as_slice().chunks_exact(taps) {
                let along = |x: &[f64]| weight.iter().zip(x).map(|(w, x)| w.wide() * x).sum::<f64>();
                let with_result: Vec<f64> = covariance.chunks_exact(taps).map(along).collect();
                let variance = along(&with_result);
                found.mean.push(E::of(along(mean)));
                // rounding may leave less than nothing of a constant channel; a NaN stays one
                found.variance.push(E::of(if variance < 0.0 { 0.0 } else { variance }));
                found.with_results.extend(with_result.into_iter().map(E::of));
            }
        }
        found
    }
}

/// Sums of the products of three pixels with three, and in the last three of the pixels themselves.
type Sums<E> = [[[E; LANES]; 3]; 4];

/// Adds the products of three registers of p with three of q, and p itself: `count` times, each a register further on. By
/// value, so that the sums stay in registers.
///
/// # Safety
/// `p` and `q` must have two elements more than the registers.
#[inline(always)]
unsafe fn with_products<E: CpuElement, const FUSED: bool>(
    mut sums: Sums<E>,
    p: *const E,
    q: *const E,
    count: usize,
) -> Sums<E> {
    for i in 0..count {
        // SAFETY: i is below count, and l below LANES
        unsafe {
            let (p, q) = (p.add(i * LANES), q.add(i * LANES));
            for l in 0..LANES {
                let (p0, p1, p2) = (*p.add(l), *p.add(l + 1), *p.add(l + 2));
                let (q0, q1, q2) = (*q.add(l), *q.add(l + 1), *q.add(l + 2));
                for (i, p) in [p0, p1, p2].into_iter().enumerate() {
                    sums[i][0][l] = fma::<E, FUSED>(p, q0, sums[i][0][l]);
                    sums[i][1][l] = fma::<E, FUSED>(p, q1, sums[i][1][l]);
                    sums[i][2][l] = fma::<E, FUSED>(p, q2, sums[i][2][l]);
                    sums[3][i][l] += p;
                }
            }
        }
    }
    sums
}

kernel! {
    /// Sums over an image's places of the pixels under the kernel, `[taps]`, and of their products two by two, `[taps,
    /// taps]`, those above the diagonal.
    fn patch_sums<E>(padded: &[E], sums: &mut [f64], products: &mut [f64], s: Shallow) {
        let (taps, height, width) = (sums.len(), s.height(), s.width());
        // three taps that lie beside each other, with three
        let lines = taps / 3;
        for (a, b) in (0..lines).flat_map(|a| (a..lines).map(move |b| (3 * a, 3 * b))) {
            let mut total = [[[0.0_f64; LANES]; 3]; 4];
            for first in (0..height).step_by(ROWS) {
                let mut lanes: Sums<E> = [[[E::zero(); LANES]; 3]; 4];
                for row in first..(first + ROWS).min(height) {
                    let p = &padded[s.offset(a) + row * s.line()..];
                    let q = &padded[s.offset(b) + row * s.line()..];
                    let whole = width / LANES * LANES;
                    assert!(p.len() >= whole + 2 && q.len() >= whole + 2);
                    // SAFETY: as was just asserted
                    lanes = unsafe {
                        with_products::<E, FUSED>(lanes, p.as_ptr(), q.as_ptr(), width / LANES)
                    };
                    if whole < width {
                        // what is not of the row becomes zero
                        let (mut p_rest, mut q_rest) = ([[E::zero(); LANES]; 3], [E::zero(); LANES + 2]);
                        let rest = width - whole;
                        q_rest[..rest + 2].copy_from_slice(&q[whole..width + 2]);
                        for (t, p_rest) in p_rest.iter_mut().enumerate() {
                            p_rest[..rest].copy_from_slice(&p[whole + t..][..rest]);
                        }
                        for (i, p) in p_rest.iter().enumerate() {
                            for l in 0..LANES {
                                for (j, sums) in lanes[i].iter_mut().enumerate() {
                                    sums[l] = fma::<E, FUSED>(p[l], q_rest[l + j], sums[l]);
                                }
                                lanes[3][i][l] += p[l];
                            }
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
