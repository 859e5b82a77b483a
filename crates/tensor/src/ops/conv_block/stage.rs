//! What follows a block's convolution: batch normalisation, ReLU and max-pooling, over channels-last images.

use crate::cpu::CpuElement;
use crate::cpu::simd::{fma, kernel};

/// Elements of a register, for f32 and the widest instruction set.
const LANES: usize = 16;

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

/// [`pool`] of `n` channels of a window.
#[inline(always)]
fn pool_window<E: CpuElement, const FUSED: bool>(
    n: usize,
    window: [&[E]; 4],
    (scale, shift): (&[E], &[E]),
    pooled: &mut [E],
    places: &mut [u8],
) {
    let [a, b, c, d] = window.map(|y| &y[..n]);
    let (scale, shift) = (&scale[..n], &shift[..n]);
    let (pooled, places) = (&mut pooled[..n], &mut places[..n]);
    for i in 0..n {
        let seen = |y: E, place: i32| (fma::<E, FUSED>(y, scale[i], shift[i]), place);
        let upper = larger(seen(a[i], 1), seen(b[i], 2));
        let lower = larger(seen(c[i], 4), seen(d[i], 8));
        let (z, place) = larger(upper, lower);
        pooled[i] = if z <= E::zero() { E::zero() } else { z };
        places[i] = if z > E::zero() { place as u8 } else { 0 };
    }
}

kernel! {
    /// `max(y scale + shift, 0)` of each window's largest in two rows, and which of the four that is, 1, 2, 4 or 8; 0 if it
    /// is not alive.
    pub(super) fn pool<E>(
        y: &[E],
        width: usize,
        scale: &[E],
        shift: &[E],
        pooled: &mut [E],
        places: &mut [u8],
    ) {
        let channels = scale.len();
        let whole = channels / LANES * LANES;
        for col in 0..width / 2 {
            let window = window(y, (0, col), (2, width, channels));
            let (pooled, places) =
                (&mut pooled[col * channels..][..channels], &mut places[col * channels..][..channels]);
            for c in (0..whole).step_by(LANES) {
                let by = (&scale[c..], &shift[c..]);
                let (pooled, places) = (&mut pooled[c..], &mut places[c..]);
                pool_window::<E, FUSED>(LANES, window.map(|y| &y[c..]), by, pooled, places);
            }
            let by = (&scale[whole..], &shift[whole..]);
            let (pooled, places) = (&mut pooled[whole..], &mut places[whole..]);
            pool_window::<E, FUSED>(channels - whole, window.map(|y| &y[whole..]), by, pooled, places);
        }
    }
}

/// [`unpool_places`] of `n` channels of a window.
#[inline(always)]
fn unpool_window<E: CpuElement>(
    n: usize,
    (places, grad): (&[u8], &[E]),
    window: [&mut [E]; 4],
    sum: &mut [E],
) {
    let [a, b, c, d] = window.map(|g| &mut g[..n]);
    let (places, grad, sum) = (&places[..n], &grad[..n], &mut sum[..n]);
    for i in 0..n {
        let (place, grad) = (i32::from(places[i]), grad[i]);
        let at = |bit: i32| if place & bit != 0 { grad } else { E::zero() };
        let here = [at(1), at(2), at(4), at(8)];
        a[i] = here[0];
        b[i] = here[1];
        c[i] = here[2];
        d[i] = here[3];
        sum[i] += (here[0] + here[1]) + (here[2] + here[3]);
    }
}

kernel! {
    /// The transposed of `pool`, without the scale: two rows of `grad` at the place in each window that it is of, and 0
    /// elsewhere; nothing is written outside of windows. Adds all of it to `sum`.
    pub(super) fn unpool_places<E>(places: &[u8], grad: &[E], width: usize, g: &mut [E], sum: &mut [E]) {
        let channels = sum.len();
        let whole = channels / LANES * LANES;
        let (upper, lower) = g.split_at_mut(width * channels);
        for col in 0..width / 2 {
            let places = &places[col * channels..][..channels];
            let grad = &grad[col * channels..][..channels];
            let (a, b) = upper[2 * col * channels..][..2 * channels].split_at_mut(channels);
            let (c, d) = lower[2 * col * channels..][..2 * channels].split_at_mut(channels);
            for i in (0..whole).step_by(LANES) {
                // into registers first: four places of one buffer are nothing that the compiler tells apart
                let mut lanes = [[E::zero(); LANES]; 4];
                let of_lanes = lanes.each_mut().map(|lanes| &mut lanes[..]);
                unpool_window::<E>(LANES, (&places[i..], &grad[i..]), of_lanes, &mut sum[i..]);
                let window = [&mut *a, &mut *b, &mut *c, &mut *d].into_iter().zip(&lanes);
                window.for_each(|(g, lanes)| g[i..i + LANES].copy_from_slice(lanes));
            }
            let window = [a, b, c, d].map(|g| &mut g[whole..]);
            let of_rest = (&places[whole..], &grad[whole..]);
            unpool_window::<E>(channels - whole, of_rest, window, &mut sum[whole..]);
        }
    }
}

/// [`pool_only`] of `n` channels of a window.
#[inline(always)]
fn pool_window_only<E: CpuElement, const FUSED: bool>(
    n: usize,
    window: [&[E]; 4],
    (scale, shift): (&[E], &[E]),
    pooled: &mut [E],
) {
    let [a, b, c, d] = window.map(|y| &y[..n]);
    let (scale, shift, pooled) = (&scale[..n], &shift[..n], &mut pooled[..n]);
    for i in 0..n {
        let seen = |y: E| (fma::<E, FUSED>(y, scale[i], shift[i]), ());
        let upper = larger(seen(a[i]), seen(b[i]));
        let lower = larger(seen(c[i]), seen(d[i]));
        let (z, ()) = larger(upper, lower);
        pooled[i] = if z <= E::zero() { E::zero() } else { z };
    }
}

kernel! {
    /// `max(y scale + shift, 0)` of each window's largest in two rows.
    pub(super) fn pool_only<E>(y: &[E], width: usize, scale: &[E], shift: &[E], pooled: &mut [E]) {
        let channels = scale.len();
        let whole = channels / LANES * LANES;
        for col in 0..width / 2 {
            let window = window(y, (0, col), (2, width, channels));
            let pooled = &mut pooled[col * channels..][..channels];
            for c in (0..whole).step_by(LANES) {
                let by = (&scale[c..], &shift[c..]);
                pool_window_only::<E, FUSED>(LANES, window.map(|y| &y[c..]), by, &mut pooled[c..]);
            }
            let by = (&scale[whole..], &shift[whole..]);
            let (window, pooled) = (window.map(|y| &y[whole..]), &mut pooled[whole..]);
            pool_window_only::<E, FUSED>(channels - whole, window, by, pooled);
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
