//! One way of reading a batch against another: the numbers must be the same.

use std::collections::BTreeMap;

use plastica_model::{
    Diagnostics, FastNorm, Gates, ModelConfig, Noise, Parameters, PlasticState, PlasticTransformer,
    Positions, SequenceModel,
};
use plastica_rules::{ClipMode, Credit, Modulation, PlasticSite, PlasticityRule, RankOne, Rule, register};
use plastica_tensor::{Array, Backend, Cpu, GradMode, Tape, Tensor, grad};

use crate::support::{distance, options, perturbed, random, small, wide};

/// Rounding that two orders of the same sums may differ by.
const F64: f64 = 1e-12;
const F32: f64 = 1e-5;

/// How a sequence is handed to the model.
#[derive(Clone, Copy)]
enum How {
    AtOnce,
    StepByStep,
    /// This many steps, then the rest.
    InTwo(usize),
}

/// Everything that came of reading a batch, by name.
#[derive(Debug, Clone, Default, PartialEq)]
struct Reading {
    /// Outputs, diagnostics, final fast weights: the episodes' rows one after the other.
    values: BTreeMap<String, Vec<f64>>,
    /// The gradient of the batch's loss.
    gradients: BTreeMap<String, Vec<f64>>,
}

impl Reading {
    fn value<B: Backend>(&mut self, name: impl Into<String>, tensor: &Tensor<B>) {
        self.values.entry(name.into()).or_default().extend(wide(tensor.array()));
    }

    /// Takes in a reading of further episodes.
    fn append(&mut self, other: Reading) {
        for (name, values) in other.values {
            self.values.entry(name).or_default().extend(values);
        }
        for (name, gradient) in other.gradients {
            let sum = self.gradients.entry(name).or_insert_with(|| vec![0.0; gradient.len()]);
            sum.iter_mut().zip(gradient).for_each(|(sum, g)| *sum += g);
        }
    }

    #[track_caller]
    fn assert_close(&self, other: &Self, tolerance: f64) {
        for (ours, theirs) in [(&self.values, &other.values), (&self.gradients, &other.gradients)] {
            assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
            for (name, ours) in ours {
                let error = distance(ours, &theirs[name]);
                assert!(error <= tolerance, "{name} is off by {error:e}");
            }
        }
    }
}

/// A model, a batch `[B, T, input_dim]` and its episodes' dropout keys.
struct Trial<B: Backend> {
    config: ModelConfig,
    parameters: Parameters<B>,
    inputs: Tensor<B>,
    keys: Vec<u64>,
    credit: Credit,
}

impl<B: Backend> Trial<B> {
    fn new(backend: &B, config: ModelConfig, batch: usize, steps: usize) -> Self {
        let parameters = perturbed(&config, backend, 3);
        let inputs = random(backend, [batch, steps, config.input_dim], 4);
        let keys = (0..batch as u64).map(|episode| 100 + episode).collect();
        Self { config, parameters, inputs, keys, credit: Credit::Full }
    }

    /// The same, of one episode of the batch.
    fn episode(&self, episode: usize) -> Self {
        Self {
            config: self.config.clone(),
            parameters: self.parameters.clone(),
            inputs: self.inputs.slice(0, episode, 1).unwrap(),
            keys: vec![self.keys[episode]],
            credit: self.credit,
        }
    }

    fn read(&self, how: How) -> Reading {
        let tape = Tape::new();
        let (model, leaves) =
            PlasticTransformer::tracked(&self.config, &self.parameters, self.credit, &tape).unwrap();
        let noise = Noise::new(self.config.dropout, self.config.num_layers, &self.keys);
        let mut state = model.init_training_state(self.keys.len(), noise);
        let mut reading = Reading::default();
        let outputs = self.outputs(&model, &mut state, how, &mut reading);
        // a loss that is curved, so that an error in an output shows in the gradient too
        let loss = outputs.square().unwrap().add(&outputs).unwrap().sum().unwrap();
        let gradients = grad(&loss, &leaves.iter().collect::<Vec<_>>(), GradMode::Plain).unwrap();
        for (name, gradient) in self.parameters.names().iter().zip(gradients) {
            reading.gradients.extend(gradient.map(|g| (name.clone(), wide(g.array()))));
        }
        reading
    }

