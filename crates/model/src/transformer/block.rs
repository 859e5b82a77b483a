//! A block's layers, and how each reads and writes the residual stream.

use plastica_rules::{FastWeights, LayerTrace, Plastic};
use plastica_tensor::ops::attention::AttentionCache;
use plastica_tensor::{Backend, Tape, Tensor};

use super::rotary;
use crate::Result;
use crate::noise::{BlockNoise, Site};

/// Added to the variance in layer normalisation.
const LAYER_NORM_EPS: f64 = 1e-5;

#[derive(Debug)]
pub(super) struct Linear<B: Backend> {
    pub(super) weight: Tensor<B>,
    pub(super) bias: Tensor<B>,
}

#[derive(Debug)]
pub(super) struct LayerNorm<B: Backend> {
    pub(super) weight: Tensor<B>,
    pub(super) bias: Tensor<B>,
}

/// The residual stream: x, and what is to be added to it before it is read again.
#[derive(Debug)]
pub(super) struct Stream<B: Backend> {
    pub(super) x: Tensor<B>,
    pub(super) written: Option<Tensor<B>>,
}

impl<B: Backend> Stream<B> {
    pub(super) fn new(x: Tensor<B>) -> Self {
        Self { x, written: None }
    }
}

/// A linear layer that may own fast weights: `(W + F) x + b + c`.
#[derive(Debug)]
pub(super) struct Projection<B: Backend> {
    pub(super) linear: Linear<B>,
    pub(super) plastic: Option<Plastic<B>>,
}

#[derive(Debug)]
pub(super) struct Attention<B: Backend> {
    /// Of queries, keys and values.
    pub(super) in_proj: Linear<B>,
    /// What makes its last third, the values', plastic.
    pub(super) value: Option<Plastic<B>>,
    pub(super) out_proj: Projection<B>,
    pub(super) num_heads: usize,
    /// Whether queries and keys are turned by their positions.
    pub(super) rotary: bool,
    /// How many steps back a step looks, itself among them.
    pub(super) window: Option<usize>,
}

#[derive(Debug)]
pub(super) struct Block<B: Backend> {
    pub(super) ln1: LayerNorm<B>,
    pub(super) self_attn: Attention<B>,
    pub(super) ln2: LayerNorm<B>,
    pub(super) fc1: Projection<B>,
    pub(super) fc2: Projection<B>,
}

/// A block's part of the state along its next steps.
pub(super) struct BlockState<'a, B: Backend> {
    /// The number of the first of these steps, from 0.
    pub(super) start: usize,
    pub(super) cache: &'a mut AttentionCache<B>,
    /// Of the plastic layers, in the order in which they are met.
    pub(super) fast: std::slice::Iter<'a, FastWeights<B>>,
    pub(super) noise: BlockNoise<'a>,
}

/// Who looks on as plastic layers compute.
pub(super) struct Watch<'a, B: Backend> {
    /// What they saw, in the order of a step.
    pub(super) traces: Vec<LayerTrace<B>>,
    /// The tape for the internal loss's own derivative, where there is no other.
    pub(super) scratch: Option<&'a Tape<B>>,
}

impl<B: Backend> Watch<'_, B> {
    /// Takes in what a layer saw and did; the output comes back as whatever reads it is to see it.
    pub(super) fn see(&mut self, input: Tensor<B>, output: Tensor<B>) -> Tensor<B> {
        let output = match self.scratch {
            Some(tape) if !output.is_tracked() => tape.leaf(output.array()),
            _ => output,
        };
        self.traces.push(LayerTrace { input, output: output.clone(), internal_gradient: None });
        output
    }
}

impl<B: Backend> Linear<B> {
    pub(super) fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        Ok(x.linear(&self.weight, &self.bias)?)
    }
}

impl<B: Backend> LayerNorm<B> {
    /// What a block reads of the residual stream, which first takes in what the last one wrote.
    pub(super) fn read(&self, stream: &mut Stream<B>) -> Result<Tensor<B>> {
        let Self { weight, bias } = self;
        match stream.written.take() {
            Some(y) => {
                let [sum, read] = stream.x.add_layer_norm(&y, weight, bias, LAYER_NORM_EPS)?;
                stream.x = sum;
                Ok(read)
            }
            None => Ok(stream.x.layer_norm(weight, bias, LAYER_NORM_EPS)?),
        }
    }
}

