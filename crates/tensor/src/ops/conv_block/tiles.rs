//! Tiles of images to rows of matrices and back, in whole registers of channels.
//!
//! A tile of m × m results sees n × n pixels, n = m + 2: those under it and one all around. Matrices `[n n, tiles,
//! channels]` hold its transform, a number in each; after each matrix is a [`GAP`].

#![allow(
    clippy::needless_range_loop,
    reason = "loops over lanes of several arrays become vector code as they are"
)]

use super::stage::larger;
use super::transforms::{MOST, Tile, tile_of_pixels, tile_of_results, tile_to_pixels, tile_to_results};
use crate::cpu::simd::{fma, kernel, prefetch_at};

/// Channels that are transformed together; all numbers of channels here are multiples of it.
pub(super) const LANES: usize = 16;

/// Elements between two matrices, a cache line. A tile is a number in each matrix: were these a multiple of 4 KB apart, all
/// of a tile would be in the same few places of the first-level cache.
pub(super) const GAP: usize = LANES;

/// Elements from one of n n matrices to the next, and tiles of each.
#[inline(always)]
fn strides<const N: usize>(len: usize, channels: usize) -> (usize, usize) {
    let stride = len / (N * N);
    (stride, (stride - GAP) / channels)
}

/// A register's worth of channels.
type Lanes<E> = [E; LANES];

/// How the tiles of images are counted: image after image, line after line. Images are `[height, width, channels]`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid {
    pub height: usize,
    pub width: usize,
    /// Lines of tiles.
    pub lines: usize,
    /// Tiles of a line.
    pub columns: usize,
}

impl Grid {
    /// Tiles of an image.
    pub fn tiles(self) -> usize {
        self.lines * self.columns
    }

    /// Whether `images`, of `pixels` each, have these tiles, in whole registers of channels.
    fn holds(self, images: usize, pixels: usize, channels: usize, last_tile: usize) -> bool {
        channels.is_multiple_of(LANES) && last_tile.div_ceil(self.tiles()) * pixels * channels <= images
    }

    /// For each of a tile's `SIDE × SIDE` pixels, numbered by rows of `ROW`, where its channels begin in `images`, which
    /// are of `height` and `width`; `outside` where there is no such pixel. `lead` is how many pixels lie before the
    /// tile's first in each direction.
    #[inline(always)]
    fn places<P: Copy, const ROW: usize>(
        self,
        tile: usize,
        [side, step, lead]: [usize; 3],
        [height, width, channels]: [usize; 3],
        (inside, outside): (impl Fn(usize) -> P, P),
    ) -> [P; MOST] {
        let (image, tile) = (tile / self.tiles(), tile % self.tiles());
        // wraps around before the first row and column, which is outside, too
        let row = (tile / self.columns * step).wrapping_sub(lead);
        let column = (tile % self.columns * step).wrapping_sub(lead);
        let mut places = [outside; MOST];
        for i in 0..side {
            let row = row.wrapping_add(i);
            let line = (image * height).wrapping_add(row).wrapping_mul(width);
            for j in 0..side {
                let column = column.wrapping_add(j);
                if (row < height) & (column < width) {
                    places[ROW * i + j] = inside(line.wrapping_add(column).wrapping_mul(channels));
                }
            }
        }
        places
    }
}

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
        let of_tile = |tile: usize| {
            let inside = |at: usize| x.as_ptr().wrapping_add(at);
            grid.places::<_, N>(tile, [N, N - 2, 1], shape, (inside, nothing.as_ptr()))
        };
        let mut next = of_tile(first);
        let mut lanes = [[E::zero(); LANES]; MOST];
        for place in 0..count {
            let from = next;
            next = of_tile(first + place + 1);
            for c in (0..channels).step_by(LANES) {
                // what the next tile sees and this one does not
                for i in 2..N {
                    for j in 2..N {
                        prefetch_at(next[N * i + j].wrapping_add(c));
                    }
                }
                for l in 0..LANES {
                    let mut t: Tile<E> = [E::zero(); MOST];
                    for m in 0..N * N {
                        // SAFETY: a pixel, or nothing, has all channels; the images have all tiles, as was asserted
                        t[m] = unsafe { *from[m].add(c + l) };
                    }
                    tile_of_pixels::<E, N, FUSED>(&mut t);
                    for m in 0..N * N {
                        lanes[m][l] = t[m];
                    }
                }
                for m in 0..N * N {
                    v[m * stride + place * channels + c..][..LANES].copy_from_slice(&lanes[m]);
                }
            }
        }
    }
}

