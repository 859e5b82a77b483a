//! Reverse-mode differentiation, closed under itself.
//!
//! Operations on tensors that a [`Tape`] watches are recorded on it in the order in which they ran, so a
//! node's inputs always have smaller numbers than the node and the reverse sweep is a loop from high
//! numbers to low. An operation's backward ([`Op::backward`]) is ordinary tensor code. Given plain
//! tensors it records nothing and is the fast backward; given tracked ones it is recorded like any other
//! computation, and its result can be differentiated again.
//!
//! A sweep visits only the nodes between the lowest-numbered variable and the result. So the derivative
//! of one step's internal loss costs that one step, however long the tape already is, and everything
//! recorded before the variables is a constant to it.

use std::cell::RefCell;
use std::rc::Rc;

use smallvec::{SmallVec, smallvec};

use crate::{Array, Backend, Result, Tensor, TensorError};

/// Number of a node on its tape.
pub(crate) type NodeId = usize;

/// Gradients of an operation's inputs, in their order; `None` where none was asked for.
pub type Grads<B> = SmallVec<[Option<Tensor<B>>; 3]>;

/// What an operation left behind for its backward.
pub struct Recorded<'a, B: Backend> {
    /// The inputs of the forward.
    pub inputs: &'a [Tensor<B>],
    /// The output of the forward.
    pub output: &'a Tensor<B>,
    /// For each input, whether its gradient is wanted.
    pub wanted: &'a [bool],
}

impl<B: Backend> Recorded<'_, B> {
    /// Runs `f` where input `i`'s gradient is wanted.
    pub fn want(&self, i: usize, f: impl FnOnce() -> Result<Tensor<B>>) -> Result<Option<Tensor<B>>> {
        self.wanted[i].then(f).transpose()
    }
}

/// An operation on tensors, seen from its derivative.
pub trait Op<B: Backend>: 'static {
    /// The operation's name, as in messages.
    fn name(&self) -> &'static str;

    /// The gradients of the inputs, given that of the output, written in tensor operations.
    ///
    /// # Errors
    /// Those of the operations it calls.
    fn backward(&self, recorded: &Recorded<'_, B>, grad: &Tensor<B>) -> Result<Grads<B>>;
}

struct Operand<B: Backend> {
    value: Array<B>,
    id: Option<NodeId>,
}

struct Node<B: Backend> {
    /// `None` for a leaf.
    op: Option<Rc<dyn Op<B>>>,
    inputs: SmallVec<[Operand<B>; 3]>,
    output: Array<B>,
}

/// The record of a computation, in order. Cloning shares it; it stays on its thread.
pub struct Tape<B: Backend>(Rc<RefCell<Vec<Node<B>>>>);

impl<B: Backend> Clone for Tape<B> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<B: Backend> Default for Tape<B> {
    fn default() -> Self {
        Self::new()
    }
}

impl<B: Backend> std::fmt::Debug for Tape<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tape({} nodes)", self.len())
    }
}

/// How gradients are to be computed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GradMode {
    /// Gradients are plain values: the fast way.
    Plain,
    /// Gradients are tracked and can be differentiated again.
    Tracked,
}

impl<B: Backend> Tape<B> {
    /// An empty tape.
    pub fn new() -> Self {
        Self(Rc::new(RefCell::new(Vec::new())))
    }

    /// Number of nodes recorded.
    pub fn len(&self) -> usize {
        self.0.borrow().len()
    }

    /// Whether nothing has been recorded.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A variable: a value that derivatives can be taken with respect to.
    pub fn leaf(&self, value: &Array<B>) -> Tensor<B> {
        let id = self.push(Node { op: None, inputs: smallvec![], output: value.clone() });
        Tensor { array: value.clone(), node: Some((self.clone(), id)) }
    }

    fn push(&self, node: Node<B>) -> NodeId {
        let mut nodes = self.0.borrow_mut();
        nodes.push(node);
        nodes.len() - 1
    }

    fn is(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }

    /// The result of `op` on `inputs`: recorded if any of them is tracked, plain otherwise.
    pub(crate) fn record(op: impl Op<B>, inputs: &[&Tensor<B>], output: Array<B>) -> Result<Tensor<B>> {
        let mut tape: Option<&Tape<B>> = None;
        for (other, _) in inputs.iter().filter_map(|t| t.node.as_ref()) {
            match tape {
                Some(tape) if !tape.is(other) => return Err(TensorError::MixedTapes { op: op.name() }),
                _ => tape = Some(other),
            }
        }
        let Some(tape) = tape else { return Ok(Tensor { array: output, node: None }) };
        let inputs = inputs
            .iter()
            .map(|t| Operand { value: t.array.clone(), id: t.node.as_ref().map(|(_, id)| *id) })
            .collect();
        let id = tape.push(Node { op: Some(Rc::new(op)), inputs, output: output.clone() });
        Ok(Tensor { array: output, node: Some((tape.clone(), id)) })
    }

