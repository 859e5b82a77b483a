//! The transforms of Winograd's F(2×2, 3×3), F(4×4, 3×3) and F(6×6, 3×3), in one dimension.
//!
//! Of F(m, 3), `n = m + 2` pixels give m results. All come from polynomials: a pixel is a coefficient, and products are
//! made at n − 1 points and at infinity. For n = 4 the points are 0 and ±1. For n = 6 they are 0, ±3/4 and ±3/2: in a trial
//! in f32, sums over 64 channels were off by half as much as with the usual ±1 and ±2. For n = 8 they are 0, ±1/2, ±1 and
//! ±2; of all triples of eighths, and of sixteenths near these, none was off by 8 % less. The same trial gave 2.8e-7 of the
//! root mean square for n = 4, 7.9e-7 for n = 6 and 3.4e-6 for n = 8.

use crate::cpu::CpuElement;
use crate::cpu::simd::fma;

/// Pixels of the largest tile, in one dimension.
pub(super) const LONGEST: usize = 8;

/// Pixels of the largest tile.
pub(super) const MOST: usize = LONGEST * LONGEST;

/// A line of a tile; of n numbers, the rest being zeros.
pub(super) type Line<E> = [E; LONGEST];

/// The points of n = 6 and how they enter.
mod six {
    pub(super) const A: f64 = 0.75;
    pub(super) const B: f64 = 1.5;
    /// Their squares, and what comes of those.
    pub(super) const A2: f64 = A * A;
    pub(super) const B2: f64 = B * B;
    pub(super) const PRODUCT: f64 = A2 * B2;
    pub(super) const SUM: f64 = A2 + B2;
    /// What the kernel is divided by: the product of a point's distances from the others.
    pub(super) const AT_A: f64 = 2.0 * A2 * (A2 - B2);
    pub(super) const AT_B: f64 = 2.0 * B2 * (B2 - A2);
}

/// The points of n = 8 and how they enter.
mod eight {
    /// A point on either side of 0, and what it has to do with the two others.
    #[derive(Clone, Copy)]
    pub(super) struct Point {
        pub at: f64,
        /// Its square.
        pub square: f64,
        /// Sum of the others' squares.
        pub sum: f64,
        /// Product of the others' squares.
        pub product: f64,
        /// What the kernel is divided by: the product of the distances from all others.
        pub divisor: f64,
    }

    impl Point {
        /// The point's share of pixels, even ones or odd ones.
        #[inline(always)]
        pub(super) const fn by_pixels(self) -> [f64; 2] {
            [self.product, -self.sum]
        }

        /// Its powers that even results, or odd ones, have it by.
        #[inline(always)]
        pub(super) const fn by_results(self) -> [f64; 2] {
            [self.square * self.square, self.square]
        }
    }

    const fn point(at: f64, b: f64, c: f64) -> Point {
        let (square, b2, c2) = (at * at, b * b, c * c);
        let divisor = 2.0 * square * (square - b2) * (square - c2);
        Point { at, square, sum: b2 + c2, product: b2 * c2, divisor }
    }

    pub(super) const A: Point = point(0.5, 1.0, 2.0);
    pub(super) const B: Point = point(1.0, 0.5, 2.0);
    pub(super) const C: Point = point(2.0, 0.5, 1.0);
    /// Of the three squares: sum, sum of products of two, product.
    pub(super) const ONE: f64 = A.square + A.sum;
    pub(super) const TWO: f64 = A.square * A.sum + A.product;
    pub(super) const THREE: f64 = A.square * A.product;
}

/// `x a + y b + c`.
#[inline(always)]
fn two<E: CpuElement, const FUSED: bool>([x, y]: [f64; 2], [a, b]: [E; 2], c: E) -> E {
    fma::<E, FUSED>(E::of(x), a, fma::<E, FUSED>(E::of(y), b, c))
}

/// `x a + y b + z c + d`.
#[inline(always)]
fn three<E: CpuElement, const FUSED: bool>([x, y, z]: [f64; 3], [a, b, c]: [E; 3], d: E) -> E {
    two::<E, FUSED>([x, y], [a, b], fma::<E, FUSED>(E::of(z), c, d))
}

