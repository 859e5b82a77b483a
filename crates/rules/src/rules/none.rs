//! No plasticity.

use plastica_tensor::Backend;

use crate::{PlasticSite, PlasticityRule, RankOne, Result};

/// No plasticity: an ordinary Transformer.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoPlasticity;

impl<B: Backend> PlasticityRule<B> for NoPlasticity {
    fn name(&self) -> &'static str {
        "none"
    }

    fn is_plastic(&self) -> bool {
        false
    }

    fn change(&self, _: &mut PlasticSite<'_, B>) -> Result<Option<RankOne<B>>> {
        Ok(None)
    }
}
