//! Walks over F on the CPU: units outermost, so that rows of α serve all episodes while they are in the nearest cache.

use super::FastSizes;
use super::cpu::{LANES, Step};
use crate::cpu::CpuElement;
use crate::cpu::simd::{fma, kernel, prefetch};
use crate::ops::reduce::fold;

/// Rows of an episode's F that are taken together, so that what they are multiplied by is loaded once for all.
const ROWS: usize = 4;
/// Elements of α that stay in the nearest cache while a walk goes through the episodes. An episode's rows of as many
/// elements are one run of memory, which the machine fetches ahead better than a row here and a row there.
const NEAR: usize = 4096;

/// Units whose rows are gone through for one episode before the next one's turn.
#[inline(always)]
fn units_at_once(inp: usize) -> usize {
    (NEAR / inp.max(1)).max(1).next_multiple_of(ROWS)
}

/// The places of unit `unit`'s row, an episode each: in F, and of its input.
#[inline(always)]
fn places(
    sizes: FastSizes,
    unit: usize,
) -> impl Iterator<Item = (usize, std::ops::Range<usize>, std::ops::Range<usize>)> {
    let FastSizes { batch, out, inp } = sizes;
    (0..batch).map(move |e| {
        let row = (e * out + unit) * inp;
        (e, row..row + inp, e * inp..(e + 1) * inp)
    })
}

/// One row's part of [`advance_and_read`], in blocks of `N`.
#[inline(always)]
fn advance_row<E: CpuElement, const N: usize, const FRESH: bool, const FUSED: bool>(
    f: &mut [E],
    [alpha, q, x]: [&[E]; 3],
    keep: E,
    gain: E,
    sums: &mut [[E; LANES]; 2],
) {
    let blocks = f.as_chunks_mut::<N>().0.iter_mut().zip(alpha.as_chunks::<N>().0);
    let [read, norm] = sums;
    for (((f, alpha), q), x) in blocks.zip(q.as_chunks::<N>().0).zip(x.as_chunks::<N>().0) {
        for i in 0..N {
            let grown = gain * (alpha[i] * q[i]);
            f[i] = if FRESH { grown } else { fma::<E, FUSED>(keep, f[i], grown) };
            read[i] = fma::<E, FUSED>(f[i], x[i], read[i]);
            norm[i] = fma::<E, FUSED>(f[i], f[i], norm[i]);
        }
    }
}

#[inline(always)]
fn advance<E: CpuElement, const FRESH: bool, const FUSED: bool>(
    f: &mut [E],
    alpha: &[E],
    change: &Step<'_, E>,
    x: &[E],
    sizes: FastSizes,
    y: &mut [E],
    norms: &mut [E],
) {
    let FastSizes { out, inp, .. } = sizes;
    let whole = inp / LANES * LANES;
    for unit in 0..out {
        let (alpha, alpha_rest) = alpha[unit * inp..(unit + 1) * inp].split_at(whole);
        for (e, row, input) in places(sizes, unit) {
            let (q, x) = (&change.q[input.clone()], &x[input]);
            let (keep, gain) = (E::one() - change.eta[e], change.eta[e] * change.p[e * out + unit]);
            let mut sums = [[E::zero(); LANES]; 2];
            let (f, f_rest) = f[row].split_at_mut(whole);
            let ((q, q_rest), (x, x_rest)) = (q.split_at(whole), x.split_at(whole));
            advance_row::<E, LANES, FRESH, FUSED>(f, [alpha, q, x], keep, gain, &mut sums);
            advance_row::<E, 1, FRESH, FUSED>(f_rest, [alpha_rest, q_rest, x_rest], keep, gain, &mut sums);
            let [read, norm] = sums;
            let (read, norm) = (fold(read), fold(norm));
            y[e * out + unit] = read;
            norms[e] += norm;
        }
    }
}

kernel! {
    /// `F ← keep F + gain α ∘ q` and `y = F x`.
    pub(super) fn advance_and_read<E>(
        f: &mut [E], alpha: &[E], change: &Step<'_, E>, x: &[E], sizes: FastSizes, y: &mut [E], norms: &mut [E],
    ) {
        advance::<E, false, FUSED>(f, alpha, change, x, sizes, y, norms);
    }
}

kernel! {
    /// The same for F = 0, whatever `f` holds.
    pub(super) fn advance_fresh<E>(
        f: &mut [E], alpha: &[E], change: &Step<'_, E>, x: &[E], sizes: FastSizes, y: &mut [E], norms: &mut [E],
    ) {
        advance::<E, true, FUSED>(f, alpha, change, x, sizes, y, norms);
    }
}

