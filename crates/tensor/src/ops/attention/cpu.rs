//! Attention over a cache on the CPU, an episode's head at a time.

use std::ops::Range;

use super::sequence_cpu::{self, STATISTICS, Scratch};
use super::{AttendedStep, AttentionKernels, CacheSizes, KeysValues, SequenceSizes};
use crate::Result;
use crate::cpu::simd::{fma, kernel};
use crate::cpu::{Cpu, CpuBuffer, CpuElement};
use crate::ops::reduce::dot;
use crate::ops::softmax::exponentials;

type Pair<E> = KeysValues<CpuBuffer<E>>;

/// Steps up to which a step's probabilities are kept for the way back. Of one that sees more, two numbers a head are, by
/// which they are made again: their memory would grow with the square of a sequence's length.
const LONGEST_KEPT: usize = 256;

/// Whether the probabilities of a step that sees these are made again on the way back.
fn makes_again(seen: &Range<usize>) -> bool {
    seen.len() > LONGEST_KEPT
}

impl<E: CpuElement> AttentionKernels for Cpu<E> {
    fn resize_cache(&self, pair: &Pair<E>, len: usize, from: CacheSizes, to: CacheSizes) -> Result<Pair<E>> {
        let run = len * from.per_head;
        let (old, new) = (from.capacity * from.per_head, to.capacity * to.per_head);
        let resized = |cache: &CpuBuffer<E>| {
            let mut resized = CpuBuffer::zeros(to.len());
            let heads = resized.make_mut().chunks_exact_mut(new.max(1));
            for (to, from) in heads.zip(cache.as_slice().chunks_exact(old.max(1))) {
                to[..run].copy_from_slice(&from[..run]);
            }
            resized
        };
        Ok(KeysValues { keys: resized(&pair.keys), values: resized(&pair.values) })
    }

    fn write_cache(
        &self,
        pair: &mut Pair<E>,
        qkv: &CpuBuffer<E>,
        start: usize,
        steps: usize,
        sizes: CacheSizes,
    ) -> Result<()> {
        let qkv = qkv.as_slice();
        let (keys, values) = (pair.keys.make_mut(), pair.values.make_mut());
        for place in places(start, steps, sizes) {
            keys[place.cached.clone()].copy_from_slice(&qkv[place.key.clone()]);
            values[place.cached].copy_from_slice(&qkv[place.value]);
        }
        Ok(())
    }

    fn read_cache(
        &self,
        pair: &Pair<E>,
        start: usize,
        steps: usize,
        sizes: CacheSizes,
    ) -> Result<CpuBuffer<E>> {
        let (keys, values) = (pair.keys.as_slice(), pair.values.as_slice());
        Ok(CpuBuffer::build(sizes.batch * steps * 3 * sizes.width(), |qkv| {
            qkv.fill(E::zero());
            for place in places(start, steps, sizes) {
                qkv[place.key].copy_from_slice(&keys[place.cached.clone()]);
                qkv[place.value].copy_from_slice(&values[place.cached]);
            }
        }))
    }

    fn copy_cache(
        &self,
        cache: &CpuBuffer<E>,
        seen: Range<usize>,
        sizes: CacheSizes,
    ) -> Result<CpuBuffer<E>> {
        let (first, run) = (seen.start * sizes.per_head, seen.len() * sizes.per_head);
        Ok(CpuBuffer::build(sizes.batch * sizes.heads * run, |out| {
            let heads = cache.as_slice().chunks_exact((sizes.capacity * sizes.per_head).max(1));
            for (out, head) in out.chunks_exact_mut(run.max(1)).zip(heads) {
                out.copy_from_slice(&head[first..first + run]);
            }
        }))
    }

    fn add_to_cache(
        &self,
        cache: &mut CpuBuffer<E>,
        x: &CpuBuffer<E>,
        seen: Range<usize>,
        sizes: CacheSizes,
    ) -> Result<()> {
        let (first, run) = (seen.start * sizes.per_head, seen.len() * sizes.per_head);
        let heads = cache.make_mut().chunks_exact_mut((sizes.capacity * sizes.per_head).max(1));
        for (head, x) in heads.zip(x.as_slice().chunks_exact(run.max(1))) {
            head[first..].iter_mut().zip(x).for_each(|(sum, &x)| *sum += x);
        }
        Ok(())
    }

