//! Every parameter of a configured model: its name, its shape and what it starts from.

use plastica_rules::{Init, LayerSizes, RuleParameter};
use plastica_tensor::Shape;

use crate::{EncoderConfig, FastNorm, Gates, ModelConfig, ModelKind, Positions};

/// A block's projection to queries, keys and values, `[3d, d]`.
pub(crate) const IN_PROJ_WEIGHT: &str = "self_attn.in_proj_weight";

/// One parameter of the configured model.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ParameterSpec {
    pub name: String,
    pub shape: Shape,
    pub init: Init,
}

/// A list of parameters in the making.
struct List(Vec<ParameterSpec>);

impl List {
    fn add(&mut self, name: String, shape: impl Into<Shape>, init: Init) {
        self.0.push(ParameterSpec { name, shape: shape.into(), init });
    }

    fn linear(&mut self, name: &str, out: usize, inp: usize) {
        self.add(format!("{name}.weight"), [out, inp], fan_in(inp));
        self.add(format!("{name}.bias"), [out], fan_in(inp));
    }

    fn norm(&mut self, name: &str, d: usize) {
        self.add(format!("{name}.weight"), [d], Init::Constant(1.0));
        self.add(format!("{name}.bias"), [d], Init::Constant(0.0));
    }
}

fn fan_in(inp: usize) -> Init {
    Init::Uniform(1.0 / (inp as f64).sqrt())
}

impl ModelConfig {
    /// Width of the head: outputs, gates, auxiliary outputs.
    pub fn head_dim(&self) -> usize {
        self.output_dim + self.gate_count() + self.aux_dim
    }

    /// Number of gates among the head's outputs.
    pub fn gate_count(&self) -> usize {
        match self.gates {
            Gates::Shared => 1,
            Gates::PerLayer => self.num_layers * self.plastic_layers.names().len(),
        }
    }

    /// The plastic layers in the order of a step, such as `blocks.0.fc1`: that of a state's fast weights.
    pub fn plastic_layer_names(&self) -> Vec<String> {
        let names = self.plastic_layers.names();
        (0..self.num_layers)
            .flat_map(|block| names.iter().map(move |name| format!("blocks.{block}.{name}")))
            .collect()
    }

    /// The parameters beside α and β of a plastic layer, in order: the rule's, then the bound's.
    fn plastic_parameters(&self, layer: LayerSizes) -> Vec<RuleParameter> {
        let mut parameters = self.rule.parameters(layer);
        if self.fast_norm == FastNorm::Bound {
            parameters.push(RuleParameter::number("log_bound", 0.0));
        }
        parameters
    }

    /// Number of scalars in all parameters together.
    pub(crate) fn parameter_count(&self) -> usize {
        let encoder = self.encoder.as_ref().map_or(0, EncoderConfig::parameter_count);
        if self.kind == ModelKind::Prototypical {
            return encoder;
        }
        let (d, f, n) = (self.model_dim, self.ffn_dim, self.head_dim());
        let linear = |out: usize, inp: usize| out * inp + out;
        let plastic = |out: usize, inp: usize| -> usize {
            let parameters = self.plastic_parameters(LayerSizes { out, inp });
            linear(out, inp) + parameters.iter().map(|parameter| parameter.shape.len()).sum::<usize>()
        };
        let mut block = 4 * d + linear(3 * d, d) + linear(d, d) + linear(f, d) + linear(d, f);
        if self.plastic_layers.in_attention() {
            block += 2 * plastic(d, d);
        }
        if self.plastic_layers.in_feed_forward() {
            block += plastic(f, d) + plastic(d, f);
        }
        let internal = if self.rule.needs_internal_gradient() { n * n } else { 0 };
        let positions = if self.positions == Positions::Learned { self.max_positions * d } else { 0 };
        let others = 2 * d + linear(n, d) + internal + positions + usize::from(self.learn_eta0);
        encoder + linear(d, self.input_dim) + self.num_layers * block + others
    }

    /// Every parameter, under its published name where it has one, in a fixed order: linear layers uniform in
    /// ±1/sqrt(fan-in), the attention's in-projection Xavier-uniform, its keys as `attention_init` says, and its biases 0, layer norms 1 and 0, learned
    /// positions like a linear layer of d inputs. An encoder's come first.
    pub(crate) fn parameters(&self) -> Vec<ParameterSpec> {
        let mut list = List(self.encoder_parameters());
        if self.kind == ModelKind::Prototypical {
            return list.0;
        }
        let (d, f, n) = (self.model_dim, self.ffn_dim, self.head_dim());
        let plastic = |list: &mut List, at: &str, out: usize, inp: usize| {
            list.add(format!("{at}.alpha"), [out, inp], Init::Constant(self.plasticity_init));
            list.add(format!("{at}.beta"), [out], Init::Constant(self.plasticity_init));
            for RuleParameter { name, shape, init } in self.plastic_parameters(LayerSizes { out, inp }) {
                list.add(format!("{at}.{name}"), shape, init);
            }
        };
        list.linear("input_proj", d, self.input_dim);
        if self.positions == Positions::Learned {
            list.add("positions.weight".into(), [self.max_positions, d], fan_in(d));
        }
        for block in 0..self.num_layers {
            let at = format!("blocks.{block}");
            list.norm(&format!("{at}.ln1"), d);
            let xavier = (6.0 / (4 * d) as f64).sqrt();
            list.add(format!("{at}.{IN_PROJ_WEIGHT}"), [3 * d, d], Init::Uniform(xavier));
            list.add(format!("{at}.self_attn.in_proj_bias"), [3 * d], Init::Constant(0.0));
            list.add(format!("{at}.self_attn.out_proj.weight"), [d, d], fan_in(d));
            list.add(format!("{at}.self_attn.out_proj.bias"), [d], Init::Constant(0.0));
            if self.plastic_layers.in_attention() {
                plastic(&mut list, &format!("{at}.self_attn.value"), d, d);
                plastic(&mut list, &format!("{at}.self_attn.out_proj"), d, d);
            }
            list.norm(&format!("{at}.ln2"), d);
            for (layer, out, inp) in [("fc1", f, d), ("fc2", d, f)] {
                let at = format!("{at}.feed_forward.{layer}");
                list.linear(&at, out, inp);
                if self.plastic_layers.in_feed_forward() {
                    plastic(&mut list, &at, out, inp);
                }
            }
        }
        list.norm("final_ln", d);
        list.linear("head", n, d);
        if self.rule.needs_internal_gradient() {
            list.add("internal_proj.weight".into(), [n, n], fan_in(n));
        }
        if self.learn_eta0 {
            list.add("eta0_logit".into(), [1], Init::Constant((self.eta0 / (1.0 - self.eta0)).ln()));
        }
        list.0
    }

    /// Every parameter of the encoder, if there is one.
    pub(crate) fn encoder_parameters(&self) -> Vec<ParameterSpec> {
        self.encoder.as_ref().map_or_else(Vec::new, EncoderConfig::parameters)
    }

    /// Every buffer: what training changes otherwise than by a gradient.
    pub(crate) fn buffers(&self) -> Vec<ParameterSpec> {
        self.encoder.as_ref().map_or_else(Vec::new, EncoderConfig::buffers)
    }
}
