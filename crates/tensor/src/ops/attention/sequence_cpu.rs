//! A whole sequence's attention on the CPU: an episode's head at a time, of that a block of steps at a time. What is kept of
//! the probabilities are two numbers a row, by which the way back makes them again.

use super::SequenceSizes;
use crate::cpu::CpuElement;
use crate::cpu::simd::kernel;
use crate::cpu::transpose::transpose_part;
use crate::ops::matmul::strided::{Part, add_turned_product, product};
use crate::ops::reduce::sum_of;
use crate::ops::softmax::exponentials;

/// Steps whose shares of keys' and values' derivatives are added up before they are added to the others'.
const STEPS: usize = 64;

/// Steps whose scores are made together.
const ROWS: usize = 8;

/// Scores begin at a multiple of as many steps and come in as many: whole registers.
const RUN: usize = 32;

fn whole_runs(steps: usize) -> usize {
    steps.next_multiple_of(RUN)
}

/// Numbers kept for each row of probabilities: the largest score, and what `exp(score − largest)` is multiplied by.
pub(super) const STATISTICS: usize = 2;

/// What is computed with, of one head; all of it zero at first.
#[derive(Debug)]
pub(super) struct Scratch<'a, E> {
    /// Keys, and on the way back values, transposed: `[per_head, steps]`, steps in whole runs.
    keys: &'a mut [E],
    values: &'a mut [E],
    /// Scaled queries of a block, `[STEPS, per_head]`.
    queries: &'a mut [E],
    /// `[ROWS, steps]`
    scores: &'a mut [E],
    /// Probabilities of a block, on the way back the derivatives by the scores, `[STEPS, steps]`.
    probabilities: &'a mut [E],
    d_scores: &'a mut [E],
    /// `[ROWS, per_head]`
    d_queries: &'a mut [E],
}

impl<'a, E> Scratch<'a, E> {
    fn lengths(s: SequenceSizes, back: bool) -> [usize; 7] {
        let (n, wide) = (s.per_head, whole_runs(s.steps));
        let [rows, back] = if back { [STEPS, 1] } else { [ROWS, 0] };
        [n * wide, back * n * wide, STEPS * n, ROWS * wide, rows * wide, back * STEPS * wide, back * ROWS * n]
    }

    /// Elements that it takes, for the way back or the way there.
    pub(super) fn len(s: SequenceSizes, back: bool) -> usize {
        Self::lengths(s, back).iter().sum()
    }

    pub(super) fn of(mut elements: &'a mut [E], s: SequenceSizes, back: bool) -> Self {
        let parts = Self::lengths(s, back).map(|len| {
            let (part, rest) = std::mem::take(&mut elements).split_at_mut(len);
            elements = rest;
            part
        });
        let [keys, values, queries, scores, probabilities, d_scores, d_queries] = parts;
        Self { keys, values, queries, scores, probabilities, d_scores, d_queries }
    }
}

/// Steps `first .. end`, and the first of the steps that their scores are of, the last being theirs.
#[derive(Clone, Copy)]
struct Group {
    first: usize,
    end: usize,
    low: usize,
}

impl Group {
    fn len(self) -> usize {
        self.end - self.first
    }

    /// Steps from `low` on that it has scores of.
    fn seen(self) -> usize {
        self.end - self.low
    }
}

fn groups(block: Group) -> impl Iterator<Item = Group> {
    let first_of = move |first| Group { first, end: (first + ROWS).min(block.end), ..block };
    (block.first..block.end).step_by(ROWS).map(first_of)
}

fn blocks(s: SequenceSizes) -> impl DoubleEndedIterator<Item = Group> {
    let block = move |i: usize| {
        let first = i * STEPS;
        Group { first, end: (first + STEPS).min(s.steps), low: s.first_seen(first) / RUN * RUN }
    };
    (0..s.steps.div_ceil(STEPS)).map(block)
}

/// One head of one episode: where its rows lie.
#[derive(Clone, Copy)]
struct Head<'a, E> {
    s: SequenceSizes,
    /// Which, of all episodes' heads.
    number: usize,
    /// From its first query, key and value on, rows of qkv apart.
    qkv: [&'a [E]; 3],
    masks: &'a [&'a [E]],
}

