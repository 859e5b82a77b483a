//! The plastic Transformer: a pre-norm decoder whose feed-forward layers carry fast weights.
//!
//! To be read beside the equations (arXiv 2510.21908, section 3). At step t, in every block,
//!
//! ```text
//! u   = LN1(x)                              keys and values of every earlier u are cached
//! x  ← x + drop(Attn(q = u_t; k, v = u_1..u_t))
//! z   = LN2(x)
//! y1  = (W1 + F1) z + b1 + c1
//! y2  = (W2 + F2) drop(GELU(y1)) + b2 + c2
//! x  ← x + drop(y2)
//! ```
//!
//! then `raw = Head(LN(x)) = [outputs; g; aux]`, and then every plastic layer's F and c change.

mod attention;

use plastica_rules::{Credit, FastWeights, LayerTrace, Modulation, PlasticLinear, Plasticity, Rule};
use plastica_tensor::ops::attention::AttentionCache;
use plastica_tensor::ops::history::FastHistory;
use plastica_tensor::{Array, Backend, Element, GradMode, Tape, Tensor, grad};

use crate::noise::{BlockNoise, Site};
use crate::{
    Diagnostics, ModelConfig, ModelError, ModelKind, Noise, Parameters, Result, SequenceModel,
    SequenceOutput, StepOutput,
};

/// Added to the variance in layer normalisation.
const LAYER_NORM_EPS: f64 = 1e-5;

/// η0 up to which fast weights are kept in place.
const LARGEST_ETA_IN_PLACE: f64 = 0.9;

/// Steps that attention under a mask takes together: their scores against all steps are held for the way back, so all
/// of a long sequence at once would take twice the memory, the half of it for what the mask takes out.
const STEPS_AT_ONCE: usize = 64;

/// Steps that a new attention cache has room for before it grows.
const CACHE_STEPS: usize = 32;

/// A plastic Transformer, bound to its parameters.
#[derive(Debug)]
pub struct PlasticTransformer<B: Backend> {
    config: ModelConfig,
    input_proj: Linear<B>,
    blocks: Vec<Block<B>>,
    final_ln: LayerNorm<B>,
    head: Linear<B>,
    /// R, of the internal loss; the gradient rule's alone.
    internal_proj: Option<Tensor<B>>,
    plasticity: Plasticity<B>,
    /// Whether an outer gradient will be asked for: the parameters are on a tape.
    training: bool,
}

#[derive(Debug)]
struct Linear<B: Backend> {
    weight: Tensor<B>,
    bias: Tensor<B>,
}

#[derive(Debug)]
struct LayerNorm<B: Backend> {
    weight: Tensor<B>,
    bias: Tensor<B>,
}

#[derive(Debug)]
struct Attention<B: Backend> {
    in_proj: Linear<B>,
    out_proj: Linear<B>,
    num_heads: usize,
}

#[derive(Debug)]
struct Block<B: Backend> {
    ln1: LayerNorm<B>,
    self_attn: Attention<B>,
    ln2: LayerNorm<B>,
    fc1: PlasticLinear<B>,
    fc2: PlasticLinear<B>,
}

/// What a plastic Transformer carries from step to step, for a batch of episodes.
#[derive(Debug, Clone)]
pub struct PlasticState<B: Backend> {
    batch: usize,
    step: usize,
    /// A block each.
    caches: Vec<AttentionCache<B>>,
    /// fc1 and fc2 of block 0, then of block 1, and so on.
    fast: Vec<FastWeights<B>>,
    noise: Option<Noise>,
}

impl<B: Backend> PlasticState<B> {
    /// Steps read so far.
    pub fn step(&self) -> usize {
        self.step
    }

    /// The fast weights: fc1 and fc2 of block 0, then of block 1, and so on.
    pub fn fast_weights(&self) -> &[FastWeights<B>] {
        &self.fast
    }

    /// `Σ ‖F‖²` over the layers as they stand, `[B]`: no square root, no biases; `None` while they are zero. A walk over
    /// all fast weights.
    ///
    /// # Errors
    /// Device errors.
    pub fn plastic_norm(&self) -> Result<Option<Tensor<B>>> {
        let mut sum: Option<Tensor<B>> = None;
        for fast in &self.fast {
            if let Some(norm) = fast.squared_norm()? {
                sum = Some(match sum {
                    Some(sum) => sum.add(&norm)?,
                    None => norm,
                });
            }
        }
        Ok(sum)
    }

