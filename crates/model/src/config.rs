//! What a plastic Transformer is made of.

use plastica_rules::{ClipMode, Neuromodulation, Rule};
use serde::{Deserialize, Serialize};

use crate::{AttentionInit, EncoderConfig, FastNorm, Gates, ModelError, PlasticLayers, Positions, Result};

/// Largest width of anything: far above every use, far below where products of two would overflow.
const MAX_SIZE: usize = 1 << 20;

/// Most blocks, likewise.
const MAX_LAYERS: usize = 1 << 10;

/// Most scalars in all parameters together: more would not fit into the largest checkpoint that is read.
const MAX_PARAMETERS: usize = 1 << 31;

/// What a model makes of an episode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModelKind {
    /// The plastic Transformer, after an encoder if its steps show images.
    #[default]
    Plastic,
    /// A prototypical network: an encoder, and distances from the classes' means.
    Prototypical,
}

impl ModelKind {
    /// The kind's name, as in configurations.
    pub fn name(self) -> &'static str {
        match self {
            ModelKind::Plastic => "plastic",
            ModelKind::Prototypical => "prototypical",
        }
    }

    fn is_plastic(&self) -> bool {
        *self == ModelKind::Plastic
    }
}

/// The configuration of a plastic Transformer. Defaults are the published ones for the sequence tasks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelConfig {
    /// What the model makes of an episode.
    #[serde(skip_serializing_if = "ModelKind::is_plastic")]
    pub kind: ModelKind,
    /// The encoder in front of the model, where steps show images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoder: Option<EncoderConfig>,
    /// Width of an input, at least 1; after an encoder, of its embedding and the task's inputs together.
    pub input_dim: usize,
    /// o: number of outputs, at least 1.
    pub output_dim: usize,
    /// d: width of the residual stream, a multiple of `num_heads`.
    pub model_dim: usize,
    /// H: attention heads, at least 1.
    pub num_heads: usize,
    /// L: blocks, at least 1.
    pub num_layers: usize,
    /// f: width of the feed-forward layers, at least 1.
    pub ffn_dim: usize,
    /// a: auxiliary outputs, which exist only to feed the internal loss; may be 0.
    pub aux_dim: usize,
    /// Probability of dropping an element in training, in [0, 1).
    pub dropout: f64,
    /// What the attention's in-projections start from.
    #[serde(skip_serializing_if = "is_default")]
    pub attention_init: AttentionInit,
    /// The plasticity rule.
    pub rule: Rule,
    /// η0: largest learning rate of the fast weights, in (0, 1].
    pub eta0: f64,
    /// The change's norm from which the rate is turned down, above 0.
    pub max_norm: f64,
    /// Initial value of α and β.
    pub plasticity_init: f64,
    /// How a step's place in the sequence is told.
    #[serde(skip_serializing_if = "is_default")]
    pub positions: Positions,
    /// Steps that learned positions are there for, at least 1: no sequence may be longer.
    #[serde(skip_serializing_if = "is_default_max_positions")]
    pub max_positions: usize,
    /// W: how many steps back attention looks, the step itself among them, at least 1; all if there is none. What is
    /// to be known for longer must live in fast weights, and streaming takes the same memory however long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attention_window: Option<usize>,
    /// Which layers have fast weights.
    #[serde(skip_serializing_if = "is_default")]
    pub plastic_layers: PlasticLayers,
    /// Whether all plastic layers share a gate or have one each.
    #[serde(skip_serializing_if = "is_default")]
    pub gates: Gates,
    /// What the change's norm is, from which the rate is turned down.
    #[serde(skip_serializing_if = "is_default")]
    pub clip: ClipMode,
    /// Whether η0 is learned: as a sigmoid, in (0, 1), from `eta0` on.
    #[serde(skip_serializing_if = "is_default")]
    pub learn_eta0: bool,
    /// Whether what fast weights gather is bounded.
    #[serde(skip_serializing_if = "is_default")]
    pub fast_norm: FastNorm,
}

/// Default of [`ModelConfig::max_positions`].
const MAX_POSITIONS: usize = 1024;

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn is_default_max_positions(value: &usize) -> bool {
    *value == MAX_POSITIONS
}

