//! From named parameters to a model that reads them.

use plastica_rules::{Credit, LayerSizes, Plastic, Plasticity};
use plastica_tensor::{Array, Backend, Element, Tape, Tensor};

use super::PlasticTransformer;
use super::block::{Attention, Block, LayerNorm, Linear, Projection};
use crate::{FastNorm, ModelConfig, ModelError, ModelKind, Parameters, Positions, Result};

impl<B: Backend> PlasticTransformer<B> {
    /// The model for evaluation: nothing is tracked.
    ///
    /// # Errors
    /// When the parameters are not what the configuration asks for.
    pub fn new(config: &ModelConfig, parameters: &Parameters<B>) -> Result<Self> {
        Self::bind(config, parameters, Credit::Detached, false, |array| Tensor::from(array.clone()))
    }

    /// The model for training, with its parameters, those of an encoder in front of it left out, as leaves of `tape`; the
    /// leaves come back beside it, in the parameters' order.
    ///
    /// # Errors
    /// When the parameters are not what the configuration asks for.
    pub fn tracked(
        config: &ModelConfig,
        parameters: &Parameters<B>,
        credit: Credit,
        tape: &Tape<B>,
    ) -> Result<(Self, Vec<Tensor<B>>)> {
        let mut leaves = Vec::with_capacity(parameters.arrays().len());
        let model = Self::bind(config, parameters, credit, true, |array| {
            let leaf = tape.leaf(array);
            leaves.push(leaf.clone());
            leaf
        })?;
        Ok((model, leaves))
    }

    fn bind(
        config: &ModelConfig,
        parameters: &Parameters<B>,
        credit: Credit,
        training: bool,
        mut tensor: impl FnMut(&Array<B>) -> Tensor<B>,
    ) -> Result<Self> {
        config.validate()?;
        if config.kind != ModelKind::Plastic {
            let (value, rule) =
                (config.kind.name().into(), "a plastic Transformer is of kind plastic".into());
            return Err(ModelError::Config { field: "kind", value, rule });
        }
        // an encoder's come first
        let others = config.encoder_parameters().len();
        let mut given = parameters.iter().skip(others);
        let mut specs = config.parameters().into_iter().skip(others);
        // parameters come in the specification's order, which is the order of the fields below
        let mut next = || -> Result<Tensor<B>> {
            let Some(spec) = specs.next() else {
                unreachable!("the fields are as many as the specification's")
            };
            match given.next() {
                Some((name, array)) if name == spec.name && array.shape() == spec.shape => Ok(tensor(array)),
                Some((name, array)) if name == spec.name => {
                    let (found, expected) = (array.shape().to_vec(), spec.shape);
                    Err(ModelError::ParameterShape { name: spec.name, found, expected })
                }
                _ => Err(ModelError::MissingParameter { name: spec.name, shape: spec.shape }),
            }
        };
        let (d, f) = (config.model_dim, config.ffn_dim);
        let own = |out: usize, inp: usize| config.rule.parameters(LayerSizes { out, inp }).len();
        let bounded = config.fast_norm == FastNorm::Bound;
        let plastic = |next: &mut dyn FnMut() -> Result<Tensor<B>>, out: usize, inp: usize| {
            Ok::<_, ModelError>(Plastic {
                alpha: next()?,
                beta: next()?,
                rule: (0..own(out, inp)).map(|_| next()).collect::<Result<_>>()?,
                log_bound: bounded.then(&mut *next).transpose()?,
            })
        };
        let (in_attention, in_feed_forward) =
            (config.plastic_layers.in_attention(), config.plastic_layers.in_feed_forward());
        let input_proj = Linear { weight: next()?, bias: next()? };
        let learned = config.positions == Positions::Learned;
        let positions = learned.then(&mut next).transpose()?;
        let mut blocks = Vec::with_capacity(config.num_layers);
        for _ in 0..config.num_layers {
            let ln1 = LayerNorm { weight: next()?, bias: next()? };
            let in_proj = Linear { weight: next()?, bias: next()? };
            let out_proj = Linear { weight: next()?, bias: next()? };
            let value = in_attention.then(|| plastic(&mut next, d, d)).transpose()?;
            let out_plastic = in_attention.then(|| plastic(&mut next, d, d)).transpose()?;
            let self_attn = Attention {
                in_proj,
                value,
                out_proj: Projection { linear: out_proj, plastic: out_plastic },
                num_heads: config.num_heads,
                rotary: config.positions == Positions::Rotary,
                window: config.attention_window,
            };
            let ln2 = LayerNorm { weight: next()?, bias: next()? };
            let mut projection = |out: usize, inp: usize| -> Result<Projection<B>> {
                let linear = Linear { weight: next()?, bias: next()? };
                let plastic = in_feed_forward.then(|| plastic(&mut next, out, inp)).transpose()?;
                Ok(Projection { linear, plastic })
            };
            let (fc1, fc2) = (projection(f, d)?, projection(d, f)?);
            blocks.push(Block { ln1, self_attn, ln2, fc1, fc2 });
        }
        let final_ln = LayerNorm { weight: next()?, bias: next()? };
        let head = Linear { weight: next()?, bias: next()? };
        let internal_proj = config.rule.needs_internal_gradient().then(&mut next).transpose()?;
        let eta0 = match config.learn_eta0 {
            true => Some(next()?.sigmoid()?),
            false => None,
        };
        if let Some((name, _)) = given.next() {
            return Err(ModelError::SurplusParameter { name: name.to_owned() });
        }
        let largest_eta = match &eta0 {
            // what a bound makes of a rate may be anything below 1
            _ if bounded => 1.0,
            Some(eta0) => eta0.item()?.wide(),
            None => config.eta0,
        };
        let neuromodulation = config.neuromodulation();
        let plasticity = Plasticity { rule: config.rule.build()?, neuromodulation, eta0, credit };
        Ok(Self {
            config: config.clone(),
            input_proj,
            positions,
            blocks,
            final_ln,
            head,
            internal_proj,
            plasticity,
            largest_eta,
            training,
        })
    }

