//! Where a model looks: its attention, computed again for whoever wants to see it.

use plastica_tensor::{Backend, Tensor};

use super::{PlasticState, PlasticTransformer};
use crate::{Noise, Result};

impl<B: Backend> PlasticTransformer<B> {
    /// How the next step would attend to the steps read so far and to itself: for each block the probabilities
    /// `[B, H, t + 1]`, `t` being [`state.step()`](PlasticState::step), plain values and without dropout.
    ///
    /// The state stays as it is. [`step`](crate::SequenceModel::step) keeps no probabilities; here a copy of the state reads
    /// the step, and they come from its queries and the cached keys.
    ///
    /// # Errors
    /// As [`step`](crate::SequenceModel::step).
    pub fn attention(&self, input: &Tensor<B>, state: &PlasticState<B>) -> Result<Vec<Tensor<B>>> {
        self.check_state(state)?;
        self.check_step(input, state)?;
        let mut state = PlasticState { noise: None, ..state.clone() };
        let mut attention = Vec::with_capacity(self.blocks.len());
        let mut x = self.input_proj.forward(&input.detach())?;
        let fast = state.fast.chunks_exact(2);
        for ((block, cache), fast) in self.blocks.iter().zip(&mut state.caches).zip(fast) {
            let (heads, width) = (block.self_attn.num_heads, self.config.model_dim);
            let (batch, per_head) = (state.batch, width / heads);
            let u = block.ln1.forward(&x)?;
            let q = block.self_attn.in_proj.forward(&u)?.slice(1, 0, width)?;
            let mut noise = Noise::of_block(None, 0);
            x = block.attend(&x, cache, &mut noise)?;
            let (keys, _) = cache.keys_and_values()?;
            let q = q.reshape([batch, heads, 1, per_head])?;
            let scores = q.matmul_transposed(&keys, false, true)?.scale(1.0 / (per_head as f64).sqrt())?;
            attention.push(scores.softmax()?.reshape([batch, heads, cache.len()])?.detach());
            let z = block.ln2.forward(&x)?;
            x = block.feed_forward(&x, z, fast, &mut noise, &mut Vec::new(), &|y| y)?;
        }
        Ok(attention)
    }
}
