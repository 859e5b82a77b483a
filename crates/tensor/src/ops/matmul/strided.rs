//! Products of matrices whose rows lie apart, as a head's do in the rows of all heads: small ones, that go without packing.
//! Every sum runs over its terms in their order, one multiply-add each, as in a blocked product of this depth.

use crate::cpu::CpuElement;
use crate::cpu::simd::{fma, kernel};

/// Elements of a register, for f32 and the widest instruction set.
const LANES: usize = 16;

/// Rows whose sums stay in registers together.
const BLOCK: usize = 8;

/// A matrix in a buffer: its elements from the first on, and how many of them lie from a row to the next.
#[derive(Clone, Copy)]
pub(crate) struct Part<'a, E> {
    pub values: &'a [E],
    pub row: usize,
}

impl<'a, E> Part<'a, E> {
    /// The part that begins with row `first`.
    fn from(self, first: usize) -> Self {
        Self { values: &self.values[first * self.row..], ..self }
    }
}

/// Columns whose sums stay in registers together.
const COLUMNS: usize = 2 * LANES;

/// `sum += x m`, element by element.
#[inline(always)]
fn add_scaled<E: CpuElement, const FUSED: bool>(sum: &mut [E; LANES], x: E, m: &[E; LANES]) {
    for (sum, &m) in sum.iter_mut().zip(m) {
        *sum = fma::<E, FUSED>(x, m, *sum);
    }
}

/// Up to [`BLOCK`] rows of [`COLUMNS`] columns from column `col`: of `a m`, or of `aᵀ m` if `TURNED`, which is added to c.
/// As in a single row's product of other matrices, each register's sum has a name of its own, so that it is one.
#[inline(always)]
fn tile<E: CpuElement, const TURNED: bool, const FUSED: bool>(
    a: Part<'_, E>,
    m: Part<'_, E>,
    (c, c_row): (&mut [E], usize),
    (rows, k): (usize, usize),
    col: usize,
) {
    let zero = [E::zero(); LANES];
    let (mut s0, mut s1, mut s2, mut s3) = ([zero; 2], [zero; 2], [zero; 2], [zero; 2]);
    let (mut s4, mut s5, mut s6, mut s7) = ([zero; 2], [zero; 2], [zero; 2], [zero; 2]);
    // rows that are not there are the last one again, and are not stored
    let row = |r: usize| if TURNED { a.values } else { &a.values[r.min(rows - 1) * a.row..][..k] };
    let (a0, a1, a2, a3) = (row(0), row(1), row(2), row(3));
    let (a4, a5, a6, a7) = (row(4), row(5), row(6), row(7));
    for i in 0..k {
        let [m0, m1] = m.values[i * m.row + col..][..COLUMNS].as_chunks::<LANES>().0 else { unreachable!() };
        let add = |s: &mut [[E; LANES]; 2], x: E| {
            add_scaled::<E, FUSED>(&mut s[0], x, m0);
            add_scaled::<E, FUSED>(&mut s[1], x, m1);
        };
        let x = if TURNED {
            let from = &a.values[i * a.row..][..BLOCK];
            [from[0], from[1], from[2], from[3], from[4], from[5], from[6], from[7]]
        } else {
            [a0[i], a1[i], a2[i], a3[i], a4[i], a5[i], a6[i], a7[i]]
        };
        add(&mut s0, x[0]);
        add(&mut s1, x[1]);
        add(&mut s2, x[2]);
        add(&mut s3, x[3]);
        add(&mut s4, x[4]);
        add(&mut s5, x[5]);
        add(&mut s6, x[6]);
        add(&mut s7, x[7]);
    }
    for (r, sums) in [s0, s1, s2, s3, s4, s5, s6, s7].iter().enumerate().take(rows) {
        store::<E, TURNED>(&mut c[r * c_row + col..][..COLUMNS], sums.as_flattened());
    }
}

#[inline(always)]
fn store<E: CpuElement, const ADD: bool>(c: &mut [E], sums: &[E]) {
    if ADD {
        c.iter_mut().zip(sums).for_each(|(c, &sum)| *c += sum);
    } else {
        c.copy_from_slice(sums);
    }
}

/// What [`tile`] does, of the columns from `col` to `n`, a row at a time.
#[inline(always)]
fn rest<E: CpuElement, const TURNED: bool, const FUSED: bool>(
    a: Part<'_, E>,
    m: Part<'_, E>,
    (c, c_row): (&mut [E], usize),
    (rows, k, n): (usize, usize, usize),
    col: usize,
) {
    let at = |r: usize, i: usize| a.values[if TURNED { i * a.row + r } else { r * a.row + i }];
    for (r, c) in c.chunks_mut(c_row).enumerate().take(rows) {
        let mut col = col;
        while col + LANES <= n {
            let mut sum = [E::zero(); LANES];
            for i in 0..k {
                let m = m.values[i * m.row + col..].first_chunk().expect("a row has n columns");
                add_scaled::<E, FUSED>(&mut sum, at(r, i), m);
            }
            store::<E, TURNED>(&mut c[col..col + LANES], &sum);
            col += LANES;
        }
        for j in col..n {
            let sum =
                (0..k).fold(E::zero(), |sum, i| fma::<E, FUSED>(at(r, i), m.values[i * m.row + j], sum));
            store::<E, TURNED>(&mut c[j..=j], &[sum]);
        }
    }
}

#[inline(always)]
fn all<E: CpuElement, const TURNED: bool, const FUSED: bool>(
    a: Part<'_, E>,
    m: Part<'_, E>,
    (c, c_row): (&mut [E], usize),
    (count, k, n): (usize, usize, usize),
) {
    for first in (0..count).step_by(BLOCK) {
        let a = if TURNED { Part { values: &a.values[first..], ..a } } else { a.from(first) };
        let (c, rows) = (&mut c[first * c_row..], BLOCK.min(count - first));
        let whole = n / COLUMNS * COLUMNS;
        for col in (0..whole).step_by(COLUMNS) {
            tile::<E, TURNED, FUSED>(a, m, (&mut *c, c_row), (rows, k), col);
        }
        if whole < n {
            rest::<E, TURNED, FUSED>(a, m, (c, c_row), (rows, k, n), whole);
        }
    }
}

kernel! {
    /// `c = a m`: a `[rows, k]`, m `[k, n]`, c `[rows, n]`, sizes being `(rows, k, n)`; c comes with how many elements lie
    /// from a row to the next.
    pub(crate) fn product<E>(a: Part<'_, E>, m: Part<'_, E>, c: (&mut [E], usize), sizes: (usize, usize, usize)) {
        all::<E, false, FUSED>(a, m, c, sizes);
    }
}

kernel! {
    /// `c += aᵀ m`: a `[k, rows]`, whose rows have elements for whole blocks of [`BLOCK`] rows of c, the rest as in [`product`].
    pub(crate) fn add_turned_product<E>(a: Part<'_, E>, m: Part<'_, E>, c: (&mut [E], usize), sizes: (usize, usize, usize)) {
        all::<E, true, FUSED>(a, m, c, sizes);
    }
}
