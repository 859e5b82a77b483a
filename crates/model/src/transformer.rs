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
//!
//! By configuration, attention's value and output projections have an F and a c beside or in the place of the
//! feed-forward's, steps have positions, and attention sees the last W steps alone.

mod binding;
mod block;
mod looking;
mod rotary;
mod state;

use plastica_rules::{Credit, FastWeights, LayerTrace, Modulation, Plasticity};
use plastica_tensor::ops::attention::AttentionCache;
use plastica_tensor::ops::history::FastHistory;
use plastica_tensor::{Backend, GradMode, Tape, Tensor, grad_along};

use crate::{
    Diagnostics, Gates, ModelConfig, ModelError, Noise, Result, SequenceModel, SequenceOutput, StepOutput,
};

use block::{Block, LayerNorm, Linear, Stream, Watch};
pub use state::PlasticState;

/// η0 up to which fast weights are kept in place.
const LARGEST_ETA_IN_PLACE: f64 = 0.9;

/// Steps that a new attention cache has room for before it grows.
const CACHE_STEPS: usize = 32;

/// The largest window for which a cache has room for twice that from the first.
const LARGEST_WINDOW_AT_FIRST: usize = 512;

/// A plastic Transformer, bound to its parameters.
#[derive(Debug)]
pub struct PlasticTransformer<B: Backend> {
    config: ModelConfig,
    input_proj: Linear<B>,
    /// Learned positions, `[max_positions, d]`.
    positions: Option<Tensor<B>>,
    blocks: Vec<Block<B>>,
    final_ln: LayerNorm<B>,
    head: Linear<B>,
    /// R, of the internal loss, for the rules that need it.
    internal_proj: Option<Tensor<B>>,
    plasticity: Plasticity<B>,
    /// No update's rate is above it: η0, learned or not, or 1 where fast weights are bounded.
    largest_eta: f64,
    /// Whether an outer gradient will be asked for: the parameters are on a tape.
    training: bool,
}

impl<B: Backend> PlasticTransformer<B> {
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

    /// Whether there are positions for a sequence of `steps` steps.
    fn check_positions(&self, steps: usize) -> Result<()> {
        match &self.positions {
            Some(learned) if steps > learned.shape()[0] => {
                let rule = format!("model.max_positions = {} positions are learned", learned.shape()[0]);
                Err(ModelError::State { field: "steps".into(), value: steps, rule })
            }
            _ => Ok(()),
        }
    }

    /// Steps `start ..` as block 0 reads them: `[B, T, input_dim]` to `[B, T, d]`, or `[B, input_dim]` to `[B, d]` for one.
    fn embed(&self, inputs: &Tensor<B>, start: usize) -> Result<Tensor<B>> {
        let x = self.input_proj.forward(inputs)?;
        let steps = if let [_, steps, _] = inputs.shape()[..] { steps } else { 1 };
        match &self.positions {
            Some(learned) => Ok(x.add(&learned.slice(0, start, steps)?)?),
            None => Ok(x),
        }
    }

