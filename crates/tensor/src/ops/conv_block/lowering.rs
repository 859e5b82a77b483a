//! A 3×3 convolution of channels-last images as products of matrices, by Winograd's F(m×m, 3×3) (Lavin and Gray, arXiv
//! 1509.09308).
//!
//! A tile of m×m results comes from the n×n pixels around it, n = m + 2. `V = Bᵀ d B` of the pixels, `U = G w Gᵀ` of the
//! kernel and `Y = Aᵀ M A` of their products `M = U ∘ V`: n² products of tiles with a matrix `[in, out]`, n²
//! multiplications where 9 m² would be needed. Of few channels the transforms would cost more than they save; such
//! blocks are [`shallow`](super::shallow).
//!
//! Larger tiles take fewer multiplications but round more: in f32, of random images of 32 channels, results and gradients are
//! off by 2 to 3e-7 of their root mean square for m = 2, 3 to 9e-7 for m = 4 and 2 to 3e-6 for m = 6.
//!
//! All of it is linear in the image and in the kernel, so the backward is made of the transposed steps.

#![allow(
    clippy::needless_range_loop,
    reason = "loops over lanes of several arrays become vector code as they are"
)]

use super::BlockSizes;
use super::aligned::Aligned;
use super::grid::{GAP, Grid, LANES};
use super::products::{rows_times, transposed_times};
use super::tiles::{PoolSlopes, add_input_tiles, input_tiles, output_slopes, output_tiles};
use super::transforms::{LONGEST, of_kernel, to_kernel};
use crate::cpu::CpuElement;
use crate::cpu::simd::kernel;

/// Tiles of all kinds, by the pixels that they see in each direction.
const SIDES: [usize; 3] = [4, 6, 8];

/// Places of the kernel.
const PLACES: usize = 9;

/// How images become rows of matrices; inputs and outputs are multiples of [`LANES`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Lowering {
    /// Pixels that a tile sees in each direction.
    side: usize,
    grid: Grid,
    inputs: usize,
    outputs: usize,
}

/// `$f` for tiles of this side.
macro_rules! of_side {
    ($side:expr, $f:ident($($arg:expr),* $(,)?)) => {
        match $side {
            4 => $f::<_, 4>($($arg),*),
            6 => $f::<_, 6>($($arg),*),
            _ => $f::<_, 8>($($arg),*),
        }
    };
}

impl Lowering {
    /// The kind of tiles that takes the fewest multiplications, whatever lies beyond an image's edge included; of equals
    /// the smaller, which is more exact.
    pub fn of(sizes: BlockSizes) -> Self {
        let BlockSizes { height, width, inputs, outputs, .. } = sizes;
        let of_side = |side: usize| {
            let [lines, columns] = [height, width].map(|length| length.div_ceil(side - 2));
            Self { side, grid: Grid { height, width, lines, columns }, inputs, outputs }
        };
        let [first, others @ ..] = SIDES.map(of_side);
        let multiplications = |l: &Self| l.tiles() * l.matrices();
        let fewer = |a, b| if multiplications(&b) < multiplications(&a) { b } else { a };
        others.into_iter().fold(first, fewer)
    }

    /// Number of matrices.
    pub fn matrices(&self) -> usize {
        self.side * self.side
    }

    /// Tiles of an image, rows that it has in each matrix.
    pub fn tiles(&self) -> usize {
        self.grid.tiles()
    }

    /// Elements of U.
    pub fn kernel_len(&self) -> usize {
        self.matrices() * self.inputs * self.outputs
    }

    /// Elements of V for this many tiles.
    pub fn input_len(&self, tiles: usize) -> usize {
        self.matrices() * (tiles * self.inputs + GAP)
    }

    /// Elements of M for this many tiles.
    pub fn output_len(&self, tiles: usize) -> usize {
        self.matrices() * (tiles * self.outputs + GAP)
    }

    /// U: for each matrix `[in, out]`, from the weight `[out, in, 3, 3]`.
    pub fn lower_kernel<E: CpuElement>(&self, weight: &[E]) -> Aligned<E> {
        let (i, o) = (self.inputs, self.outputs);
        self.lower_places(weight, |from, to| from * o + to, i)
    }