/// `Bᵀ d`: n pixels to n points.
#[inline(always)]
pub(super) fn of_pixels<E: CpuElement, const N: usize, const FUSED: bool>(d: Line<E>) -> Line<E> {
    let [d0, d1, d2, d3, d4, d5, d6, d7] = d;
    let zero = E::zero();
    let fma = fma::<E, FUSED>;
    if N == 4 {
        return [d0 - d2, d1 + d2, d2 - d1, d1 - d3, zero, zero, zero, zero];
    }
    if N == 6 {
        use six::{A, A2, B, B2, PRODUCT, SUM};
        let (even_a, odd_a) = (fma(E::of(-B2), d2, d4), fma(E::of(-B2), d1, d3));
        let (even_b, odd_b) = (fma(E::of(-A2), d2, d4), fma(E::of(-A2), d1, d3));
        return [
            fma(E::of(PRODUCT), d0, fma(E::of(-SUM), d2, d4)),
            fma(E::of(A), odd_a, even_a),
            fma(E::of(-A), odd_a, even_a),
            fma(E::of(B), odd_b, even_b),
            fma(E::of(-B), odd_b, even_b),
            fma(E::of(PRODUCT), d1, fma(E::of(-SUM), d3, d5)),
            zero,
            zero,
        ];
    }
    use eight::{A, B, C, ONE, THREE, TWO};
    let (two, three) = (two::<E, FUSED>, three::<E, FUSED>);
    let ([by_a, by_b, by_c], ends) = ([A.by_pixels(), B.by_pixels(), C.by_pixels()], [-THREE, TWO, -ONE]);
    let (even_a, odd_a) = (two(by_a, [d2, d4], d6), two(by_a, [d1, d3], d5));
    let (even_b, odd_b) = (two(by_b, [d2, d4], d6), two(by_b, [d1, d3], d5));
    let (even_c, odd_c) = (two(by_c, [d2, d4], d6), two(by_c, [d1, d3], d5));
    [
        three(ends, [d0, d2, d4], d6),
        fma(E::of(A.at), odd_a, even_a),
        fma(E::of(-A.at), odd_a, even_a),
        fma(E::of(B.at), odd_b, even_b),
        fma(E::of(-B.at), odd_b, even_b),
        fma(E::of(C.at), odd_c, even_c),
        fma(E::of(-C.at), odd_c, even_c),
        three(ends, [d1, d3, d5], d7),
    ]
}

/// `B v`, the transposed of [`of_pixels`].
#[inline(always)]
pub(super) fn to_pixels<E: CpuElement, const N: usize, const FUSED: bool>(v: Line<E>) -> Line<E> {
    let [v0, v1, v2, v3, v4, v5, v6, v7] = v;
    let zero = E::zero();
    let fma = fma::<E, FUSED>;
    if N == 4 {
        return [v0, v1 - v2 + v3, v1 + v2 - v0, -v3, zero, zero, zero, zero];
    }
    if N == 6 {
        use six::{A, A2, B, B2, PRODUCT, SUM};
        let (even_a, odd_a) = (v1 + v2, E::of(A) * (v1 - v2));
        let (even_b, odd_b) = (v3 + v4, E::of(B) * (v3 - v4));
        return [
            E::of(PRODUCT) * v0,
            fma(E::of(PRODUCT), v5, fma(E::of(-B2), odd_a, E::of(-A2) * odd_b)),
            fma(E::of(-SUM), v0, fma(E::of(-B2), even_a, E::of(-A2) * even_b)),
            fma(E::of(-SUM), v5, odd_a + odd_b),
            v0 + even_a + even_b,
            v5,
            zero,
            zero,
        ];
    }
    use eight::{A, B, C, ONE, THREE, TWO};
    let three = three::<E, FUSED>;
    let even = [v1 + v2, v3 + v4, v5 + v6];
    let odd = [v1 - v2, v3 - v4, v5 - v6];
    [
        E::of(-THREE) * v0,
        three([A.at * A.product, B.at * B.product, C.at * C.product], odd, E::of(-THREE) * v7),
        three([A.product, B.product, C.product], even, E::of(TWO) * v0),
        three([-A.at * A.sum, -B.at * B.sum, -C.at * C.sum], odd, E::of(TWO) * v7),
        three([-A.sum, -B.sum, -C.sum], even, E::of(-ONE) * v0),
        three([A.at, B.at, C.at], odd, E::of(-ONE) * v7),
        (v0 + even[0]) + (even[1] + even[2]),
        v7,
    ]
}

