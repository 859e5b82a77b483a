//! A threshold between weakening and strengthening that slides with the unit's activity.

use plastica_tensor::Backend;

use crate::{LayerSizes, PlasticSite, PlasticityRule, RankOne, Result, RuleParameter};

/// ρ at first: the threshold is an average over about ten steps.
const RATE: f64 = 0.1;

/// The rule of Bienenstock, Cooper and Munro (J. Neurosci., 1982), `p = y (y − θ)`, `q = x`, each unit with a
/// threshold θ of its own, in the form of Intrator & Cooper (1992) the running average of y²:
/// `θ ← (1 − ρ) θ + ρ y²` after the change.
///
/// Below its threshold an active unit's weights shrink, above it they grow, and with it the threshold. θ is 0 before
/// the first step; `ρ = sigmoid(rate)` is learned, a number a layer, 0.1 at first.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bcm;

impl<B: Backend> PlasticityRule<B> for Bcm {
    fn name(&self) -> &'static str {
        "bcm"
    }

    fn parameters(&self, _: LayerSizes) -> Vec<RuleParameter> {
        vec![RuleParameter::number("rate", (RATE / (1.0 - RATE)).ln())]
    }

    fn change(&self, site: &mut PlasticSite<'_, B>) -> Result<Option<RankOne<B>>> {
        let y = &site.trace.output;
        let theta = site.memory.recall(0, y)?;
        let rate = site.parameter(0)?.sigmoid()?;
        let p = y.mul(&y.sub(&theta)?)?;
        // θ + ρ (y² − θ)
        let slid = theta.add(&y.square()?.sub(&theta)?.mul(&rate)?)?;
        site.memory.keep(0, slid);
        Ok(Some(RankOne { p, q: site.trace.input.clone() }))
    }
}