    /// U with each of its matrices transposed, `[out, in]`.
    pub fn lower_transposed_kernel<E: CpuElement>(&self, weight: &[E]) -> Aligned<E> {
        let i = self.inputs;
        self.lower_places(weight, |from, to| to * i + from, i)
    }

    fn lower_places<E: CpuElement>(
        &self,
        weight: &[E],
        at: impl Fn(usize, usize) -> usize,
        inputs: usize,
    ) -> Aligned<E> {
        let len = self.inputs * self.outputs;
        let places = Aligned::build(PLACES * len, |places| {
            for (i, w) in weight.as_chunks::<PLACES>().0.iter().enumerate() {
                let at = at(i % inputs, i / inputs);
                w.iter().enumerate().for_each(|(place, &w)| places[place * len + at] = w);
            }
        });
        Aligned::build(self.kernel_len(), |u| of_side!(self.side, kernel_tiles(places.as_slice(), u)))
    }

    /// The transposed of [`lower_kernel`](Self::lower_kernel), to the places of the kernel, `[9, in, out]`.
    pub fn raise_kernel<E: CpuElement>(&self, du: &[E], places: &mut [E]) {
        of_side!(self.side, kernel_places(du, places));
    }

    /// The weight's gradient `[out, in, 3, 3]` from that by places.
    pub fn gather_kernel<E: CpuElement>(&self, places: &[E], weight: &mut [E]) {
        let (i, o) = (self.inputs, self.outputs);
        for (n, w) in weight.as_chunks_mut::<PLACES>().0.iter_mut().enumerate() {
            let at = n % i * o + n / i;
            w.iter_mut().enumerate().for_each(|(place, w)| *w = places[place * i * o + at]);
        }
    }

    /// As many tiles of images as V has, from number `first` on. `nothing` are zeros, a pixel of them.
    pub fn lower<E: CpuElement>(&self, x: &[E], v: &mut [E], first: usize, nothing: &[E]) {
        of_side!(self.side, input_tiles(x, v, self.grid, (first, self.inputs), nothing));
    }

    /// The transposed of [`lower`](Self::lower): images' gradient from that of tiles in V, all tiles one after the other.
    /// `spare` is a pixel, `nothing` one of zeros.
    pub fn add_unlowered<E: CpuElement>(
        &self,
        dv: &[E],
        dx: &mut [E],
        first: usize,
        pixels: (&mut [E], &[E]),
    ) {
        of_side!(self.side, add_input_tiles(dv, dx, self.grid, (first, self.inputs), pixels));
    }

    /// Images' results, if there is room for them, from tiles in M; and of each window of 2×2 the one that is largest times
    /// the channel's sign.
    pub fn raise<E: CpuElement>(
        &self,
        m: &[E],
        (y, peaks): (&mut [E], &mut [E]),
        sign: &[E],
        first: usize,
        spare: &mut [E],
    ) {
        of_side!(self.side, output_tiles(m, y, peaks, sign, self.grid, first, spare));
    }

    /// The transposed of [`raise`](Self::raise), with the way back through pooling and batch normalisation before it.
    pub fn unraise<E: CpuElement>(&self, by: &PoolSlopes<'_, E>, dm: &mut [E], first: usize, nothing: &[E]) {
        of_side!(self.side, output_slopes(by, dm, self.grid, (first, self.outputs), nothing));
    }

    /// `M = V U`: V `[matrices, rows, in]`, M `[matrices, rows, out]`.
    pub fn products<E: CpuElement>(&self, v: &[E], u: &[E], m: &mut [E]) {
        let Self { inputs, outputs, .. } = *self;
        let rows = self.rows(v.len(), inputs);
        let len = inputs * outputs;
        let operands = v.chunks_exact(rows * inputs + GAP).zip(m.chunks_exact_mut(rows * outputs + GAP));
        for (i, (v, m)) in operands.enumerate() {
            let (u, next) = u[i * len..].split_at(len);
            rows_times(&v[..rows * inputs], u, &mut m[..rows * outputs], inputs, outputs, next);
        }
    }

