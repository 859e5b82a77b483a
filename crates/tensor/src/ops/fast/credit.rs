//! The way back through one update on the CPU: one walk over G, the derivative by F.

use smallvec::SmallVec;

use super::cpu::{LANES, Step};
use super::{Credit, FastSizes, Plastic, Term};
use crate::cpu::simd::{fma, kernel, prefetch};
use crate::cpu::{CpuBuffer, CpuElement};
use crate::ops::reduce::{dot, fold};

/// Rows of G that are taken together, so that what they are multiplied by is loaded once for all.
const ROWS: usize = 4;
/// Elements of α that stay in the nearest cache, with as many of dα, while a walk goes through the episodes.
const NEAR: usize = 2048;

kernel! {
    /// `G ← keep G + Σ left ⊗ right`, then `a = (G ∘ α) q`, `b += (G ∘ α)ᵀ p` and `dα += η (p ⊗ q) ∘ G`. `keep` `[batch]`,
    /// or `None` where G holds nothing yet.
    fn walk_back<E>(
        g: &mut [E],
        alpha: &[E],
        d_alpha: &mut [E],
        keep: Option<&[E]>,
        terms: &[[&[E]; 2]],
        step: &Step<'_, E>,
        sizes: FastSizes,
        a: &mut [E],
        b: &mut [E],
    ) {
        let FastSizes { batch, out, inp } = sizes;
        let units = (NEAR / inp.max(1)).max(1).next_multiple_of(ROWS);
        for first in (0..out).step_by(units) {
            let end = (first + units).min(out);
            for e in 0..batch {
                let mut unit = first;
                while unit < end {
                    let rows = if unit + ROWS <= end { ROWS } else { 1 };
                    let row = e * out + unit;
                    let (here, near) = (row * inp..(row + rows) * inp, unit * inp..(unit + rows) * inp);
                    let written = [&mut g[here], &mut d_alpha[near.clone()], &mut b[e * inp..(e + 1) * inp]];
                    let (alpha, a) = (&alpha[near], &mut a[row..row + rows]);
                    if rows == ROWS {
                        some_rows::<E, ROWS, FUSED>([e, row], written, alpha, keep, terms, step, a);
                    } else {
                        some_rows::<E, 1, FUSED>([e, row], written, alpha, keep, terms, step, a);
                    }
                    unit += rows;
                }
            }
        }
    }
}

/// `R` rows of episode `e` in [`walk_back`], from `row` on.
#[inline(always)]
fn some_rows<E: CpuElement, const R: usize, const FUSED: bool>(
    [e, row]: [usize; 2],
    [g, d_alpha, b]: [&mut [E]; 3],
    alpha: &[E],
    keep: Option<&[E]>,
    terms: &[[&[E]; 2]],
    step: &Step<'_, E>,
    a: &mut [E],
) {
    let inp = b.len();
    let input = e * inp..(e + 1) * inp;
    let mut by = Factors {
        keep: keep.map(|keep| keep[e]),
        left: [E::zero(); R],
        p: [E::zero(); R],
        gain: [E::zero(); R],
        q: &step.q[input.clone()],
        right: &step.q[input.clone()],
    };
    for r in 0..R {
        by.p[r] = step.p[row + r];
        by.gain[r] = step.eta[e] * by.p[r];
    }
    // all terms but the last are added first; there are one or two
    if let Some(([left, right], first)) = terms.split_last() {
        for [left, right] in first {
            for (g, &left) in g.chunks_exact_mut(inp).zip(&left[row..row + R]) {
                for (g, &right) in g.iter_mut().zip(&right[input.clone()]) {
                    let share = left * right;
                    *g = match by.keep {
                        Some(keep) => fma::<E, FUSED>(keep, *g, share),
                        None => share,
                    };
                }
            }
            by.keep = Some(E::one());
        }
        by.left.copy_from_slice(&left[row..row + R]);
        by.right = &right[input];
    }
    let whole = inp / LANES * LANES;
    let sums = by.columns::<LANES, FUSED>(0..whole, g, d_alpha, b, alpha);
    let rest = by.columns::<1, FUSED>(whole..inp, g, d_alpha, b, alpha);
    for r in 0..R {
        a[r] = fold(sums[r]) + rest[r][0];
    }
}

/// What `R` rows of G are scaled by and multiplied with.
struct Factors<'a, E, const R: usize> {
    /// `None` where G holds nothing yet.
    keep: Option<E>,
    left: [E; R],
    right: &'a [E],
    p: [E; R],
    /// η p
    gain: [E; R],
    q: &'a [E],
}

