//! The seam of this crate: from what one plastic layer saw at one step to its rank-one change.

use std::fmt;
use std::str::FromStr;

use plastica_tensor::{Backend, Tensor};
use serde::{Deserialize, Serialize};

use crate::{Result, RuleError};

/// What one plastic layer saw and did at one step, for a batch of `B` episodes.
#[derive(Debug, Clone)]
pub struct LayerTrace<B: Backend> {
    /// The layer's input, `[B, in]`.
    pub input: Tensor<B>,
    /// The layer's output before any nonlinearity, `[B, out]`.
    pub output: Tensor<B>,
    /// Derivative of each episode's internal loss by that episode's output, `[B, out]`, where the rule asked
    /// for it.
    pub internal_gradient: Option<Tensor<B>>,
}

/// A rank-one change `p ⊗ q` of a weight matrix, and `p` of its bias, an episode each.
#[derive(Debug, Clone)]
pub struct RankOne<B: Backend> {
    /// One number per output unit, `[B, out]`.
    pub p: Tensor<B>,
    /// One number per input unit, `[B, in]`.
    pub q: Tensor<B>,
}

/// A rule of plasticity: how a layer's fast weights are to change after a step.
///
/// A rule decides the direction only. How far to go is the neuromodulator's business
/// ([`Neuromodulation`](crate::Neuromodulation)), how the change is carried out the fast weights'
/// ([`FastWeights`](crate::FastWeights)).
pub trait PlasticityRule<B: Backend>: Send + Sync {
    /// The rule's name, as in configurations.
    fn name(&self) -> &'static str;

    /// Whether [`LayerTrace::internal_gradient`] must be there.
    fn needs_internal_gradient(&self) -> bool {
        false
    }

    /// The change, or `None` for a layer that stays as it is.
    ///
    /// # Errors
    /// [`RuleError::NoInternalGradient`] where one was needed.
    fn change(&self, trace: &LayerTrace<B>) -> Result<Option<RankOne<B>>>;
}

/// No plasticity: an ordinary Transformer.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoPlasticity;

impl<B: Backend> PlasticityRule<B> for NoPlasticity {
    fn name(&self) -> &'static str {
        "none"
    }

    fn change(&self, _: &LayerTrace<B>) -> Result<Option<RankOne<B>>> {
        Ok(None)
    }
}

/// Neuromodulated Hebbian plasticity, `p = y`, `q = x`: what fires together wires together
/// (arXiv 2510.21908; gated by a learned signal as in Miconi et al., arXiv 2002.10585).
#[derive(Debug, Clone, Copy, Default)]
pub struct Hebbian;

impl<B: Backend> PlasticityRule<B> for Hebbian {
    fn name(&self) -> &'static str {
        "hebbian"
    }

    fn change(&self, trace: &LayerTrace<B>) -> Result<Option<RankOne<B>>> {
        Ok(Some(RankOne { p: trace.output.clone(), q: trace.input.clone() }))
    }
}

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

    fn change(&self, trace: &LayerTrace<B>) -> Result<Option<RankOne<B>>> {
        let p = trace.internal_gradient.clone().ok_or(RuleError::NoInternalGradient { rule: "gradient" })?;
        Ok(Some(RankOne { p, q: trace.input.clone() }))
    }
}

/// The rules of this crate by name, for configurations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// [`NoPlasticity`]
    None,
    /// [`Hebbian`]
    Hebbian,
    /// [`Gradient`]
    Gradient,
}

impl Rule {
    /// All of them, in the order in which tables list them.
    pub const ALL: [Rule; 3] = [Rule::None, Rule::Hebbian, Rule::Gradient];

    /// The rule's name, as in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Rule::None => "none",
            Rule::Hebbian => "hebbian",
            Rule::Gradient => "gradient",
        }
    }

    /// The rule itself.
    pub fn build<B: Backend>(self) -> Box<dyn PlasticityRule<B>> {
        match self {
            Rule::None => Box::new(NoPlasticity),
            Rule::Hebbian => Box::new(Hebbian),
            Rule::Gradient => Box::new(Gradient),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(name: &str) -> Result<Self> {
        let found = Rule::ALL.into_iter().find(|rule| rule.name() == name);
        found.ok_or_else(|| RuleError::UnknownRule { name: name.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use plastica_tensor::Cpu;

    use super::*;

    type Change = Option<(Vec<f64>, Vec<f64>)>;

    /// The change that a rule makes of one step of two episodes.
    fn change(rule: Rule, internal_gradient: Option<&[f64; 4]>) -> Result<Change> {
        let cpu = Cpu::<f64>::new();
        let tensor = |values: &[f64], width| Tensor::from_vec(&cpu, values.to_vec(), [2, width]);
        let trace = LayerTrace {
            input: tensor(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 3)?,
            output: tensor(&[0.1, 0.2, 0.3, 0.4], 2)?,
            internal_gradient: internal_gradient.map(|g| tensor(g, 2)).transpose()?,
        };
        let change = rule.build().change(&trace)?;
        Ok(change.map(|RankOne { p, q }| (p.to_vec().unwrap(), q.to_vec().unwrap())))
    }

    #[test]
    fn each_rule_changes_by_what_its_definition_says() {
        let (x, y) = (vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0], vec![0.1, 0.2, 0.3, 0.4]);
        let gradient = [-1.0, 0.5, 0.0, 2.0];
        for given in [None, Some(&gradient)] {
            assert_eq!(change(Rule::None, given).unwrap(), None);
            assert_eq!(change(Rule::Hebbian, given).unwrap(), Some((y.clone(), x.clone())));
        }
        assert_eq!(change(Rule::Gradient, Some(&gradient)).unwrap(), Some((gradient.to_vec(), x)));
    }

    #[test]
    fn the_gradient_rule_says_what_it_lacks() {
        let error = change(Rule::Gradient, None).unwrap_err();
        assert_eq!(error, RuleError::NoInternalGradient { rule: "gradient" });
        let needs: Vec<Rule> =
            Rule::ALL.into_iter().filter(|rule| rule.build::<Cpu<f64>>().needs_internal_gradient()).collect();
        assert_eq!(needs, [Rule::Gradient]);
    }

    #[test]
    fn a_rule_has_one_name_everywhere() {
        for rule in Rule::ALL {
            assert_eq!(rule.name().parse::<Rule>().unwrap(), rule);
            assert_eq!(rule.to_string(), rule.name());
            assert_eq!(rule.build::<Cpu<f64>>().name(), rule.name());
            let json = serde_json::to_string(&rule).unwrap();
            assert_eq!(json, format!("\"{rule}\""));
            assert_eq!(serde_json::from_str::<Rule>(&json).unwrap(), rule);
        }
    }

    #[test]
    fn an_unknown_rule_is_refused_by_name() {
        for name in ["", "Hebbian", "oja", "gradient "] {
            let error = name.parse::<Rule>().unwrap_err().to_string();
            assert_eq!(error, format!("unknown rule '{name}': it is one of none, hebbian, gradient"));
        }
    }
}
