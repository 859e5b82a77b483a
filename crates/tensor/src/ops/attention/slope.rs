//! The derivative of a step's attention by that step alone, as an operation: what the gradient rule differentiates again.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;

use smallvec::smallvec;

use super::{AttendedStep, Memory, dummy};
use crate::tape::{Grads, Op, Recorded};
use crate::{Array, Backend, Result, Tape, Tensor, TensorError};

/// Inputs: the step's qkv, the derivative by its output and, if the cache has a history, its token.
pub(super) struct AttendSlope<B: Backend> {
    pub(super) cache: Rc<RefCell<Memory<B>>>,
    pub(super) seen: Range<usize>,
    pub(super) kept: B::Buffer,
    pub(super) mask: Option<Array<B>>,
}

impl<B: Backend> AttendSlope<B> {
    /// The derivative by the step's qkv, where there are kernels for it and for its own.
    pub(super) fn of(
        self,
        qkv: &Tensor<B>,
        grad: &Tensor<B>,
        token: Option<&Tensor<B>>,
    ) -> Result<Option<Tensor<B>>> {
        let memory = self.cache.borrow();
        let (Some(kernels), Some(pair)) = (memory.backend.onto(), &memory.pair) else { return Ok(None) };
        let step = self.step(qkv);
        let value = kernels.attend_slope(step, pair, &grad.array.buffer, self.seen.clone(), memory.sizes)?;
        let value = Array::new(&memory.backend, value, qkv.shape());
        drop(memory);
        match token {
            Some(token) => Tape::record(self, &[qkv, grad, token], value),
            None => Tape::record(self, &[qkv, grad], value),
        }
        .map(Some)
    }

    fn step<'a>(&'a self, qkv: &'a Tensor<B>) -> AttendedStep<'a, B::Buffer> {
        let mask = self.mask.as_ref().map(|m| &m.buffer);
        AttendedStep { qkv: &qkv.array.buffer, kept: &self.kept, mask }
    }
}

impl<B: Backend> Op<B> for AttendSlope<B> {
    fn name(&self) -> &'static str {
        "attention's derivative"
    }

    fn backward(&self, r: &Recorded<'_, B>, h: &Tensor<B>) -> Result<Grads<B>> {
        let (qkv, grad) = (&r.inputs[0], &r.inputs[1]);
        let Some(kernels) = r.onto() else {
            let (what, instead) = ("third derivative", "attention over whole sequences");
            return Err(TensorError::NoDerivative { op: "attention over a cache", what, instead });
        };
        let mut memory = self.cache.borrow_mut();
        memory.back(r.sweep)?;
        let Memory { backend, sizes, pair: Some(pair), back: Some((_, back)), .. } = &mut *memory else {
            return Err(TensorError::Untracked { what: "a step attended to" });
        };
        let given = [&grad.array.buffer, &h.array.buffer];
        let [d_qkv, d_grad] =
            kernels.attend_slope_back(self.step(qkv), pair, back, given, self.seen.clone(), *sizes)?;
        let tensor = |buffer, of: &Tensor<B>| Tensor::from(Array::new(backend, buffer, of.shape()));
        let mut grads: Grads<B> =
            smallvec![r.wanted[0].then(|| tensor(d_qkv, qkv)), r.wanted[1].then(|| tensor(d_grad, grad))];
        if let Some(&wanted) = r.wanted.get(2) {
            grads.push(dummy(backend, wanted)?);
        }
        Ok(grads)
    }
}