    /// The gradient of `⟨result, seed⟩` with respect to each of `variables`; `None` where the result
    /// does not depend on one.
    fn sweep(
        &self,
        result: NodeId,
        seed: Tensor<B>,
        variables: &[NodeId],
        mode: GradMode,
    ) -> Result<Vec<Option<Tensor<B>>>> {
        let Some(&low) = variables.iter().min() else { return Ok(Vec::new()) };
        if low > result {
            return Ok(vec![None; variables.len()]);
        }
        let reaches = self.reaches_variables(low, result, variables);
        let mut grads: Vec<Option<Tensor<B>>> = vec![None; result - low + 1];
        grads[result - low] = Some(seed);
        let mut found: Vec<Option<Tensor<B>>> = vec![None; variables.len()];
        for id in (low..=result).rev() {
            if !reaches[id - low] {
                continue;
            }
            let Some(grad) = grads[id - low].take() else { continue };
            for (slot, _) in found.iter_mut().zip(variables).filter(|&(_, &v)| v == id) {
                *slot = Some(grad.clone());
            }
            let Some(Recalled { op, inputs, output, ids }) = self.recall(id, mode) else { continue };
            let wanted: SmallVec<[bool; 3]> =
                ids.iter().map(|id| id.is_some_and(|id| id >= low && reaches[id - low])).collect();
            if !wanted.contains(&true) {
                continue;
            }
            let recorded = Recorded { inputs: &inputs, output: &output, wanted: &wanted };
            let input_grads = op.backward(&recorded, &grad)?;
            for ((input, grad), wanted) in ids.into_iter().zip(input_grads).zip(wanted) {
                if let (Some(input), Some(grad), true) = (input, grad, wanted) {
                    accumulate(&mut grads[input - low], grad)?;
                }
            }
        }
        Ok(found)
    }

    /// For each node from `low` to `high`, whether a variable reaches it.
    fn reaches_variables(&self, low: NodeId, high: NodeId, variables: &[NodeId]) -> Vec<bool> {
        let nodes = self.0.borrow();
        let mut reaches = vec![false; high - low + 1];
        for &v in variables.iter().filter(|&&v| v <= high) {
            reaches[v - low] = true;
        }
        for id in low..=high {
            let from_inputs = nodes[id]
                .inputs
                .iter()
                .any(|o| o.id.is_some_and(|input| input >= low && reaches[input - low]));
            reaches[id - low] |= from_inputs;
        }
        reaches
    }

    /// A node as its backward is to see it; `None` for a leaf.
    fn recall(&self, id: NodeId, mode: GradMode) -> Option<Recalled<B>> {
        let nodes = self.0.borrow();
        let node = &nodes[id];
        let op = Rc::clone(node.op.as_ref()?);
        let seen = |value: &Array<B>, id: Option<NodeId>| Tensor {
            array: value.clone(),
            node: id.filter(|_| mode == GradMode::Tracked).map(|id| (self.clone(), id)),
        };
        let inputs = node.inputs.iter().map(|o| seen(&o.value, o.id)).collect();
        let ids = node.inputs.iter().map(|o| o.id).collect();
        Some(Recalled { op, inputs, output: seen(&node.output, Some(id)), ids })
    }
}

/// A node taken off its tape, so that its backward may record on that tape.
struct Recalled<B: Backend> {
    op: Rc<dyn Op<B>>,
    inputs: SmallVec<[Tensor<B>; 3]>,
    output: Tensor<B>,
    ids: SmallVec<[Option<NodeId>; 3]>,
}

fn accumulate<B: Backend>(slot: &mut Option<Tensor<B>>, grad: Tensor<B>) -> Result<()> {
    match slot {
        None => *slot = Some(grad),
        Some(sum) if sum.node.is_none() && grad.node.is_none() => sum.array.add_assign(&grad.array)?,
        Some(sum) => *sum = sum.add(&grad)?,
    }
    Ok(())
}

/// The gradients of a scalar `result` with respect to each of `variables`, `None` where it does not
/// depend on one. Tracked gradients ([`GradMode::Tracked`]) can be differentiated again.
///
/// # Errors
/// [`TensorError::Unsuitable`] when the result is not a scalar, [`TensorError::Untracked`] for a result
/// or variable on no tape, [`TensorError::MixedTapes`] when they are on different ones.
pub fn grad<B: Backend>(
    result: &Tensor<B>,
    variables: &[&Tensor<B>],
    mode: GradMode,
) -> Result<Vec<Option<Tensor<B>>>> {
    if result.shape().len() != 1 {
        let rule = "a gradient is taken of a scalar; sum it first".to_owned();
        return Err(TensorError::Unsuitable { op: "grad", shape: result.shape(), rule });
    }
    let (tape, result_id) = result.node.as_ref().ok_or(TensorError::Untracked { what: "the result" })?;
    let mut ids = Vec::with_capacity(variables.len());
    for variable in variables {
        let (other, id) = variable.node.as_ref().ok_or(TensorError::Untracked { what: "a variable" })?;
        if !tape.is(other) {
            return Err(TensorError::MixedTapes { op: "grad" });
        }
        ids.push(*id);
    }
    let one = Array::full(result.array.backend(), num_traits::One::one(), result.shape())?;
    tape.sweep(*result_id, Tensor::from(one), &ids, mode)
}