impl<B: Backend> Projection<B> {
    pub(super) fn forward(
        &self,
        x: Tensor<B>,
        state: &mut BlockState<'_, B>,
        watch: &mut Watch<'_, B>,
    ) -> Result<Tensor<B>> {
        let Linear { weight, bias } = &self.linear;
        match (&self.plastic, &mut state.fast) {
            (Some(_), fast) => {
                let y = next_of(fast).linear(&x, weight, bias)?;
                Ok(watch.see(x, y))
            }
            (None, _) => self.linear.forward(&x),
        }
    }
}

/// The next plastic layer's fast weights.
pub(super) fn next_of<'a, B: Backend>(fast: &mut std::slice::Iter<'a, FastWeights<B>>) -> &'a FastWeights<B> {
    let Some(fast) = fast.next() else { unreachable!("a state has fast weights for every plastic layer") };
    fast
}

impl<B: Backend> Attention<B> {
    /// Causal attention of `u`, the sequence's next S steps `[B, S, d]`, or `[B, d]` for one, to itself and to all
    /// steps cached, or to those that the window shows.
    pub(super) fn forward(
        &self,
        u: &Tensor<B>,
        state: &mut BlockState<'_, B>,
        watch: &mut Watch<'_, B>,
    ) -> Result<Tensor<B>> {
        let qkv = self.queries_keys_values(u, state, watch)?;
        let BlockState { cache, noise, .. } = state;
        let mixed = match u.shape()[..] {
            [batch, _] => {
                cache.extend(&qkv)?;
                let mask = noise.probability_mask(u.backend(), batch, self.num_heads, cache.visible())?;
                cache.attend(&qkv, mask.as_ref())?
            }
            [batch, steps, _] => {
                let first = cache.len() + 1;
                let visible = |len: usize| self.window.map_or(len, |window| window.min(len));
                let lengths = (first..first + steps).map(visible);
                let masks = noise.probability_masks(u.backend(), batch, self.num_heads, lengths)?;
                cache.attend_all(&qkv, &masks)?
            }
            _ => unreachable!("the model passes [B, d] or [B, S, d]"),
        };
        self.out_proj.forward(mixed, state, watch)
    }

    /// `[q, k, v]` of u, `[B, S, 3d]` or `[B, 3d]`: `v = (Wv + F) u + bv + c` where that is plastic, q and k turned by
    /// their positions where these are rotary.
    pub(super) fn queries_keys_values(
        &self,
        u: &Tensor<B>,
        state: &mut BlockState<'_, B>,
        watch: &mut Watch<'_, B>,
    ) -> Result<Tensor<B>> {
        let mut qkv = self.in_proj.forward(u)?;
        let (last, width) = (u.shape().rank() - 1, u.shape()[u.shape().rank() - 1]);
        if self.value.is_some() {
            let v = next_of(&mut state.fast).add_to(qkv.slice(last, 2 * width, width)?, u)?;
            let v = watch.see(u.clone(), v);
            qkv = Tensor::concat(&[&qkv.slice(last, 0, 2 * width)?, &v], last)?;
        }
        match self.rotary {
            true => rotary::turned(&qkv, state.start, self.num_heads),
            false => Ok(qkv),
        }
    }
}

impl<B: Backend> Block<B> {
    /// The attention half over the next S steps, x `[B, S, d]`, or `[B, d]` for one, up to `z = LN2(x)`.
    pub(super) fn attend(
        &self,
        stream: &mut Stream<B>,
        state: &mut BlockState<'_, B>,
        watch: &mut Watch<'_, B>,
    ) -> Result<Tensor<B>> {
        let u = self.ln1.read(stream)?;
        let attended = self.self_attn.forward(&u, state, watch)?;
        stream.written = Some(state.noise.drop(&attended, Site::Attention)?);
        self.ln2.read(stream)
    }

    /// The feed-forward half over rows of steps: `z = LN2(x)`, `[rows, d]`.
    pub(super) fn feed_forward(
        &self,
        stream: &mut Stream<B>,
        z: Tensor<B>,
        state: &mut BlockState<'_, B>,
        watch: &mut Watch<'_, B>,
    ) -> Result<()> {
        let y1 = self.fc1.forward(z, state, watch)?;
        let hidden = state.noise.drop(&y1.gelu()?, Site::Hidden)?;
        let y2 = self.fc2.forward(hidden, state, watch)?;
        stream.written = Some(state.noise.drop(&y2, Site::Output)?);
        Ok(())
    }

    /// Its plastic layers, in the order of a step.
    pub(super) fn plastic_layers(&self) -> impl Iterator<Item = &Plastic<B>> {
        let Attention { value, out_proj, .. } = &self.self_attn;
        [value, &out_proj.plastic, &self.fc1.plastic, &self.fc2.plastic].into_iter().flatten()
    }
}
