//! The rules of this crate, a file each, and the names of all there are.

use std::fmt;
use std::str::FromStr;

use plastica_tensor::{Backend, Cpu};
use serde::{Deserialize, Serialize};

use crate::registry::{self, OwnName};
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

/// A rule by name, for configurations: one of this crate, or one that was [registered](crate::register).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
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
    /// One that was registered.
    Own(OwnName),
}

impl Rule {
    /// Those of this crate, in the order in which tables list them.
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
            Rule::Own(own) => own.name(),
        }
    }

    /// The names of [`ALL`](Self::ALL), for messages: `none, hebbian, ..`.
    pub fn names() -> String {
        Rule::ALL.map(Rule::name).join(", ")
    }

    /// The rule itself.
    ///
    /// # Errors
    /// [`RuleError::OtherBackend`] for a registered rule on a backend that is not one of `plastica-tensor`'s.
    pub fn build<B: Backend>(self) -> Result<Box<dyn PlasticityRule<B>>> {
        Ok(match self {
            Rule::None => Box::new(NoPlasticity),
            Rule::Hebbian => Box::new(Hebbian),
            Rule::Gradient => Box::new(Gradient),
            Rule::Oja => Box::new(Oja),
            Rule::Delta => Box::new(Delta),
            Rule::Bcm => Box::new(Bcm),
            Rule::SoftHebbian => Box::new(SoftHebbian),
            Rule::ThreeFactor => Box::new(ThreeFactor),
            Rule::Hybrid => Box::new(Hybrid),
            Rule::Own(own) => registry::build(own)?,
        })
    }

    fn on_cpu(self) -> Box<dyn PlasticityRule<Cpu<f32>>> {
        let Ok(rule) = self.build() else { unreachable!("every registered rule is one for this backend") };
        rule
    }

    /// Whether it needs the gradient of the internal loss at each plastic layer's output.
    pub fn needs_internal_gradient(self) -> bool {
        self.on_cpu().needs_internal_gradient()
    }

    /// The parameters that it has at a layer of these sizes.
    pub fn parameters(self, layer: LayerSizes) -> Vec<RuleParameter> {
        self.on_cpu().parameters(layer)
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
        let found = found.or_else(|| registry::find(name));
        found.ok_or_else(|| RuleError::UnknownRule { name: name.to_owned() })
    }
}

impl TryFrom<String> for Rule {
    type Error = RuleError;

    fn try_from(name: String) -> Result<Self> {
        name.parse()
    }
}

impl From<Rule> for &'static str {
    fn from(rule: Rule) -> Self {
        rule.name()
    }
}
