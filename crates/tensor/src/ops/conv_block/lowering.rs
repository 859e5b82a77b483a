//! A 3×3 convolution of channels-last images as products of matrices.
//!
//! Of many channels, by Winograd's F(2×2, 3×3) (Lavin and Gray, arXiv 1509.09308): a tile of 2×2 results comes from
//! the 4×4 pixels around it. `V = Bᵀ d B` of the pixels, `U = G w Gᵀ` of the kernel and `Y = Aᵀ M A` of their products
//! `M = U ∘ V`: 16 products of tiles with a matrix `[in, out]`, 16 multiplications where 36 would be needed. Of few
//! channels the transforms would cost more than they save; such blocks are [`shallow`](super::shallow).
//!
//! All of it is linear in the image and in the kernel, so the backward is made of the transposed steps.

use super::BlockSizes;
use super::aligned::Aligned;
use super::products::{add_transposed, rows_times};
use crate::cpu::CpuElement;
use crate::cpu::simd::kernel;

/// Channels that are transformed together. What is transformed has a multiple of it, the rest being zeros.
const LANES: usize = 16;

/// Rows of the matrices to gather from several images, where one has fewer.
const ROWS: usize = 64;

/// How images become rows of matrices.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lowering {
    sizes: BlockSizes,
    /// Number of matrices.
    pub matrices: usize,
    /// Rows that an image has in each.
    pub rows: usize,
    /// Columns of the lowered input: of V.
    pub inner: usize,
    /// Columns of the lowered result: of M.
    pub outer: usize,
}

impl Lowering {
    pub fn of(sizes: BlockSizes) -> Self {
        let BlockSizes { height, width, inputs, outputs, .. } = sizes;
        let rows = height.div_ceil(2) * width.div_ceil(2);
        let (inner, outer) = (inputs.next_multiple_of(LANES), outputs.next_multiple_of(LANES));
        Self { sizes, matrices: 16, rows, inner, outer }
    }

    /// Images to lower together.
    pub fn together(&self) -> usize {
        ROWS.div_ceil(self.rows)
    }

    /// Elements of U.
    pub fn kernel_len(&self) -> usize {
        self.matrices * self.inner * self.outer
    }

    /// Elements of one image with a border of zeros, as it is lowered.
    pub fn padded_len(&self) -> usize {
        let [height, width, channels] = self.padded();
        height * width * channels
    }

    /// Rows, columns and channels of an image with its border: of as many rows and columns as the tiles reach.
    fn padded(&self) -> [usize; 3] {
        let BlockSizes { height, width, .. } = self.sizes;
        [height.next_multiple_of(2) + 2, width.next_multiple_of(2) + 2, self.inner]
    }

    /// U: for each matrix `[inner, outer]`, from the weight `[out, in, 3, 3]`.
    pub fn lower_kernel<E: CpuElement>(&self, weight: &[E]) -> Aligned<E> {
        Aligned::build(self.kernel_len(), |u| self.write_kernel(weight, u))
    }

    fn write_kernel<E: CpuElement>(&self, weight: &[E], u: &mut [E]) {
        let inputs = self.sizes.inputs;
        u.fill(E::zero());
        for (i, w) in weight.as_chunks::<9>().0.iter().enumerate() {
            let (to, from) = (i / inputs, i % inputs);
            let columns = by_columns(*w, |[a, b, c]| {
                let (sum, half) = (a + c, E::of(0.5));
                [a, (sum + b) * half, (sum - b) * half, c]
            });
            let rows = columns.map(|[a, b, c]| {
                let (sum, half) = (a + c, E::of(0.5));
                [a, (sum + b) * half, (sum - b) * half, c]
            });
            for (m, &value) in rows.as_flattened().iter().enumerate() {
                u[(m * self.inner + from) * self.outer + to] = value;
            }
        }
    }

    /// The transposed of [`lower_kernel`](Self::lower_kernel): the weight's gradient from U's.
    pub fn raise_kernel<E: CpuElement>(&self, du: &[E], weight: &mut [E]) {
        let inputs = self.sizes.inputs;
        for (i, w) in weight.as_chunks_mut::<9>().0.iter_mut().enumerate() {
            let (to, from) = (i / inputs, i % inputs);
            let at = |m: usize| du[(m * self.inner + from) * self.outer + to];
            let fold = |[a, b, c, d]: [E; 4]| {
                let (sum, half) = ((b + c) * E::of(0.5), (b - c) * E::of(0.5));
                [a + sum, half, sum + d]
            };
            let rows: [[E; 3]; 4] = std::array::from_fn(|r| fold(std::array::from_fn(|c| at(4 * r + c))));
            for c in 0..3 {
                let column = fold(rows.map(|row| row[c]));
                (0..3).for_each(|r| w[3 * r + c] = column[r]);
            }
        }
    }

