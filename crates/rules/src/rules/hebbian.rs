//! What fires together wires together.

use plastica_tensor::Backend;

use crate::{PlasticSite, PlasticityRule, RankOne, Result};

/// Neuromodulated Hebbian plasticity, `p = y`, `q = x`: what fires together wires together
/// (arXiv 2510.21908; gated by a learned signal as in Miconi et al., arXiv 2002.10585).
#[derive(Debug, Clone, Copy, Default)]
pub struct Hebbian;

impl<B: Backend> PlasticityRule<B> for Hebbian {
    fn name(&self) -> &'static str {
        "hebbian"
    }

    fn change(&self, site: &mut PlasticSite<'_, B>) -> Result<Option<RankOne<B>>> {
        Ok(Some(RankOne { p: site.trace.output.clone(), q: site.trace.input.clone() }))
    }
}
