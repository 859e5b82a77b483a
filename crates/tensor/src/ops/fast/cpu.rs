//! Fast weights along a sequence on the CPU: every kernel is one walk over F, rows outermost, so that a row of α
//! serves all episodes while it is in the nearest cache.

use super::{Advanced, Change, Credit, FastKernels, FastSizes, Plastic, Term};
use crate::Result;
use crate::cpu::simd::{fma, kernel};
use crate::cpu::{Cpu, CpuBuffer, CpuElement};
use crate::ops::reduce::{dot, fold};

const LANES: usize = 16;

impl<E: CpuElement> FastKernels for Cpu<E> {
    fn fast_advance(
        &self,
        fast: &mut Option<(CpuBuffer<E>, CpuBuffer<E>)>,
        plastic: &Plastic<'_, CpuBuffer<E>>,
        change: Option<Change<'_, CpuBuffer<E>>>,
        x: Option<(&CpuBuffer<E>, bool)>,
        sizes: FastSizes,
    ) -> Result<Advanced<CpuBuffer<E>>> {
        let FastSizes { batch, out, inp } = sizes;
        let Some(change) = change.map(|c| Step::of(&c)) else {
            // nothing changes: a plain read
            let read = x.map(|(x, bias)| {
                CpuBuffer::build(batch * out, |y| match fast {
                    Some((f, c)) => read(f.as_slice(), c.as_slice(), x.as_slice(), bias, sizes, y),
                    None => y.fill(E::zero()),
                })
            });
            return Ok(Advanced { read, norm: None });
        };
        let fresh = fast.is_none();
        // a fresh F is written whole, whatever was there
        let (f, c) = fast.get_or_insert_with(|| {
            (CpuBuffer::build(batch * out * inp, |_| ()), CpuBuffer::build(batch * out, |_| ()))
        });
        let mut norms = CpuBuffer::zeros(batch);
        let (alpha, beta) = (plastic.alpha.as_slice(), plastic.beta.as_slice());
        advance_bias(c.make_mut(), beta, &change, out, fresh);
        let (f, norm) = (f.make_mut(), norms.make_mut());
        let read = match x {
            Some((x, bias)) => Some(CpuBuffer::build(batch * out, |y| {
                match fresh {
                    true => advance_fresh(f, alpha, &change, x.as_slice(), sizes, y, norm),
                    false => advance_and_read(f, alpha, &change, x.as_slice(), sizes, y, norm),
                }
                if bias {
                    for (y, &c) in y.iter_mut().zip(c.as_slice()) {
                        *y += c;
                    }
                }
            })),
            None => {
                let zeros = CpuBuffer::zeros(batch * inp);
                CpuBuffer::build(batch * out, |y| match fresh {
                    true => advance_fresh(f, alpha, &change, zeros.as_slice(), sizes, y, norm),
                    false => advance_and_read(f, alpha, &change, zeros.as_slice(), sizes, y, norm),
                });
                None
            }
        };
        Ok(Advanced { read, norm: Some(norms) })
    }

    fn fast_retreat(
        &self,
        (f, c): &mut (CpuBuffer<E>, CpuBuffer<E>),
        plastic: &Plastic<'_, CpuBuffer<E>>,
        change: Option<Change<'_, CpuBuffer<E>>>,
        g: Option<&CpuBuffer<E>>,
        sizes: FastSizes,
    ) -> Result<Option<CpuBuffer<E>>> {
        let FastSizes { batch, out, inp } = sizes;
        let zeros = CpuBuffer::zeros(if g.is_none() { batch * out } else { 0 });
        let g_values = g.unwrap_or(&zeros).as_slice();
        let dx = CpuBuffer::build(batch * inp, |dx| {
            dx.fill(E::zero());
            match change.map(|change| Step::of(&change)) {
                Some(change) => {
                    retreat_bias(c.make_mut(), plastic.beta.as_slice(), &change, out);
                    retreat_and_read(f.make_mut(), plastic.alpha.as_slice(), &change, g_values, sizes, dx);
                }
                None => read_transposed(f.as_slice(), g_values, sizes, dx),
            }
        });
        Ok(g.map(|_| dx))
    }

