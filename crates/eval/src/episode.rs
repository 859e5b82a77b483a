//! One episode, step by step: what plasticity did, and where the model looked.

use std::collections::BTreeMap;

use plastica_model::{Learner, ModelConfig, Parameters, PlasticState, SequenceModel};
use plastica_rules::Modulation;
use plastica_tasks::{EpisodeSource, Phase};
use plastica_tensor::{Backend, Element, Tensor};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use crate::tensors::EpisodeTensors;
use crate::{Column, EvalError, Objective, SequenceObjective, StepTrace, Table, Tally, format_number};

/// Everything that can be seen of a plastic Transformer along one episode of T steps.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EpisodeTrace {
    /// The rule's name.
    pub rule: String,
    /// The phase of each step, T.
    pub phases: Vec<Phase>,
    /// The episode's loss and metrics by name.
    pub metrics: BTreeMap<String, f64>,
    /// η, gate, clip and the fast weights' squared norm; `None` for rule none.
    pub plasticity: Option<StepTrace>,
    /// The same squared norm layer by layer; empty for rule none.
    pub layers: Vec<LayerNorms>,
    /// Attention, head by head: those of block 0, then those of block 1, and so on.
    pub attention: Vec<HeadAttention>,
}

/// A plastic layer's fast weights along the episode.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerNorms {
    /// The layer's name, such as `blocks.0.fc1`.
    pub name: String,
    /// `‖F‖²` after each step, T.
    pub squared_norm: Vec<f64>,
}

/// One head's attention.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HeadAttention {
    /// The block, from 0.
    pub block: usize,
    /// The head, from 0.
    pub head: usize,
    /// Row t, of t + 1 probabilities: how step t attends to the steps up to itself, counted from 0.
    pub rows: Vec<Vec<f64>>,
}

impl EpisodeTrace {
    /// Draws one episode from `source` and has the model read it, without dropout.
    ///
    /// # Errors
    /// When the parameters are not the configured model's, or it does not fit the source; [`EvalError::Config`] for a
    /// prototypical network, which reads no sequence.
    pub fn record<B: Backend>(
        config: &ModelConfig,
        parameters: &Parameters<B>,
        source: &dyn EpisodeSource,
        rng: &mut ChaCha8Rng,
    ) -> Result<Self, EvalError> {
        let Some(first) = parameters.arrays().first() else { unreachable!("every model has a parameter") };
        let batch = source.sample(rng, 1)?;
        let learner = Learner::new(config, parameters)?;
        let tensors = EpisodeTensors::of(&batch, first.backend())?;
        let Some((model, inputs)) = learner.transformer(&tensors.episodes())? else {
            let (value, expected) =
                (config.kind.name().to_owned(), "plastic, for there to be steps to trace");
            return Err(EvalError::Config { field: "model.kind", value, expected: expected.into() });
        };
        let mut steps = Steps::new(config, &batch.phases);
        let mut state = model.init_state(1);
        let mut outputs = Vec::with_capacity(batch.steps);
        for t in 0..batch.steps {
            let input = inputs.step(t)?;
            steps.looked(&model.attention(&input, &state)?)?;
            let step = model.step(&input, &mut state)?;
            if let Some(modulation) = &step.modulation {
                steps.changed(modulation, &state)?;
            }
            outputs.push(step.outputs);
        }
        let mut tally = Tally::default();
        let objective = SequenceObjective { loss: source.loss() };
        objective.measure(&Tensor::stack_steps(&outputs)?, &batch, &mut tally)?;
        Ok(Self {
            rule: config.rule.name().to_owned(),
            metrics: tally.names().map(|name| (name.to_owned(), tally.mean(name))).collect(),
            plasticity: (!steps.plasticity.eta.is_empty()).then_some(steps.plasticity),
            layers: steps.layers.into_iter().filter(|layer| !layer.squared_norm.is_empty()).collect(),
            attention: steps.attention,
            phases: batch.phases,
        })
    }

    /// The trace in numbers: what plasticity did in each phase, and where the steps that are asked looked.
    pub fn tables(&self) -> Vec<Table> {
        self.plasticity
            .iter()
            .map(|trace| self.plasticity_table(trace))
            .chain([self.attention_table()])
            .collect()
    }

    /// The phases there are, in order of appearance.
    fn kinds(&self) -> Vec<Phase> {
        let mut kinds: Vec<Phase> = Vec::new();
        for &phase in &self.phases {
            if !kinds.contains(&phase) {
                kinds.push(phase);
            }
        }
        kinds
    }

