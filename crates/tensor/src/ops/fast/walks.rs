//! Walks over F on the CPU, rows outermost, so that a row of α serves all episodes while it is in the nearest cache.

use super::FastSizes;
use super::cpu::{LANES, Step};
use crate::cpu::CpuElement;
use crate::cpu::simd::{fma, kernel};
use crate::ops::reduce::fold;

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
        let FastSizes { out, inp, .. } = sizes;
        for unit in 0..out {
            let alpha = &alpha[unit * inp..(unit + 1) * inp];
            for (e, row, input) in places(sizes, unit) {
                let (q, dx) = (&change.q[input.clone()], &mut dx[input]);
                let keep = E::one() - change.eta[e];
                let (undo, gain, g) = (E::one() / keep, -change.eta[e] * change.p[e * out + unit] / keep, g[e * out + unit]);
                for (((f, &alpha), &q), dx) in f[row].iter_mut().zip(alpha).zip(q).zip(dx) {
                    *f = fma::<E, FUSED>(undo, *f, gain * (alpha * q));
                    *dx = fma::<E, FUSED>(*f, g, *dx);
                }
            }
        }
    }
}
