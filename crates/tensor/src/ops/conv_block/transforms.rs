//! The transforms of Winograd's F(2×2, 3×3) and F(4×4, 3×3), in one dimension and in two.
//!
//! Of F(m, 3), `n = m + 2` pixels give m results. Both come from polynomials: a pixel is a coefficient, and products are
//! made at n − 1 points and at infinity. For n = 4 the points are 0 and ±1. For n = 6 they are 0, ±3/4 and ±3/2: in a trial
//! in f32, results were half as far from those in f64 as with the usual ±1 and ±2, and 3 times as far as F(2×2, 3×3)'s.

use crate::cpu::CpuElement;
use crate::cpu::simd::fma;

/// Pixels of the largest tile, in one dimension.
pub(super) const LONGEST: usize = 6;

/// Pixels of the largest tile.
pub(super) const MOST: usize = LONGEST * LONGEST;

/// A line of a tile; of n numbers, the rest being zeros.
type Line<E> = [E; LONGEST];

/// The numbers of a tile, row by row, n to a row; the rest are zeros.
pub(super) type Tile<E> = [E; MOST];

/// Points of n = 6.
const A: f64 = 0.75;
const B: f64 = 1.5;
/// Their squares, and what comes of those.
const A2: f64 = A * A;
const B2: f64 = B * B;
const PRODUCT: f64 = A2 * B2;
const SUM: f64 = A2 + B2;
/// What the kernel is divided by: the product of a point's distances from the others.
const AT_A: f64 = 2.0 * A2 * (A2 - B2);
const AT_B: f64 = 2.0 * B2 * (B2 - A2);

/// `Bᵀ d`: n pixels to n points.
#[inline(always)]
fn of_pixels<E: CpuElement, const N: usize, const FUSED: bool>(d: Line<E>) -> Line<E> {
    let [d0, d1, d2, d3, d4, d5] = d;
    let zero = E::zero();
    if N == 4 {
        return [d0 - d2, d1 + d2, d2 - d1, d1 - d3, zero, zero];
    }
    let fma = fma::<E, FUSED>;
    let (even_a, odd_a) = (fma(E::of(-B2), d2, d4), E::of(A) * fma(E::of(-B2), d1, d3));
    let (even_b, odd_b) = (fma(E::of(-A2), d2, d4), E::of(B) * fma(E::of(-A2), d1, d3));
    [
        fma(E::of(PRODUCT), d0, fma(E::of(-SUM), d2, d4)),
        even_a + odd_a,
        even_a - odd_a,
        even_b + odd_b,
        even_b - odd_b,
        fma(E::of(PRODUCT), d1, fma(E::of(-SUM), d3, d5)),
    ]
}

/// `B v`, the transposed of [`of_pixels`].
#[inline(always)]
fn to_pixels<E: CpuElement, const N: usize, const FUSED: bool>(v: Line<E>) -> Line<E> {
    let [v0, v1, v2, v3, v4, v5] = v;
    let zero = E::zero();
    if N == 4 {
        return [v0, v1 - v2 + v3, v1 + v2 - v0, -v3, zero, zero];
    }
    let fma = fma::<E, FUSED>;
    let (even_a, odd_a) = (v1 + v2, E::of(A) * (v1 - v2));
    let (even_b, odd_b) = (v3 + v4, E::of(B) * (v3 - v4));
    [
        E::of(PRODUCT) * v0,
        fma(E::of(PRODUCT), v5, fma(E::of(-B2), odd_a, E::of(-A2) * odd_b)),
        fma(E::of(-SUM), v0, fma(E::of(-B2), even_a, E::of(-A2) * even_b)),
        fma(E::of(-SUM), v5, odd_a + odd_b),
        v0 + even_a + even_b,
        v5,
    ]
}

/// `Aᵀ m`: n points to n − 2 results.
#[inline(always)]
fn to_results<E: CpuElement, const N: usize, const FUSED: bool>(m: Line<E>) -> Line<E> {
    let [m0, m1, m2, m3, m4, m5] = m;
    let zero = E::zero();
    if N == 4 {
        return [m0 + m1 + m2, m1 - m2 - m3, zero, zero, zero, zero];
    }
    let fma = fma::<E, FUSED>;
    let (even_a, odd_a) = (m1 + m2, E::of(A) * (m1 - m2));
    let (even_b, odd_b) = (m3 + m4, E::of(B) * (m3 - m4));
    [
        m0 + even_a + even_b,
        odd_a + odd_b,
        fma(E::of(A2), even_a, E::of(B2) * even_b),
        fma(E::of(A2), odd_a, fma(E::of(B2), odd_b, m5)),
        zero,
        zero,
    ]
}

