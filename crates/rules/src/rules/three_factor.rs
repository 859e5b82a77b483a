//! Eligibility: what was active some time ago may still be strengthened.

use plastica_tensor::{Backend, Tensor};

use crate::{LayerSizes, PlasticSite, PlasticityRule, RankOne, Result, RuleMemory, RuleParameter};

/// Three-factor plasticity (reviewed by Gerstner et al., arXiv 1801.05219): activity before and after the synapse leaves an
/// *eligibility trace*, and the third factor, the gate, turns into a change what is eligible when it opens. `p = ȳ` and
/// `q = x̄`, traces that decay:
///
/// ```text
/// x̄ ← λ x̄ + (1 − λ) x     λ = sigmoid(pre_decay)
/// ȳ ← μ ȳ + (1 − μ) y     μ = sigmoid(post_decay)
/// ```
///
/// A trace of the product `y ⊗ x` would have the rank of all its steps. Two traces, one on either side of the synapse as
/// in models of spike timing, keep the change at rank one, and let an output meet inputs of some steps before. λ and μ
/// are learned, two numbers a layer, 1/2 at first; at 0 the rule is Hebbian. Traces are 0 before the first step.
#[derive(Debug, Clone, Copy, Default)]
pub struct ThreeFactor;

/// The trace at `place` after `x`, decayed by the sigmoid of `decay`.
fn traced<B: Backend>(
    memory: &mut RuleMemory<B>,
    place: usize,
    x: &Tensor<B>,
    decay: &Tensor<B>,
) -> Result<Tensor<B>> {
    let before = memory.recall(place, x)?;
    let trace = x.add(&before.sub(x)?.mul(&decay.sigmoid()?)?)?;
    memory.keep(place, trace.clone());
    Ok(trace)
}

impl<B: Backend> PlasticityRule<B> for ThreeFactor {
    fn name(&self) -> &'static str {
        "three-factor"
    }

    fn parameters(&self, _: LayerSizes) -> Vec<RuleParameter> {
        vec![RuleParameter::number("pre_decay", 0.0), RuleParameter::number("post_decay", 0.0)]
    }

    fn change(&self, site: &mut PlasticSite<'_, B>) -> Result<Option<RankOne<B>>> {
        let (pre, post) = (site.parameter(0)?.clone(), site.parameter(1)?.clone());
        let q = traced(site.memory, 0, &site.trace.input, &pre)?;
        let p = traced(site.memory, 1, &site.trace.output, &post)?;
        Ok(Some(RankOne { p, q }))
    }
}
