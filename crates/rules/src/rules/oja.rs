//! Hebbian plasticity that bounds itself.

use plastica_tensor::Backend;

use crate::{PlasticSite, PlasticityRule, RankOne, Result};

/// Oja's subspace rule, `p = y`, `q = x − Fᵀ y` (Oja, "Neural networks, principal components, and subspaces", 1989; for one
/// unit Oja, J. Math. Biol. 15, 1982).
///
/// What the fast weights already make of y is taken off the input, so that they learn what they cannot yet
/// reconstruct: where `Fᵀ y` exceeds x, the change shrinks F. Of the two forms for many units, this one is of rank one;
/// the other, in which each unit decays by its own `y²`, is not, and lets all units learn the same. F stands for the
/// fast weights alone, as it is they that are to be bounded: W is training's.
///
/// It reads F a second time at each step, transposed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Oja;

impl<B: Backend> PlasticityRule<B> for Oja {
    fn name(&self) -> &'static str {
        "oja"
    }

    fn change(&self, site: &mut PlasticSite<'_, B>) -> Result<Option<RankOne<B>>> {
        let (x, y) = (&site.trace.input, &site.trace.output);
        let q = match site.fast.read_transposed(y)? {
            Some(reconstructed) => x.sub(&reconstructed)?,
            None => x.clone(),
        };
        Ok(Some(RankOne { p: y.clone(), q }))
    }
}