    fn plasticity_table(&self, trace: &StepTrace) -> Table {
        let kinds = self.kinds();
        let mut columns = vec![Column::left("mean over the steps")];
        columns.extend(kinds.iter().map(|phase| Column::right(phase.to_string())));
        columns.extend([Column::right("largest"), Column::right("at step")]);
        let row = |name: String, values: &[f64]| {
            let mean = |kind: &Phase| {
                let of_kind = || values.iter().zip(&self.phases).filter(|(_, phase)| *phase == kind);
                of_kind().map(|(value, _)| value).sum::<f64>() / of_kind().count() as f64
            };
            let mut cells = vec![name];
            cells.extend(kinds.iter().map(|kind| format_number(mean(kind))));
            let largest = (1..).zip(values).max_by(|(_, a), (_, b)| a.total_cmp(b));
            cells.extend(
                largest.map(|(step, value)| [format_number(*value), step.to_string()]).into_iter().flatten(),
            );
            cells
        };
        let quantities = trace.named().map(|(name, values)| row(name.to_owned(), values));
        let layers =
            self.layers.iter().map(|layer| row(format!("‖F‖² of {}", layer.name), &layer.squared_norm));
        Table { title: String::new(), columns, rows: quantities.into_iter().chain(layers).collect() }
    }

    fn attention_table(&self) -> Table {
        let kinds = self.kinds();
        let mut columns = vec![Column::left("recall steps attend to")];
        columns.extend(kinds.iter().map(|phase| Column::right(phase.to_string())));
        columns.extend([Column::right("itself"), Column::right("effective steps")]);
        let row = |head: &HeadAttention| {
            let asked = || head.rows.iter().zip(&self.phases).filter(|(_, phase)| **phase == Phase::Recall);
            let mean = |measure: &dyn Fn(&[f64]) -> f64| {
                let sum: f64 = asked().map(|(row, _)| measure(row)).sum();
                format_number(sum / asked().count() as f64)
            };
            let share = |kind: &Phase, row: &[f64]| -> f64 {
                row.iter().zip(&self.phases).filter(|(_, phase)| *phase == kind).map(|(p, _)| p).sum()
            };
            let mut cells = vec![format!("block {}, head {}", head.block, head.head)];
            cells.extend(kinds.iter().map(|kind| mean(&|row| share(kind, row))));
            cells.push(mean(&|row| row.last().copied().unwrap_or(0.0)));
            cells.push(mean(&effective_steps));
            cells
        };
        Table { title: String::new(), columns, rows: self.attention.iter().map(row).collect() }
    }
}

/// The exponential of the probabilities' entropy: of even attention the number of steps, of attention to one step 1.
fn effective_steps(probabilities: &[f64]) -> f64 {
    let terms = probabilities.iter().filter(|&&p| p > 0.0).map(|p| -p * p.ln());
    terms.sum::<f64>().exp()
}

/// What is gathered from step to step.
struct Steps {
    plasticity: StepTrace,
    layers: Vec<LayerNorms>,
    attention: Vec<HeadAttention>,
}

impl Steps {
    fn new(config: &ModelConfig, phases: &[Phase]) -> Self {
        let [eta, gate, clip, plastic_norm] = [const { Vec::new() }; 4];
        let blocks = 0..config.num_layers;
        let layer = |name| LayerNorms { name, squared_norm: Vec::new() };
        let heads =
            |block| (0..config.num_heads).map(move |head| HeadAttention { block, head, rows: Vec::new() });
        Self {
            plasticity: StepTrace { phases: phases.to_vec(), eta, gate, clip, plastic_norm },
            layers: config.plastic_layer_names().into_iter().map(layer).collect(),
            attention: blocks.flat_map(heads).collect(),
        }
    }

    /// Takes in a step's attention, `[1, H, t + 1]` a block.
    fn looked<B: Backend>(&mut self, blocks: &[Tensor<B>]) -> Result<(), EvalError> {
        let mut heads = self.attention.iter_mut();
        for block in blocks {
            let length = block.shape()[2];
            let values: Vec<f64> = block.to_vec()?.into_iter().map(Element::wide).collect();
            for (row, head) in values.chunks_exact(length).zip(&mut heads) {
                head.rows.push(row.to_vec());
            }
        }
        Ok(())
    }

    /// Takes in what a step changed.
    fn changed<B: Backend>(&mut self, by: &Modulation<B>, state: &PlasticState<B>) -> Result<(), EvalError> {
        let mut sum = 0.0;
        for (layer, fast) in self.layers.iter_mut().zip(state.fast_weights()) {
            let norm = match fast.squared_norm()? {
                Some(norm) => norm.item()?.wide(),
                None => 0.0,
            };
            layer.squared_norm.push(norm);
            sum += norm;
        }
        let Self { plasticity, .. } = self;
        plasticity.eta.push(by.eta.item()?.wide());
        plasticity.gate.push(by.gate.item()?.wide());
        plasticity.clip.push(by.clip.item()?.wide());
        plasticity.plastic_norm.push(sum);
        Ok(())
    }
}