/// `A y`, the transposed of [`to_results`].
#[inline(always)]
fn of_results<E: CpuElement, const N: usize, const FUSED: bool>(y: Line<E>) -> Line<E> {
    let [y0, y1, y2, y3, ..] = y;
    let zero = E::zero();
    if N == 4 {
        return [y0, y0 + y1, y0 - y1, -y1, zero, zero];
    }
    let fma = fma::<E, FUSED>;
    let (even_a, odd_a) = (fma(E::of(A2), y2, y0), E::of(A) * fma(E::of(A2), y3, y1));
    let (even_b, odd_b) = (fma(E::of(B2), y2, y0), E::of(B) * fma(E::of(B2), y3, y1));
    [y0, even_a + odd_a, even_a - odd_a, even_b + odd_b, even_b - odd_b, y3]
}

/// `G w`: a kernel's 3 numbers to n points.
#[inline(always)]
fn of_kernel<E: CpuElement, const N: usize, const FUSED: bool>(w: Line<E>) -> Line<E> {
    let [w0, w1, w2, ..] = w;
    let zero = E::zero();
    if N == 4 {
        let (sum, half) = (w0 + w2, E::of(0.5));
        return [w0, (sum + w1) * half, (sum - w1) * half, w2, zero, zero];
    }
    let fma = fma::<E, FUSED>;
    let at = |point: f64, divisor: f64| {
        let even = E::of(1.0 / divisor) * fma(E::of(point * point), w2, w0);
        let odd = E::of(point / divisor) * w1;
        (even + odd, even - odd)
    };
    let ((plus_a, minus_a), (plus_b, minus_b)) = (at(A, AT_A), at(B, AT_B));
    [E::of(1.0 / PRODUCT) * w0, plus_a, minus_a, plus_b, minus_b, w2]
}

/// `Gᵀ u`, the transposed of [`of_kernel`].
#[inline(always)]
fn to_kernel<E: CpuElement, const N: usize, const FUSED: bool>(u: Line<E>) -> Line<E> {
    let [u0, u1, u2, u3, u4, u5] = u;
    let zero = E::zero();
    if N == 4 {
        let (sum, half) = ((u1 + u2) * E::of(0.5), (u1 - u2) * E::of(0.5));
        return [u0 + sum, half, sum + u3, zero, zero, zero];
    }
    let fma = fma::<E, FUSED>;
    let (even_a, even_b) = (E::of(1.0 / AT_A) * (u1 + u2), E::of(1.0 / AT_B) * (u3 + u4));
    [
        fma(E::of(1.0 / PRODUCT), u0, even_a + even_b),
        fma(E::of(A / AT_A), u1 - u2, E::of(B / AT_B) * (u3 - u4)),
        fma(E::of(A2), even_a, fma(E::of(B2), even_b, u5)),
        zero,
        zero,
        zero,
    ]
}

/// Applies `$line` to the first `$from` rows of tile `$t`, then to the first `$to` of its columns; written out, so that
/// a loop over lanes around it is of straight code.
macro_rules! both_ways {
    ($name:ident, $line:ident, $from:expr, $to:expr, $what:literal) => {
        #[doc = $what]
        #[inline(always)]
        pub(super) fn $name<E: CpuElement, const N: usize, const FUSED: bool>(t: &mut Tile<E>) {
            for i in 0..$from {
                let mut line = [E::zero(); LONGEST];
                line[..N].copy_from_slice(&t[N * i..N * i + N]);
                t[N * i..N * i + N].copy_from_slice(&$line::<E, N, FUSED>(line)[..N]);
            }
            for j in 0..$to {
                let mut line = [E::zero(); LONGEST];
                for i in 0..N {
                    line[i] = t[N * i + j];
                }
                let line = $line::<E, N, FUSED>(line);
                for i in 0..N {
                    t[N * i + j] = line[i];
                }
            }
        }
    };
}

both_ways!(tile_of_pixels, of_pixels, N, N, "`V = Bᵀ d B`.");
both_ways!(tile_to_pixels, to_pixels, N, N, "`d = B V Bᵀ`, the transposed of [`tile_of_pixels`].");
both_ways!(tile_to_results, to_results, N, N - 2, "`Y = Aᵀ M A`, in the first n − 2 rows and columns.");
both_ways!(tile_of_results, of_results, N - 2, N, "`M = A Y Aᵀ`, the transposed of [`tile_to_results`].");
both_ways!(tile_of_kernel, of_kernel, 3, N, "`U = G w Gᵀ`, of the first 3 rows and columns.");
both_ways!(tile_to_kernel, to_kernel, N, 3, "`w = Gᵀ U G`, the transposed of [`tile_of_kernel`].");