impl Default for ModelConfig {
    fn default() -> Self {
        let Neuromodulation { eta0, max_norm, clip } = Neuromodulation::default();
        Self {
            kind: ModelKind::Plastic,
            encoder: None,
            input_dim: 1,
            output_dim: 1,
            model_dim: 128,
            num_heads: 4,
            num_layers: 2,
            ffn_dim: 256,
            aux_dim: 4,
            dropout: 0.1,
            attention_init: AttentionInit::Xavier,
            rule: Rule::Hebbian,
            eta0,
            max_norm,
            plasticity_init: 0.02,
            positions: Positions::None,
            max_positions: MAX_POSITIONS,
            attention_window: None,
            plastic_layers: PlasticLayers::FeedForward,
            gates: Gates::Shared,
            clip,
            learn_eta0: false,
            fast_norm: FastNorm::None,
        }
    }
}

impl ModelConfig {
    /// Checks every field, and the fields against each other.
    ///
    /// # Errors
    /// [`ModelError::Config`] that names the field, its value and what would have been right.
    pub fn validate(&self) -> Result<()> {
        let config = |field, value: String, rule: String| Err(ModelError::Config { field, value, rule });
        let sizes = [
            ("input_dim", self.input_dim),
            ("output_dim", self.output_dim),
            ("model_dim", self.model_dim),
            ("num_heads", self.num_heads),
            ("ffn_dim", self.ffn_dim),
        ];
        for (field, size) in sizes {
            if !(1..=MAX_SIZE).contains(&size) {
                return config(field, size.to_string(), format!("it must lie in 1..={MAX_SIZE}"));
            }
        }
        if !(1..=MAX_LAYERS).contains(&self.num_layers) {
            return config(
                "num_layers",
                self.num_layers.to_string(),
                format!("it must lie in 1..={MAX_LAYERS}"),
            );
        }
        if self.aux_dim > MAX_SIZE {
            return config("aux_dim", self.aux_dim.to_string(), format!("it must lie in 0..={MAX_SIZE}"));
        }
        if !self.model_dim.is_multiple_of(self.num_heads) {
            let rule = format!("it must divide model_dim = {}", self.model_dim);
            return config("num_heads", self.num_heads.to_string(), rule);
        }
        if self.positions == Positions::Rotary && !(self.model_dim / self.num_heads).is_multiple_of(2) {
            let rule = "rotary positions turn pairs: model_dim / num_heads must be even";
            return config("positions", self.positions.name().into(), rule.into());
        }
        if !(1..=MAX_SIZE).contains(&self.max_positions) {
            let rule = format!("it must lie in 1..={MAX_SIZE}");
            return config("max_positions", self.max_positions.to_string(), rule);
        }
        if let Some(window) = self.attention_window.filter(|window| !(1..=MAX_SIZE).contains(window)) {
            let rule = format!("it must lie in 1..={MAX_SIZE}; leave it out to look at all steps");
            return config("attention_window", window.to_string(), rule);
        }
        if self.learn_eta0 && self.eta0 >= 1.0 {
            let rule = "a learned η0 starts below 1";
            return config("eta0", self.eta0.to_string(), rule.into());
        }
        if let Some(encoder) = &self.encoder {
            encoder.validate()?;
            if self.input_dim < encoder.embedding_dim {
                let rule = format!("it must be at least encoder.embedding_dim = {}", encoder.embedding_dim);
                return config("input_dim", self.input_dim.to_string(), rule);
            }
        }
        if self.kind == ModelKind::Prototypical {
            if self.encoder.is_none() {
                let rule = "a prototypical network needs an encoder, and thus a task with images";
                return config("kind", self.kind.name().into(), rule.into());
            }
            if self.rule != Rule::None {
                let rule = "a prototypical network has no fast weights: none is its rule";
                return config("rule", self.rule.to_string(), rule.into());
            }
        }
        let count = self.parameter_count();
        if count > MAX_PARAMETERS {
            let rule =
                format!("the model would have {count} parameters, of which {MAX_PARAMETERS} are the most");
            return config("model_dim", self.model_dim.to_string(), rule);
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return config("dropout", self.dropout.to_string(), "it must lie in [0, 1)".into());
        }
        if !self.plasticity_init.is_finite() {
            return config("plasticity_init", self.plasticity_init.to_string(), "it must be finite".into());
        }
        self.neuromodulation().validate().or_else(|error| match error {
            plastica_rules::RuleError::Setting { field, value, rule } => {
                config(field, value.to_string(), rule.into())
            }
            other => Err(other.into()),
        })
    }

    /// The neuromodulator's constants.
    pub fn neuromodulation(&self) -> Neuromodulation {
        Neuromodulation { eta0: self.eta0, max_norm: self.max_norm, clip: self.clip }
    }

