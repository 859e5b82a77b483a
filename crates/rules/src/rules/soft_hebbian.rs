//! Hebbian plasticity for which a layer's units compete.

use plastica_tensor::Backend;

use crate::{LayerSizes, PlasticSite, PlasticityRule, RankOne, Result, RuleParameter};

/// Soft competitive Hebbian plasticity, `p = softmax(κ y)` over the layer's units, `q = x`: the unit that fires most
/// takes most of the input (SoftHebb, Moraitis et al., arXiv 2107.05747; to adapt a trained network while it is used,
/// Tang et al., arXiv 2303.00914).
///
/// In SoftHebb each unit's weights also decay by that unit's share, `p (x − y w)`, which is of full rank; here all decay
/// alike, by η. `κ = exp(log_sharpness)` is learned, a number a layer, 1 at first.
#[derive(Debug, Clone, Copy, Default)]
pub struct SoftHebbian;

impl<B: Backend> PlasticityRule<B> for SoftHebbian {
    fn name(&self) -> &'static str {
        "soft-hebbian"
    }

    fn parameters(&self, _: LayerSizes) -> Vec<RuleParameter> {
        vec![RuleParameter::number("log_sharpness", 0.0)]
    }

    fn change(&self, site: &mut PlasticSite<'_, B>) -> Result<Option<RankOne<B>>> {
        let sharpness = site.parameter(0)?.exp()?;
        let p = site.trace.output.mul(&sharpness)?.softmax()?;
        Ok(Some(RankOne { p, q: site.trace.input.clone() }))
    }
}