    /// The rows of image number `place` of those in V `[matrices, total, inner]`.
    pub fn lower<E: CpuElement>(&self, x: &[E], padded: &mut [E], v: &mut [E], place: usize) {
        let [_, columns, channels] = self.padded();
        let BlockSizes { width, inputs, .. } = self.sizes;
        padded.fill(E::zero());
        let lines = padded.chunks_exact_mut(columns * channels).skip(1);
        for (line, x) in lines.zip(x.chunks_exact(width * inputs)) {
            if channels == inputs {
                line[channels..][..width * inputs].copy_from_slice(x);
            } else {
                for (pixel, x) in line[channels..].chunks_exact_mut(channels).zip(x.chunks_exact(inputs)) {
                    pixel[..inputs].copy_from_slice(x);
                }
            }
        }
        input_tiles(padded, v, self.tiles(v.len(), place, self.inner));
    }

    /// The transposed of [`lower`](Self::lower): an image's gradient from that of its rows in V.
    pub fn unlower<E: CpuElement>(&self, dv: &[E], padded: &mut [E], dx: &mut [E], place: usize) {
        let [_, columns, channels] = self.padded();
        let BlockSizes { width, inputs, .. } = self.sizes;
        padded.fill(E::zero());
        add_input_tiles(dv, padded, self.tiles(dv.len(), place, self.inner));
        let lines = padded.chunks_exact(columns * channels).skip(1);
        for (line, x) in lines.zip(dx.chunks_exact_mut(width * inputs)) {
            for (pixel, x) in line[channels..].chunks_exact(channels).zip(x.chunks_exact_mut(inputs)) {
                x.copy_from_slice(&pixel[..inputs]);
            }
        }
    }

    /// An image's result from its rows in M `[matrices, total, outer]`.
    pub fn raise<E: CpuElement>(&self, m: &[E], y: &mut [E], place: usize) {
        output_tiles(m, y, self.tiles(m.len(), place, self.outer), self.result());
    }

    /// The transposed of [`raise`](Self::raise): the gradient of an image's rows in M from that of its result.
    pub fn unraise<E: CpuElement>(&self, dy: &[E], dm: &mut [E], place: usize) {
        output_slopes(dy, dm, self.tiles(dm.len(), place, self.outer), self.result());
    }

    fn result(&self) -> [usize; 3] {
        [self.sizes.height, self.sizes.width, self.sizes.outputs]
    }

    fn tiles(&self, len: usize, place: usize, channels: usize) -> Tiles {
        let columns = self.sizes.width.div_ceil(2);
        let total = len / (self.matrices * channels);
        Tiles { lines: self.rows / columns, columns, channels, total, first: place * self.rows }
    }

    /// `M = V U`: V `[matrices, rows, inner]`, M `[matrices, rows, outer]`.
    pub fn products<E: CpuElement>(&self, v: &[E], u: &[E], m: &mut [E]) {
        each_product(v, u, m, self.matrices, self.inner, self.outer);
    }

    /// `dV = dM Uᵀ`, Uᵀ being given: `[matrices, outer, inner]`.
    pub fn input_products<E: CpuElement>(&self, dm: &[E], transposed: &[E], dv: &mut [E]) {
        each_product(dm, transposed, dv, self.matrices, self.outer, self.inner);
    }

    /// `dU += Vᵀ dM`.
    pub fn add_kernel_products<E: CpuElement>(&self, v: &[E], dm: &[E], du: &mut [E]) {
        let rows = v.len() / (self.matrices * self.inner);
        let (inner, outer) = (self.inner, self.outer);
        let operands = v.chunks_exact(rows * inner).zip(dm.chunks_exact(rows * outer));
        for ((v, dm), du) in operands.zip(du.chunks_exact_mut(inner * outer)) {
            add_transposed(v, dm, du, inner, outer);
        }
    }

    /// U with each of its matrices transposed.
    pub fn transposed<E: CpuElement>(&self, u: &Aligned<E>) -> Aligned<E> {
        let (inner, outer) = (self.inner, self.outer);
        Aligned::build(self.kernel_len(), |transposed| {
            let matrices = u.as_slice().chunks_exact(inner * outer);
            for (u, t) in matrices.zip(transposed.chunks_exact_mut(inner * outer)) {
                for (i, row) in u.chunks_exact(outer).enumerate() {
                    row.iter().enumerate().for_each(|(o, &x)| t[o * inner + i] = x);
                }
            }
        })
    }
}

