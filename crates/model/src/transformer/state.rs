//! What a plastic Transformer carries from step to step.

use plastica_rules::FastWeights;
use plastica_tensor::ops::attention::AttentionCache;
use plastica_tensor::{Backend, Tensor};

use super::block::BlockState;
use crate::sequence::side_by_side;
use crate::{ModelError, Noise, Result};

/// What a plastic Transformer carries from step to step, for a batch of episodes.
#[derive(Debug, Clone)]
pub struct PlasticState<B: Backend> {
    pub(super) batch: usize,
    pub(super) step: usize,
    /// A block each.
    pub(super) caches: Vec<AttentionCache<B>>,
    /// Those of block 0's plastic layers in the order of a step, then block 1's, and so on.
    pub(super) fast: Vec<FastWeights<B>>,
    pub(super) noise: Option<Noise>,
}

impl<B: Backend> PlasticState<B> {
    /// Block `i`'s part of it.
    pub(super) fn block(&mut self, i: usize) -> BlockState<'_, B> {
        let plastic = self.fast.len() / self.caches.len();
        BlockState {
            start: self.step,
            cache: &mut self.caches[i],
            fast: self.fast[i * plastic..(i + 1) * plastic].iter(),
            noise: Noise::of_block(self.noise.as_mut(), i),
        }
    }

    /// Steps read so far.
    pub fn step(&self) -> usize {
        self.step
    }

    /// The fast weights, in the order of
    /// [`plastic_layer_names`](crate::ModelConfig::plastic_layer_names): those of block 0, then of block 1, and so on.
    pub fn fast_weights(&self) -> &[FastWeights<B>] {
        &self.fast
    }

    /// `Σ ‖F‖²` over the layers as they stand, `[B]`: no square root, no biases; `None` while they are zero. A walk over
    /// all fast weights.
    ///
    /// # Errors
    /// Device errors.
    pub fn plastic_norm(&self) -> Result<Option<Tensor<B>>> {
        let mut sum: Option<Tensor<B>> = None;
        for fast in &self.fast {
            if let Some(norm) = fast.squared_norm()? {
                sum = Some(match sum {
                    Some(sum) => sum.add(&norm)?,
                    None => norm,
                });
            }
        }
        Ok(sum)
    }

    /// `Σ ‖F‖²` over the layers after each step since this was last called, `[B, T]`.
    pub(super) fn take_plastic_norms(&mut self) -> Result<Option<Tensor<B>>> {
        let mut sum: Option<Tensor<B>> = None;
        for fast in &mut self.fast {
            fast.settle()?;
            let norms = fast.take_norms()?;
            if norms.is_empty() {
                continue;
            }
            let norms = side_by_side(norms.iter())?;
            sum = Some(match sum {
                Some(sum) => sum.add(&norms)?,
                None => norms,
            });
        }
        Ok(sum)
    }

    /// Puts fast weights in the place of the state's own, in the order of
    /// [`fast_weights`](Self::fast_weights): to read on from stored ones, or from learned ones.
    ///
    /// # Errors
    /// [`ModelError::State`] when they are not one for each plastic layer, each for the state's batch.
    pub fn set_fast_weights(&mut self, fast: Vec<FastWeights<B>>) -> Result<()> {
        if fast.len() != self.fast.len() {
            let rule = format!("the state has {} plastic layers", self.fast.len());
            return Err(ModelError::State { field: "fast_weights.len()".into(), value: fast.len(), rule });
        }
        for (i, fast) in fast.iter().enumerate() {
            let batch = fast.get()?.map_or(self.batch, |(weight, _)| weight.shape()[0]);
            if batch != self.batch {
                let rule = format!("the state is for {} episodes", self.batch);
                return Err(ModelError::State {
                    field: format!("fast_weights[{i}].batch"),
                    value: batch,
                    rule,
                });
            }
        }
        self.fast = fast;
        Ok(())
    }
}