    /// Reads a whole sequence `[B, T, input_dim]`, or the next T steps of one.
    ///
    /// Rule none reads all steps at once, under a causal mask; a plastic rule step by step, as it must, and where the
    /// outer gradient does not see the updates, again at once for that gradient. The numbers are those of
    /// [`step`](SequenceModel::step), up to rounding. Under [`Credit::Windowed`] a state at a window's edge stands on no
    /// tape: the next steps may be read by the same parameters on another one, and this one's memory is free again.
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
        self.check_positions(state.step + steps)?;
        let Some(window) = self.plasticity.credit.window() else { return self.read_on(inputs, state) };
        let mut pieces = Vec::with_capacity(steps / window + 1);
        let mut start = 0;
        while start < steps {
            let length = (window.get() - state.step % window).min(steps - start);
            pieces.push(self.read_on(&inputs.slice(1, start, length)?, state)?);
            self.cut_attention(state);
            start += length;
        }
        SequenceOutput::join(pieces)
    }

    /// The next steps `[B, T, input_dim]`, none of which but the last is a window's end.
    fn read_on(&self, inputs: &Tensor<B>, state: &mut PlasticState<B>) -> Result<SequenceOutput<B>> {
        let steps = inputs.shape()[1];
        if !self.plasticity.rule.is_plastic() {
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
        let mut stream = Stream::new(self.embed(inputs, state.step)?);
        // block 0's attention, where it is not plastic itself, knows nothing of fast weights: it reads all steps at once
        let ahead = !self.config.plastic_layers.in_attention();
        let z = match ahead {
            true => {
                let mut watch = Watch { traces: Vec::new(), scratch: None };
                let z = self.blocks[0].attend(&mut stream, &mut state.block(0), &mut watch)?;
                z.steps()?.into_iter().map(Some).collect()
            }
            false => vec![None; steps],
        };
        let mut raws = Vec::with_capacity(steps);
        let mut modulations = Vec::with_capacity(steps);
        for (x, z) in stream.x.steps()?.into_iter().zip(z) {
            let (raw, modulation) = self.plastic_step(x, z, state)?;
            raws.push(raw);
            modulations.extend(modulation);
        }
        let outputs = Tensor::stack_steps(&raws)?.slice(2, 0, self.config.output_dim)?;
        let diagnostics = Diagnostics::gather(&modulations, state.take_plastic_norms()?)?;
        Ok(SequenceOutput { outputs, diagnostics: Some(diagnostics) })
    }

    /// After a step: where the outer gradient crosses no window's edge, keys and values become constants there, as fast weights do.
    fn cut_attention(&self, state: &mut PlasticState<B>) {
        if self.plasticity.credit.window().is_some_and(|window| state.step.is_multiple_of(window.get())) {
            state.caches.iter_mut().for_each(|cache| *cache = cache.clone());
        }
    }

    /// Whether a sequence of `steps` steps is one whose updates the outer gradient does not see, and whose fast weights
    /// can be kept as the history of those updates.
    fn updates_are_few_constants(&self, steps: usize) -> Result<bool> {
        if self.plasticity.credit != Credit::Detached || self.largest_eta > LARGEST_ETA_IN_PLACE {
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
        let scout = self.detached()?;
        let mut ahead = PlasticState { noise: state.noise.clone(), ..scout.init_state(state.batch) };
        let seen = scout.forward(&inputs.detach(), &mut ahead)?;
        state.fast = ahead.fast;
        self.forward_at_once(inputs, state, seen.diagnostics)
    }

    /// Fast weights before the first of `steps` steps, if that is known.
    fn fresh_fast_weights(&self, steps: Option<usize>) -> FastWeights<B> {
        match steps {
            // on the way back, an update in place is undone by dividing by 1 − η
            _ if self.largest_eta > LARGEST_ETA_IN_PLACE => FastWeights::plain(),
            Some(steps) => FastWeights::for_steps(steps).with_rates_up_to(self.largest_eta),
            None => FastWeights::zero().with_rates_up_to(self.largest_eta),
        }
    }

    /// The next S steps at once: of a model without plasticity, or whose updates along them are known already.
    fn forward_at_once(
        &self,
        inputs: &Tensor<B>,
        state: &mut PlasticState<B>,
        diagnostics: Option<Diagnostics<B>>,
    ) -> Result<SequenceOutput<B>> {
        let mut stream = Stream::new(self.embed(inputs, state.step)?);
        let mut watch = Watch { traces: Vec::new(), scratch: None };
        for (i, block) in self.blocks.iter().enumerate() {
            let mut here = state.block(i);
            let z = block.attend(&mut stream, &mut here, &mut watch)?;
            block.feed_forward(&mut stream, z, &mut here, &mut watch)?;
        }
        state.step += inputs.shape()[1];
        let raw = self.head.forward(&self.final_ln.read(&mut stream)?)?;
        Ok(SequenceOutput { outputs: raw.slice(2, 0, self.config.output_dim)?, diagnostics })
    }

    /// One step from block 0's feed-forward on, x and `z = LN2(x)` `[B, d]` being its input, or from block 0's attention
    /// on, without a z: the head's `[outputs; g; aux]`, `[B, head_dim]`, and what plasticity then did.
    fn plastic_step(
        &self,
        x: Tensor<B>,
        mut z: Option<Tensor<B>>,
        state: &mut PlasticState<B>,
    ) -> Result<(Tensor<B>, Option<Modulation<B>>)> {
        // the internal loss needs a tape for its own derivative even when nobody asks for an outer one
        let scratch = (!self.training && self.plasticity.rule.needs_internal_gradient()).then(Tape::new);
        let mut watch = Watch { traces: Vec::with_capacity(state.fast.len()), scratch: scratch.as_ref() };
        let mut stream = Stream::new(x);
        for (i, block) in self.blocks.iter().enumerate() {
            let mut here = state.block(i);
            let z = match z.take() {
                Some(z) => z,
                None => block.attend(&mut stream, &mut here, &mut watch)?,
            };
            block.feed_forward(&mut stream, z, &mut here, &mut watch)?;
        }
        let mut traces = watch.traces;
        let mut raw = self.head.forward(&self.final_ln.read(&mut stream)?)?;
        self.add_internal_gradients(&raw, &mut traces)?;
        if scratch.is_some() {
            raw = raw.detach();
            state.caches.iter_mut().for_each(AttentionCache::release);
            for trace in &mut traces {
                (trace.input, trace.output) = (trace.input.detach(), trace.output.detach());
            }
            state.fast.iter_mut().for_each(FastWeights::release);
        }
        let gates = raw.slice(1, self.config.output_dim, self.config.gate_count())?;
        let g = match self.config.gates {
            Gates::Shared => gates.reshape([state.batch])?,
            Gates::PerLayer => gates,
        };
        let layers = self.blocks.iter().flat_map(Block::plastic_layers);
        let modulation = self.plasticity.update(state.step, &g, layers, &traces, &mut state.fast)?;
        state.step += 1;
        Ok((raw, modulation))
    }

    /// Fills in `∂L_int/∂y` of every plastic layer, `L_int = mean((R · [outputs; aux; g])²)` of this step, g being all gates. Its
    /// derivative by `[outputs; aux; g]` is `2 Rᵀ R [outputs; aux; g] / n`, n their number.
    ///
    /// Episodes are apart, so the gradient of their losses' sum holds each one's own. Everything recorded before
    /// this step's first plastic output is a constant to it: earlier steps' keys and values, the fast weights.
    fn add_internal_gradients(&self, raw: &Tensor<B>, traces: &mut [LayerTrace<B>]) -> Result<()> {
        let Some(r) = &self.internal_proj else { return Ok(()) };
        let (o, g) = (self.config.output_dim, self.config.gate_count());
        let aux = self.config.aux_dim;
        let projected = raw.swap(o, [g, aux])?.matmul_transposed(r, false, true)?;
        let by_projected = projected.scale(2.0 / self.config.head_dim() as f64)?;
        let by_raw = by_projected.matmul(r)?.swap(o, [aux, g])?;
        let plain = !self.training || self.plasticity.credit == Credit::Detached;
        let mode = if plain { GradMode::Plain } else { GradMode::Tracked };
        let layer_outputs: Vec<&Tensor<B>> = traces.iter().map(|t| &t.output).collect();
        let gradients = grad_along(raw, &by_raw, &layer_outputs, mode)?;
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
        let (backend, window) = (self.head.weight.backend(), self.config.attention_window);
        let capacity = match window {
            Some(window) if window <= LARGEST_WINDOW_AT_FIRST => CACHE_STEPS.max(2 * window),
            _ => CACHE_STEPS,
        };
        let cache = || AttentionCache::windowed(backend, batch, heads, width / heads, capacity, window);
        let plastic = self.blocks.iter().flat_map(Block::plastic_layers).count();
        PlasticState {
            batch,
            step: 0,
            caches: (0..layers).map(|_| cache()).collect(),
            fast: vec![self.fresh_fast_weights(None); plastic],
            noise: None,
        }
    }

    fn step(&self, input: &Tensor<B>, state: &mut PlasticState<B>) -> Result<StepOutput<B>> {
        self.check_state(state)?;
        self.check_step(input, state)?;
        self.check_positions(state.step + 1)?;
        let x = self.embed(input, state.step)?;
        let (raw, modulation) = self.plastic_step(x, None, state)?;
        self.cut_attention(state);
        for fast in &mut state.fast {
            // nobody asked for the norms of a single step
            fast.take_norms()?;
        }
        Ok(StepOutput { outputs: raw.slice(1, 0, self.config.output_dim)?, modulation })
    }
}
