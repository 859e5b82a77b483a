//! Attention of a sequence's next steps all at once, each of them to the steps up to itself.

use smallvec::smallvec;

use super::AttentionCache;
use crate::tape::{Grads, Op, Recorded};
use crate::{Array, Backend, Element, Result, Tape, Tensor};

/// Steps that operations take together where there is no kernel: their scores against all steps are held for the way back,
/// so all of a long sequence at once would take twice the memory, the half of it for what the mask takes out.
const STEPS_AT_ONCE: usize = 64;

/// Sizes of a whole sequence's attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SequenceSizes {
    /// Episodes.
    pub batch: usize,
    /// Steps.
    pub steps: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of a head.
    pub per_head: usize,
    /// How many steps back a step looks, itself among them; all of them if `None`.
    pub window: Option<usize>,
}

impl SequenceSizes {
    pub(super) fn width(self) -> usize {
        self.heads * self.per_head
    }

    /// The first step that step `t` sees.
    pub(super) fn first_seen(self, t: usize) -> usize {
        self.window.map_or(0, |window| (t + 1).saturating_sub(window))
    }
}

impl<B: Backend> AttentionCache<B> {
    /// Takes in the next S steps `qkv` `[B, S, 3d]` and attends to all that each of them sees, itself the last: `[B, S, d]`.
    /// `masks` multiply the probabilities, one for each step, `[B, heads, visible]`; or there is none.
    ///
    /// What a device keeps for the way back of a whole sequence may be no more than two numbers a step and head. A tracked
    /// derivative is that of the whole sequence's qkv; where steps came before, it is refused.
    ///
    /// # Errors
    /// [`TensorError::Unsuitable`](crate::TensorError::Unsuitable) for another shape.
    pub fn attend_all(&mut self, qkv: &Tensor<B>, masks: &[Tensor<B>]) -> Result<Tensor<B>> {
        let sizes = self.sequence_sizes(qkv, masks)?;
        if self.is_empty()
            && let Some(out) = whole(qkv, masks, sizes)?
        {
            self.extend(qkv)?;
            return Ok(out);
        }
        let mut parts = Vec::with_capacity(sizes.steps.div_ceil(STEPS_AT_ONCE));
        for start in (0..sizes.steps).step_by(STEPS_AT_ONCE) {
            let steps = STEPS_AT_ONCE.min(sizes.steps - start);
            let masks = if masks.is_empty() { masks } else { &masks[start..start + steps] };
            parts.push(self.attend_part(&qkv.slice(1, start, steps)?, masks, sizes)?);
        }
        match &parts[..] {
            [whole] => Ok(whole.clone()),
            _ => Tensor::concat(&parts.iter().collect::<Vec<_>>(), 1),
        }
    }

    fn sequence_sizes(&self, qkv: &Tensor<B>, masks: &[Tensor<B>]) -> Result<SequenceSizes> {
        let (before, memory) = (self.len(), self.memory.borrow());
        let (cache, window) = (memory.sizes, memory.window);
        let row = 3 * cache.width();
        let steps = match qkv.shape()[..] {
            [batch, steps, width] if (batch, width) == (cache.batch, row) && steps > 0 => steps,
            _ => {
                let rule = format!("steps are [{}, S, {row}], S at least 1", cache.batch);
                return Err(qkv.unsuitable("attention", rule));
            }
        };
        if !masks.is_empty() && masks.len() != steps {
            return Err(qkv.unsuitable("attention", format!("{} masks are not one a step", masks.len())));
        }
        for (mask, len) in masks.iter().zip(before + 1..) {
            let expected = [cache.batch, cache.heads, window.map_or(len, |window| window.min(len))];
            if mask.shape()[..] != expected {
                return Err(mask.unsuitable("attention", format!("the mask is {expected:?}")));
            }
        }
        let (batch, heads, per_head) = (cache.batch, cache.heads, cache.per_head);
        Ok(SequenceSizes { batch, steps, heads, per_head, window })
    }

    /// The next S steps in operations, under a causal mask.
    fn attend_part(
        &mut self,
        qkv: &Tensor<B>,
        masks: &[Tensor<B>],
        sizes: SequenceSizes,
    ) -> Result<Tensor<B>> {
        let sizes = SequenceSizes { steps: qkv.shape()[1], ..sizes };
        let [q, mut k, mut v] = heads_of(qkv, sizes)?;
        if !self.is_empty() {
            let (earlier_k, earlier_v) = self.keys_and_values()?;
            k = Tensor::concat(&[&earlier_k, &k], 2)?;
            v = Tensor::concat(&[&earlier_v, &v], 2)?;
        }
        self.extend(qkv)?;
        let total = k.shape()[2];
        let scores = q.matmul_transposed(&k, false, true)?;
        let probabilities = scores.add(&causal_mask(qkv.backend(), sizes, total)?)?.softmax()?;
        joined(&masked(&probabilities, masks)?.matmul(&v)?, sizes)
    }
}

/// `[q, k, v]`, each `[B, heads, S, per_head]`, q scaled.
fn heads_of<B: Backend>(qkv: &Tensor<B>, s: SequenceSizes) -> Result<[Tensor<B>; 3]> {
    let part = |part: usize| -> Result<Tensor<B>> {
        let part = qkv.slice(2, part * s.width(), s.width())?;
        part.reshape([s.batch, s.steps, s.heads, s.per_head])?.permute(&[0, 2, 1, 3])
    };
    Ok([part(0)?.scale(scale(s))?, part(1)?, part(2)?])
}