    /// `Σ ‖F‖²` `[B]` over the layers after each step since this was last called.
    fn take_plastic_norms(&mut self) -> Result<Vec<Tensor<B>>> {
        let mut sums: Vec<Tensor<B>> = Vec::new();
        for fast in &mut self.fast {
            fast.settle()?;
            for (t, norm) in fast.take_norms()?.into_iter().enumerate() {
                match sums.get_mut(t) {
                    Some(sum) => *sum = sum.add(&norm)?,
                    None => sums.push(norm),
                }
            }
        }
        Ok(sums)
    }

    /// Puts fast weights in the place of the state's own, in the order of
    /// [`fast_weights`](Self::fast_weights): to read on from stored ones, or from learned ones.
    ///
    /// # Errors
    /// [`ModelError::State`] when they are not one for each plastic layer, each for the state's batch.
    pub fn set_fast_weights(&mut self, fast: Vec<FastWeights<B>>) -> Result<()> {
        if fast.len() != self.fast.len() {
            let rule = format!("the state has {} plastic layers", self.fast.len());
            return Err(ModelError::State { field: "fast_weights.len()".into(), value: fast.len(), rule });
        }
        for (i, fast) in fast.iter().enumerate() {
            let batch = fast.get()?.map_or(self.batch, |(weight, _)| weight.shape()[0]);
            if batch != self.batch {
                let rule = format!("the state is for {} episodes", self.batch);
                return Err(ModelError::State {
                    field: format!("fast_weights[{i}].batch"),
                    value: batch,
                    rule,
                });
            }
        }
        self.fast = fast;
        Ok(())
    }
}

impl<B: Backend> Linear<B> {
    fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        Ok(x.linear(&self.weight, &self.bias)?)
    }
}

impl<B: Backend> LayerNorm<B> {
    fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        Ok(x.layer_norm(&self.weight, &self.bias, LAYER_NORM_EPS)?)
    }
}

impl<B: Backend> Attention<B> {
    /// Causal attention of `u`, the sequence's next S steps `[B, S, d]`, or `[B, d]` for one, to itself and to all
    /// steps cached.
    fn forward(
        &self,
        u: &Tensor<B>,
        cache: &mut AttentionCache<B>,
        noise: &mut BlockNoise<'_>,
    ) -> Result<Tensor<B>> {
        let qkv = self.in_proj.forward(u)?;
        let mixed = match u.shape()[..] {
            [batch, _] => {
                cache.extend(&qkv)?;
                let mask = noise.probability_mask(u.backend(), batch, self.num_heads, cache.len())?;
                cache.attend(&qkv, mask.as_ref())?
            }
            [_, steps, _] => {
                let mut parts = Vec::with_capacity(steps.div_ceil(STEPS_AT_ONCE));
                for start in (0..steps).step_by(STEPS_AT_ONCE) {
                    let part = qkv.slice(1, start, STEPS_AT_ONCE.min(steps - start))?;
                    parts.push(self.attend_at_once(&part, cache, noise)?);
                }
                match &parts[..] {
                    [whole] => whole.clone(),
                    _ => Tensor::concat(&parts.iter().collect::<Vec<_>>(), 1)?,
                }
            }
            _ => unreachable!("the model passes [B, d] or [B, S, d]"),
        };
        self.out_proj.forward(&mixed)
    }

    /// All of the next S steps `qkv` `[B, S, 3d]` at once, under a causal mask.
    fn attend_at_once(
        &self,
        qkv: &Tensor<B>,
        cache: &mut AttentionCache<B>,
        noise: &mut BlockNoise<'_>,
    ) -> Result<Tensor<B>> {
        let [batch, steps, width] = qkv.shape()[..] else { unreachable!("the model passes [B, S, 3d]") };
        let (width, per_head) = (width / 3, width / 3 / self.num_heads);
        let heads = |part: usize| -> Result<Tensor<B>> {
            let part = qkv.slice(2, part * width, width)?;
            Ok(part.reshape([batch, steps, self.num_heads, per_head])?.permute(&[0, 2, 1, 3])?)
        };
        let q = heads(0)?.scale(1.0 / (per_head as f64).sqrt())?;
        let (mut k, mut v) = (heads(1)?, heads(2)?);
        if !cache.is_empty() {
            let (earlier_k, earlier_v) = cache.keys_and_values()?;
            k = Tensor::concat(&[&earlier_k, &k], 2)?;
            v = Tensor::concat(&[&earlier_v, &v], 2)?;
        }
        cache.extend(qkv)?;
        let scores =
            q.matmul_transposed(&k, false, true)?.add(&causal_mask(qkv.backend(), steps, k.shape()[2])?)?;
        let probabilities = noise.drop_probabilities(&scores.softmax()?)?;
        Ok(probabilities.matmul(&v)?.permute(&[0, 2, 1, 3])?.reshape([batch, steps, width])?)
    }
}