fn each_product<E: CpuElement>(a: &[E], b: &[E], c: &mut [E], matrices: usize, k: usize, n: usize) {
    let rows = a.len() / (matrices * k);
    for ((a, b), c) in a.chunks_exact(rows * k).zip(b.chunks_exact(k * n)).zip(c.chunks_exact_mut(rows * n)) {
        rows_times(a, b, c, k, n);
    }
}

/// `f` applied to the columns of a 3×3 matrix.
fn by_columns<E: CpuElement>(w: [E; 9], f: impl Fn([E; 3]) -> [E; 4]) -> [[E; 3]; 4] {
    let columns: [[E; 4]; 3] = std::array::from_fn(|c| f([w[c], w[3 + c], w[6 + c]]));
    std::array::from_fn(|r| columns.map(|column| column[r]))
}

/// Where an image's tiles lie in `[16, total, channels]`.
#[derive(Clone, Copy)]
struct Tiles {
    lines: usize,
    columns: usize,
    channels: usize,
    total: usize,
    first: usize,
}

impl Tiles {
    /// Each tile's line and column, and the place of its first element in matrix 0.
    #[inline(always)]
    fn each(self) -> impl Iterator<Item = (usize, usize, usize)> {
        (0..self.lines * self.columns)
            .map(move |i| (i / self.columns, i % self.columns, (self.first + i) * self.channels))
    }

    /// Whether matrices of `len` elements together hold all tiles, of whole registers of channels.
    fn fit(self, len: usize) -> bool {
        self.channels.is_multiple_of(LANES)
            && self.first + self.lines * self.columns <= self.total
            && len == 16 * self.stride()
    }

    /// Elements from one matrix to the next.
    #[inline(always)]
    fn stride(self) -> usize {
        self.total * self.channels
    }
}

/// The 16 numbers of a tile, row by row.
type Tile<E> = [E; 16];

/// A tile's rows of four, the first `$from` of them, then its columns, each made `$row`.
macro_rules! both_ways {
    ($t:ident, $from:literal, |$a:ident, $b:ident, $c:ident, $d:ident| $row:expr) => {{
        for i in 0..$from {
            let ($a, $b, $c, $d) = ($t[4 * i], $t[4 * i + 1], $t[4 * i + 2], $t[4 * i + 3]);
            [$t[4 * i], $t[4 * i + 1], $t[4 * i + 2], $t[4 * i + 3]] = $row;
        }
        for j in 0..4 {
            let ($a, $b, $c, $d) = ($t[j], $t[4 + j], $t[8 + j], $t[12 + j]);
            [$t[j], $t[4 + j], $t[8 + j], $t[12 + j]] = $row;
        }
    }};
}

kernel! {
    /// `V = Bᵀ d B` of each tile of a padded image.
    fn input_tiles<E>(padded: &[E], v: &mut [E], tiles: Tiles) {
        let line = (2 * tiles.columns + 2) * tiles.channels;
        assert!(padded.len() == (2 * tiles.lines + 2) * line && tiles.fit(v.len()));
        for (row, column, place) in tiles.each() {
            for c in (0..tiles.channels).step_by(LANES) {
                let corner = 2 * row * line + 2 * column * tiles.channels + c;
                let pixels = padded[corner..].as_ptr();
                let mut lanes = [[E::zero(); LANES]; 16];
                for l in 0..LANES {
                    let mut t: Tile<E> = [E::zero(); 16];
                    for (m, t) in t.iter_mut().enumerate() {
                        // SAFETY: a tile's pixels lie in the padded image, whose length was asserted
                        *t = unsafe { *pixels.add(m / 4 * line + m % 4 * tiles.channels + l) };
                    }
                    both_ways!(t, 4, |a, b, c, d| [a - c, b + c, c - b, b - d]);
                    lanes.iter_mut().zip(t).for_each(|(lanes, t)| lanes[l] = t);
                }
                for (m, lanes) in lanes.iter().enumerate() {
                    v[place + c + m * tiles.stride()..][..LANES].copy_from_slice(lanes);
                }
            }
        }
    }
}

