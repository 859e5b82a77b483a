//! A product of few rows with a matrix, without packing: what a step of a sequence needs. A blocked product
//! spends most of its time rearranging a matrix that is used for a handful of rows only.

use crate::cpu::CpuElement;
use crate::cpu::simd::{fma, kernel, prefetch};

/// Elements of a register, for f32 and the widest instruction set.
const LANES: usize = 16;

/// Rows whose sums stay in registers together: the episodes of a shard.
const BLOCK: usize = 8;

/// `c = a m`: a `[rows, k]`, m `[k, n]`, c `[rows, n]`; the sums of up to `ROWS` rows and `REGS` registers of columns,
/// from column `col`, stay in registers. No registers are the last columns, fewer than one has.
#[inline(always)]
fn tile<E: CpuElement, const ROWS: usize, const REGS: usize, const FUSED: bool>(
    a: &[E],
    m: &[E],
    c: &mut [E],
    (k, n, col): (usize, usize, usize),
) {
    if REGS == 0 {
        return last_columns::<E, ROWS, FUSED>(a, m, c, (k, n, col));
    }
    let mut sums = [[[E::zero(); LANES]; REGS]; ROWS];
    let rows: [&[E]; ROWS] = std::array::from_fn(|r| &a[r * k..(r + 1) * k]);
    for (i, m) in m.chunks_exact(n).enumerate() {
        // the next columns' part of this row: a column block jumps from row to row, which the machine does not foresee
        for reg in REGS..2 * REGS {
            prefetch(m, col + reg * LANES);
        }
        let (m, _) = m[col..col + REGS * LANES].as_chunks::<LANES>();
        for (sums, row) in sums.iter_mut().zip(rows) {
            let x = row[i];
            for (sum, m) in sums.iter_mut().zip(m) {
                for (sum, &m) in sum.iter_mut().zip(m) {
                    *sum = fma::<E, FUSED>(x, m, *sum);
                }
            }
        }
    }
    for (r, sums) in sums.iter().enumerate() {
        c[r * n + col..][..REGS * LANES].copy_from_slice(sums.as_flattened());
    }
}

/// The columns from `col` on, fewer than a register has: what else is loaded belongs to the next row, and is not stored.
#[inline(always)]
fn last_columns<E: CpuElement, const ROWS: usize, const FUSED: bool>(
    a: &[E],
    m: &[E],
    c: &mut [E],
    (k, n, col): (usize, usize, usize),
) {
    let width = n - col;
    let mut sums = [[E::zero(); LANES]; ROWS];
    let rows: [&[E]; ROWS] = std::array::from_fn(|r| &a[r * k..(r + 1) * k]);
    for i in 0..k {
        let from = &m[i * n + col..];
        let mut padded = [E::zero(); LANES];
        let m = match from.first_chunk::<LANES>() {
            Some(m) => m,
            // the last rows are followed by too few elements
            None => {
                padded[..width].copy_from_slice(&from[..width]);
                &padded
            }
        };
        for (sum, row) in sums.iter_mut().zip(rows) {
            let x = row[i];
            for (sum, &m) in sum.iter_mut().zip(m) {
                *sum = fma::<E, FUSED>(x, m, *sum);
            }
        }
    }
    for (r, sum) in sums.into_iter().enumerate() {
        c[r * n + col..][..width].copy_from_slice(&sum[..width]);
    }
}

/// `sum += x m`, element by element.
#[inline(always)]
fn add_scaled<E: CpuElement, const FUSED: bool>(sum: &mut [E; LANES], x: E, m: &[E; LANES]) {
    for (sum, &m) in sum.iter_mut().zip(m) {
        *sum = fma::<E, FUSED>(x, m, *sum);
    }
}

/// Columns of a single row's product whose sums stay in registers together: as many sums as eight rows keep going.
const WIDE: usize = 8 * LANES;

/// Rows of the matrix that a single row's product has fetched ahead.
const ROWS_AHEAD: usize = 4;

/// `c = a m` of a single row, [`WIDE`] columns from column `col`. Each register's sum has a name of its own: of an
/// array of that many, the compiler makes gathered loads.
#[inline(always)]
fn wide_row<E: CpuElement, const FUSED: bool>(a: &[E], m: &[E], c: &mut [E], n: usize, col: usize) {
    let zero = [E::zero(); LANES];
    let (mut s0, mut s1, mut s2, mut s3) = (zero, zero, zero, zero);
    let (mut s4, mut s5, mut s6, mut s7) = (zero, zero, zero, zero);
    for (&x, m) in a.iter().zip(m.chunks_exact(n)) {
        for reg in 0..WIDE / LANES {
            prefetch(m, ROWS_AHEAD * n + col + reg * LANES);
        }
        let (m, _) = m[col..col + WIDE].as_chunks::<LANES>();
        add_scaled::<E, FUSED>(&mut s0, x, &m[0]);
        add_scaled::<E, FUSED>(&mut s1, x, &m[1]);
        add_scaled::<E, FUSED>(&mut s2, x, &m[2]);
        add_scaled::<E, FUSED>(&mut s3, x, &m[3]);
        add_scaled::<E, FUSED>(&mut s4, x, &m[4]);
        add_scaled::<E, FUSED>(&mut s5, x, &m[5]);
        add_scaled::<E, FUSED>(&mut s6, x, &m[6]);
        add_scaled::<E, FUSED>(&mut s7, x, &m[7]);
    }
    c[col..col + WIDE].copy_from_slice([s0, s1, s2, s3, s4, s5, s6, s7].as_flattened());
}

/// One column block of all rows.
#[inline(always)]
fn columns<E: CpuElement, const REGS: usize, const FUSED: bool>(
    a: &[E],
    m: &[E],
    c: &mut [E],
    (k, n, col): (usize, usize, usize),
) {
    let at = (k, n, col);
    let mut blocks = a.chunks_exact(BLOCK * k).zip(c.chunks_exact_mut(BLOCK * n));
    for (a, c) in &mut blocks {
        tile::<E, BLOCK, REGS, FUSED>(a, m, c, at);
    }
    let done = a.len() / (BLOCK * k) * BLOCK;
    let (a, c) = (&a[done * k..], &mut c[done * n..]);
    match a.len() / k {
        0 => {}
        1 => tile::<E, 1, REGS, FUSED>(a, m, c, at),
        2 => tile::<E, 2, REGS, FUSED>(a, m, c, at),
        3 => tile::<E, 3, REGS, FUSED>(a, m, c, at),
        4 => tile::<E, 4, REGS, FUSED>(a, m, c, at),
        5 => tile::<E, 5, REGS, FUSED>(a, m, c, at),
        6 => tile::<E, 6, REGS, FUSED>(a, m, c, at),
        _ => tile::<E, 7, REGS, FUSED>(a, m, c, at),
    }
}

kernel! {
    /// `c = a m`: a `[rows, k]`, m `[k, n]`, c `[rows, n]`, all contiguous, none empty.
    pub(crate) fn rows_times_matrix<E>(a: &[E], m: &[E], c: &mut [E], k: usize, n: usize) {
        let mut col = 0;
        while a.len() == k && col + WIDE <= n {
            wide_row::<E, FUSED>(a, m, c, n, col);
            col += WIDE;
        }
        while col + 2 * LANES <= n {
            columns::<E, 2, FUSED>(a, m, c, (k, n, col));
            col += 2 * LANES;
        }
        if col + LANES <= n {
            columns::<E, 1, FUSED>(a, m, c, (k, n, col));
            col += LANES;
        }
        if col < n {
            columns::<E, 0, FUSED>(a, m, c, (k, n, col));
        }
    }
}