impl<'a, E: CpuElement> Head<'a, E> {
    fn of(qkv: &'a [E], masks: &'a [&'a [E]], s: SequenceSizes, number: usize) -> Self {
        let first = Self::first(s, number);
        Self { s, number, qkv: [0, 1, 2].map(|part| &qkv[first + part * s.width()..]), masks }
    }

    /// Where its first query lies in qkv.
    fn first(s: SequenceSizes, number: usize) -> usize {
        number / s.heads * s.steps * 3 * s.width() + number % s.heads * s.per_head
    }

    /// Where its first row lies in `[batch, steps, width]`.
    fn first_row(self) -> usize {
        let s = self.s;
        self.number / s.heads * s.steps * s.width() + self.number % s.heads * s.per_head
    }

    /// Its keys (1) or values (2) from step `low` on.
    fn part(self, part: usize, low: usize) -> Part<'a, E> {
        let row = 3 * self.s.width();
        Part { values: &self.qkv[part][low * row..], row }
    }

    /// Keys (1) or values (2), transposed.
    fn turn(self, part: usize, to: &mut [E]) {
        let s = self.s;
        transpose_part((self.qkv[part], 3 * s.width()), (to, whole_runs(s.steps)), s.steps, s.per_head);
    }

    /// Queries of a group, scaled, as rows.
    #[inline(always)]
    fn queries(self, group: Group, to: &mut [E]) {
        let (n, row) = (self.s.per_head, 3 * self.s.width());
        let scale = E::of(1.0 / (n as f64).sqrt());
        for (t, to) in (group.first..group.end).zip(to.chunks_exact_mut(n)) {
            for (to, &q) in to.iter_mut().zip(&self.qkv[0][t * row..]) {
                *to = scale * q;
            }
        }
    }

    /// Step `t`'s mask of what it sees.
    fn mask(self, t: usize) -> Option<&'a [E]> {
        let visible = t + 1 - self.s.first_seen(t);
        self.masks.get(t).map(|mask| &mask[self.number * visible..][..visible])
    }
}

kernel! {
    /// `out` `[batch, steps, width]`, and for each episode, head and step the two [`STATISTICS`].
    pub(super) fn forward<E>(
        qkv: &[E], masks: &[&[E]], s: SequenceSizes, scratch: Scratch<'_, E>, out: &mut [E], statistics: &mut [E],
    ) {
        let (n, wide, width) = (s.per_head, whole_runs(s.steps), s.width());
        let Scratch { keys, queries, scores, probabilities, .. } = scratch;
        for (number, statistics) in statistics.chunks_exact_mut(STATISTICS * s.steps).enumerate() {
            let head = Head::of(qkv, masks, s, number);
            let out = &mut out[head.first_row()..];
            head.turn(1, keys);
            for group in blocks(s).flat_map(groups) {
                let Group { first, low, .. } = group;
                head.queries(group, queries);
                let turned = Part { values: &keys[low..], row: wide };
                let sizes = (group.len(), n, whole_runs(group.seen()));
                product(Part { values: queries, row: n }, turned, (&mut *scores, wide), sizes);
                let rows = scores.chunks_exact_mut(wide).zip(probabilities.chunks_exact_mut(wide));
                for (t, (scores, p)) in (first..group.end).zip(rows) {
                    let begin = s.first_seen(t) - low;
                    let end = t + 1 - low;
                    scores[..begin].fill(E::neg_infinity());
                    let (top, sum) = exponentials::<E, FUSED>(&scores[..end], &mut p[..end]);
                    let rescale = E::one() / sum;
                    p[..end].iter_mut().for_each(|p| *p *= rescale);
                    p[end..group.seen()].fill(E::zero());
                    statistics[STATISTICS * t..][..STATISTICS].copy_from_slice(&[top, rescale]);
                    if let Some(mask) = head.mask(t) {
                        p[begin..end].iter_mut().zip(mask).for_each(|(p, &mask)| *p *= mask);
                    }
                }
                let sizes = (group.len(), group.seen(), n);
                let p = Part { values: probabilities, row: wide };
                product(p, head.part(2, low), (&mut out[first * width..], width), sizes);
            }
        }
    }
}