/// `Aᵀ m`: n points to n − 2 results.
#[inline(always)]
pub(super) fn to_results<E: CpuElement, const N: usize, const FUSED: bool>(m: Line<E>) -> Line<E> {
    let [m0, m1, m2, m3, m4, m5, m6, m7] = m;
    let zero = E::zero();
    let fma = fma::<E, FUSED>;
    if N == 4 {
        return [m0 + m1 + m2, m1 - m2 - m3, zero, zero, zero, zero, zero, zero];
    }
    if N == 6 {
        use six::{A, A2, B, B2};
        let (even_a, odd_a) = (m1 + m2, E::of(A) * (m1 - m2));
        let (even_b, odd_b) = (m3 + m4, E::of(B) * (m3 - m4));
        return [
            m0 + even_a + even_b,
            odd_a + odd_b,
            fma(E::of(A2), even_a, E::of(B2) * even_b),
            fma(E::of(A2), odd_a, fma(E::of(B2), odd_b, m5)),
            zero,
            zero,
            zero,
            zero,
        ];
    }
    use eight::{A, B, C};
    let even = [m1 + m2, m3 + m4, m5 + m6];
    let odd = [E::of(A.at) * (m1 - m2), E::of(B.at) * (m3 - m4), E::of(C.at) * (m5 - m6)];
    let squares = [A.square, B.square];
    let fourths = [A.square * A.square, B.square * B.square, C.square * C.square];
    let (two, three) = (two::<E, FUSED>, three::<E, FUSED>);
    [
        (m0 + even[0]) + (even[1] + even[2]),
        odd[0] + odd[1] + odd[2],
        two(squares, [even[0], even[1]], E::of(C.square) * even[2]),
        two(squares, [odd[0], odd[1]], E::of(C.square) * odd[2]),
        two([fourths[0], fourths[1]], [even[0], even[1]], E::of(fourths[2]) * even[2]),
        three(fourths, odd, m7),
        zero,
        zero,
    ]
}

/// `A y`, the transposed of [`to_results`].
#[inline(always)]
pub(super) fn of_results<E: CpuElement, const N: usize, const FUSED: bool>(y: Line<E>) -> Line<E> {
    let [y0, y1, y2, y3, y4, y5, ..] = y;
    let zero = E::zero();
    let fma = fma::<E, FUSED>;
    if N == 4 {
        return [y0, y0 + y1, y0 - y1, -y1, zero, zero, zero, zero];
    }
    if N == 6 {
        use six::{A, A2, B, B2};
        let (even_a, odd_a) = (fma(E::of(A2), y2, y0), fma(E::of(A2), y3, y1));
        let (even_b, odd_b) = (fma(E::of(B2), y2, y0), fma(E::of(B2), y3, y1));
        return [
            y0,
            fma(E::of(A), odd_a, even_a),
            fma(E::of(-A), odd_a, even_a),
            fma(E::of(B), odd_b, even_b),
            fma(E::of(-B), odd_b, even_b),
            y3,
            zero,
            zero,
        ];
    }
    use eight::{A, B, C};
    let two = two::<E, FUSED>;
    let [by_a, by_b, by_c] = [A.by_results(), B.by_results(), C.by_results()];
    let (even_a, odd_a) = (two(by_a, [y4, y2], y0), two(by_a, [y5, y3], y1));
    let (even_b, odd_b) = (two(by_b, [y4, y2], y0), two(by_b, [y5, y3], y1));
    let (even_c, odd_c) = (two(by_c, [y4, y2], y0), two(by_c, [y5, y3], y1));
    [
        y0,
        fma(E::of(A.at), odd_a, even_a),
        fma(E::of(-A.at), odd_a, even_a),
        fma(E::of(B.at), odd_b, even_b),
        fma(E::of(-B.at), odd_b, even_b),
        fma(E::of(C.at), odd_c, even_c),
        fma(E::of(-C.at), odd_c, even_c),
        y5,
    ]
}

