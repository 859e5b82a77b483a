//! A step along the gradient of a learned loss.

use plastica_tensor::Backend;

use crate::{PlasticSite, PlasticityRule, RankOne, Result};

/// Gradient-based plasticity, `p = ∂L_int/∂y`, `q = x`, for a learned internal loss
/// `L_int = mean((R · [outputs; aux; g])²)` (Duan et al., arXiv 2302.03235).
///
/// As `y = (W + F) x`, `p ⊗ q` is the gradient of the internal loss by F. Its sign is not fixed: the learned
/// coefficients α turn it into descent or ascent.
#[derive(Debug, Clone, Copy, Default)]
pub struct Gradient;

impl<B: Backend> PlasticityRule<B> for Gradient {
    fn name(&self) -> &'static str {
        "gradient"
    }

    fn needs_internal_gradient(&self) -> bool {
        true
    }

    fn change(&self, site: &mut PlasticSite<'_, B>) -> Result<Option<RankOne<B>>> {
        let p = site.internal_gradient("gradient")?.clone();
        Ok(Some(RankOne { p, q: site.trace.input.clone() }))
    }
}
