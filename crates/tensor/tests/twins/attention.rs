//! Attention over a cache, against keys and values that are concatenated anew.

use plastica_tensor::ops::attention::AttentionCache;
use plastica_tensor::{Cpu, Result};

use crate::common::{CPU, Real, Variables, check, tracked_gradient};

/// Attention to a sequence so far, kept in whatever way.
trait Attention {
    fn extend(&mut self, qkv: &Real) -> Result<()>;
    fn attend(&self, qkv: &Real, mask: Option<&Real>) -> Result<Real>;
    fn keys_and_values(&self) -> Result<(Real, Real)>;
}

impl Attention for AttentionCache<Cpu<f64>> {
    fn extend(&mut self, qkv: &Real) -> Result<()> {
        self.extend(qkv)
    }
    fn attend(&self, qkv: &Real, mask: Option<&Real>) -> Result<Real> {
        self.attend(qkv, mask)
    }
    fn keys_and_values(&self) -> Result<(Real, Real)> {
        self.keys_and_values()
    }
}

/// Keys and values, concatenated anew whenever they are read.
struct Concatenated {
    heads: usize,
    /// Steps that the last one sees, itself among them.
    window: usize,
    steps: Vec<Real>,
}

impl Concatenated {
    /// Part 0, 1 or 2 of `[q, k, v]`, `[B, heads, S, per_head]`.
    fn part(&self, qkv: &Real, part: usize) -> Result<Real> {
        let (batch, width) = (qkv.shape()[0], qkv.shape()[qkv.shape().rank() - 1] / 3);
        let steps = qkv.shape().len() / (3 * batch * width);
        let part = qkv.reshape([batch, steps, 3 * width])?.slice(2, part * width, width)?;
        part.reshape([batch, steps, self.heads, width / self.heads])?.permute(&[0, 2, 1, 3])
    }
}

impl Attention for Concatenated {
    fn extend(&mut self, qkv: &Real) -> Result<()> {
        self.steps.push(qkv.clone());
        Ok(())
    }
    fn attend(&self, qkv: &Real, mask: Option<&Real>) -> Result<Real> {
        let (q, (keys, values)) = (self.part(qkv, 0)?, self.keys_and_values()?);
        let [batch, heads, len, per_head] = keys.shape()[..] else { panic!("keys have four axes") };
        let scores = q.matmul_transposed(&keys, false, true)?.scale(1.0 / (per_head as f64).sqrt())?;
        let mut weights = scores.softmax()?;
        if let Some(mask) = mask {
            weights = weights.mul(&mask.reshape([batch, heads, 1, len])?)?;
        }
        weights.matmul(&values)?.reshape([batch, heads * per_head])
    }
    fn keys_and_values(&self) -> Result<(Real, Real)> {
        let all = |part| {
            let parts = self.steps.iter().map(|qkv| self.part(qkv, part)).collect::<Result<Vec<_>>>()?;
            let all = Real::concat(&parts.iter().collect::<Vec<_>>(), 2)?;
            let steps = all.shape()[2];
            all.slice(2, steps.saturating_sub(self.window), steps.min(self.window))
        };
        Ok((all(1)?, all(2)?))
    }
}

#[derive(Clone, Copy)]
struct Reading {
    batch: usize,
    heads: usize,
    per_head: usize,
    /// Lengths of what is taken in at once.
    pieces: &'static [usize],
    masked: bool,
    window: Option<usize>,
}

impl Reading {
    fn check(self, name: &str, inner: bool) {
        let Self { batch, heads, per_head, .. } = self;
        let Self { window, masked, .. } = self;
        let name =
            format!("{name}, {} pieces, {heads} heads, masked {masked}, {window:?}", self.pieces.len());
        let cache = AttentionCache::windowed(&CPU, batch, heads, per_head, 4, window);
        let twin = Concatenated { heads, window: window.unwrap_or(usize::MAX), steps: Vec::new() };
        check(&name, 1e-10, |v| self.follow(cache, v, inner), |v| self.follow(twin, v, inner));
    }