    /// The way back through [`products`](Self::products): `dU = Vᵀ dM`, added to what was there if `more`; then if Uᵀ is
    /// given, `[matrices, out, in]`, V becomes `dV = dM Uᵀ`. Matrix by matrix, while V and dM are close.
    pub fn unproducts<E: CpuElement>(
        &self,
        v: &mut [E],
        dm: &[E],
        (du, more): (&mut [E], bool),
        transposed: Option<&[E]>,
    ) {
        let Self { inputs, outputs, .. } = *self;
        let (rows, len) = (self.rows(dm.len(), outputs), inputs * outputs);
        let matrices = v.chunks_exact_mut(rows * inputs + GAP).zip(dm.chunks_exact(rows * outputs + GAP));
        for (i, (v, dm)) in matrices.enumerate() {
            let (v, dm) = (&mut v[..rows * inputs], &dm[..rows * outputs]);
            let (du, next) = du[i * len..].split_at_mut(len);
            let of_this = transposed.map_or(&*next, |transposed| &transposed[i * len..]);
            transposed_times(v, dm, du, (inputs, outputs), more, of_this);
            if let Some(transposed) = transposed {
                rows_times(dm, &transposed[i * len..][..len], v, outputs, inputs, next);
            }
        }
    }

    /// Rows of matrices that have `len` elements together.
    fn rows(&self, len: usize, channels: usize) -> usize {
        (len / self.matrices() - GAP) / channels
    }
}

kernel! {
    /// `U = G w Gᵀ`: from the places of the kernel `[9, len]` to `[n n, len]`, len a multiple of [`LANES`].
    fn kernel_tiles<E, const N: usize>(places: &[E], u: &mut [E]) {
        let len = places.len() / PLACES;
        let mut columns = [[[E::zero(); LANES]; 3]; LONGEST];
        let mut row = [[E::zero(); LANES]; LONGEST];
        for at in (0..len).step_by(LANES) {
            let places = &places[at..];
            assert!(places.len() >= (PLACES - 1) * len + LANES);
            for j in 0..3 {
                for l in 0..LANES {
                    // SAFETY: as was just asserted
                    let of = |i: usize| unsafe { *places.as_ptr().add((3 * i + j) * len + l) };
                    let line = of_kernel::<E, N, FUSED>([of(0), of(1), of(2)]);
                    for i in 0..N {
                        columns[i][j][l] = line[i];
                    }
                }
            }
            for i in 0..N {
                for l in 0..LANES {
                    let of = &columns[i];
                    let line = of_kernel::<E, N, FUSED>([of[0][l], of[1][l], of[2][l]]);
                    for j in 0..N {
                        row[j][l] = line[j];
                    }
                }
                for j in 0..N {
                    u[(N * i + j) * len + at..][..LANES].copy_from_slice(&row[j]);
                }
            }
        }
    }
}

kernel! {
    /// The transposed of `kernel_tiles`.
    fn kernel_places<E, const N: usize>(du: &[E], places: &mut [E]) {
        let len = places.len() / PLACES;
        let mut rows = [[[E::zero(); LANES]; LONGEST]; 3];
        let mut column = [[E::zero(); LANES]; 3];
        for at in (0..len).step_by(LANES) {
            let du = &du[at..];
            assert!(du.len() >= (N * N - 1) * len + LANES);
            for i in 0..N {
                for l in 0..LANES {
                    let mut line = [E::zero(); LONGEST];
                    for j in 0..N {
                        // SAFETY: as was just asserted
                        line[j] = unsafe { *du.as_ptr().add((N * i + j) * len + l) };
                    }
                    let line = to_kernel::<E, N, FUSED>(line);
                    for j in 0..3 {
                        rows[j][i][l] = line[j];
                    }
                }
            }
            for j in 0..3 {
                for l in 0..LANES {
                    let mut line = [E::zero(); LONGEST];
                    for i in 0..N {
                        line[i] = rows[j][i][l];
                    }
                    let line = to_kernel::<E, N, FUSED>(line);
                    for i in 0..3 {
                        column[i][l] = line[i];
                    }
                }
                for (i, column) in column.iter().enumerate() {
                    places[(3 * i + j) * len + at..][..LANES].copy_from_slice(column);
                }
            }
        }
    }
}
