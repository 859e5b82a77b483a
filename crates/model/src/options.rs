//! What a plastic Transformer can be made with beside its sizes. Every first variant is the published one.

use serde::{Deserialize, Serialize};

/// What the attention's in-projections start from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttentionInit {
    /// Xavier-uniform: queries, keys and values each by themselves, as published.
    #[default]
    Xavier,
    /// Xavier-uniform, keys starting as the queries' copy: a step then looks at the steps that are like it from the
    /// beginning, and need not learn first that likeness matters. They are trained apart.
    KeysAsQueries,
}

/// How a step's place in the sequence is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Positions {
    /// Not at all, but by the causal order of attention and plasticity.
    #[default]
    None,
    /// Queries and keys are turned by angles that grow with the step (rotary embeddings, Su et al., arXiv 2104.09864).
    Rotary,
    /// A learned vector for each step is added to its input.
    Learned,
}

impl Positions {
    /// The name, as in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Positions::None => "none",
            Positions::Rotary => "rotary",
            Positions::Learned => "learned",
        }
    }
}

/// Which layers of a block have fast weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PlasticLayers {
    /// The two of the feed-forward half, `fc1` and `fc2`.
    #[default]
    FeedForward,
    /// Attention's value and output projections, `value` and `out_proj`.
    Attention,
    /// All four.
    Both,
}

impl PlasticLayers {
    /// Whether attention's are among them.
    pub fn in_attention(self) -> bool {
        self != PlasticLayers::FeedForward
    }

    /// Whether the feed-forward half's are among them.
    pub fn in_feed_forward(self) -> bool {
        self != PlasticLayers::Attention
    }

    /// A block's plastic layers, in the order of a step.
    pub fn names(self) -> &'static [&'static str] {
        match self {
            PlasticLayers::FeedForward => &["fc1", "fc2"],
            PlasticLayers::Attention => &["value", "out_proj"],
            PlasticLayers::Both => &["value", "out_proj", "fc1", "fc2"],
        }
    }
}

/// How many gates the head has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Gates {
    /// One, for all plastic layers.
    #[default]
    Shared,
    /// One for each.
    PerLayer,
}

/// What bounds the fast weights beside their decay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FastNorm {
    /// Nothing.
    #[default]
    None,
    /// A learned bound on the norm of what each layer gathers: see [`plastica_rules::bounded`].
    Bound,
}