    /// Reads the sequence; all values go into the reading.
    fn outputs(
        &self,
        model: &PlasticTransformer<B>,
        state: &mut PlasticState<B>,
        how: How,
        reading: &mut Reading,
    ) -> Tensor<B> {
        let [batch, steps, width] = self.inputs.shape()[..] else { unreachable!("inputs are [B, T, width]") };
        let mut pieces = Vec::new();
        let mut diagnostics = Vec::new();
        if let How::StepByStep = how {
            for t in 0..steps {
                let input = self.inputs.slice(1, t, 1).unwrap().reshape([batch, width]).unwrap();
                let step = model.step(&input, state).unwrap();
                pieces.push(step.outputs.reshape([batch, 1, self.config.output_dim]).unwrap());
                if let Some(Modulation { eta, gate, clip }) = step.modulation {
                    let plastic_norm =
                        state.plastic_norm().unwrap().expect("a plastic rule has changed them");
                    diagnostics.push(Diagnostics { eta, gate, clip, plastic_norm });
                }
            }
        } else {
            let first = if let How::InTwo(first) = how { first } else { steps };
            for (start, len) in [(0, first), (first, steps - first)] {
                if len > 0 {
                    let read = model.forward(&self.inputs.slice(1, start, len).unwrap(), state).unwrap();
                    pieces.push(read.outputs);
                    diagnostics.extend(read.diagnostics);
                }
            }
        }
        assert_eq!(state.step(), steps);
        let outputs = Tensor::concat(&pieces.iter().collect::<Vec<_>>(), 1).unwrap();
        reading.value("outputs", &outputs);
        assert_eq!(diagnostics.is_empty(), self.config.rule == Rule::None);
        if !diagnostics.is_empty() {
            for (name, field) in [("eta", 0), ("gate", 1), ("clip", 2), ("plastic_norm", 3)] {
                let columns = diagnostics.iter().map(|d| {
                    let value = [&d.eta, &d.gate, &d.clip, &d.plastic_norm][field];
                    value.reshape([batch, value.shape().len() / batch]).unwrap()
                });
                let columns: Vec<_> = columns.collect();
                reading.value(name, &Tensor::concat(&columns.iter().collect::<Vec<_>>(), 1).unwrap());
            }
        }
        for (i, fast) in state.fast_weights().iter().enumerate() {
            if let Some((weight, bias)) = fast.get().unwrap() {
                reading.value(format!("fast {i}, weight"), &weight);
                reading.value(format!("fast {i}, bias"), &bias);
            }
        }
        outputs
    }
}