    /// With `inner`, gives the gradient of a scalar of each step's attention by that step's qkv too.
    fn follow(self, mut past: impl Attention, v: &mut Variables, inner: bool) -> Result<Vec<Real>> {
        let Self { batch, heads, per_head, .. } = self;
        let row = 3 * heads * per_head;
        let (mut outputs, mut len) = (Vec::new(), 0);
        for &steps in self.pieces {
            len += steps;
            let visible = len.min(self.window.unwrap_or(len));
            let mask = v.between((0.0, 2.0), [batch, heads, visible])?;
            let mask = self.masked.then(|| Real::from(mask));
            let c = v.leaf("c", [batch, heads * per_head])?;
            let qkv = match steps {
                1 => v.leaf("qkv", [batch, row])?,
                _ => v.leaf("qkv", [batch, steps, row])?,
            };
            past.extend(&qkv)?;
            let last = if steps == 1 { qkv.clone() } else { qkv.step(steps - 1)? };
            let y = past.attend(&last, mask.as_ref())?;
            if inner && steps == 1 {
                outputs.push(tracked_gradient(&y.square()?.mul(&c)?.sum()?, &qkv)?);
            }
            outputs.push(y);
        }
        let (keys, values) = past.keys_and_values()?;
        outputs.extend([keys, values]);
        Ok(outputs)
    }
}

#[test]
fn attention_to_a_cache_is_attention() {
    for (heads, per_head) in [(1, 5), (3, 4), (3, 17)] {
        for masked in [false, true] {
            for pieces in [&[1][..], &[1; 7], &[1; 40], &[3, 1, 1, 6, 1, 2], &[9, 1]] {
                for (batch, window) in [(1, None), (2, None), (2, Some(1)), (2, Some(5))] {
                    let reading = Reading { batch, heads, per_head, pieces, masked, window };
                    reading.check("attention", false);
                    reading.check("attention's gradient", true);
                }
            }
        }
    }
}

#[test]
fn a_window_that_is_only_read_takes_the_same_memory_however_long_the_sequence() {
    let mut v = Variables::new();
    let mut cache = AttentionCache::windowed(&CPU, 2, 3, 4, 8, Some(4));
    let mut twin = Concatenated { heads: 3, window: 4, steps: Vec::new() };
    for step in 1..60 {
        let qkv = v.constant([2, 36]).unwrap();
        cache.extend(&qkv).unwrap();
        twin.extend(&qkv).unwrap();
        let ours = cache.attend(&qkv, None).unwrap().to_vec().unwrap();
        let theirs = twin.attend(&qkv, None).unwrap().to_vec().unwrap();
        assert!(ours.iter().zip(&theirs).all(|(a, b)| (a - b).abs() < 1e-14), "step {step}");
        assert_eq!((cache.len(), cache.visible(), cache.capacity()), (step, step.min(4), 8));
    }
}

#[test]
fn a_clone_of_a_cache_is_independent() {
    let mut v = Variables::new();
    let mut cache = AttentionCache::new(&CPU, 2, 3, 4, 4);
    cache.extend(&v.leaf("qkv", [2, 3, 36]).unwrap()).unwrap();
    let mut clone = cache.clone();
    let values = |cache: &AttentionCache<Cpu<f64>>| cache.keys_and_values().unwrap().1.to_vec().unwrap();
    let before = values(&cache);
    assert_eq!(values(&clone), before);
    clone.extend(&v.constant([2, 36]).unwrap()).unwrap();
    assert!(!clone.keys_and_values().unwrap().0.is_tracked(), "a clone has no history");
    cache.extend(&v.constant([2, 36]).unwrap()).unwrap();
    assert_ne!(values(&clone), values(&cache), "each has its own fourth step");
}