kernel! {
    /// The transposed of `input_tiles`: adds each tile's `B dV Bᵀ` where its pixels are.
    fn add_input_tiles<E>(dv: &[E], padded: &mut [E], tiles: Tiles) {
        let line = (2 * tiles.columns + 2) * tiles.channels;
        assert!(tiles.fit(dv.len()));
        for (row, column, place) in tiles.each() {
            for c in (0..tiles.channels).step_by(LANES) {
                let dv = dv[place + c..].as_ptr();
                let mut lanes = [[E::zero(); LANES]; 16];
                for l in 0..LANES {
                    let mut t: Tile<E> = [E::zero(); 16];
                    for (m, t) in t.iter_mut().enumerate() {
                        // SAFETY: the tile lies in all matrices, as was asserted
                        *t = unsafe { *dv.add(m * tiles.stride() + l) };
                    }
                    both_ways!(t, 4, |a, b, c, d| [a, b - c + d, b - a + c, -d]);
                    lanes.iter_mut().zip(t).for_each(|(lanes, t)| lanes[l] = t);
                }
                let corner = 2 * row * line + 2 * column * tiles.channels + c;
                for (m, lanes) in lanes.iter().enumerate() {
                    let pixel = &mut padded[corner + m / 4 * line + m % 4 * tiles.channels..][..LANES];
                    pixel.iter_mut().zip(lanes).for_each(|(pixel, &d)| *pixel += d);
                }
            }
        }
    }
}

kernel! {
    /// `Y = Aᵀ M A` of each tile, without what lies beyond the image.
    fn output_tiles<E>(m: &[E], y: &mut [E], tiles: Tiles, result: [usize; 3]) {
        let [height, width, channels] = result;
        assert!(tiles.fit(m.len()) && channels <= tiles.channels);
        for (row, column, place) in tiles.each() {
            for c in (0..channels).step_by(LANES) {
                let m = m[place + c..].as_ptr();
                let mut lanes = [[E::zero(); LANES]; 4];
                for l in 0..LANES {
                    let mut t: Tile<E> = [E::zero(); 16];
                    for (i, t) in t.iter_mut().enumerate() {
                        // SAFETY: the tile lies in all matrices, as was asserted
                        *t = unsafe { *m.add(i * tiles.stride() + l) };
                    }
                    both_ways!(t, 4, |a, b, c, d| [a + b + c, b - c - d, c, d]);
                    let kept = [t[0], t[1], t[4], t[5]];
                    lanes.iter_mut().zip(kept).for_each(|(lanes, t)| lanes[l] = t);
                }
                for (at, lanes) in lanes.iter().enumerate() {
                    let (row, column) = (2 * row + at / 2, 2 * column + at % 2);
                    if row < height && column < width {
                        put(&mut y[((row * width) + column) * channels..][..channels], c, lanes);
                    }
                }
            }
        }
    }
}

kernel! {
    /// The transposed of `output_tiles`: `dM = A dY Aᵀ` of each tile.
    fn output_slopes<E>(dy: &[E], dm: &mut [E], tiles: Tiles, result: [usize; 3]) {
        let [height, width, channels] = result;
        for (row, column, place) in tiles.each() {
            for c in (0..channels).step_by(LANES) {
                let mut pixels = [[E::zero(); LANES]; 4];
                for (at, lanes) in pixels.iter_mut().enumerate() {
                    let (row, column) = (2 * row + at / 2, 2 * column + at % 2);
                    if row < height && column < width {
                        get(&dy[((row * width) + column) * channels..][..channels], c, lanes);
                    }
                }
                let mut lanes = [[E::zero(); LANES]; 16];
                for l in 0..LANES {
                    let mut t: Tile<E> = [E::zero(); 16];
                    t[0] = pixels[0][l];
                    t[1] = pixels[1][l];
                    t[4] = pixels[2][l];
                    t[5] = pixels[3][l];
                    both_ways!(t, 2, |a, b, _c, _d| [a, a + b, a - b, -b]);
                    lanes.iter_mut().zip(t).for_each(|(lanes, t)| lanes[l] = t);
                }
                for (m, lanes) in lanes.iter().enumerate() {
                    dm[place + c + m * tiles.stride()..][..LANES].copy_from_slice(lanes);
                }
            }
        }
    }
}

/// Writes lanes to a pixel's channels from `c` on, as many as it has.
#[inline(always)]
fn put<E: CpuElement>(pixel: &mut [E], c: usize, lanes: &[E; LANES]) {
    if c + LANES <= pixel.len() {
        pixel[c..c + LANES].copy_from_slice(lanes);
    } else {
        let rest = pixel.len() - c;
        pixel[c..].copy_from_slice(&lanes[..rest]);
    }
}

/// The opposite of `put`.
#[inline(always)]
fn get<E: CpuElement>(pixel: &[E], c: usize, lanes: &mut [E; LANES]) {
    if c + LANES <= pixel.len() {
        lanes.copy_from_slice(&pixel[c..c + LANES]);
    } else {
        let rest = pixel.len() - c;
        lanes[..rest].copy_from_slice(&pixel[c..]);
    }
}
