//! The seam between models and whoever runs them: a sequence, one step at a time.

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
    /// What plasticity did after it; `None` for rule none.
    pub diagnostics: Option<Diagnostics<B>>,
}

/// What plasticity did: each `[B]` for a step, `[B, T]` for a sequence, plain values.
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
    /// The steps' diagnostics side by side, `[B, T]`.
    pub(crate) fn stack(steps: &[Self]) -> Result<Self> {
        let stack = |field: fn(&Self) -> &Tensor<B>| -> Result<Tensor<B>> {
            let mut columns = Vec::with_capacity(steps.len());
            for step in steps {
                let value = field(step);
                columns.push(value.reshape([value.shape().len(), 1])?);
            }
            Ok(Tensor::concat(&columns.iter().collect::<Vec<_>>(), 1)?)
        };
        Ok(Self {
            eta: stack(|d| &d.eta)?,
            gate: stack(|d| &d.gate)?,
            clip: stack(|d| &d.clip)?,
            plastic_norm: stack(|d| &d.plastic_norm)?,
        })
    }
}

/// What a whole sequence gave.
#[derive(Debug, Clone)]
pub struct SequenceOutput<B: Backend> {
    /// The outputs, `[B, T, output_dim]`.
    pub outputs: Tensor<B>,
    /// What plasticity did after each step; `None` for rule none.
    pub diagnostics: Option<Diagnostics<B>>,
}