kernel! {
    /// The transposed of `input_tiles`: adds each tile's `B dV Bᵀ` where its pixels are, which a line's first tile makes
    /// zeros where no earlier line has. `spare` is a pixel that takes what would lie outside.
    pub(super) fn add_input_tiles<E, const N: usize>(
        dv: &[E],
        dx: &mut [E],
        grid: Grid,
        which: (usize, usize),
        spare: &mut [E],
    ) {
        let (first, channels) = which;
        let (stride, count) = strides::<N>(dv.len(), channels);
        let shape = [grid.height, grid.width, channels];
        assert!(dv.len() == N * N * stride && stride == count * channels + GAP);
        assert!(spare.len() >= channels);
        assert!(grid.holds(dx.len(), grid.height * grid.width, channels, first + count));
        let mut lanes = [[E::zero(); LANES]; MOST];
        let row_len = grid.width * channels;
        for place in 0..count {
            let (image, tile) = ((first + place) / grid.tiles(), (first + place) % grid.tiles());
            if tile.is_multiple_of(grid.columns) {
                let line = tile / grid.columns * (N - 2);
                let rows = if line == 0 { 0 } else { line + 1 }..(line + N - 1).min(grid.height);
                let row = image * grid.height;
                dx[(row + rows.start.min(rows.end)) * row_len..(row + rows.end) * row_len].fill(E::zero());
            }
            let dx = dx.as_mut_ptr();
            let inside = |at: usize| dx.wrapping_add(at);
            let to = grid.places::<_, N>(first + place, [N, N - 2, 1], shape, (inside, spare.as_mut_ptr()));
            for c in (0..channels).step_by(LANES) {
                let dv = &dv[place * channels + c..];
                assert!(dv.len() >= (N * N - 1) * stride + LANES);
                for l in 0..LANES {
                    let mut t: Tile<E> = [E::zero(); MOST];
                    for m in 0..N * N {
                        // SAFETY: as was just asserted
                        t[m] = unsafe { *dv.as_ptr().add(m * stride + l) };
                    }
                    tile_to_pixels::<E, N, FUSED>(&mut t);
                    for m in 0..N * N {
                        // SAFETY: a pixel, or the spare one, has all channels, and nobody else holds it
                        lanes[m][l] = t[m] + unsafe { *to[m].add(c + l) };
                    }
                }
                for m in 0..N * N {
                    // SAFETY: as above
                    unsafe { *to[m].add(c).cast::<Lanes<E>>() = lanes[m] };
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
        let mut lanes = [[E::zero(); LANES]; MOST];
        let mut windows = [[E::zero(); LANES]; MOST];
        let stored = !y.is_empty();
        let (y, peaks, spare) = (y.as_mut_ptr(), peaks.as_mut_ptr(), spare.as_mut_ptr());
        for place in 0..count {
            let tile = first + place;
            let to = grid.places::<_, N>(tile, [side, side, 0], shape, (|at| y.wrapping_add(at), spare));
            let to_peaks = grid.places::<_, N>(
                tile,
                [side / 2, side / 2, 0],
                halved,
                (|at| peaks.wrapping_add(at), spare),
            );
            for c in (0..channels).step_by(LANES) {
                let (m, sign) = (&m[place * channels + c..], &sign[c..c + LANES]);
                assert!(m.len() >= (N * N - 1) * stride + LANES);
                for l in 0..LANES {
                    let mut t: Tile<E> = [E::zero(); MOST];
                    for i in 0..N * N {
                        // SAFETY: as was just asserted
                        t[i] = unsafe { *m.as_ptr().add(i * stride + l) };
                    }
                    tile_to_results::<E, N, FUSED>(&mut t);
                    for i in 0..side {
                        for j in 0..side {
                            lanes[N * i + j][l] = t[N * i + j];
                        }
                    }
                    for i in 0..side / 2 {
                        for j in 0..side / 2 {
                            let seen = |at: usize| (t[at] * sign[l], t[at]);
                            let at = 2 * N * i + 2 * j;
                            let upper = larger(seen(at), seen(at + 1));
                            let lower = larger(seen(at + N), seen(at + N + 1));
                            windows[N * i + j][l] = larger(upper, lower).1;
                        }
                    }
                }
                // SAFETY: a pixel, or the spare one, has all channels, and nobody else holds it
                let put = |pixel: *mut E, lanes: &Lanes<E>| unsafe { *pixel.add(c).cast::<Lanes<E>>() = *lanes };
                if stored {
                    for i in 0..side {
                        for j in 0..side {
                            put(to[N * i + j], &lanes[N * i + j]);
                        }
                    }
                }
                for i in 0..side / 2 {
                    for j in 0..side / 2 {
                        put(to_peaks[N * i + j], &windows[N * i + j]);
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
        let mut lanes = [[E::zero(); LANES]; MOST];
        for place in 0..count {
            let tile = first + place;
            let places = (|at| by.y.as_ptr().wrapping_add(at), nothing.as_ptr());
            let of_y = grid.places::<_, N>(tile, [side, side, 0], shape, places);
            let there = grid.places::<_, N>(tile, [side, side, 0], shape, (|_| E::one(), E::zero()));
            let places = (|at| by.grad.as_ptr().wrapping_add(at), nothing.as_ptr());
            let of_grad = grid.places::<_, N>(tile, [side / 2, side / 2, 0], halved, places);
            let group = by.group_of[tile / grid.tiles()] * channels;
            for c in (0..channels).step_by(LANES) {
                let at = group + c..group + c + LANES;
                let (scale, shift) = (&by.scale[at.clone()], &by.shift[at.clone()]);
                let (slope, offset) = (&by.slope[at.clone()], &by.offset[at]);
                for l in 0..LANES {
                    let mut t: Tile<E> = [E::zero(); MOST];
                    for i in 0..side / 2 {
                        for j in 0..side / 2 {
                            let at = 2 * N * i + 2 * j;
                            let around = [at, at + 1, at + N, at + N + 1];
                            // SAFETY: a pixel, or nothing, has all channels; the images have all tiles, as was asserted
                            let y = around.map(|at| unsafe { *of_y[at].add(c + l) });
                            // SAFETY: as above
                            let grad = unsafe { *of_grad[N * i + j].add(c + l) };
                            let z = y.map(|y| fma::<E, FUSED>(y, scale[l], shift[l]));
                            let (right, right_below) = (z[1] > z[0], z[3] > z[2]);
                            let upper = if right { z[1] } else { z[0] };
                            let lower = if right_below { z[3] } else { z[2] };
                            let below = lower > upper;
                            let largest = if below { lower } else { upper };
                            let g = if largest > E::zero() { scale[l] * grad } else { E::zero() };
                            let here =
                                [!below & !right, !below & right, below & !right_below, below & right_below];
                            for k in 0..4 {
                                let rest = fma::<E, FUSED>(y[k], slope[l], offset[l]);
                                let dy = if here[k] { rest + g } else { rest };
                                t[around[k]] = dy * there[around[k]];
                            }
                        }
                    }
                    tile_of_results::<E, N, FUSED>(&mut t);
                    for m in 0..N * N {
                        lanes[m][l] = t[m];
                    }
                }
                for m in 0..N * N {
                    dm[m * stride + place * channels + c..][..LANES].copy_from_slice(&lanes[m]);
                }
            }
        }
    }
}
