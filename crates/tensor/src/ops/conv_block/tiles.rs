//! Tiles of images to rows of matrices and back, in whole registers of channels.
//!
//! A tile of m × m results sees n × n pixels, n = m + 2: those under it and one all around. Matrices `[n n, tiles,
//! channels]` hold its transform, a number in each; after each matrix is a [`GAP`].

#![allow(
    clippy::needless_range_loop,
    reason = "loops over lanes of several arrays become vector code as they are"
)]

use super::grid::{GAP, Grid, LANES, strides};
use super::stage::larger;
use super::transforms::{LONGEST, MOST, of_pixels, of_results, to_pixels, to_results};
use crate::cpu::simd::{fma, kernel, prefetch_at};

/// A register's worth of channels.
type Lanes<E> = [E; LANES];

kernel! {
    /// `V = Bᵀ d B` of as many tiles as V `[n n, tiles, channels]` has; `which` is the first one's number, and the number of
    /// channels. `nothing` is a pixel of zeros.
    pub(super) fn input_tiles<E, const N: usize>(
        x: &[E],
        v: &mut [E],
        grid: Grid,
        which: (usize, usize),
        nothing: &[E],
    ) {
        let (first, channels) = which;
        let (stride, count) = strides::<N>(v.len(), channels);
        let shape = [grid.height, grid.width, channels];
        assert!(v.len() == N * N * stride && stride == count * channels + GAP);
        assert!(nothing.len() >= channels);
        assert!(grid.holds(x.len(), grid.height * grid.width, channels, first + count));
        let images = (x.as_ptr().cast_mut(), nothing.as_ptr().cast_mut());
        let v = v.as_mut_ptr();
        let mut rows = [[E::zero(); LANES]; MOST];
        let mut column = [[E::zero(); LANES]; LONGEST];
        let mut tile = [[E::zero(); LANES]; MOST];
        let row_len = grid.width * channels;
        for place in 0..count {
            let corner = grid.corner::<E, N>(first + place, images.0, channels);
            let places = match corner {
                Some(_) => None,
                None => Some(grid.places::<E, N>(first + place, [N, N - 2, 1], shape, images)),
            };
            let mut ahead = grid.pixels_after::<E, N>(first + place, images.0, channels);
            for c in (0..channels).step_by(LANES) {
                let (from, down, right) = match (corner, &places) {
                    (Some(corner), _) => (corner.wrapping_add(c).cast_const(), row_len, channels),
                    (None, places) => {
                        for (tile, place) in tile.iter_mut().zip(places.iter().flatten()).take(N * N) {
                            // SAFETY: a pixel, or nothing, has all channels; the images have all tiles, as was asserted
                            *tile = unsafe { *place.add(c).cast::<Lanes<E>>() };
                        }
                        (tile.as_flattened().as_ptr(), N * LANES, LANES)
                    }
                };
                for i in 0..N {
                    if i < N - 2 {
                        ahead.fetch(N - 2);
                    }
                    for l in 0..LANES {
                        let mut line = [E::zero(); LONGEST];
                        for j in 0..N {
                            // SAFETY: all of the tile's pixels are there, `down` and `right` of each other
                            line[j] = unsafe { *from.add(i * down + j * right + l) };
                        }
                        let line = of_pixels::<E, N, FUSED>(line);
                        for j in 0..N {
                            rows[N * i + j][l] = line[j];
                        }
                    }
                }
                for j in 0..N {
                    for l in 0..LANES {
                        let mut line = [E::zero(); LONGEST];
                        for i in 0..N {
                            line[i] = rows[N * i + j][l];
                        }
                        let line = of_pixels::<E, N, FUSED>(line);
                        for i in 0..N {
                            column[i][l] = line[i];
                        }
                    }
                    for i in 0..N {
                        // SAFETY: each of the N N matrices has all channels of `count` tiles, as was asserted
                        unsafe { put(v.add((N * i + j) * stride + place * channels + c), &column[i]) };
                    }
                }
            }
        }
    }
}

/// Writes a register's worth of channels.
///
/// # Safety
/// `LANES` elements must lie at `to`, and nobody else hold them.
#[inline(always)]
unsafe fn put<E: Copy>(to: *mut E, lanes: &Lanes<E>) {
    // SAFETY: as the caller says
    unsafe { *to.cast::<Lanes<E>>() = *lanes };
}