/// Runs a check for every rule, with and without dropout, in both precisions.
fn for_all(check: impl Fn(ModelConfig, Precision)) {
    for rule in Rule::ALL {
        for dropout in [0.0, 0.3] {
            for precision in [Precision::Double, Precision::Single] {
                check(ModelConfig { dropout, eta0: 0.5, ..small(rule) }, precision);
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Precision {
    Double,
    Single,
}

/// Reads three episodes of five steps.
fn read(config: &ModelConfig, precision: Precision, how: How) -> (Reading, f64) {
    match precision {
        Precision::Double => (Trial::new(&Cpu::<f64>::new(), config.clone(), 3, 5).read(how), F64),
        Precision::Single => (Trial::new(&Cpu::<f32>::new(), config.clone(), 3, 5).read(how), F32),
    }
}

#[test]
fn a_batch_is_its_episodes_one_at_a_time() {
    for_all(|config, precision| {
        fn check<B: Backend>(trial: &Trial<B>, tolerance: f64) {
            let mut apart = Reading::default();
            for episode in 0..trial.keys.len() {
                apart.append(trial.episode(episode).read(How::AtOnce));
            }
            // an episode's rows of fast weights are whole matrices: they too lie one after the other
            trial.read(How::AtOnce).assert_close(&apart, tolerance);
        }
        match precision {
            Precision::Double => check(&Trial::new(&Cpu::<f64>::new(), config, 3, 5), F64),
            Precision::Single => check(&Trial::new(&Cpu::<f32>::new(), config, 3, 5), F32),
        }
    });
}

#[test]
fn a_sequence_is_its_steps() {
    for_all(|config, precision| {
        let (at_once, tolerance) = read(&config, precision, How::AtOnce);
        let (streamed, _) = read(&config, precision, How::StepByStep);
        streamed.assert_close(&at_once, tolerance);
    });
}

/// With every option, however the sequence is read; so long that a window is left behind.
#[test]
fn with_every_option_a_sequence_is_its_steps_and_its_pieces() {
    for rule in Rule::ALL {
        for dropout in [0.0, 0.3] {
            for (name, config) in options(rule) {
                let trial = Trial::new(&Cpu::<f64>::new(), ModelConfig { dropout, ..config }, 3, 7);
                let at_once = trial.read(How::AtOnce);
                assert!(at_once.gradients.len() > 20, "{rule}, {name}");
                trial.read(How::StepByStep).assert_close(&at_once, F64);
                trial.read(How::InTwo(4)).assert_close(&at_once, F64);
            }
        }
    }
}

/// The at-once reading takes 64 steps together: a window across their edge, and one across the cache's first capacity.
#[test]
fn a_window_does_not_see_how_long_a_sequence_is_cut_up() {
    for (rule, window) in [(Rule::None, 5), (Rule::None, 40), (Rule::None, 70), (Rule::Hebbian, 40)] {
        let config = ModelConfig { attention_window: Some(window), dropout: 0.3, ..small(rule) };
        let trial = Trial::new(&Cpu::<f64>::new(), config, 2, 150);
        let at_once = trial.read(How::AtOnce);
        trial.read(How::StepByStep).assert_close(&at_once, 1e-10);
        trial.read(How::InTwo(67)).assert_close(&at_once, 1e-10);
        let model = PlasticTransformer::new(&trial.config, &trial.parameters).unwrap();
        let mut values = Vec::new();
        for how in [How::AtOnce, How::StepByStep, How::InTwo(67)] {
            let mut reading = Reading::default();
            trial.outputs(&model, &mut model.init_state(2), how, &mut reading);
            values.push(reading);
        }
        values[1].assert_close(&values[0], 1e-10);
        values[2].assert_close(&values[0], 1e-10);
    }
}

/// What a window leaves behind matters no more, without fast weights.
#[test]
fn a_step_sees_its_window_alone() {
    let config = ModelConfig { attention_window: Some(3), num_layers: 1, ..small(Rule::None) };
    let mut trial = Trial::new(&Cpu::<f64>::new(), config, 1, 8);
    let outputs = |trial: &Trial<Cpu<f64>>| {
        let model = PlasticTransformer::new(&trial.config, &trial.parameters).unwrap();
        let read = model.forward(&trial.inputs, &mut model.init_state(1)).unwrap().outputs;
        wide(read.array()).chunks_exact(3).map(<[f64]>::to_vec).collect::<Vec<_>>()
    };
    let before = outputs(&trial);
    let mut inputs = wide(trial.inputs.array());
    inputs[2 * 3] += 0.5;
    trial.inputs = Tensor::from_vec(&Cpu::<f64>::new(), inputs, [1, 8, 3]).unwrap();
    let same: Vec<bool> = outputs(&trial).iter().zip(&before).map(|(a, b)| a == b).collect();
    assert_eq!(same, [true, true, false, false, false, true, true, true]);
}

/// Rotary positions are relative: with a window and no plasticity, a sequence read later is the same sequence.
#[test]
fn rotary_positions_tell_distances_and_none_tells_nothing() {
    let outputs = |positions, swapped: bool| {
        let config =
            ModelConfig { positions, model_dim: 8, num_layers: 1, max_positions: 4, ..small(Rule::None) };
        let trial = Trial::new(&Cpu::<f64>::new(), config, 1, 4);
        let model = PlasticTransformer::new(&trial.config, &trial.parameters).unwrap();
        let step = |t: usize| trial.inputs.slice(1, t, 1).unwrap();
        let order = if swapped { [1, 0, 2, 3] } else { [0, 1, 2, 3] };
        let inputs = Tensor::concat(&order.map(step).iter().collect::<Vec<_>>(), 1).unwrap();
        let read = model.forward(&inputs, &mut model.init_state(1)).unwrap().outputs;
        wide(read.slice(1, 3, 1).unwrap().array())
    };
    for (positions, matters) in
        [(Positions::None, false), (Positions::Rotary, true), (Positions::Learned, true)]
    {
        let apart = distance(&outputs(positions, true), &outputs(positions, false));
        assert_eq!(apart > 1e-6, matters, "{positions:?}: {apart:e}");
    }
}

#[test]
fn a_sequence_may_be_read_in_pieces() {
    for_all(|config, precision| {
        let (at_once, tolerance) = read(&config, precision, How::AtOnce);
        for first in [1, 3, 4] {
            read(&config, precision, How::InTwo(first)).0.assert_close(&at_once, tolerance);
        }
    });
}

/// Where the outer gradient does not see the updates and α and β are one number each, a short sequence is read twice,
/// the second time at once: like the same steps one at a time, or in pieces.
#[test]
fn a_short_sequence_of_constant_updates_is_its_steps() {
    let configs = |rule| options(rule).into_iter().map(|(_, config)| config).chain([small(rule)]);
    for base in Rule::ALL.into_iter().filter(|rule| *rule != Rule::None).flat_map(configs) {
        for dropout in [0.0, 0.3] {
            let config = ModelConfig { dropout, eta0: 0.5, ..base.clone() };
            let mut trial = Trial::new(&Cpu::<f64>::new(), config, 3, 3);
            trial.credit = Credit::Detached;
            let names = trial.parameters.names().to_vec();
            for (name, array) in names.iter().zip(trial.parameters.arrays_mut()) {
                let value = if name.ends_with("alpha") { 0.7 } else { -0.4 };
                if name.ends_with("alpha") || name.ends_with("beta") {
                    *array = Array::full(&Cpu::<f64>::new(), value, array.shape()).unwrap();
                }
            }
            let at_once = trial.read(How::AtOnce);
            trial.read(How::StepByStep).assert_close(&at_once, F64);
            for first in [1, 2] {
                trial.read(How::InTwo(first)).assert_close(&at_once, F64);
            }
        }
    }
}

/// Hebbian at some steps of some layers: no layer moves at step 0, and at others only those that are wider inside or outside.
#[derive(Clone)]
struct NowAndThen;

impl NowAndThen {
    /// Whether a layer of `out` outputs and `inp` inputs moves at step `t`.
    fn moves(t: usize, out: usize, inp: usize) -> bool {
        match t {
            0 | 4 => false,
            1 => out > inp,
            3 => out <= inp,
            _ => true,
        }
    }
}

impl<B: Backend> PlasticityRule<B> for NowAndThen {
    fn name(&self) -> &'static str {
        "now-and-then"
    }

    fn change(&self, site: &mut PlasticSite<'_, B>) -> plastica_rules::Result<Option<RankOne<B>>> {
        let (p, q) = (site.trace.output.clone(), site.trace.input.clone());
        let steps = site.memory.recall(0, &Tensor::zeros(p.backend(), [p.shape()[0], 1])?)?;
        site.memory.keep(0, steps.shift(1.0)?);
        let t = wide(steps.array())[0] as usize;
        Ok(Self::moves(t, p.shape()[1], q.shape()[1]).then_some(RankOne { p, q }))
    }
}

/// A rule may leave layers as they are: however the sequence is read, every other change is in its place, and so is what is
/// told of it.
#[test]
fn a_layer_that_stays_as_it_is_keeps_its_place_in_the_sequence() {
    let rule = register(NowAndThen).unwrap();
    let own = ModelConfig { max_norm: 1e4, eta0: 0.5, ..small(rule) };
    let gates = ModelConfig { gates: Gates::PerLayer, clip: ClipMode::PerLayer, ..own.clone() };
    let bounded = ModelConfig { fast_norm: FastNorm::Bound, ..own.clone() };
    for (name, config) in [("own", own), ("gates", gates), ("bounded", bounded)] {
        for (credit, steps) in [("detached", 3), ("detached", 6), ("full", 6), ("windowed(2)", 6)] {
            let mut trial = Trial::new(&Cpu::<f64>::new(), config.clone(), 2, steps);
            trial.credit = credit.parse().unwrap();
            for (i, name) in trial.parameters.names().to_vec().iter().enumerate() {
                // one number each, for which a short sequence of constant updates is read at once
                if name.ends_with("alpha") || name.ends_with("beta") {
                    let array = &mut trial.parameters.arrays_mut()[i];
                    *array = Array::full(&Cpu::<f64>::new(), 0.7, array.shape()).unwrap();
                }
            }
            let at_once = trial.read(How::AtOnce);
            for how in [How::StepByStep, How::InTwo(1), How::InTwo(2)] {
                trial.read(how).assert_close(&at_once, F64);
            }
            let column = |name: &str, t: usize| -> Vec<f64> {
                at_once.values[name].chunks_exact(steps).map(|episode| episode[t]).collect()
            };
            for t in 0..steps {
                let still = matches!(t, 0 | 4);
                assert_eq!(column("eta", t) == [0.0; 2], still, "{name}, {credit}, step {t}");
                assert!(column("gate", t).iter().all(|&gate| gate > 0.0), "{name}, {credit}, step {t}");
                let before = if t == 0 { vec![0.0; 2] } else { column("plastic_norm", t - 1) };
                assert_eq!(column("plastic_norm", t) == before, still, "{name}, {credit}, step {t}");
            }
        }
    }
}

#[test]
fn dropout_depends_on_the_episodes_keys_alone() {
    for rule in Rule::ALL {
        let config = ModelConfig { dropout: 0.3, ..small(rule) };
        let mut trial = Trial::new(&Cpu::<f64>::new(), config, 3, 5);
        let first = trial.read(How::AtOnce);
        assert_eq!(trial.read(How::AtOnce), first, "same keys, same bits");
        trial.keys[1] += 1;
        let other = trial.read(How::AtOnce);
        let rows = |reading: &Reading| -> Vec<Vec<f64>> {
            reading.values["outputs"].chunks_exact(5 * 3).map(<[f64]>::to_vec).collect()
        };
        let same: Vec<bool> = rows(&first).iter().zip(&rows(&other)).map(|(a, b)| a == b).collect();
        assert_eq!(same, [true, false, true]);
    }
}

#[test]
fn truncated_to_the_whole_sequence_is_full() {
    for rule in Rule::ALL {
        let mut trial = Trial::new(&Cpu::<f64>::new(), ModelConfig { max_norm: 1e4, ..small(rule) }, 2, 5);
        let full = trial.read(How::AtOnce);
        for credit in ["truncated(5)", "truncated(6)", "truncated(1000)"] {
            trial.credit = credit.parse().unwrap();
            // the end of the window carries the last update out sooner, which is only read on the way back
            trial.read(How::AtOnce).assert_close(&full, F64);
        }
        trial.credit = "truncated(4)".parse().unwrap();
        let cut = trial.read(How::AtOnce);
        assert_eq!(cut.values, full.values, "credit never changes a value");
        assert_eq!(cut.gradients == full.gradients, rule == Rule::None);
    }
}

/// Windows are counted from the sequence's first step, however it is handed over.
#[test]
fn windowed_credit_does_not_depend_on_the_pieces_read() {
    for rule in Rule::ALL {
        let config = ModelConfig { dropout: 0.3, max_norm: 1e4, ..small(rule) };
        let mut trial = Trial::new(&Cpu::<f64>::new(), config, 2, 5);
        let full = trial.read(How::AtOnce);
        for credit in ["windowed(2)", "windowed(3)", "windowed(5)"] {
            trial.credit = credit.parse().unwrap();
            let at_once = trial.read(How::AtOnce);
            for how in [How::StepByStep, How::InTwo(1), How::InTwo(2), How::InTwo(3)] {
                trial.read(how).assert_close(&at_once, F64);
            }
            for (name, values) in &full.values {
                let error = distance(&at_once.values[name], values);
                assert!(error <= F64, "{rule}, {credit}: credit changes {name} by {error:e}");
            }
        }
        full.assert_close(&trial.read(How::AtOnce), F64);
    }
}

#[test]
fn evaluation_computes_what_training_computes() {
    for rule in Rule::ALL {
        let trial = Trial::new(&Cpu::<f64>::new(), small(rule), 3, 5);
        for how in [How::AtOnce, How::StepByStep] {
            let model = PlasticTransformer::new(&trial.config, &trial.parameters).unwrap();
            let mut evaluated = Reading::default();
            let outputs = trial.outputs(&model, &mut model.init_state(3), how, &mut evaluated);
            assert!(!outputs.is_tracked(), "{rule}: evaluation leaves a tape behind");
            // the internal loss's gradient is put together differently where it is to be differentiated again
            let values = trial.read(how).values;
            evaluated.assert_close(&Reading { values, gradients: BTreeMap::new() }, F64);
        }
    }
}

#[test]
fn the_smallest_models_and_sequences() {
    for rule in Rule::ALL {
        let usual = ModelConfig { dropout: 0.3, ..small(rule) };
        let check = |config: ModelConfig, batch, steps| {
            let trial = Trial::new(&Cpu::<f64>::new(), config, batch, steps);
            let at_once = trial.read(How::AtOnce);
            trial.read(How::StepByStep).assert_close(&at_once, F64);
            let mut numbers = at_once.values.values().chain(at_once.gradients.values()).flatten();
            assert!(numbers.all(|x| x.is_finite()));
        };
        check(usual.clone(), 3, 1);
        check(usual.clone(), 1, 5);
        check(ModelConfig { aux_dim: 0, ..usual.clone() }, 3, 5);
        check(ModelConfig { num_layers: 1, ..usual.clone() }, 3, 5);
        check(ModelConfig { num_heads: 1, ..usual.clone() }, 3, 5);
        let (num_layers, num_heads, model_dim, ffn_dim, aux_dim) = (1, 1, 1, 1, 0);
        let one = ModelConfig { num_layers, num_heads, model_dim, ffn_dim, aux_dim, ..usual };
        check(ModelConfig { input_dim: 1, output_dim: 1, ..one }, 1, 1);
    }
}
