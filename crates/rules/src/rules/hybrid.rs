//! Two rules in one.

use plastica_tensor::Backend;

use crate::{LayerSizes, PlasticSite, PlasticityRule, RankOne, Result, RuleParameter};

/// A learned mixture of the [`Hebbian`](super::Hebbian) and the [`Gradient`](super::Gradient) rule,
/// `p = a y + b ∂L_int/∂y`, `q = x`: of rank one, as both have the same q.
///
/// a and b are learned, two numbers a layer without bounds, 1 at first, as the two shares differ in size by orders that
/// no fixed mixture would suit.
#[derive(Debug, Clone, Copy, Default)]
pub struct Hybrid;

impl<B: Backend> PlasticityRule<B> for Hybrid {
    fn name(&self) -> &'static str {
        "hybrid"
    }

    fn needs_internal_gradient(&self) -> bool {
        true
    }

    fn parameters(&self, _: LayerSizes) -> Vec<RuleParameter> {
        vec![RuleParameter::number("hebbian_share", 1.0), RuleParameter::number("gradient_share", 1.0)]
    }

    fn change(&self, site: &mut PlasticSite<'_, B>) -> Result<Option<RankOne<B>>> {
        let gradient = site.internal_gradient("hybrid")?.mul(site.parameter(1)?)?;
        let p = site.trace.output.mul(site.parameter(0)?)?.add(&gradient)?;
        Ok(Some(RankOne { p, q: site.trace.input.clone() }))
    }
}