/// 0 where step `i` of the last `steps` may look at step `j` of `total`, −∞ where it may not, `[steps, total]`.
fn causal_mask<B: Backend>(backend: &B, steps: usize, total: usize) -> Result<Tensor<B>> {
    let past = total - steps;
    let value = |i: usize, j: usize| B::Elem::of(if j <= past + i { 0.0 } else { f64::NEG_INFINITY });
    let values = (0..steps).flat_map(|i| (0..total).map(move |j| value(i, j))).collect();
    Ok(Tensor::from_vec(backend, values, [steps, total])?)
}

impl<B: Backend> Block<B> {
    /// The attention half over the next S steps: x `[B, S, d]`, or `[B, d]` for one.
    fn attend(
        &self,
        x: &Tensor<B>,
        cache: &mut AttentionCache<B>,
        noise: &mut BlockNoise<'_>,
    ) -> Result<Tensor<B>> {
        let u = self.ln1.forward(x)?;
        let attended = self.self_attn.forward(&u, cache, noise)?;
        Ok(x.add(&noise.drop(&attended, Site::Attention)?)?)
    }

    /// The feed-forward half over rows of steps: x and `z = LN2(x)`, `[rows, d]`. `traces` takes what the plastic
    /// layers saw; `watch` is applied to their outputs before anything reads them.
    fn feed_forward(
        &self,
        x: &Tensor<B>,
        z: Tensor<B>,
        fast: &[FastWeights<B>],
        noise: &mut BlockNoise<'_>,
        traces: &mut Vec<LayerTrace<B>>,
        watch: &impl Fn(Tensor<B>) -> Tensor<B>,
    ) -> Result<Tensor<B>> {
        let mut plastic =
            |layer: &PlasticLinear<B>, fast: &FastWeights<B>, input: Tensor<B>| -> Result<Tensor<B>> {
                let output = watch(layer.forward(&input, fast)?);
                traces.push(LayerTrace { input, output: output.clone(), internal_gradient: None });
                Ok(output)
            };
        let y1 = plastic(&self.fc1, &fast[0], z)?;
        let hidden = noise.drop(&y1.gelu()?, Site::Hidden)?;
        let y2 = plastic(&self.fc2, &fast[1], hidden)?;
        Ok(x.add(&noise.drop(&y2, Site::Output)?)?)
    }