    fn fast_credit(
        &self,
        credit: &mut Credit<CpuBuffer<E>>,
        plastic: &Plastic<'_, CpuBuffer<E>>,
        decay: Option<&CpuBuffer<E>>,
        terms: &[Term<'_, CpuBuffer<E>>],
        change: Change<'_, CpuBuffer<E>>,
        sizes: FastSizes,
    ) -> Result<[CpuBuffer<E>; 3]> {
        let FastSizes { batch, out, inp } = sizes;
        let step = Step::of(&change);
        let fresh = credit.by_fast.is_none();
        let (g, gc) = credit.by_fast.get_or_insert_with(|| {
            (
                CpuBuffer::zeros(if terms.is_empty() { batch * out * inp } else { 0 }),
                CpuBuffer::zeros(batch * out),
            )
        });
        if fresh && !terms.is_empty() {
            *g = CpuBuffer::build(batch * out * inp, |_| ());
        }
        let slices: Vec<[&[E]; 2]> = terms.iter().map(|t| [t.left.as_slice(), t.right.as_slice()]).collect();
        let decay = decay.map(CpuBuffer::as_slice);
        // the bias: G is its derivative by c, one number a unit
        let gc = gc.make_mut();
        if let Some(decay) = decay {
            for (gc, &eta) in gc.chunks_exact_mut(out).zip(decay) {
                gc.iter_mut().for_each(|gc| *gc *= E::one() - eta);
            }
        }
        for term in terms.iter().filter(|t| t.bias) {
            gc.iter_mut().zip(term.left.as_slice()).for_each(|(gc, &left)| *gc += left);
        }
        let (d_alpha, d_beta) = &mut credit.by_plastic;
        let (d_alpha, d_beta, beta) = (d_alpha.make_mut(), d_beta.make_mut(), plastic.beta.as_slice());
        let mut dq = CpuBuffer::zeros(batch * inp);
        let mut dp = CpuBuffer::build(batch * out, |a| {
            let old = (!fresh).then_some(decay);
            let alpha = plastic.alpha.as_slice();
            walk_back(g.make_mut(), alpha, d_alpha, old, &slices, &step, sizes, a, dq.make_mut());
            for (episode, (a, gc)) in a.chunks_exact_mut(out).zip(gc.chunks_exact(out)).enumerate() {
                let (eta, p) = (step.eta[episode], &step.p[episode * out..]);
                for ((((a, &gc), &beta), d_beta), &p) in
                    a.iter_mut().zip(gc).zip(beta).zip(&mut *d_beta).zip(p)
                {
                    *a += beta * gc;
                    *d_beta += eta * p * gc;
                }
            }
        });
        // ⟨G, F⟩ by way of S, then the chain through η
        let inner = credit.inner.make_mut();
        let d_eta = CpuBuffer::build(batch, |d_eta| {
            for (episode, (d_eta, s)) in d_eta.iter_mut().zip(inner).enumerate() {
                let at = episode * out..(episode + 1) * out;
                let (eta, along) = (step.eta[episode], dot(&step.p[at.clone()], &dp.as_slice()[at]));
                *s -= eta * along;
                *d_eta = along - *s / (E::one() - eta);
            }
        });
        scale_rows(dp.make_mut(), step.eta, out);
        scale_rows(dq.make_mut(), step.eta, inp);
        Ok([d_eta, dp, dq])
    }

    fn add_inner(&self, sums: &mut CpuBuffer<E>, a: &CpuBuffer<E>, b: &CpuBuffer<E>) -> Result<()> {
        let sums = sums.make_mut();
        let width = (a.as_slice().len() / sums.len().max(1)).max(1);
        for ((sum, a), b) in
            sums.iter_mut().zip(a.as_slice().chunks_exact(width)).zip(b.as_slice().chunks_exact(width))
        {
            *sum += dot(a, b);
        }
        Ok(())
    }
}

/// An update's values.
struct Step<'a, E> {
    eta: &'a [E],
    p: &'a [E],
    q: &'a [E],
}

impl<'a, E: CpuElement> Step<'a, E> {
    fn of(change: &Change<'a, CpuBuffer<E>>) -> Self {
        Self { eta: change.eta.as_slice(), p: change.p.as_slice(), q: change.q.as_slice() }
    }
}

fn scale_rows<E: CpuElement>(rows: &mut [E], by: &[E], width: usize) {
    for (row, &by) in rows.chunks_exact_mut(width.max(1)).zip(by) {
        row.iter_mut().for_each(|x| *x *= by);
    }
}

fn advance_bias<E: CpuElement>(c: &mut [E], beta: &[E], change: &Step<'_, E>, out: usize, fresh: bool) {
    for ((c, p), &eta) in c.chunks_exact_mut(out).zip(change.p.chunks_exact(out)).zip(change.eta) {
        for ((c, &p), &beta) in c.iter_mut().zip(p).zip(beta) {
            let kept = if fresh { E::zero() } else { (E::one() - eta) * *c };
            *c = kept + eta * (beta * p);
        }
    }
}

fn retreat_bias<E: CpuElement>(c: &mut [E], beta: &[E], change: &Step<'_, E>, out: usize) {
    for ((c, p), &eta) in c.chunks_exact_mut(out).zip(change.p.chunks_exact(out)).zip(change.eta) {
        for ((c, &p), &beta) in c.iter_mut().zip(p).zip(beta) {
            *c = (*c - eta * (beta * p)) / (E::one() - eta);
        }
    }
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
            let [read, norm] = sums.map(fold);
            y[e * out + unit] = read;
            norms[e] += norm;
        }
    }
}

kernel! {
    /// `F ← keep F + gain α ∘ q` and `y = F x`.
    fn advance_and_read<E>(
        f: &mut [E], alpha: &[E], change: &Step<'_, E>, x: &[E], sizes: FastSizes, y: &mut [E], norms: &mut [E],
    ) {
        advance::<E, false, FUSED>(f, alpha, change, x, sizes, y, norms);
    }
}

