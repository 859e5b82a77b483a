//! Steps of sequences `[B, T, n]`: taking one out, and putting them together.

use smallvec::smallvec;

use crate::tape::{Grads, Op, Recorded, Share};
use crate::{Array, Backend, Result, Storage, Tape, Tensor, TensorError};

mod cpu;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;

/// Kernels over the steps of sequences.
pub trait StepKernels: Storage {
    /// A sequence of zeros `[batch, steps, width]`, to which parts `[batch, width]` are added at their steps.
    ///
    /// # Errors
    /// Device errors.
    fn place_steps(
        &self,
        parts: &[(usize, &Self::Buffer)],
        batch: usize,
        steps: usize,
        width: usize,
    ) -> Result<Self::Buffer>;

    /// The opposite: each step `[batch, width]` of a sequence `[batch, steps, width]`.
    ///
    /// # Errors
    /// Device errors.
    fn split_steps(
        &self,
        x: &Self::Buffer,
        batch: usize,
        steps: usize,
        width: usize,
    ) -> Result<Vec<Self::Buffer>>;
}

struct Step(usize);

impl<B: Backend> Op<B> for Step {
    fn name(&self) -> &'static str {
        "step"
    }

    fn backward(&self, r: &Recorded<'_, B>, grad: &Tensor<B>) -> Result<Grads<B>> {
        if r.is_plain() {
            // a sequence is read once a step: its gradient is put together once in the end
            r.put_off(0, || Share::Step(self.0, grad.array().clone()));
            return Ok(smallvec![None]);
        }
        let shape = r.inputs[0].shape();
        Ok(smallvec![Some(grad.reshape(shape.with_axis(1, 1))?.pad(1, self.0, shape[1])?)])
    }
}

struct Stack;

impl<B: Backend> Op<B> for Stack {
    fn name(&self) -> &'static str {
        "stack"
    }

    fn backward(&self, r: &Recorded<'_, B>, grad: &Tensor<B>) -> Result<Grads<B>> {
        if r.wanted.contains(&false) {
            return (0..r.inputs.len()).map(|t| r.want(t, || grad.step(t))).collect();
        }
        Ok(grad.steps()?.into_iter().map(Some).collect())
    }
}

impl<B: Backend> Tensor<B> {
    /// Step `t` of a sequence: `[B, T, n] → [B, n]`.
    ///
    /// # Errors
    /// [`TensorError::Unsuitable`] for another number of axes, [`TensorError::Index`] beyond the end.
    pub fn step(&self, t: usize) -> Result<Self> {
        let &[batch, steps, width] = &self.shape()[..] else {
            return Err(self.unsuitable("step", "a sequence is [B, T, n]"));
        };
        if t >= steps {
            return Err(TensorError::Index { op: "step", index: t, len: steps });
        }
        let buffer = self.backend().slice(&self.array.buffer, batch, steps * width, t * width, width)?;
        Tape::record(Step(t), &[self], Array::new(self.backend(), buffer, [batch, width].into()))
    }

    /// All steps of a sequence, each as [`step`](Self::step) gives it: `[B, T, n]` to T of `[B, n]`.
    ///
    /// # Errors
    /// [`TensorError::Unsuitable`] for another number of axes.
    pub fn steps(&self) -> Result<Vec<Self>> {
        let &[batch, steps, width] = &self.shape()[..] else {
            return Err(self.unsuitable("steps", "a sequence is [B, T, n]"));
        };
        let buffers = self.backend().split_steps(&self.array.buffer, batch, steps, width)?;
        let array = |buffer| Array::new(self.backend(), buffer, [batch, width].into());
        buffers.into_iter().enumerate().map(|(t, x)| Tape::record(Step(t), &[self], array(x))).collect()
    }

    /// Steps `[B, n]` as a sequence `[B, T, n]`.
    ///
    /// # Errors
    /// [`TensorError::Incompatible`] when the steps differ, [`TensorError::Unsuitable`] when they have not two
    /// axes, [`TensorError::Setting`] when there is none.
    pub fn stack_steps(steps: &[Self]) -> Result<Self> {
        let Some(first) = steps.first() else {
            let rule = "give at least one step";
            return Err(TensorError::Setting { name: "steps", value: "[]".into(), rule });
        };
        let &[batch, width] = &first.shape()[..] else {
            return Err(first.unsuitable("stack_steps", "a step is [B, n]"));
        };
        if let Some(other) = steps.iter().find(|s| s.shape() != first.shape()) {
            return Err(first.incompatible("stack_steps", other, "all steps must be equal"));
        }
        let parts: Vec<_> = steps.iter().map(|s| (&s.array.buffer, width)).collect();
        let buffer = first.backend().concat(&parts, batch)?;
        let array = Array::new(first.backend(), buffer, [batch, steps.len(), width].into());
        Tape::record(Stack, &steps.iter().collect::<Vec<_>>(), array)
    }
}