    fn plastic_layers(&self) -> [&PlasticLinear<B>; 2] {
        [&self.fc1, &self.fc2]
    }
}

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
        let input_proj = Linear { weight: next()?, bias: next()? };
        let mut blocks = Vec::with_capacity(config.num_layers);
        for _ in 0..config.num_layers {
            blocks.push(Block {
                ln1: LayerNorm { weight: next()?, bias: next()? },
                self_attn: Attention {
                    in_proj: Linear { weight: next()?, bias: next()? },
                    out_proj: Linear { weight: next()?, bias: next()? },
                    num_heads: config.num_heads,
                },
                ln2: LayerNorm { weight: next()?, bias: next()? },
                fc1: PlasticLinear { weight: next()?, bias: next()?, alpha: next()?, beta: next()? },
                fc2: PlasticLinear { weight: next()?, bias: next()?, alpha: next()?, beta: next()? },
            });
        }
        let final_ln = LayerNorm { weight: next()?, bias: next()? };
        let head = Linear { weight: next()?, bias: next()? };
        let internal_proj = if config.rule == Rule::Gradient { Some(next()?) } else { None };
        if let Some((name, _)) = given.next() {
            return Err(ModelError::SurplusParameter { name: name.to_owned() });
        }
        let plasticity =
            Plasticity { rule: config.rule.build(), neuromodulation: config.neuromodulation(), credit };
        Ok(Self {
            config: config.clone(),
            input_proj,
            blocks,
            final_ln,
            head,
            internal_proj,
            plasticity,
            training,
        })
    }

    /// The configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The state before the first step, for `batch` episodes, with dropout as in training.
    pub fn init_training_state(&self, batch: usize, noise: Noise) -> PlasticState<B> {
        PlasticState { noise: Some(noise), ..self.init_state(batch) }
    }

    /// Whether a state was made for this model, and its noise for its batch.
    fn check_state(&self, state: &PlasticState<B>) -> Result<()> {
        let error = |field: &str, value, rule| Err(ModelError::State { field: field.into(), value, rule });
        let layers = self.blocks.len();
        if state.caches.len() != layers {
            return error("num_layers", state.caches.len(), format!("the model has {layers} blocks"));
        }
        match &state.noise {
            Some(noise) if noise.num_layers() != layers => {
                error("noise.num_layers", noise.num_layers(), format!("the model has {layers} blocks"))
            }
            Some(noise) if noise.keys() != state.batch => {
                let rule = format!("the state is for {} episodes, a key each", state.batch);
                error("noise.keys", noise.keys(), rule)
            }
            _ => Ok(()),
        }
    }

    /// Whether an input is one step's, for the state's batch.
    fn check_step(&self, input: &Tensor<B>, state: &PlasticState<B>) -> Result<()> {
        let (batch, width) = (state.batch, self.config.input_dim);
        if input.shape()[..] == [batch, width] {
            return Ok(());
        }
        Err(ModelError::Input { found: input.shape(), expected: format!("[{batch}, {width}]") })
    }

    /// Reads a whole sequence `[B, T, input_dim]`, or the next T steps of one.
    ///
    /// Rule none reads all steps at once, under a causal mask; a plastic rule step by step, as it must, and where the
    /// outer gradient does not see the updates, again at once for that gradient. The numbers are those of
    /// [`step`](SequenceModel::step), up to rounding.
    ///
    /// # Errors
    /// [`ModelError::Input`] when the input has not the state's batch or the model's width, and
    /// [`ModelError::State`] when the state was made for another model or its noise for another batch.
    pub fn forward(&self, inputs: &Tensor<B>, state: &mut PlasticState<B>) -> Result<SequenceOutput<B>> {
        self.check_state(state)?;
        let shape = inputs.shape();
        let expected = [state.batch, shape.get(1).copied().unwrap_or(0).max(1), self.config.input_dim];
        if shape[..] != expected {
            let expected = format!("[{}, T, {}] with T at least 1", state.batch, self.config.input_dim);
            return Err(ModelError::Input { found: shape, expected });
        }
        let steps = shape[1];
        if self.config.rule == Rule::None {
            return self.forward_at_once(inputs, state, None);
        }
        if self.training
            && state.fast.iter().all(FastWeights::is_zero)
            && self.updates_are_few_constants(steps)?
        {
            return self.forward_twice(inputs, state);
        }
        for fast in state.fast.iter_mut().filter(|fast| fast.is_zero()) {
            *fast = self.fresh_fast_weights(Some(steps));
        }
        // block 0's attention knows nothing of fast weights: it reads all steps at once
        let x = self.input_proj.forward(inputs)?;
        let mut noise = Noise::of_block(state.noise.as_mut(), 0);
        let x = self.blocks[0].attend(&x, &mut state.caches[0], &mut noise)?;
        let z = self.blocks[0].ln2.forward(&x)?;
        let mut raws = Vec::with_capacity(steps);
        let mut modulations = Vec::with_capacity(steps);
        for t in 0..steps {
            let (raw, modulation) = self.plastic_step(x.step(t)?, z.step(t)?, state)?;
            raws.push(raw);
            modulations.extend(modulation);
        }
        let outputs = Tensor::stack_steps(&raws)?.slice(2, 0, self.config.output_dim)?;
        let diagnostics = if modulations.len() < steps {
            None
        } else {
            Some(Diagnostics::gather(&modulations, &state.take_plastic_norms()?)?)
        };
        Ok(SequenceOutput { outputs, diagnostics })
    }

    /// Whether a sequence of `steps` steps is one whose updates the outer gradient does not see, and whose fast weights
    /// can be kept as the history of those updates.
    fn updates_are_few_constants(&self, steps: usize) -> Result<bool> {
        if self.plasticity.credit != Credit::Detached || self.config.eta0 > LARGEST_ETA_IN_PLACE {
            return Ok(false);
        }
        for layer in self.blocks.iter().flat_map(Block::plastic_layers) {
            if FastHistory::plasticity(&layer.alpha, &layer.beta, steps)?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A sequence whose updates are constants to the outer gradient: step by step with nothing tracked, to learn the
    /// updates, then tracked and all at once.
    fn forward_twice(&self, inputs: &Tensor<B>, state: &mut PlasticState<B>) -> Result<SequenceOutput<B>> {
        let scout = self.detached();
        let mut ahead = PlasticState { noise: state.noise.clone(), ..scout.init_state(state.batch) };
        let seen = scout.forward(&inputs.detach(), &mut ahead)?;
        state.fast = ahead.fast;
        self.forward_at_once(inputs, state, seen.diagnostics)
    }

    /// The same model with nothing tracked.
    fn detached(&self) -> Self {
        let linear = |l: &Linear<B>| Linear { weight: l.weight.detach(), bias: l.bias.detach() };
        let norm = |n: &LayerNorm<B>| LayerNorm { weight: n.weight.detach(), bias: n.bias.detach() };
        let plastic = |p: &PlasticLinear<B>| PlasticLinear {
            weight: p.weight.detach(),
            bias: p.bias.detach(),
            alpha: p.alpha.detach(),
            beta: p.beta.detach(),
        };
        let block = |b: &Block<B>| Block {
            ln1: norm(&b.ln1),
            self_attn: Attention {
                in_proj: linear(&b.self_attn.in_proj),
                out_proj: linear(&b.self_attn.out_proj),
                num_heads: b.self_attn.num_heads,
            },
            ln2: norm(&b.ln2),
            fc1: plastic(&b.fc1),
            fc2: plastic(&b.fc2),
        };
        Self {
            config: self.config.clone(),
            input_proj: linear(&self.input_proj),
            blocks: self.blocks.iter().map(block).collect(),
            final_ln: norm(&self.final_ln),
            head: linear(&self.head),
            internal_proj: self.internal_proj.as_ref().map(Tensor::detach),
            plasticity: Plasticity {
                rule: self.config.rule.build(),
                neuromodulation: self.plasticity.neuromodulation,
                credit: self.plasticity.credit,
            },
            training: false,
        }
    }

    /// Fast weights before the first of `steps` steps, if that is known.
    fn fresh_fast_weights(&self, steps: Option<usize>) -> FastWeights<B> {
        match steps {
            // on the way back, an update in place is undone by dividing by 1 − η
            _ if self.config.eta0 > LARGEST_ETA_IN_PLACE => FastWeights::plain(),
            Some(steps) => FastWeights::for_steps(steps).with_rates_up_to(self.config.eta0),
            None => FastWeights::zero().with_rates_up_to(self.config.eta0),
        }
    }

    /// The next S steps at once: of a model without plasticity, or whose updates along them are known already.
    fn forward_at_once(
        &self,
        inputs: &Tensor<B>,
        state: &mut PlasticState<B>,
        diagnostics: Option<Diagnostics<B>>,
    ) -> Result<SequenceOutput<B>> {
        let mut x = self.input_proj.forward(inputs)?;
        let fast = state.fast.chunks_exact(2);
        for (i, ((block, cache), fast)) in self.blocks.iter().zip(&mut state.caches).zip(fast).enumerate() {
            let mut noise = Noise::of_block(state.noise.as_mut(), i);
            x = block.attend(&x, cache, &mut noise)?;
            let z = block.ln2.forward(&x)?;
            x = block.feed_forward(&x, z, fast, &mut noise, &mut Vec::new(), &|y| y)?;
        }
        state.step += inputs.shape()[1];
        let raw = self.head.forward(&self.final_ln.forward(&x)?)?;
        Ok(SequenceOutput { outputs: raw.slice(2, 0, self.config.output_dim)?, diagnostics })
    }

    /// One step from block 0's feed-forward on, x and `z = LN2(x)` `[B, d]` being its input: the head's `[outputs; g;
    /// aux]`, `[B, head_dim]`, and what plasticity then did.
    fn plastic_step(
        &self,
        mut x: Tensor<B>,
        z: Tensor<B>,
        state: &mut PlasticState<B>,
    ) -> Result<(Tensor<B>, Option<Modulation<B>>)> {
        // the internal loss needs a tape for its own derivative even when nobody asks for an outer one
        let scratch = (!self.training && self.plasticity.rule.needs_internal_gradient()).then(Tape::new);
        let watch = |y: Tensor<B>| match &scratch {
            Some(tape) if !y.is_tracked() => tape.leaf(y.array()),
            _ => y,
        };
        let mut traces = Vec::with_capacity(2 * self.blocks.len());
        let mut z = Some(z);
        let fast = state.fast.chunks_exact(2);
        for (i, ((block, cache), fast)) in self.blocks.iter().zip(&mut state.caches).zip(fast).enumerate() {
            let mut noise = Noise::of_block(state.noise.as_mut(), i);
            let z = match z.take() {
                Some(z) => z,
                None => {
                    x = block.attend(&x, cache, &mut noise)?;
                    block.ln2.forward(&x)?
                }
            };
            x = block.feed_forward(&x, z, fast, &mut noise, &mut traces, &watch)?;
        }
        let mut raw = self.head.forward(&self.final_ln.forward(&x)?)?;
        self.add_internal_gradients(&raw, &mut traces)?;
        if scratch.is_some() {
            raw = raw.detach();
            state.caches.iter_mut().for_each(AttentionCache::release);
            for trace in &mut traces {
                (trace.input, trace.output) = (trace.input.detach(), trace.output.detach());
            }
            state.fast.iter_mut().for_each(FastWeights::release);
        }
        let g = raw.slice(1, self.config.output_dim, 1)?.reshape([state.batch])?;
        let layers = self.blocks.iter().flat_map(Block::plastic_layers);
        let modulation = self.plasticity.update(state.step, &g, layers, &traces, &mut state.fast)?;
        state.step += 1;
        Ok((raw, modulation))
    }

    /// Fills in `∂L_int/∂y` of every plastic layer, `L_int = mean((R · [outputs; aux; g])²)` of this step.
    ///
    /// Episodes are apart, so the gradient of their losses' sum holds each one's own. Everything recorded before
    /// this step's first plastic output is a constant to it: earlier steps' keys and values, the fast weights.
    fn add_internal_gradients(&self, raw: &Tensor<B>, traces: &mut [LayerTrace<B>]) -> Result<()> {
        let Some(r) = &self.internal_proj else { return Ok(()) };
        let o = self.config.output_dim;
        let (outputs, gate, aux) =
            (raw.slice(1, 0, o)?, raw.slice(1, o, 1)?, raw.slice(1, o + 1, self.config.aux_dim)?);
        let loss = Tensor::concat(&[&outputs, &aux, &gate], 1)?.matmul_transposed(r, false, true)?;
        let loss = loss.square()?.sum()?.scale(1.0 / self.config.head_dim() as f64)?;
        let plain = !self.training || self.plasticity.credit == Credit::Detached;
        let mode = if plain { GradMode::Plain } else { GradMode::Tracked };
        let layer_outputs: Vec<&Tensor<B>> = traces.iter().map(|t| &t.output).collect();
        let gradients = grad(&loss, &layer_outputs, mode)?;
        for (trace, gradient) in traces.iter_mut().zip(gradients) {
            trace.internal_gradient = gradient;
        }
        Ok(())
    }
}

impl<B: Backend> SequenceModel<B> for PlasticTransformer<B> {
    type State = PlasticState<B>;

    fn init_state(&self, batch: usize) -> PlasticState<B> {
        let ModelConfig { num_layers: layers, num_heads: heads, model_dim: width, .. } = self.config;
        let backend = self.head.weight.backend();
        PlasticState {
            batch,
            step: 0,
            caches: (0..layers)
                .map(|_| AttentionCache::new(backend, batch, heads, width / heads, CACHE_STEPS))
                .collect(),
            fast: vec![self.fresh_fast_weights(None); 2 * layers],
            noise: None,
        }
    }

    fn step(&self, input: &Tensor<B>, state: &mut PlasticState<B>) -> Result<StepOutput<B>> {
        self.check_state(state)?;
        self.check_step(input, state)?;
        let x = self.input_proj.forward(input)?;
        let mut noise = Noise::of_block(state.noise.as_mut(), 0);
        let x = self.blocks[0].attend(&x, &mut state.caches[0], &mut noise)?;
        let z = self.blocks[0].ln2.forward(&x)?;
        let (raw, modulation) = self.plastic_step(x, z, state)?;
        for fast in &mut state.fast {
            // nobody asked for the norms of a single step
            fast.take_norms()?;
        }
        Ok(StepOutput { outputs: raw.slice(1, 0, self.config.output_dim)?, modulation })
    }
}