kernel! {
    /// The same for F = 0, whatever `f` holds.
    fn advance_fresh<E>(
        f: &mut [E], alpha: &[E], change: &Step<'_, E>, x: &[E], sizes: FastSizes, y: &mut [E], norms: &mut [E],
    ) {
        advance::<E, true, FUSED>(f, alpha, change, x, sizes, y, norms);
    }
}

kernel! {
    /// `y = F x`, plus c if `bias`.
    fn read<E>(f: &[E], c: &[E], x: &[E], bias: bool, sizes: FastSizes, y: &mut [E]) {
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
    fn read_transposed<E>(f: &[E], g: &[E], sizes: FastSizes, dx: &mut [E]) {
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
    fn retreat_and_read<E>(
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

/// One row's part of [`walk_back`], in blocks of `N`; `old`: whether there is a G to decay.
#[inline(always)]
fn back_row<E: CpuElement, const N: usize, const OLD: bool, const FUSED: bool>(
    g: &mut [E],
    d_alpha: &mut [E],
    b: &mut [E],
    [alpha, q, right]: [&[E]; 3],
    [keep, left, p, gain]: [E; 4],
    lanes: &mut [E; LANES],
) {
    let written =
        g.as_chunks_mut::<N>().0.iter_mut().zip(d_alpha.as_chunks_mut::<N>().0).zip(b.as_chunks_mut::<N>().0);
    let read = alpha.as_chunks::<N>().0.iter().zip(q.as_chunks::<N>().0).zip(right.as_chunks::<N>().0);
    for (((g, d_alpha), b), ((alpha, q), right)) in written.zip(read) {
        for i in 0..N {
            let share = left * right[i];
            g[i] = if OLD { fma::<E, FUSED>(keep, g[i], share) } else { share };
            let carried = g[i] * q[i];
            lanes[i] = fma::<E, FUSED>(carried, alpha[i], lanes[i]);
            d_alpha[i] = fma::<E, FUSED>(gain, carried, d_alpha[i]);
            b[i] = fma::<E, FUSED>(g[i] * alpha[i], p, b[i]);
        }
    }
}

kernel! {
    /// `G ← keep G + Σ left ⊗ right`, then `a = (G ∘ α) q`, `b += (G ∘ α)ᵀ p` and `dα += η (p ⊗ q) ∘ G`. `old`: whether
    /// G holds something, and the η by which that decays.
    fn walk_back<E>(
        g: &mut [E],
        alpha: &[E],
        d_alpha: &mut [E],
        old: Option<Option<&[E]>>,
        terms: &[[&[E]; 2]],
        change: &Step<'_, E>,
        sizes: FastSizes,
        a: &mut [E],
        b: &mut [E],
    ) {
        let FastSizes { out, inp, .. } = sizes;
        let whole = inp / LANES * LANES;
        for unit in 0..out {
            let (alpha, alpha_rest) = alpha[unit * inp..(unit + 1) * inp].split_at(whole);
            let (d_alpha, d_alpha_rest) = d_alpha[unit * inp..(unit + 1) * inp].split_at_mut(whole);
            for (e, row, input) in places(sizes, unit) {
                let g = &mut g[row];
                let mut keep = old.flatten().map_or(E::one(), |eta| E::one() - eta[e]);
                let mut is_old = old.is_some();
                // all terms but the last are added first; there are one or two
                let (last, first) = match terms.split_last() {
                    Some((last, first)) => (*last, first),
                    None => ([&[][..], change.q], &[][..]),
                };
                for [left, right] in first {
                    let left = left[e * out + unit];
                    for (g, &right) in g.iter_mut().zip(&right[input.clone()]) {
                        *g = if is_old { fma::<E, FUSED>(keep, *g, left * right) } else { left * right };
                    }
                    (is_old, keep) = (true, E::one());
                }
                let left = last[0].get(e * out + unit).copied().unwrap_or_else(E::zero);
                let p = change.p[e * out + unit];
                let scalars = [keep, left, p, change.eta[e] * p];
                let ((q, q_rest), (right, right_rest)) =
                    (change.q[input.clone()].split_at(whole), last[1][input.clone()].split_at(whole));
                let (g, g_rest) = g.split_at_mut(whole);
                let (b, b_rest) = b[input].split_at_mut(whole);
                let mut lanes = [E::zero(); LANES];
                let (main, rest) = ([alpha, q, right], [alpha_rest, q_rest, right_rest]);
                if is_old {
                    back_row::<E, LANES, true, FUSED>(g, d_alpha, b, main, scalars, &mut lanes);
                    back_row::<E, 1, true, FUSED>(g_rest, d_alpha_rest, b_rest, rest, scalars, &mut lanes);
                } else {
                    back_row::<E, LANES, false, FUSED>(g, d_alpha, b, main, scalars, &mut lanes);
                    back_row::<E, 1, false, FUSED>(g_rest, d_alpha_rest, b_rest, rest, scalars, &mut lanes);
                }
                a[e * out + unit] = fold(lanes);
            }
        }
    }
}