kernel! {
    /// `y = F x`, plus c if `bias`.
    pub(super) fn read<E>(f: &[E], c: &[E], x: &[E], bias: bool, sizes: FastSizes, y: &mut [E]) {
        let FastSizes { batch, out, inp } = sizes;
        for e in 0..batch {
            let x = &x[e * inp..(e + 1) * inp];
            for unit in 0..out {
                let row = &f[(e * out + unit) * inp..][..inp];
                let mut lanes = [E::zero(); LANES];
                let ((row, row_rest), (x, x_rest)) = (row.as_chunks::<LANES>(), x.as_chunks::<LANES>());
                for (row, x) in row.iter().zip(x) {
                    for i in 0..LANES {
                        lanes[i] = fma::<E, FUSED>(row[i], x[i], lanes[i]);
                    }
                }
                for (&f, &x) in row_rest.iter().zip(x_rest) {
                    lanes[0] = fma::<E, FUSED>(f, x, lanes[0]);
                }
                y[e * out + unit] = if bias { c[e * out + unit] } else { E::zero() } + fold(lanes);
            }
        }
    }
}

kernel! {
    /// `dx += Fᵀ g`.
    pub(super) fn read_transposed<E>(f: &[E], g: &[E], sizes: FastSizes, dx: &mut [E]) {
        let FastSizes { batch, out, inp } = sizes;
        for e in 0..batch {
            let dx = &mut dx[e * inp..(e + 1) * inp];
            for unit in 0..out {
                let (g, row) = (g[e * out + unit], &f[(e * out + unit) * inp..][..inp]);
                for (dx, &f) in dx.iter_mut().zip(row) {
                    *dx = fma::<E, FUSED>(f, g, *dx);
                }
            }
        }
    }
}

kernel! {
    /// `F ← (F − gain α ∘ q) / keep` and `dx += Fᵀ g`.
    pub(super) fn retreat_and_read<E>(
        f: &mut [E], alpha: &[E], change: &Step<'_, E>, g: &[E], sizes: FastSizes, dx: &mut [E],
    ) {
        let FastSizes { batch, out, inp } = sizes;
        let units = units_at_once(inp);
        for first in (0..out).step_by(units) {
            let end = (first + units).min(out);
            for e in 0..batch {
                let mut unit = first;
                while unit < end {
                    if unit + ROWS <= end {
                        retreat_some::<E, ROWS, FUSED>([e, unit], f, alpha, change, g, sizes, dx);
                        unit += ROWS;
                    } else {
                        retreat_some::<E, 1, FUSED>([e, unit], f, alpha, change, g, sizes, dx);
                        unit += 1;
                    }
                }
            }
        }
    }
}

/// `R` rows of an episode in [`retreat_and_read`].
#[inline(always)]
fn retreat_some<E: CpuElement, const R: usize, const FUSED: bool>(
    [e, unit]: [usize; 2],
    f: &mut [E],
    alpha: &[E],
    change: &Step<'_, E>,
    g: &[E],
    FastSizes { out, inp, .. }: FastSizes,
    dx: &mut [E],
) {
    let (row, input) = (e * out + unit, e * inp..(e + 1) * inp);
    let f = &mut f[row * inp..(row + R) * inp];
    let (alpha, q) = (&alpha[unit * inp..(unit + R) * inp], &change.q[input.clone()]);
    let keep = E::one() - change.eta[e];
    let (mut gain, mut by_g) = ([E::zero(); R], [E::zero(); R]);
    for r in 0..R {
        gain[r] = -change.eta[e] * change.p[row + r] / keep;
        by_g[r] = g[row + r];
    }
    let (undo, whole, dx) = (E::one() / keep, inp / LANES * LANES, &mut dx[input]);
    retreat_rows::<E, R, LANES, FUSED>(0..whole, f, [alpha, q], undo, [gain, by_g], dx);
    retreat_rows::<E, R, 1, FUSED>(whole..inp, f, [alpha, q], undo, [gain, by_g], dx);
}

/// Columns `range` of `R` rows' part of [`retreat_and_read`], `N` at a time.
#[inline(always)]
fn retreat_rows<E: CpuElement, const R: usize, const N: usize, const FUSED: bool>(
    range: std::ops::Range<usize>,
    f: &mut [E],
    [alpha, q]: [&[E]; 2],
    undo: E,
    [gain, g]: [[E; R]; 2],
    dx: &mut [E],
) {
    let inp = q.len();
    for at in range.step_by(N) {
        let rows = [[E::zero(); N]; R];
        let (mut here, mut near) = (rows, rows);
        let (mut by_q, mut sum) = ([E::zero(); N], [E::zero(); N]);
        for r in 0..R {
            prefetch(f, (R + r) * inp + at);
            here[r].copy_from_slice(&f[r * inp + at..][..N]);
            near[r].copy_from_slice(&alpha[r * inp + at..][..N]);
        }
        by_q.copy_from_slice(&q[at..][..N]);
        sum.copy_from_slice(&dx[at..][..N]);
        for i in 0..N {
            for r in 0..R {
                here[r][i] = fma::<E, FUSED>(undo, here[r][i], gain[r] * (near[r][i] * by_q[i]));
                sum[i] = fma::<E, FUSED>(here[r][i], g[r], sum[i]);
            }
        }
        for r in 0..R {
            f[r * inp + at..][..N].copy_from_slice(&here[r]);
        }
        dx[at..][..N].copy_from_slice(&sum);
    }
}