    /// The same model with nothing tracked.
    pub(super) fn detached(&self) -> Result<Self> {
        let linear = |l: &Linear<B>| Linear { weight: l.weight.detach(), bias: l.bias.detach() };
        let norm = |n: &LayerNorm<B>| LayerNorm { weight: n.weight.detach(), bias: n.bias.detach() };
        let projection = |p: &Projection<B>| Projection {
            linear: linear(&p.linear),
            plastic: p.plastic.as_ref().map(Plastic::detach),
        };
        let block = |b: &Block<B>| Block {
            ln1: norm(&b.ln1),
            self_attn: Attention {
                in_proj: linear(&b.self_attn.in_proj),
                value: b.self_attn.value.as_ref().map(Plastic::detach),
                out_proj: projection(&b.self_attn.out_proj),
                ..b.self_attn
            },
            ln2: norm(&b.ln2),
            fc1: projection(&b.fc1),
            fc2: projection(&b.fc2),
        };
        Ok(Self {
            config: self.config.clone(),
            input_proj: linear(&self.input_proj),
            positions: self.positions.as_ref().map(Tensor::detach),
            blocks: self.blocks.iter().map(block).collect(),
            final_ln: norm(&self.final_ln),
            head: linear(&self.head),
            internal_proj: self.internal_proj.as_ref().map(Tensor::detach),
            plasticity: Plasticity {
                rule: self.config.rule.build()?,
                neuromodulation: self.plasticity.neuromodulation,
                eta0: self.plasticity.eta0.as_ref().map(Tensor::detach),
                credit: self.plasticity.credit,
            },
            largest_eta: self.largest_eta,
            training: false,
        })
    }
}
