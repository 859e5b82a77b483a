//! Where a model looks: its attention, computed again for whoever wants to see it.

use plastica_tensor::{Backend, Tensor};

use super::block::{Stream, Watch};
use super::{PlasticState, PlasticTransformer};
use crate::Result;

impl<B: Backend> PlasticTransformer<B> {
    /// How the next step would attend to the steps read so far and to itself: for each block the probabilities
    /// `[B, H, t + 1]`, `t` being [`state.step()`](PlasticState::step), plain values and without dropout; 0 for steps
    /// that a window does not show.
    ///
    /// The state stays as it is. [`step`](crate::SequenceModel::step) keeps no probabilities; here a copy of the state reads
    /// the step, and they come from its queries and the cached keys.
    ///
    /// # Errors
    /// As [`step`](crate::SequenceModel::step).
    pub fn attention(&self, input: &Tensor<B>, state: &PlasticState<B>) -> Result<Vec<Tensor<B>>> {
        self.check_state(state)?;
        self.check_step(input, state)?;
        self.check_positions(state.step + 1)?;
        let mut state = PlasticState { noise: None, ..state.clone() };
        let mut watch = Watch { traces: Vec::new(), scratch: None };
        let mut attention = Vec::with_capacity(self.blocks.len());
        let mut stream = Stream::new(self.embed(&input.detach(), state.step)?);
        let (batch, total) = (state.batch, state.step + 1);
        for (i, block) in self.blocks.iter().enumerate() {
            let (heads, width) = (block.self_attn.num_heads, self.config.model_dim);
            let per_head = width / heads;
            let u = block.ln1.read(&mut stream)?;
            let qkv = block.self_attn.queries_keys_values(&u, &mut state.block(i), &mut watch)?;
            let q = qkv.slice(1, 0, width)?.reshape([batch, heads, 1, per_head])?;
            let mut here = state.block(i);
            let z = block.attend(&mut stream, &mut here, &mut watch)?;
            let (keys, _) = here.cache.keys_and_values()?;
            let scores = q.matmul_transposed(&keys, false, true)?.scale(1.0 / (per_head as f64).sqrt())?;
            let visible = here.cache.visible();
            let probabilities = scores.softmax()?.reshape([batch, heads, visible])?.detach();
            attention.push(match visible == total {
                true => probabilities,
                false => probabilities.pad(2, total - visible, total)?,
            });
            block.feed_forward(&mut stream, z, &mut here, &mut watch)?;
        }
        Ok(attention)
    }
}
