//! What follows a block's convolution: batch normalisation, ReLU and max-pooling, over channels-last images.

use crate::cpu::simd::{fma, kernel};

/// Height, width and channels of an image.
pub(super) type Image = (usize, usize, usize);

kernel! {
    /// Mean of each channel of an image, and sum of squared distances from it.
    pub(super) fn moments<E>(y: &[E], channels: usize, mean: &mut [E], squares: &mut [E]) {
        mean.fill(E::zero());
        for pixel in y.chunks_exact(channels) {
            for (mean, &y) in mean.iter_mut().zip(pixel) {
                *mean += y;
            }
        }
        let one_by = E::one() / E::of((y.len() / channels) as f64);
        mean.iter_mut().for_each(|mean| *mean *= one_by);
        squares.fill(E::zero());
        for pixel in y.chunks_exact(channels) {
            for ((squares, &mean), &y) in squares.iter_mut().zip(&*mean).zip(pixel) {
                let off = y - mean;
                *squares = fma::<E, FUSED>(off, off, *squares);
            }
        }
    }
}

/// The larger of two by the first number, the first of equals, a NaN being larger than anything.
#[inline(always)]
pub(super) fn larger<E: num_traits::Float, T>(a: (E, T), b: (E, T)) -> (E, T) {
    if (b.0 > a.0) | b.0.is_nan() { b } else { a }
}

/// The four pixels of a window.
#[inline(always)]
fn window<E>(y: &[E], (row, col): (usize, usize), (_, width, channels): Image) -> [&[E]; 4] {
    let top = (2 * row * width + 2 * col) * channels;
    let below = top + width * channels;
    [top, top + channels, below, below + channels].map(|at| &y[at..at + channels])
}

kernel! {
    /// `max(peak scale + shift, 0)` of each pixel.
    pub(super) fn alive<E>(peaks: &[E], scale: &[E], shift: &[E], pooled: &mut [E]) {
        let channels = scale.len();
        let shift = &shift[..channels];
        for (pooled, peaks) in pooled.chunks_exact_mut(channels).zip(peaks.chunks_exact(channels)) {
            for i in 0..channels {
                let z = fma::<E, FUSED>(peaks[i], scale[i], shift[i]);
                pooled[i] = if z <= E::zero() { E::zero() } else { z };
            }
        }
    }
}

kernel! {
    /// Adds an image's `Σ g` and `Σ g x̂` of each channel, g the gradient of the normalised and shifted, which is
    /// `grad` where the peak is alive; `x̂ = (peak − mean) r`.
    pub(super) fn sums<E>(
        peaks: &[E],
        grad: &[E],
        normal: (&[E], &[E], &[E], &[E]),
        sum: &mut [E],
        along: &mut [E],
    ) {
        let channels = sum.len();
        let (scale, shift) = (&normal.0[..channels], &normal.1[..channels]);
        let (mean, r) = (&normal.2[..channels], &normal.3[..channels]);
        let along = &mut along[..channels];
        for (peaks, grad) in peaks.chunks_exact(channels).zip(grad.chunks_exact(channels)) {
            for i in 0..channels {
                let z = fma::<E, FUSED>(peaks[i], scale[i], shift[i]);
                let g = if z > E::zero() { grad[i] } else { E::zero() };
                sum[i] += g;
                along[i] = fma::<E, FUSED>(g, (peaks[i] - mean[i]) * r[i], along[i]);
            }
        }
    }
}

kernel! {
    /// The gradient of the convolution's result: `scale g + slope y + offset`, g being `grad` at each window's largest
    /// if that is alive, and 0 elsewhere. `by` is scale, shift, slope and offset.
    pub(super) fn unpool<E>(
        y: &[E],
        image: Image,
        grad: &[E],
        by: (&[E], &[E], &[E], &[E]),
        dy: &mut [E],
    ) {
        let (height, width, channels) = image;
        let (scale, shift) = (&by.0[..channels], &by.1[..channels]);
        let (slope, offset) = (&by.2[..channels], &by.3[..channels]);
        for row in 0..height / 2 {
            let line = width * channels;
            let (upper, lower) = dy[2 * row * line..2 * (row + 1) * line].split_at_mut(line);
            for col in 0..width / 2 {
                let [a, b, c, d] = window(y, (row, col), image);
                let grad = &grad[(row * (width / 2) + col) * channels..][..channels];
                let at = 2 * col * channels;
                let (da, db) = upper[at..at + 2 * channels].split_at_mut(channels);
                let (dc, dd) = lower[at..at + 2 * channels].split_at_mut(channels);
                for i in 0..channels {
                    let seen = |y: E| fma::<E, FUSED>(y, scale[i], shift[i]);
                    let (za, zb, zc, zd) = (seen(a[i]), seen(b[i]), seen(c[i]), seen(d[i]));
                    let (right, right_below) = (zb > za, zd > zc);
                    let upper = if right { zb } else { za };
                    let lower = if right_below { zd } else { zc };
                    let below = lower > upper;
                    let largest = if below { lower } else { upper };
                    let g = if largest > E::zero() { scale[i] * grad[i] } else { E::zero() };
                    let at = |y: E, here: bool| {
                        let rest = fma::<E, FUSED>(y, slope[i], offset[i]);
                        if here { rest + g } else { rest }
                    };
                    da[i] = at(a[i], !below & !right);
                    db[i] = at(b[i], !below & right);
                    dc[i] = at(c[i], below & !right_below);
                    dd[i] = at(d[i], below & right_below);
                }
            }
            if width % 2 == 1 {
                let last = (width - 1) * channels;
                let y = &y[2 * row * line..];
                affine(&y[last..], (slope, offset), &mut upper[last..]);
                affine(&y[line + last..], (slope, offset), &mut lower[last..]);
            }
        }
        if height % 2 == 1 {
            let last = (height - 1) * width * channels;
            affine(&y[last..], (slope, offset), &mut dy[last..]);
        }
    }
}

/// `slope y + offset` of each pixel: outside of all windows no other gradient arrives.
#[inline(always)]
fn affine<E: num_traits::Float>(y: &[E], (slope, offset): (&[E], &[E]), dy: &mut [E]) {
    for (y, dy) in y.chunks(slope.len()).zip(dy.chunks_mut(slope.len())) {
        for (((dy, &y), &slope), &offset) in dy.iter_mut().zip(y).zip(slope).zip(offset) {
            *dy = slope * y + offset;
        }
    }
}