impl<E: CpuElement, const R: usize> Factors<'_, E, R> {
    /// A range of these rows' columns, `N` at a time. Gives the partial sums of a.
    #[inline(always)]
    fn columns<const N: usize, const FUSED: bool>(
        &self,
        range: std::ops::Range<usize>,
        g: &mut [E],
        d_alpha: &mut [E],
        b: &mut [E],
        alpha: &[E],
    ) -> [[E; N]; R] {
        let inp = b.len();
        let mut sums = [[E::zero(); N]; R];
        for at in range.step_by(N) {
            // everything comes into arrays first and goes back last: the compiler then knows that nothing overlaps
            let rows = [[E::zero(); N]; R];
            let (mut here, mut by_alpha, mut near) = (rows, rows, rows);
            let (mut q, mut right, mut by_q) = ([E::zero(); N], [E::zero(); N], [E::zero(); N]);
            for r in 0..R {
                // the next rows: the machine itself looks ahead too late with so many streams
                prefetch(g, (R + r) * inp + at);
                here[r].copy_from_slice(&g[r * inp + at..][..N]);
                by_alpha[r].copy_from_slice(&d_alpha[r * inp + at..][..N]);
                near[r].copy_from_slice(&alpha[r * inp + at..][..N]);
            }
            q.copy_from_slice(&self.q[at..][..N]);
            right.copy_from_slice(&self.right[at..][..N]);
            by_q.copy_from_slice(&b[at..][..N]);
            let keep = match self.keep {
                Some(keep) => keep,
                None => {
                    here = rows;
                    E::one()
                }
            };
            for i in 0..N {
                for r in 0..R {
                    let g = fma::<E, FUSED>(keep, here[r][i], self.left[r] * right[i]);
                    here[r][i] = g;
                    by_alpha[r][i] = fma::<E, FUSED>(self.gain[r] * q[i], g, by_alpha[r][i]);
                    let scaled = g * near[r][i];
                    by_q[i] = fma::<E, FUSED>(scaled, self.p[r], by_q[i]);
                    sums[r][i] = fma::<E, FUSED>(scaled, q[i], sums[r][i]);
                }
            }
            for r in 0..R {
                g[r * inp + at..][..N].copy_from_slice(&here[r]);
                d_alpha[r * inp + at..][..N].copy_from_slice(&by_alpha[r]);
            }
            b[at..][..N].copy_from_slice(&by_q);
        }
        sums
    }
}

/// The way back through an update: changes G, S and the derivatives by α and β, and gives those by η, p and q.
pub(super) fn way_back<E: CpuElement>(
    credit: &mut Credit<CpuBuffer<E>>,
    plastic: &Plastic<'_, CpuBuffer<E>>,
    decay: Option<&[E]>,
    terms: &[Term<'_, CpuBuffer<E>>],
    step: &Step<'_, E>,
    sizes: FastSizes,
) -> [CpuBuffer<E>; 3] {
    let FastSizes { batch, out, inp } = sizes;
    let (alpha, beta) = (plastic.alpha.as_slice(), plastic.beta.as_slice());
    let kept = |eta: Option<&[E]>| {
        CpuBuffer::build(batch, |keep| {
            keep.fill(E::one());
            keep.iter_mut().zip(eta.unwrap_or_default()).for_each(|(keep, &eta)| *keep -= eta);
        })
    };
    let keep = credit.by_fast.is_some().then(|| kept(decay));
    let keep = keep.as_ref().map(CpuBuffer::as_slice);
    // what a new G holds does not matter
    let new = || (CpuBuffer::build(batch * out * inp, |_| ()), CpuBuffer::zeros(batch * out));
    let (g, gc) = credit.by_fast.get_or_insert_with(new);
    let (g, gc) = (g.make_mut(), gc.make_mut());
    let (d_alpha, d_beta) = &mut credit.by_plastic;
    let (d_alpha, d_beta) = (d_alpha.make_mut(), d_beta.make_mut());
    let pairs: SmallVec<[[&[E]; 2]; 2]> =
        terms.iter().map(|term| [term.left.as_slice(), term.right.as_slice()]).collect();
    let mut dq = CpuBuffer::zeros(batch * inp);
    let mut dp = CpuBuffer::build(batch * out, |a| {
        walk_back(g, alpha, d_alpha, keep, &pairs, step, sizes, a, dq.make_mut());
    });
    // the bias: G is its derivative by c, one number a unit
    if let Some(decay) = decay {
        for (gc, &eta) in gc.chunks_exact_mut(out).zip(decay) {
            gc.iter_mut().for_each(|gc| *gc *= E::one() - eta);
        }
    }
    for term in terms.iter().filter(|t| t.bias) {
        gc.iter_mut().zip(term.left.as_slice()).for_each(|(gc, &left)| *gc += left);
    }
    for (episode, (a, gc)) in dp.make_mut().chunks_exact_mut(out).zip(gc.chunks_exact(out)).enumerate() {
        let (eta, p) = (step.eta[episode], &step.p[episode * out..]);
        for ((((a, &gc), &beta), d_beta), &p) in a.iter_mut().zip(gc).zip(beta).zip(&mut *d_beta).zip(p) {
            *a += beta * gc;
            *d_beta += eta * p * gc;
        }
    }
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
    [d_eta, dp, dq]
}

fn scale_rows<E: CpuElement>(rows: &mut [E], by: &[E], width: usize) {
    for (row, &by) in rows.chunks_exact_mut(width.max(1)).zip(by) {
        row.iter_mut().for_each(|x| *x *= by);
    }
}
