//! Dropout in training: every mask from a generator of its own episode and place.
//!
//! An episode's masks depend on nothing but its key: not on which episodes share its batch, nor on whether
//! the sequence is read step by step or at once.

use plastica_tensor::{Backend, Tensor, dropout_mask};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::Result;

/// Where in a block an element is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Site {
    /// The attention's probabilities.
    Probabilities,
    /// The attention's output.
    Attention,
    /// GELU's output.
    Hidden,
    /// The feed-forward's output.
    Output,
}

const SITES: usize = 4;

/// The source of a batch's dropout masks.
#[derive(Debug, Clone)]
pub struct Noise {
    p: f64,
    /// By block and site, then by episode.
    generators: Vec<Vec<ChaCha8Rng>>,
    keys: usize,
}

impl Noise {
    /// Masks that drop with probability `p`, for a model of `num_layers` blocks and an episode for each key.
    pub fn new(p: f64, num_layers: usize, keys: &[u64]) -> Self {
        let generator = |key: u64, stream: usize| {
            let mut rng = ChaCha8Rng::seed_from_u64(key);
            rng.set_stream(stream as u64);
            rng
        };
        let generators = (0..num_layers * SITES)
            .map(|stream| keys.iter().map(|&key| generator(key, stream)).collect())
            .collect();
        Self { p, generators, keys: keys.len() }
    }

    /// Number of blocks that it has masks for.
    pub(crate) fn num_layers(&self) -> usize {
        self.generators.len() / SITES
    }

    /// Number of episodes that it has masks for.
    pub(crate) fn keys(&self) -> usize {
        self.keys
    }

    /// The dropout of one block.
    pub(crate) fn of_block(noise: Option<&mut Self>, block: usize) -> BlockNoise<'_> {
        BlockNoise { noise, block }
    }
}

/// The dropout of one block; none in evaluation.
#[derive(Debug)]
pub(crate) struct BlockNoise<'a> {
    noise: Option<&'a mut Noise>,
    block: usize,
}

impl BlockNoise<'_> {
    /// The next mask `[B, row]` of a place: 0, or 1/(1 − p); `None` where nothing is dropped.
    ///
    /// # Errors
    /// When p is outside of [0, 1).
    fn mask<B: Backend>(&mut self, backend: &B, site: Site, row: usize) -> Result<Option<Tensor<B>>> {
        let Some(noise) = self.noise.as_mut().filter(|noise| noise.p != 0.0) else { return Ok(None) };
        let generators = &mut noise.generators[self.block * SITES + site as usize];
        Ok(Some(dropout_mask(backend, generators, row, noise.p)?))
    }

    /// Drops elements of `x` `[B, ..]` and scales up the rest.
    pub(crate) fn drop<B: Backend>(&mut self, x: &Tensor<B>, site: Site) -> Result<Tensor<B>> {
        let row = x.shape().len() / x.shape()[0].max(1);
        match self.mask(x.backend(), site, row)? {
            Some(mask) => Ok(x.mul(&mask.reshape(x.shape())?)?),
            None => Ok(x.clone()),
        }
    }

    /// The mask `[B, H, total]` of one step's attention probabilities; `None` where nothing is dropped.
    pub(crate) fn probability_mask<B: Backend>(
        &mut self,
        backend: &B,
        batch: usize,
        heads: usize,
        total: usize,
    ) -> Result<Option<Tensor<B>>> {
        let mask = self.mask(backend, Site::Probabilities, heads * total)?;
        Ok(mask.map(|mask| mask.reshape([batch, heads, total])).transpose()?)
    }

    /// The masks of the next steps' attention probabilities, of as many keys as each can see, drawn in their turn; none
    /// where nothing is dropped.
    pub(crate) fn probability_masks<B: Backend>(
        &mut self,
        backend: &B,
        batch: usize,
        heads: usize,
        visible: impl Iterator<Item = usize>,
    ) -> Result<Vec<Tensor<B>>> {
        let masks = visible.map(|visible| self.probability_mask(backend, batch, heads, visible).transpose());
        masks.flatten().collect()
    }
}
