//! The seam between models and whoever runs them: a sequence, one step at a time.

use plastica_rules::Modulation;
use plastica_tensor::{Backend, Tensor};

use crate::Result;

/// A model that reads a sequence step by step and keeps what it needs in a state.
pub trait SequenceModel<B: Backend> {
    /// What the model carries from step to step.
    type State;

    /// The state before the first step, for `batch` episodes, in evaluation (no dropout).
    fn init_state(&self, batch: usize) -> Self::State;

    /// Reads one input `[B, input_dim]`, changes the state, and answers.
    ///
    /// # Errors
    /// When the input has not the state's batch or the model's width, or the state is another model's.
    fn step(&self, input: &Tensor<B>, state: &mut Self::State) -> Result<StepOutput<B>>;
}

/// What a step gave.
#[derive(Debug, Clone)]
pub struct StepOutput<B: Backend> {
    /// The outputs, `[B, output_dim]`.
    pub outputs: Tensor<B>,
    /// The learning rate η with which the fast weights changed after it, and its parts; `None` for rule none.
    pub modulation: Option<Modulation<B>>,
}

/// What plasticity did along a sequence: each `[B, T]`, plain values.
#[derive(Debug, Clone)]
pub struct Diagnostics<B: Backend> {
    /// η, the fast weights' learning rate: `eta0 · gate · clip`.
    pub eta: Tensor<B>,
    /// The gate, `sigmoid(g)`.
    pub gate: Tensor<B>,
    /// The clip factor, `min(1, max_norm / (n + 1e-8))`.
    pub clip: Tensor<B>,
    /// `Σ ‖F‖²` over the layers after the step's update: no square root, no biases.
    pub plastic_norm: Tensor<B>,
}

impl<B: Backend> Diagnostics<B> {
    /// The steps' values side by side.
    pub(crate) fn gather(steps: &[Modulation<B>], norms: Option<Tensor<B>>) -> Result<Self> {
        let eta = side_by_side(steps.iter().map(|m| &m.eta))?;
        Ok(Self {
            plastic_norm: norms.map_or_else(|| Tensor::zeros(eta.backend(), eta.shape()), Ok)?,
            gate: side_by_side(steps.iter().map(|m| &m.gate))?,
            clip: side_by_side(steps.iter().map(|m| &m.clip))?,
            eta,
        })
    }
}

/// Values `[B]` of one step after the other as plain ones, `[B, T]`.
pub(crate) fn side_by_side<'a, B: Backend>(values: impl Iterator<Item = &'a Tensor<B>>) -> Result<Tensor<B>> {
    let column = |value: &Tensor<B>| value.detach().reshape([value.shape().len(), 1]);
    let columns = values.map(column).collect::<Result<Vec<_>, _>>()?;
    Ok(Tensor::concat(&columns.iter().collect::<Vec<_>>(), 1)?)
}

/// What a whole sequence gave.
#[derive(Debug, Clone)]
pub struct SequenceOutput<B: Backend> {
    /// The outputs, `[B, T, output_dim]`.
    pub outputs: Tensor<B>,
    /// What plasticity did after each step; `None` for rule none.
    pub diagnostics: Option<Diagnostics<B>>,
}

impl<B: Backend> SequenceOutput<B> {
    /// Pieces of a sequence, in order, as one.
    ///
    /// # Errors
    /// When they are not of one batch, or none.
    pub fn join(mut pieces: Vec<Self>) -> Result<Self> {
        if pieces.len() == 1 {
            return Ok(pieces.remove(0));
        }
        let join = |parts: Vec<&Tensor<B>>| Tensor::concat(&parts, 1);
        let diagnostics: Option<Vec<&Diagnostics<B>>> =
            pieces.iter().map(|piece| piece.diagnostics.as_ref()).collect();
        let diagnostics = match diagnostics {
            Some(d) => Some(Diagnostics {
                eta: join(d.iter().map(|d| &d.eta).collect())?,
                gate: join(d.iter().map(|d| &d.gate).collect())?,
                clip: join(d.iter().map(|d| &d.clip).collect())?,
                plastic_norm: join(d.iter().map(|d| &d.plastic_norm).collect())?,
            }),
            None => None,
        };
        Ok(Self { outputs: join(pieces.iter().map(|piece| &piece.outputs).collect())?, diagnostics })
    }
}