    fn attend(
        &self,
        qkv: &CpuBuffer<E>,
        pair: &Pair<E>,
        mask: Option<&CpuBuffer<E>>,
        seen: Range<usize>,
        sizes: CacheSizes,
    ) -> Result<(CpuBuffer<E>, CpuBuffer<E>)> {
        let each = if makes_again(&seen) { STATISTICS } else { seen.len() };
        let mut kept = CpuBuffer::build(sizes.batch * sizes.heads * each, |_| ());
        let mut scratch = CpuBuffer::build(2 * seen.len(), |_| ());
        let out = CpuBuffer::build(sizes.batch * sizes.width(), |out| {
            let (keys, values) = (pair.keys.as_slice(), pair.values.as_slice());
            let (kept, mask) = (kept.make_mut(), mask.map(CpuBuffer::as_slice));
            forward(qkv.as_slice(), keys, values, mask, &seen, sizes, scratch.make_mut(), kept, out);
        });
        Ok((out, kept))
    }

    fn attend_back(
        &self,
        step: AttendedStep<'_, CpuBuffer<E>>,
        pair: &Pair<E>,
        back: &mut Pair<E>,
        grad: &CpuBuffer<E>,
        seen: Range<usize>,
        sizes: CacheSizes,
    ) -> Result<CpuBuffer<E>> {
        let (keys, values) = (pair.keys.as_slice(), pair.values.as_slice());
        let (d_keys, d_values) = (back.keys.make_mut(), back.values.make_mut());
        let (qkv, p, mask) = (step.qkv.as_slice(), step.kept.as_slice(), step.mask.map(CpuBuffer::as_slice));
        let mut scratch = CpuBuffer::build(2 * seen.len(), |_| ());
        Ok(CpuBuffer::build(sizes.batch * 3 * sizes.width(), |d_qkv| {
            d_qkv.fill(E::zero());
            let scratch = scratch.make_mut();
            let g = grad.as_slice();
            backward(qkv, keys, values, p, mask, g, &seen, sizes, scratch, d_keys, d_values, d_qkv);
        }))
    }

    fn attend_sequence(
        &self,
        qkv: &CpuBuffer<E>,
        masks: &[&CpuBuffer<E>],
        s: SequenceSizes,
    ) -> Result<Option<(CpuBuffer<E>, CpuBuffer<E>)>> {
        let masks: Vec<&[E]> = masks.iter().map(|mask| mask.as_slice()).collect();
        let mut statistics = CpuBuffer::build(s.batch * s.heads * s.steps * STATISTICS, |_| ());
        let mut scratch = CpuBuffer::zeros(Scratch::<E>::len(s, false));
        let out = CpuBuffer::build(s.batch * s.steps * s.width(), |out| {
            let scratch = Scratch::of(scratch.make_mut(), s, false);
            sequence_cpu::forward(qkv.as_slice(), &masks, s, scratch, out, statistics.make_mut());
        });
        Ok(Some((out, statistics)))
    }

    fn attend_sequence_back(
        &self,
        qkv: &CpuBuffer<E>,
        statistics: &CpuBuffer<E>,
        masks: &[&CpuBuffer<E>],
        grad: &CpuBuffer<E>,
        s: SequenceSizes,
    ) -> Result<CpuBuffer<E>> {
        let masks: Vec<&[E]> = masks.iter().map(|mask| mask.as_slice()).collect();
        let mut scratch = CpuBuffer::zeros(Scratch::<E>::len(s, true));
        Ok(CpuBuffer::build(qkv.as_slice().len(), |d_qkv| {
            d_qkv.fill(E::zero());
            let scratch = Scratch::of(scratch.make_mut(), s, true);
            let (statistics, grad) = (statistics.as_slice(), grad.as_slice());
            sequence_cpu::backward(qkv.as_slice(), statistics, &masks, grad, s, scratch, d_qkv);
        }))
    }
}

/// Where one step's key and value of one head stand: in the cache, and in the rows of qkv.
struct Place {
    cached: std::ops::Range<usize>,
    key: std::ops::Range<usize>,
    value: std::ops::Range<usize>,
}

fn places(start: usize, steps: usize, s: CacheSizes) -> impl Iterator<Item = Place> {
    let width = s.width();
    let each = move |episode: usize, head: usize, step: usize| {
        let cached = ((episode * s.heads + head) * s.capacity + start + step) * s.per_head;
        let key = (episode * steps + step) * 3 * width + width + head * s.per_head;
        let run = move |from: usize| from..from + s.per_head;
        Place { cached: run(cached), key: run(key), value: run(key + width) }
    };
    (0..s.batch).flat_map(move |e| (0..s.heads).flat_map(move |h| (0..steps).map(move |t| each(e, h, t))))
}

