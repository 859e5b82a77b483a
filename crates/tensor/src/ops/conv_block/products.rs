//! The products of a lowered convolution: many rows by a matrix that fits into the first-level cache, so that nothing
//! needs to be packed.

use crate::cpu::CpuElement;
use crate::cpu::simd::{fma, kernel, prefetch_at};

/// Elements of a register, for f32 and the widest instruction set.
const LANES: usize = 16;

/// Columns of a tile: two registers.
const WIDE: usize = 2 * LANES;

/// Rows of a tile: their sums stay in registers.
const TALL: usize = 8;

/// `sums += a b`, sums `R × WIDE`: a's element (r, i) lies at `r ra + i ca`, b's row i at `i n`. A cache line a step is fetched
/// from `ahead` on.
///
/// # Safety
/// `a` must have the elements that r below `R` and i below `k` reach, and `b` `WIDE` at each i below `k`.
#[inline(always)]
unsafe fn tile<E: CpuElement, const R: usize, const FUSED: bool>(
    mut sums: [[[E; LANES]; 2]; R],
    (a, ra, ca): (*const E, usize, usize),
    (b, n): (*const E, usize),
    k: usize,
    ahead: *const E,
) -> [[[E; LANES]; 2]; R] {
    for i in 0..k {
        prefetch_at(ahead.wrapping_add(i * LANES));
        // SAFETY: i is below k, r below R and l below LANES, half of WIDE
        unsafe {
            let (a, b) = (a.add(i * ca), b.add(i * n));
            for l in 0..LANES {
                let (b0, b1) = (*b.add(l), *b.add(LANES + l));
                for (r, sums) in sums.iter_mut().enumerate() {
                    let x = *a.add(r * ra);
                    sums[0][l] = fma::<E, FUSED>(x, b0, sums[0][l]);
                    sums[1][l] = fma::<E, FUSED>(x, b1, sums[1][l]);
                }
            }
        }
    }
    sums
}

/// `R` rows of `c = a b`, `WIDE` columns from `col` on.
#[inline(always)]
fn rows_tile<E: CpuElement, const R: usize, const FUSED: bool>(
    a: &[E],
    b: &[E],
    c: &mut [E],
    (k, n, col): (usize, usize, usize),
    ahead: *const E,
) {
    assert!(a.len() >= R * k && b.len() >= k * n && col + WIDE <= n);
    let sums = [[[E::zero(); LANES]; 2]; R];
    // SAFETY: a has R rows of k, and b k rows of n, of which WIDE follow `col`, as just asserted
    let sums = unsafe { tile::<E, R, FUSED>(sums, (a.as_ptr(), k, 1), (b.as_ptr().add(col), n), k, ahead) };
    for (r, sums) in sums.iter().enumerate() {
        c[r * n + col..][..WIDE].copy_from_slice(sums.as_flattened());
    }
}

/// The place `ahead` of the start of `next`, which is somewhere in it.
#[inline(always)]
fn place<E>(next: &[E], ahead: usize) -> *const E {
    next.as_ptr().wrapping_add(ahead.min(next.len()))
}

kernel! {
    /// `c = a b`: a `[rows, k]`, b `[k, n]`, c `[rows, n]`. Meanwhile `next` is fetched, as far as there is time.
    pub(super) fn rows_times<E>(a: &[E], b: &[E], c: &mut [E], k: usize, n: usize, next: &[E]) {
        let rows = a.len() / k;
        let mut ahead = 0;
        let whole = n / WIDE * WIDE;
        for col in (0..whole).step_by(WIDE) {
            let mut row = 0;
            while row + TALL <= rows {
                rows_tile::<E, TALL, FUSED>(&a[row * k..], b, &mut c[row * n..], (k, n, col), place(next, ahead));
                ahead += k * LANES;
                row += TALL;
            }
            while row + 4 <= rows {
                rows_tile::<E, 4, FUSED>(&a[row * k..], b, &mut c[row * n..], (k, n, col), place(next, ahead));
                row += 4;
            }
            while row < rows {
                rows_tile::<E, 1, FUSED>(&a[row * k..], b, &mut c[row * n..], (k, n, col), place(next, ahead));
                row += 1;
            }
        }
        if whole < n {
            for (a, c) in a.chunks_exact(k).zip(c.chunks_exact_mut(n)) {
                let c = &mut c[whole..];
                c.fill(E::zero());
                for (&x, b) in a.iter().zip(b.chunks_exact(n)) {
                    c.iter_mut().zip(&b[whole..]).for_each(|(c, &b)| *c = fma::<E, FUSED>(x, b, *c));
                }
            }
        }
    }
}

kernel! {
    /// `c = aᵀ b`, added to what was there if `more`: a `[rows, m]`, b `[rows, n]`, c `[m, n]`. Meanwhile `next` is fetched, as
    /// far as there is time.
    pub(super) fn transposed_times<E>(
        a: &[E],
        b: &[E],
        c: &mut [E],
        sizes: (usize, usize),
        more: bool,
        next: &[E],
    ) {
        let (m, n) = sizes;
        let rows = a.len() / m;
        let mut ahead = 0;
        assert!(b.len() >= rows * n && c.len() >= m * n);
        let (tall, whole) = (m / TALL * TALL, n / WIDE * WIDE);
        for col in (0..whole).step_by(WIDE) {
            for first in (0..tall).step_by(TALL) {
                let mut sums = [[[E::zero(); LANES]; 2]; TALL];
                if more {
                    for (r, sums) in sums.iter_mut().enumerate() {
                        sums.as_flattened_mut().copy_from_slice(&c[(first + r) * n + col..][..WIDE]);
                    }
                }
                // SAFETY: a has `rows` rows of m, of which TALL follow `first`, and b as many of n, of which WIDE
                // follow `col`
                let sums = unsafe {
                    let (a, b) = (a.as_ptr().add(first), b.as_ptr().add(col));
                    tile::<E, TALL, FUSED>(sums, (a, 1, m), (b, n), rows, place(next, ahead))
                };
                ahead += rows * LANES;
                for (r, sums) in sums.iter().enumerate() {
                    c[(first + r) * n + col..][..WIDE].copy_from_slice(sums.as_flattened());
                }
            }
        }
        if (tall, whole) == (m, n) {
            return;
        }
        let from = |i: usize| if i < tall { whole } else { 0 };
        if !more {
            c.chunks_exact_mut(n).enumerate().for_each(|(i, c)| c[from(i)..].fill(E::zero()));
        }
        for (a, b) in a.chunks_exact(m).zip(b.chunks_exact(n)) {
            for (i, (&x, c)) in a.iter().zip(c.chunks_exact_mut(n)).enumerate() {
                let from = from(i);
                c[from..].iter_mut().zip(&b[from..]).for_each(|(c, &b)| *c = fma::<E, FUSED>(x, b, *c));
            }
        }
    }
}