kernel! {
    /// The transposed of `input_tiles`: each tile's `B dV Bᵀ` where its pixels are, added to what the tiles above and left of
    /// it have left there. `spare` is a pixel that takes what would lie outside, `nothing` one of zeros.
    pub(super) fn add_input_tiles<E, const N: usize>(
        dv: &[E],
        dx: &mut [E],
        grid: Grid,
        which: (usize, usize),
        pixels: (&mut [E], &[E]),
    ) {
        let (first, channels) = which;
        let (spare, nothing) = pixels;
        let (stride, count) = strides::<N>(dv.len(), channels);
        let shape = [grid.height, grid.width, channels];
        assert!(dv.len() == N * N * stride && stride == count * channels + GAP);
        assert!(spare.len() >= channels && nothing.len() >= channels);
        assert!(grid.holds(dx.len(), grid.height * grid.width, channels, first + count));
        let mut rows = [[E::zero(); LANES]; MOST];
        let mut column = [[E::zero(); LANES]; LONGEST];
        let images = (dx.as_mut_ptr(), spare.as_mut_ptr());
        let nothing = nothing.as_ptr().cast_mut();
        for place in 0..count {
            let to = grid.places::<E, N>(first + place, [N, N - 2, 1], shape, images);
            let tile = (first + place) % grid.tiles();
            let (below, beside) = (tile >= grid.columns, !tile.is_multiple_of(grid.columns));
            let mut ahead = grid.pixels_after::<E, N>(first + place, images.0, channels);
            let mut so_far = to;
            for i in 0..N {
                for j in 0..N {
                    if !((below & (i < 2)) | (beside & (j < 2))) {
                        so_far[N * i + j] = nothing;
                    }
                }
            }
            for c in (0..channels).step_by(LANES) {
                let dv = dv.as_ptr().wrapping_add(place * channels + c);
                for i in 0..N {
                    for j in 0..N {
                        prefetch_at(dv.wrapping_add((N * i + j) * stride + LANES));
                    }
                    if i < N - 2 {
                        ahead.fetch(N - 2);
                    }
                    for l in 0..LANES {
                        let mut line = [E::zero(); LONGEST];
                        for j in 0..N {
                            // SAFETY: each of the N N matrices has all channels of `count` tiles, as was asserted
                            line[j] = unsafe { *dv.add((N * i + j) * stride + l) };
                        }
                        let line = to_pixels::<E, N, FUSED>(line);
                        for j in 0..N {
                            rows[N * i + j][l] = line[j];
                        }
                    }
                }
                for j in 0..N {
                    for l in 0..LANES {
                        let mut line = [E::zero(); LONGEST];
                        for i in 0..N {
                            line[i] = rows[N * i + j][l];
                        }
                        let line = to_pixels::<E, N, FUSED>(line);
                        for i in 0..N {
                            // SAFETY: a pixel, or the spare one, has all channels, and nobody else holds it
                            column[i][l] = line[i] + unsafe { *so_far[N * i + j].add(c + l) };
                        }
                    }
                    for i in 0..N {
                        // SAFETY: as above
                        unsafe { put(to[N * i + j].add(c), &column[i]) };
                    }
                }
            }
        }
    }
}

