//! The rules of this crate, a file each, and their names.

use std::fmt;
use std::str::FromStr;

use plastica_tensor::{Backend, Cpu};
use serde::{Deserialize, Serialize};

use crate::{LayerSizes, PlasticityRule, Result, RuleError, RuleParameter};

mod bcm;
mod delta;
mod gradient;
mod hebbian;
mod hybrid;
mod none;
mod oja;
mod soft_hebbian;
#[cfg(test)]
mod tests;
mod three_factor;

pub use bcm::Bcm;
pub use delta::Delta;
pub use gradient::Gradient;
pub use hebbian::Hebbian;
pub use hybrid::Hybrid;
pub use none::NoPlasticity;
pub use oja::Oja;
pub use soft_hebbian::SoftHebbian;
pub use three_factor::ThreeFactor;

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
    /// [`Oja`]
    Oja,
    /// [`Delta`]
    Delta,
    /// [`Bcm`]
    Bcm,
    /// [`SoftHebbian`]
    SoftHebbian,
    /// [`ThreeFactor`]
    ThreeFactor,
    /// [`Hybrid`]
    Hybrid,
}

impl Rule {
    /// All of them, in the order in which tables list them.
    pub const ALL: [Rule; 9] = [
        Rule::None,
        Rule::Hebbian,
        Rule::Gradient,
        Rule::Oja,
        Rule::Delta,
        Rule::Bcm,
        Rule::SoftHebbian,
        Rule::ThreeFactor,
        Rule::Hybrid,
    ];

    /// Those of arXiv 2510.21908.
    pub const PUBLISHED: [Rule; 3] = [Rule::None, Rule::Hebbian, Rule::Gradient];

    /// The rule's name, as in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Rule::None => "none",
            Rule::Hebbian => "hebbian",
            Rule::Gradient => "gradient",
            Rule::Oja => "oja",
            Rule::Delta => "delta",
            Rule::Bcm => "bcm",
            Rule::SoftHebbian => "soft-hebbian",
            Rule::ThreeFactor => "three-factor",
            Rule::Hybrid => "hybrid",
        }
    }

    /// The names of [`ALL`](Self::ALL), for messages: `none, hebbian, ..`.
    pub fn names() -> String {
        Rule::ALL.map(Rule::name).join(", ")
    }

    /// The rule itself.
    pub fn build<B: Backend>(self) -> Box<dyn PlasticityRule<B>> {
        match self {
            Rule::None => Box::new(NoPlasticity),
            Rule::Hebbian => Box::new(Hebbian),
            Rule::Gradient => Box::new(Gradient),
            Rule::Oja => Box::new(Oja),
            Rule::Delta => Box::new(Delta),
            Rule::Bcm => Box::new(Bcm),
            Rule::SoftHebbian => Box::new(SoftHebbian),
            Rule::ThreeFactor => Box::new(ThreeFactor),
            Rule::Hybrid => Box::new(Hybrid),
        }
    }

    /// Whether it needs the gradient of the internal loss at each plastic layer's output.
    pub fn needs_internal_gradient(self) -> bool {
        self.build::<Cpu<f32>>().needs_internal_gradient()
    }

    /// The parameters that it has at a layer of these sizes.
    pub fn parameters(self, layer: LayerSizes) -> Vec<RuleParameter> {
        self.build::<Cpu<f32>>().parameters(layer)
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
