//! Where tiles of images lie: how they are counted, where their pixels begin, and what is fetched before it is needed.

use super::transforms::MOST;
use crate::cpu::simd::prefetch_at;

/// Channels that are transformed together; all numbers of channels here are multiples of it.
pub(super) const LANES: usize = 16;

/// Elements between two matrices, a cache line. A tile is a number in each matrix: were these a multiple of 4 KB apart, all
/// of a tile would be in the same few places of the first-level cache.
pub(super) const GAP: usize = LANES;

/// Elements from one of n n matrices to the next, and tiles of each.
#[inline(always)]
pub(super) fn strides<const N: usize>(len: usize, channels: usize) -> (usize, usize) {
    let stride = len / (N * N);
    (stride, (stride - GAP) / channels)
}

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
    pub fn holds(self, images: usize, pixels: usize, channels: usize, last_tile: usize) -> bool {
        channels.is_multiple_of(LANES) && last_tile.div_ceil(self.tiles()) * pixels * channels <= images
    }

    /// For each of a tile's `side × side` pixels, numbered by rows of `ROW`, where its channels begin in `images`, which
    /// are of `height` and `width`; `outside` where there is no such pixel. `lead` is how many pixels lie before the
    /// tile's first in each direction.
    #[inline(always)]
    pub fn places<E, const ROW: usize>(
        self,
        tile: usize,
        [side, step, lead]: [usize; 3],
        [height, width, channels]: [usize; 3],
        (images, outside): (*mut E, *mut E),
    ) -> [*mut E; MOST] {
        let (image, tile) = (tile / self.tiles(), tile % self.tiles());
        // wraps around before the first row and column, which is outside, too
        let row = (tile / self.columns * step).wrapping_sub(lead);
        let column = (tile % self.columns * step).wrapping_sub(lead);
        let mut places = [outside; MOST];
        for i in 0..side {
            let row = row.wrapping_add(i);
            let line = (image * height).wrapping_add(row).wrapping_mul(width * channels);
            for j in 0..side {
                let column = column.wrapping_add(j);
                let inside = images.wrapping_add(line.wrapping_add(column.wrapping_mul(channels)));
                places[ROW * i + j] = if (row < height) & (column < width) { inside } else { outside };
            }
        }
        places
    }

    /// Where a tile's first pixel lies in images that begin at `images`, if all that it sees are of its image.
    #[inline(always)]
    pub fn corner<E, const N: usize>(self, tile: usize, images: *mut E, channels: usize) -> Option<*mut E> {
        let (image, tile) = (tile / self.tiles(), tile % self.tiles());
        let (row, column) = (tile / self.columns * (N - 2), tile % self.columns * (N - 2));
        if row == 0 || column == 0 || row + N - 1 > self.height || column + N - 1 > self.width {
            return None;
        }
        let at = (image * self.height + row - 1) * self.width + column - 1;
        Some(images.wrapping_add(at * channels))
    }

    /// The pixels that the tile after this one sees and this one does not, of images that begin at `images`.
    #[inline(always)]
    pub fn pixels_after<E, const N: usize>(self, tile: usize, images: *const E, channels: usize) -> Ahead<E> {
        // a row below and a column beside its first result
        let row_len = self.width * channels;
        let at = self.start::<N>(tile + 1, channels) + row_len + channels;
        Ahead { row: images.wrapping_add(at), at: 0, len: (N - 2) * channels, row_len }
    }

    /// The results of the tile after this one, in images that begin at `images`.
    #[inline(always)]
    pub fn results_after<E, const N: usize>(
        self,
        tile: usize,
        images: *const E,
        channels: usize,
    ) -> Ahead<E> {
        let row = images.wrapping_add(self.start::<N>(tile + 1, channels));
        Ahead { row, at: 0, len: (N - 2) * channels, row_len: self.width * channels }
    }

    /// The same of images half as high and wide.
    #[inline(always)]
    pub fn halved_after<E, const N: usize>(self, tile: usize, images: *const E, channels: usize) -> Ahead<E> {
        let row = images.wrapping_add(self.start_halved::<N>(tile + 1, channels));
        Ahead { row, at: 0, len: (N - 2) / 2 * channels, row_len: self.width / 2 * channels }
    }

    /// Elements from the first image's start to a tile's first result.
    #[inline(always)]
    fn start<const N: usize>(self, tile: usize, channels: usize) -> usize {
        let (image, tile) = (tile / self.tiles(), tile % self.tiles());
        let (row, column) = (tile / self.columns * (N - 2), tile % self.columns * (N - 2));
        ((image * self.height + row) * self.width + column) * channels
    }

    /// The same of images half as high and wide.
    #[inline(always)]
    fn start_halved<const N: usize>(self, tile: usize, channels: usize) -> usize {
        let (image, tile) = (tile / self.tiles(), tile % self.tiles());
        let (row, column) = (tile / self.columns * (N / 2 - 1), tile % self.columns * (N / 2 - 1));
        ((image * (self.height / 2) + row) * (self.width / 2) + column) * channels
    }
}

/// Part of an image that is fetched a cache line at a time, in the order of memory, some way before it is needed.
pub(super) struct Ahead<E> {
    row: *const E,
    at: usize,
    /// Elements of the part in a row, and from one row to the next.
    len: usize,
    row_len: usize,
}

impl<E> Ahead<E> {
    #[inline(always)]
    pub fn fetch(&mut self, lines: usize) {
        for _ in 0..lines {
            prefetch_at(self.row.wrapping_add(self.at));
            self.at += LANES;
            if self.at == self.len {
                self.row = self.row.wrapping_add(self.row_len);
                self.at = 0;
            }
        }
    }
}