kernel! {
    /// `Y = Aᵀ M A` of as many tiles as M `[n n, tiles, channels]` has, from number `first` on, to the images `y` if there
    /// are any; and of each window of 2 × 2 results the one that is largest times the channel's `sign`, to `peaks`.
    /// `spare` is a pixel that takes what would lie outside.
    pub(super) fn output_tiles<E, const N: usize>(
        m: &[E],
        y: &mut [E],
        peaks: &mut [E],
        sign: &[E],
        grid: Grid,
        first: usize,
        spare: &mut [E],
    ) {
        let channels = sign.len();
        let (stride, count) = strides::<N>(m.len(), channels);
        let (shape, halved) =
            ([grid.height, grid.width, channels], [grid.height / 2, grid.width / 2, channels]);
        assert!(m.len() == N * N * stride && stride == count * channels + GAP);
        assert!(spare.len() >= channels);
        assert!(y.is_empty() || grid.holds(y.len(), grid.height * grid.width, channels, first + count));
        assert!(grid.holds(peaks.len(), halved[0] * halved[1], channels, first + count));
        let side = N - 2;
        let mut rows = [[E::zero(); LANES]; MOST];
        // two columns of results, and of each two rows of them the window
        let mut columns = [[E::zero(); LANES]; 2 * LONGEST];
        let mut windows = [[E::zero(); LANES]; LONGEST];
        let stored = !y.is_empty();
        let (y, peaks, spare) = (y.as_mut_ptr(), peaks.as_mut_ptr(), spare.as_mut_ptr());
        for place in 0..count {
            let tile = first + place;
            let to = grid.places::<E, N>(tile, [side, side, 0], shape, (y, spare));
            let to_peaks = grid.places::<E, N>(tile, [side / 2, side / 2, 0], halved, (peaks, spare));
            for c in (0..channels).step_by(LANES) {
                let (m, sign) = (m.as_ptr().wrapping_add(place * channels + c), &sign[c..c + LANES]);
                for i in 0..N {
                    for j in 0..N {
                        prefetch_at(m.wrapping_add((N * i + j) * stride + LANES));
                    }
                    for l in 0..LANES {
                        let mut line = [E::zero(); LONGEST];
                        for j in 0..N {
                            // SAFETY: each of the N N matrices has all channels of `count` tiles, as was asserted
                            line[j] = unsafe { *m.add((N * i + j) * stride + l) };
                        }
                        let line = to_results::<E, N, FUSED>(line);
                        for j in 0..side {
                            rows[N * i + j][l] = line[j];
                        }
                    }
                }
                for j in 0..side / 2 {
                    for l in 0..LANES {
                        let (mut left, mut right) = ([E::zero(); LONGEST], [E::zero(); LONGEST]);
                        for i in 0..N {
                            left[i] = rows[N * i + 2 * j][l];
                            right[i] = rows[N * i + 2 * j + 1][l];
                        }
                        let left = to_results::<E, N, FUSED>(left);
                        let right = to_results::<E, N, FUSED>(right);
                        for i in 0..side {
                            columns[2 * i][l] = left[i];
                            columns[2 * i + 1][l] = right[i];
                        }
                        for i in 0..side / 2 {
                            let (a, b) = (left[2 * i], right[2 * i]);
                            let (c, d) = (left[2 * i + 1], right[2 * i + 1]);
                            let upper = larger((a * sign[l], a), (b * sign[l], b));
                            let lower = larger((c * sign[l], c), (d * sign[l], d));
                            windows[i][l] = larger(upper, lower).1;
                        }
                    }
                    // SAFETY: a pixel, or the spare one, has all channels, and nobody else holds it
                    unsafe {
                        if stored {
                            for i in 0..side {
                                put(to[N * i + 2 * j].add(c), &columns[2 * i]);
                                put(to[N * i + 2 * j + 1].add(c), &columns[2 * i + 1]);
                            }
                        }
                        for i in 0..side / 2 {
                            put(to_peaks[N * i + j].add(c), &windows[i]);
                        }
                    }
                }
            }
        }
    }
}

/// What the way back through batch normalisation, ReLU and pooling needs of a block: images of the convolution's
/// results, of the gradient of what was pooled of them, and for each image the place of its channels in the others.
pub(super) struct PoolSlopes<'a, E> {
    pub y: &'a [E],
    pub grad: &'a [E],
    pub group_of: &'a [usize],
    pub scale: &'a [E],
    pub shift: &'a [E],
    pub slope: &'a [E],
    pub offset: &'a [E],
}