fn scale(s: SequenceSizes) -> f64 {
    1.0 / (s.per_head as f64).sqrt()
}

/// Heads `[B, heads, S, per_head]` side by side, `[B, S, d]`.
fn joined<B: Backend>(heads: &Tensor<B>, s: SequenceSizes) -> Result<Tensor<B>> {
    heads.permute(&[0, 2, 1, 3])?.reshape([s.batch, s.steps, s.width()])
}

/// 0 where step `i` of the last S steps may look at step `j` of `total`, −∞ where it may not, as j comes after it or lies
/// before its window, `[S, total]`.
fn causal_mask<B: Backend>(backend: &B, s: SequenceSizes, total: usize) -> Result<Tensor<B>> {
    let past = total - s.steps;
    let sees = |i: usize, j: usize| j <= past + i && s.window.is_none_or(|window| j + window > past + i);
    let value = |i: usize, j: usize| B::Elem::of(if sees(i, j) { 0.0 } else { f64::NEG_INFINITY });
    let values = (0..s.steps).flat_map(|i| (0..total).map(move |j| value(i, j))).collect();
    Tensor::from_vec(backend, values, [s.steps, total])
}

/// `x` `[B, heads, S, total]` times the masks of the last S steps, each of which has what its step sees.
fn masked<B: Backend>(x: &Tensor<B>, masks: &[Tensor<B>]) -> Result<Tensor<B>> {
    if masks.is_empty() {
        return Ok(x.clone());
    }
    let total = x.shape()[3];
    let mut rows = Vec::with_capacity(masks.len());
    for (mask, end) in masks.iter().zip(total - masks.len() + 1..) {
        let [batch, heads, visible] = mask.shape()[..] else { unreachable!("their shapes were checked") };
        rows.push(mask.reshape([batch, heads, 1, visible])?.pad(3, end - visible, total)?);
    }
    x.mul(&Tensor::concat(&rows.iter().collect::<Vec<_>>(), 2)?)
}

/// All of a sequence by the device's own kernel; `None` where it has none.
fn whole<B: Backend>(
    qkv: &Tensor<B>,
    masks: &[Tensor<B>],
    sizes: SequenceSizes,
) -> Result<Option<Tensor<B>>> {
    let backend = qkv.backend();
    let buffers: Vec<&B::Buffer> = masks.iter().map(|mask| &mask.array.buffer).collect();
    let Some((out, statistics)) = backend.attend_sequence(&qkv.array.buffer, &buffers, sizes)? else {
        return Ok(None);
    };
    let out = Array::new(backend, out, [sizes.batch, sizes.steps, sizes.width()].into());
    let masks = masks.iter().map(|mask| mask.array.clone()).collect();
    Tape::record(Sequence { sizes, statistics, masks }, &[qkv], out).map(Some)
}

/// A whole sequence's attention. Input: its qkv.
struct Sequence<B: Backend> {
    sizes: SequenceSizes,
    statistics: B::Buffer,
    masks: Vec<Array<B>>,
}

impl<B: Backend> Op<B> for Sequence<B> {
    fn name(&self) -> &'static str {
        "attention of a sequence"
    }

    fn backward(&self, r: &Recorded<'_, B>, grad: &Tensor<B>) -> Result<Grads<B>> {
        let qkv = &r.inputs[0];
        if !r.is_plain() {
            return Ok(smallvec![Some(self.backward_tracked(qkv, grad)?)]);
        }
        let masks: Vec<&B::Buffer> = self.masks.iter().map(|mask| &mask.buffer).collect();
        let (backend, g) = (qkv.backend(), &grad.array.buffer);
        let d_qkv =
            backend.attend_sequence_back(&qkv.array.buffer, &self.statistics, &masks, g, self.sizes)?;
        Ok(smallvec![Some(Tensor::from(Array::new(backend, d_qkv, qkv.shape())))])
    }
}

impl<B: Backend> Sequence<B> {
    /// The derivative by qkv, differentiable again.
    fn backward_tracked(&self, qkv: &Tensor<B>, grad: &Tensor<B>) -> Result<Tensor<B>> {
        let s = self.sizes;
        let masks: Vec<Tensor<B>> = self.masks.iter().cloned().map(Tensor::from).collect();
        let [q, k, v] = heads_of(qkv, s)?;
        let g = grad.reshape([s.batch, s.steps, s.heads, s.per_head])?.permute(&[0, 2, 1, 3])?;
        let scores = q.matmul_transposed(&k, false, true)?;
        let p = scores.add(&causal_mask(qkv.backend(), s, s.steps)?)?.softmax()?;
        let d_p = masked(&g.matmul_transposed(&v, false, true)?, &masks)?;
        let along = d_p.mul(&p)?.sum_axis(3)?;
        let d_scores = d_p.sub(&along)?.mul(&p)?;
        let d_q = d_scores.matmul(&k)?.scale(scale(s))?;
        let d_k = d_scores.matmul_transposed(&q, true, false)?;
        let d_v = masked(&p, &masks)?.matmul_transposed(&g, true, false)?;
        let [d_q, d_k, d_v] = [joined(&d_q, s)?, joined(&d_k, s)?, joined(&d_v, s)?];
        Tensor::concat(&[&d_q, &d_k, &d_v], 2)
    }
}

#[cfg(test)]
mod tests;