kernel! {
    /// `kept` is the probabilities, or the two [`STATISTICS`] a head, `scratch` twice as many as there are steps.
    fn forward<E>(
        qkv: &[E], keys: &[E], values: &[E], mask: Option<&[E]>, seen: &Range<usize>, s: CacheSizes,
        scratch: &mut [E], kept: &mut [E], out: &mut [E],
    ) {
        let (n, stride, len) = (s.per_head, s.capacity * s.per_head, seen.len());
        let scale = E::of(1.0 / (n as f64).sqrt());
        let again = makes_again(seen);
        let each = if again { STATISTICS } else { len };
        let (scores, scratch) = scratch.split_at_mut(len);
        for (i, (kept, out)) in kept.chunks_exact_mut(each).zip(out.chunks_exact_mut(n)).enumerate() {
            let (episode, head) = (i / s.heads, i % s.heads);
            let q = &qkv[(episode * 3 * s.heads + head) * n..][..n];
            let (keys, values) = (&keys[i * stride + seen.start * n..][..len * n], &values[i * stride + seen.start * n..][..len * n]);
            for (score, key) in scores.iter_mut().zip(keys.chunks_exact(n)) {
                *score = scale * dot(q, key);
            }
            let p = if again { &mut *scratch } else { &mut *kept };
            let (top, sum) = exponentials::<E, FUSED>(scores, p);
            let rescale = E::one() / sum;
            out.fill(E::zero());
            for (j, (p, value)) in p.iter_mut().zip(values.chunks_exact(n)).enumerate() {
                *p *= rescale;
                let weight = mask.map_or(*p, |mask| *p * mask[i * len + j]);
                for (out, &value) in out.iter_mut().zip(value) {
                    *out = fma::<E, FUSED>(weight, value, *out);
                }
            }
            if again {
                kept.copy_from_slice(&[top, rescale]);
            }
        }
    }
}

kernel! {
    fn backward<E>(
        qkv: &[E], keys: &[E], values: &[E], kept: &[E], mask: Option<&[E]>, grad: &[E], seen: &Range<usize>,
        s: CacheSizes, scratch: &mut [E], d_keys: &mut [E], d_values: &mut [E], d_qkv: &mut [E],
    ) {
        let (n, stride, len) = (s.per_head, s.capacity * s.per_head, seen.len());
        let scale = E::of(1.0 / (n as f64).sqrt());
        let again = makes_again(seen);
        let each = if again { STATISTICS } else { len };
        let (d_scores, scratch) = scratch.split_at_mut(len);
        for (i, (kept, g)) in kept.chunks_exact(each).zip(grad.chunks_exact(n)).enumerate() {
            let row = (i / s.heads * 3 * s.heads + i % s.heads) * n;
            let (q, dq) = (&qkv[row..row + n], &mut d_qkv[row..row + n]);
            let first = i * stride + seen.start * n;
            let at = first..first + len * n;
            let p = if again {
                for (score, key) in scratch.iter_mut().zip(keys[at.clone()].chunks_exact(n)) {
                    *score = scale * dot(q, key);
                }
                for p in scratch.iter_mut() {
                    *p = (*p - kept[0]).exp_in_loop::<FUSED>() * kept[1];
                }
                &*scratch
            } else {
                kept
            };
            let mut along = E::zero();
            let values = values[at.clone()].chunks_exact(n).zip(d_values[at.clone()].chunks_exact_mut(n));
            for (j, ((d, &p), (value, d_value))) in d_scores.iter_mut().zip(p).zip(values).enumerate() {
                let kept = mask.map_or(E::one(), |mask| mask[i * len + j]);
                *d = kept * dot(g, value);
                along = fma::<E, FUSED>(p, *d, along);
                let weight = kept * p;
                for (d_value, &g) in d_value.iter_mut().zip(g) {
                    *d_value = fma::<E, FUSED>(weight, g, *d_value);
                }
            }
            let keys = keys[at.clone()].chunks_exact(n).zip(d_keys[at].chunks_exact_mut(n));
            for ((&d, &p), (key, d_key)) in d_scores.iter().zip(p).zip(keys) {
                let d = scale * p * (d - along);
                for (((dq, d_key), &q), &key) in dq.iter_mut().zip(d_key).zip(q).zip(key) {
                    *dq = fma::<E, FUSED>(d, key, *dq);
                    *d_key = fma::<E, FUSED>(d, q, *d_key);
                }
            }
        }
    }
}