kernel! {
    /// The derivative by qkv: `d_qkv`, zero at first.
    pub(super) fn backward<E>(
        qkv: &[E], statistics: &[E], masks: &[&[E]], grad: &[E], s: SequenceSizes, scratch: Scratch<'_, E>,
        d_qkv: &mut [E],
    ) {
        let (n, wide, width) = (s.per_head, whole_runs(s.steps), s.width());
        let scale = E::of(1.0 / (n as f64).sqrt());
        let Scratch { keys, values, queries, scores, probabilities, d_scores, d_queries } = scratch;
        for (number, statistics) in statistics.chunks_exact(STATISTICS * s.steps).enumerate() {
            let head = Head::of(qkv, masks, s, number);
            let grad = Part { values: &grad[head.first_row()..], row: width };
            let d_qkv = &mut d_qkv[Head::<E>::first(s, number)..];
            head.turn(1, keys);
            head.turn(2, values);
            for block in blocks(s).rev() {
                for group in groups(block) {
                    let Group { first, end, low } = group;
                    let (seen, runs) = (group.seen(), whole_runs(group.seen()));
                    // rows of the block before this group's
                    let before = first - block.first;
                    let queries = &mut queries[before * n..];
                    let p = &mut probabilities[before * wide..];
                    let d_scores = &mut d_scores[before * wide..];
                    head.queries(group, queries);
                    let turned = Part { values: &keys[low..], row: wide };
                    product(Part { values: queries, row: n }, turned, (&mut *scores, wide), (group.len(), n, runs));
                    for (t, (scores, p)) in (first..end).zip(scores.chunks_exact(wide).zip(p.chunks_exact_mut(wide))) {
                        let (begin, last) = (s.first_seen(t) - low, t + 1 - low);
                        let (top, rescale) = (statistics[STATISTICS * t], statistics[STATISTICS * t + 1]);
                        p[..begin].fill(E::zero());
                        for (p, &score) in p[begin..last].iter_mut().zip(&scores[begin..last]) {
                            *p = (score - top).exp_in_loop::<FUSED>() * rescale;
                        }
                        p[last..seen].fill(E::zero());
                    }
                    let g = Part { values: &grad.values[first * width..], row: width };
                    let turned = Part { values: &values[low..], row: wide };
                    product(g, turned, (&mut *scores, wide), (group.len(), n, runs));
                    let rows = scores.chunks_exact_mut(wide).zip(p.chunks_exact_mut(wide)).zip(d_scores.chunks_exact_mut(wide));
                    for (t, ((d_p, p), d_scores)) in (first..end).zip(rows) {
                        let begin = s.first_seen(t) - low;
                        let (d_p, p) = (&mut d_p[..seen], &mut p[..seen]);
                        let mask = head.mask(t);
                        if let Some(mask) = mask {
                            d_p[begin..].iter_mut().zip(mask).for_each(|(d, &mask)| *d *= mask);
                        }
                        for ((d_score, &d), &p) in d_scores.iter_mut().zip(&*d_p).zip(&*p) {
                            *d_score = d * p;
                        }
                        let along = sum_of(&d_scores[..seen], |x| x);
                        for ((d_score, &d), &p) in d_scores.iter_mut().zip(&*d_p).zip(&*p) {
                            *d_score = (d - along) * p;
                        }
                        if let Some(mask) = mask {
                            p[begin..].iter_mut().zip(mask).for_each(|(p, &mask)| *p *= mask);
                        }
                    }
                    let d = Part { values: d_scores, row: wide };
                    product(d, head.part(1, low), (&mut *d_queries, n), (group.len(), seen, n));
                    for (t, d) in (first..end).zip(d_queries.chunks_exact(n)) {
                        for (to, &d) in d_qkv[t * 3 * width..].iter_mut().zip(d) {
                            *to = scale * d;
                        }
                    }
                }
                for key in (block.low..block.end).step_by(ROWS) {
                    // steps before it do not see it
                    let from = key.max(block.first);
                    let before = from - block.first;
                    let sizes = ((key + ROWS).min(block.end) - key, block.end - from, n);
                    let at = before * wide + key - block.low;
                    let [d_scores, p] = [&*d_scores, &*probabilities].map(|x| Part { values: &x[at..], row: wide });
                    let to = key * 3 * width;
                    let queries = Part { values: &queries[before * n..], row: n };
                    let g = Part { values: &grad.values[from * width..], row: width };
                    add_turned_product(d_scores, queries, (&mut d_qkv[to + width..], 3 * width), sizes);
                    add_turned_product(p, g, (&mut d_qkv[to + 2 * width..], 3 * width), sizes);
                }
            }
        }
    }
}