kernel! {
    /// The transposed of `output_tiles`, `dM = A dY Aᵀ` of each tile; and before it the way back through pooling and batch
    /// normalisation: `dY = scale g + slope y + offset`, g being `grad` at each window's largest if that is alive, and 0
    /// elsewhere. `nothing` is a pixel of zeros.
    pub(super) fn output_slopes<E, const N: usize>(
        by: &PoolSlopes<'_, E>,
        dm: &mut [E],
        grid: Grid,
        which: (usize, usize),
        nothing: &[E],
    ) {
        let (first, channels) = which;
        let (stride, count) = strides::<N>(dm.len(), channels);
        let (shape, halved) =
            ([grid.height, grid.width, channels], [grid.height / 2, grid.width / 2, channels]);
        assert!(dm.len() == N * N * stride && stride == count * channels + GAP);
        assert!(nothing.len() >= channels);
        assert!(grid.holds(by.y.len(), grid.height * grid.width, channels, first + count));
        assert!(grid.holds(by.grad.len(), halved[0] * halved[1], channels, first + count));
        let side = N - 2;
        let mut columns = [[E::zero(); LANES]; MOST];
        let mut line_of = [[E::zero(); LANES]; LONGEST];
        let nothing = nothing.as_ptr().cast_mut();
        let dm = dm.as_mut_ptr();
        for place in 0..count {
            let tile = first + place;
            let of_y = grid.places::<E, N>(tile, [side, side, 0], shape, (by.y.as_ptr().cast_mut(), nothing));
            let grad = (by.grad.as_ptr().cast_mut(), nothing);
            let of_grad = grid.places::<E, N>(tile, [side / 2, side / 2, 0], halved, grad);
            let mut there = [E::one(); MOST];
            for (there, &y) in there.iter_mut().zip(&of_y) {
                *there = if y == nothing { E::zero() } else { E::one() };
            }
            let mut ahead = grid.results_after::<E, N>(tile, by.y.as_ptr(), channels);
            let mut of_grad_ahead = grid.halved_after::<E, N>(tile, by.grad.as_ptr(), channels);
            let group = by.group_of[tile / grid.tiles()] * channels;
            for c in (0..channels).step_by(LANES) {
                let at = group + c..group + c + LANES;
                let (scale, shift) = (&by.scale[at.clone()], &by.shift[at.clone()]);
                let (slope, offset) = (&by.slope[at.clone()], &by.offset[at]);
                for j in 0..side / 2 {
                    ahead.fetch(2 * side);
                    of_grad_ahead.fetch(side / 2);
                    for l in 0..LANES {
                        let (mut left, mut right) = ([E::zero(); LONGEST], [E::zero(); LONGEST]);
                        for i in 0..side / 2 {
                            let at = 2 * N * i + 2 * j;
                            // SAFETY: a pixel, or nothing, has all channels; the images have all tiles, as was asserted
                            let (y0, y1, y2, y3, grad) = unsafe {
                                (
                                    *of_y[at].add(c + l),
                                    *of_y[at + 1].add(c + l),
                                    *of_y[at + N].add(c + l),
                                    *of_y[at + N + 1].add(c + l),
                                    *of_grad[N * i + j].add(c + l),
                                )
                            };
                            let z0 = fma::<E, FUSED>(y0, scale[l], shift[l]);
                            let z1 = fma::<E, FUSED>(y1, scale[l], shift[l]);
                            let z2 = fma::<E, FUSED>(y2, scale[l], shift[l]);
                            let z3 = fma::<E, FUSED>(y3, scale[l], shift[l]);
                            let (to_right, to_right_below) = (z1 > z0, z3 > z2);
                            let upper = if to_right { z1 } else { z0 };
                            let lower = if to_right_below { z3 } else { z2 };
                            let below = lower > upper;
                            let largest = if below { lower } else { upper };
                            let g = if largest > E::zero() { scale[l] * grad } else { E::zero() };
                            let zero = E::zero();
                            let dy0 = fma::<E, FUSED>(y0, slope[l], offset[l])
                                + if !below & !to_right { g } else { zero };
                            let dy1 = fma::<E, FUSED>(y1, slope[l], offset[l])
                                + if !below & to_right { g } else { zero };
                            let dy2 = fma::<E, FUSED>(y2, slope[l], offset[l])
                                + if below & !to_right_below { g } else { zero };
                            let dy3 = fma::<E, FUSED>(y3, slope[l], offset[l])
                                + if below & to_right_below { g } else { zero };
                            left[2 * i] = dy0 * there[at];
                            right[2 * i] = dy1 * there[at + 1];
                            left[2 * i + 1] = dy2 * there[at + N];
                            right[2 * i + 1] = dy3 * there[at + N + 1];
                        }
                        let left = of_results::<E, N, FUSED>(left);
                        let right = of_results::<E, N, FUSED>(right);
                        for i in 0..N {
                            columns[N * i + 2 * j][l] = left[i];
                            columns[N * i + 2 * j + 1][l] = right[i];
                        }
                    }
                }
                for i in 0..N {
                    for l in 0..LANES {
                        let mut line = [E::zero(); LONGEST];
                        for j in 0..side {
                            line[j] = columns[N * i + j][l];
                        }
                        let line = of_results::<E, N, FUSED>(line);
                        for j in 0..N {
                            line_of[j][l] = line[j];
                        }
                    }
                    for j in 0..N {
                        // SAFETY: each of the N N matrices has all channels of `count` tiles, as was asserted
                        unsafe { put(dm.add((N * i + j) * stride + place * channels + c), &line_of[j]) };
                    }
                }
            }
        }
    }
}