/// A kernel at a point and at its negative, divided.
#[inline(always)]
fn at_point<E: CpuElement, const FUSED: bool>([w0, w1, w2]: [E; 3], point: f64, divisor: f64) -> [E; 2] {
    let even = E::of(1.0 / divisor) * fma::<E, FUSED>(E::of(point * point), w2, w0);
    let odd = E::of(point / divisor) * w1;
    [even + odd, even - odd]
}

/// `G w`: a kernel's 3 numbers to n points.
#[inline(always)]
pub(super) fn of_kernel<E: CpuElement, const N: usize, const FUSED: bool>(w: [E; 3]) -> Line<E> {
    let [w0, w1, w2] = w;
    let zero = E::zero();
    if N == 4 {
        let (sum, half) = (w0 + w2, E::of(0.5));
        return [w0, (sum + w1) * half, (sum - w1) * half, w2, zero, zero, zero, zero];
    }
    let at = at_point::<E, FUSED>;
    if N == 6 {
        use six::{A, AT_A, AT_B, B, PRODUCT};
        let ([plus_a, minus_a], [plus_b, minus_b]) = (at(w, A, AT_A), at(w, B, AT_B));
        return [E::of(1.0 / PRODUCT) * w0, plus_a, minus_a, plus_b, minus_b, w2, zero, zero];
    }
    use eight::{A, B, C, THREE};
    let ([plus_a, minus_a], [plus_b, minus_b]) = (at(w, A.at, A.divisor), at(w, B.at, B.divisor));
    let [plus_c, minus_c] = at(w, C.at, C.divisor);
    [E::of(-1.0 / THREE) * w0, plus_a, minus_a, plus_b, minus_b, plus_c, minus_c, w2]
}

/// `Gᵀ u`, the transposed of [`of_kernel`].
#[inline(always)]
pub(super) fn to_kernel<E: CpuElement, const N: usize, const FUSED: bool>(u: Line<E>) -> [E; 3] {
    let [u0, u1, u2, u3, u4, u5, u6, u7] = u;
    let fma = fma::<E, FUSED>;
    if N == 4 {
        let (sum, half) = ((u1 + u2) * E::of(0.5), (u1 - u2) * E::of(0.5));
        return [u0 + sum, half, sum + u3];
    }
    if N == 6 {
        use six::{A, A2, AT_A, AT_B, B, B2, PRODUCT};
        let (even_a, even_b) = (E::of(1.0 / AT_A) * (u1 + u2), E::of(1.0 / AT_B) * (u3 + u4));
        return [
            fma(E::of(1.0 / PRODUCT), u0, even_a + even_b),
            fma(E::of(A / AT_A), u1 - u2, E::of(B / AT_B) * (u3 - u4)),
            fma(E::of(A2), even_a, fma(E::of(B2), even_b, u5)),
        ];
    }
    use eight::{A, B, C, THREE};
    let (plus, minus) = ([u1, u3, u5], [u2, u4, u6]);
    let by = [1.0 / A.divisor, 1.0 / B.divisor, 1.0 / C.divisor];
    let mut even = [E::zero(); 3];
    let mut odd = [E::zero(); 3];
    for i in 0..3 {
        even[i] = E::of(by[i]) * (plus[i] + minus[i]);
        odd[i] = E::of(by[i]) * (plus[i] - minus[i]);
    }
    [
        fma(E::of(-1.0 / THREE), u0, even[0] + even[1] + even[2]),
        two::<E, FUSED>([A.at, B.at], [odd[0], odd[1]], E::of(C.at) * odd[2]),
        three::<E, FUSED>([A.square, B.square, C.square], even, u7),
    ]
}
