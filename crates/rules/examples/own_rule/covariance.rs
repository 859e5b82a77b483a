//! The rule of covariance (Sejnowski, J. Math. Biol. 4, 1977), `p = y − ȳ`, `q = x − x̄`, with running means that decay
//! by a learned factor λ. It has everything a rule can have: a parameter, a memory, and a change of rank one. What the
//! outer gradient sees of it, how strongly it is applied, and how the fast weights take it is the crate's business.

use plastica_rules::{LayerSizes, PlasticSite, PlasticityRule, RankOne, Result, RuleMemory, RuleParameter};
use plastica_tensor::{Backend, Tensor};

/// `p = y − ȳ`, `q = x − x̄`.
#[derive(Debug, Clone)]
pub struct Covariance;

/// `x − x̄`, x̄ being the mean so far, which then takes x in: `x̄ ← λ x̄ + (1 − λ) x`.
fn centred<B: Backend>(
    memory: &mut RuleMemory<B>,
    place: usize,
    x: &Tensor<B>,
    lambda: &Tensor<B>,
) -> Result<Tensor<B>> {
    let mean = memory.recall(place, x)?;
    let apart = x.sub(&mean)?;
    memory.keep(place, x.sub(&apart.mul(lambda)?)?);
    Ok(apart)
}

impl<B: Backend> PlasticityRule<B> for Covariance {
    fn name(&self) -> &'static str {
        "covariance"
    }

    fn parameters(&self, _: LayerSizes) -> Vec<RuleParameter> {
        // λ = sigmoid(decay), 1/2 at first
        vec![RuleParameter::number("decay", 0.0)]
    }

    fn change(&self, site: &mut PlasticSite<'_, B>) -> Result<Option<RankOne<B>>> {
        let lambda = site.parameter(0)?.sigmoid()?;
        let p = centred(site.memory, 0, &site.trace.output, &lambda)?;
        let q = centred(site.memory, 1, &site.trace.input, &lambda)?;
        Ok(Some(RankOne { p, q }))
    }
}
