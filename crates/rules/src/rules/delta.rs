//! Learning from the error of a prediction.

use plastica_tensor::{Backend, Shape};

use crate::{Init, LayerSizes, PlasticSite, PlasticityRule, RankOne, Result, RuleParameter};

/// The delta rule, `p = (T x + t) − y`, `q = x`: the layer learns the difference between what it should have said and
/// what it said (Widrow & Hoff, 1960; of associations Rescorla & Wagner, 1972; of fast weights Schlag et al., arXiv
/// 2102.11174).
///
/// The target is a learned map of the input, T `[out, in]` and t `[out]`; the prediction is the layer's whole output
/// `y = (W + F) x + b + c`, so that once F has learned an input, its change is none. It starts like any linear layer,
/// uniform in ±1/sqrt(in).
#[derive(Debug, Clone, Copy, Default)]
pub struct Delta;

impl<B: Backend> PlasticityRule<B> for Delta {
    fn name(&self) -> &'static str {
        "delta"
    }

    fn parameters(&self, LayerSizes { out, inp }: LayerSizes) -> Vec<RuleParameter> {
        let init = Init::Uniform(1.0 / (inp as f64).sqrt());
        vec![
            RuleParameter { name: "target.weight", shape: Shape::from([out, inp]), init },
            RuleParameter { name: "target.bias", shape: Shape::from([out]), init },
        ]
    }

    fn change(&self, site: &mut PlasticSite<'_, B>) -> Result<Option<RankOne<B>>> {
        let (x, y) = (&site.trace.input, &site.trace.output);
        let target = x.linear(site.parameter(0)?, site.parameter(1)?)?;
        Ok(Some(RankOne { p: target.sub(y)?, q: x.clone() }))
    }
}