    /// What tells this model from others on the same task: `prototypical`, or the plasticity rule's name.
    pub fn method(&self) -> &'static str {
        match self.kind {
            ModelKind::Plastic => self.rule.name(),
            ModelKind::Prototypical => self.kind.name(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(change: impl FnOnce(&mut ModelConfig), message: &str) {
        let mut config = ModelConfig::default();
        change(&mut config);
        assert_eq!(config.validate().unwrap_err().to_string(), message);
    }

    #[test]
    fn errors_name_the_field_the_value_and_what_would_be_right() {
        check(|c| c.num_heads = 3, "model.num_heads = 3 won't do: it must divide model_dim = 128");
        check(|c| c.num_layers = 0, "model.num_layers = 0 won't do: it must lie in 1..=1024");
        check(|c| c.ffn_dim = 1 << 21, "model.ffn_dim = 2097152 won't do: it must lie in 1..=1048576");
        check(
            |c| c.model_dim = 1 << 20,
            "model.model_dim = 1048576 won't do: the model would have 8798271964166 parameters, of which 2147483648 are the most",
        );
        check(|c| c.dropout = 1.0, "model.dropout = 1 won't do: it must lie in [0, 1)");
        check(|c| c.dropout = f64::NAN, "model.dropout = NaN won't do: it must lie in [0, 1)");
        check(|c| c.max_norm = 0.0, "model.max_norm = 0 won't do: it must be above 0 and finite");
        check(
            |c| c.eta0 = 1.5,
            "model.eta0 = 1.5 won't do: it must lie in (0, 1]: fast weights decay by 1 − η, η at most eta0",
        );
        check(
            |c| (c.num_heads, c.positions) = (128, Positions::Rotary),
            "model.positions = rotary won't do: rotary positions turn pairs: model_dim / num_heads must be even",
        );
        check(
            |c| c.attention_window = Some(0),
            "model.attention_window = 0 won't do: it must lie in 1..=1048576; leave it out to look at all steps",
        );
        check(|c| c.max_positions = 0, "model.max_positions = 0 won't do: it must lie in 1..=1048576");
        check(
            |c| (c.eta0, c.learn_eta0) = (1.0, true),
            "model.eta0 = 1 won't do: a learned η0 starts below 1",
        );
    }

    #[test]
    fn the_published_configuration_is_valid_and_has_the_published_names() {
        let config = ModelConfig { rule: Rule::Gradient, ..ModelConfig::default() };
        config.validate().unwrap();
        let names: Vec<String> = config.parameters().into_iter().map(|p| p.name).collect();
        assert_eq!(names.len(), 2 + 2 * 16 + 2 + 2 + 1);
        for name in
            ["blocks.1.feed_forward.fc2.alpha", "blocks.0.self_attn.in_proj_weight", "internal_proj.weight"]
        {
            assert!(names.iter().any(|n| n == name), "{name}");
        }
    }

    #[test]
    fn the_count_is_that_of_the_list() {
        for (rule, encoder) in
            Rule::ALL.into_iter().flat_map(|rule| [(rule, None), (rule, Some(EncoderConfig::default()))])
        {
            let small = ModelConfig { input_dim: 7, num_layers: 3, aux_dim: 2, ..ModelConfig::default() };
            let config = ModelConfig { rule, encoder, ..small };
            let more = ModelConfig {
                positions: Positions::Learned,
                learn_eta0: true,
                fast_norm: FastNorm::Bound,
                gates: Gates::PerLayer,
                ..config.clone()
            };
            let layers = [PlasticLayers::FeedForward, PlasticLayers::Attention, PlasticLayers::Both];
            let others = layers.map(|plastic_layers| ModelConfig { plastic_layers, ..more.clone() });
            for config in others.into_iter().chain([config]) {
                let listed: usize = config.parameters().iter().map(|p| p.shape.len()).sum();
                assert_eq!(config.parameter_count(), listed, "{rule}, {:?}", config.plastic_layers);
            }
        }
    }

    #[test]
    fn what_has_its_default_is_written_as_it_was_before_it_was_there() {
        let json = serde_json::to_value(ModelConfig::default()).unwrap();
        let keys: Vec<&String> = json.as_object().unwrap().keys().collect();
        assert_eq!(keys.len(), 12, "{keys:?}");
        let config = ModelConfig { attention_window: Some(5), learn_eta0: true, ..ModelConfig::default() };
        let json = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<ModelConfig>(&json).unwrap(), config);
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let error = serde_json::from_str::<ModelConfig>(r#"{"model_dims": 64}"#).unwrap_err().to_string();
        assert!(error.contains("unknown field `model_dims`"), "{error}");
    }
}
