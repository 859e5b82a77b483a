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
use std::sync::atomic::{AtomicU64, Ordering};

use smallvec::{SmallVec, smallvec};

use crate::ops::onto::OntoKernels;
use crate::{Array, Backend, Result, Shape, Tensor, TensorError};

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
    /// The number of this sweep, the same for all of its operations and for no other sweep's.
    pub sweep: u64,
    /// Where shares of a gradient go that are cheaper added up together; none in a tracked sweep.
    later: Option<&'a Later<B>>,
    /// Takes what has been gathered of an input's gradient.
    gathered: &'a dyn Fn(usize) -> Option<Array<B>>,
}

/// Shares put off by one operation, with the input that each belongs to.
type Later<B> = RefCell<Vec<(usize, Share<B>)>>;

/// A share of a gradient, to be added up with its like when the sweep reaches the node it belongs to.
#[derive(Debug)]
pub(crate) enum Share<B: Backend> {
    /// `gᵀ x` over the rows of `g` `[.., out]` and `x` `[.., in]`: of a weight `[out, in]`.
    Outer(Array<B>, Array<B>),
    /// The sum of the rows of `g` `[.., out]`: of a bias `[out]`.
    Rows(Array<B>),
    /// `g` `[B, n]` at step `t` of a sequence `[B, T, n]`.
    Step(usize, Array<B>),
    /// The sum of the rows of `g ∘ x̂`, x̂ the rows of `x` standardised with `eps`: of a normalisation's γ `[n]`.
    Normal { g: Array<B>, x: Array<B>, eps: f64 },
}

impl<B: Backend> Recorded<'_, B> {
    /// Runs `f` where input `i`'s gradient is wanted.
    pub fn want(&self, i: usize, f: impl FnOnce() -> Result<Tensor<B>>) -> Result<Option<Tensor<B>>> {
        self.wanted[i].then(f).transpose()
    }

    /// Whether gradients are plain values, so that shares may be put off.
    pub(crate) fn is_plain(&self) -> bool {
        self.later.is_some()
    }

    /// In a plain sweep on a device that has them: kernels that add a share of a gradient to the ones before it.
    pub(crate) fn onto(&self) -> Option<&dyn OntoKernels<B>> {
        self.output.array.backend.onto().filter(|_| self.is_plain())
    }

    /// What has been gathered of input `i`'s gradient, if that is wanted, for an operation that adds its own share to it
    /// and gives the sum. Only where there are kernels for that ([`onto`](Self::onto)).
    pub(crate) fn take_sum(&self, i: usize) -> Option<B::Buffer> {
        let may = self.wanted[i] && self.onto().is_some();
        may.then(|| (self.gathered)(i)).flatten().map(|sum| sum.buffer)
    }

    /// Puts a share of input `i`'s gradient off, if that is wanted. Only in a plain sweep.
    pub(crate) fn put_off(&self, i: usize, share: impl FnOnce() -> Share<B>) {
        if let (true, Some(later)) = (self.wanted[i], self.later) {
            later.borrow_mut().push((i, share()));
        }
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

/// Nodes that a tape has room for before it grows: those of one step's internal loss, for which a tape is made at every
/// step of a stream.
const FIRST_NODES: usize = 64;

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
        Self(Rc::new(RefCell::new(Vec::with_capacity(FIRST_NODES))))
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
        let (Some(&low), Some(&high)) = (variables.iter().min(), variables.iter().max()) else {
            return Ok(Vec::new());
        };
        if low > result {
            return Ok(vec![None; variables.len()]);
        }
        let reaches = self.reaches_variables(low, result, variables);
        let grads: Vec<Gathered<B>> = (low..=result).map(|_| Gathered::default()).collect();
        let grads = RefCell::new(grads);
        let include = |id: NodeId, grad| grads.borrow_mut()[id - low].include(grad);
        include(result, seed)?;
        let mut found: Vec<Option<Tensor<B>>> = vec![None; variables.len()];
        let mut shares: Vec<Vec<Share<B>>> = Vec::new();
        shares.resize_with(result - low + 1, Vec::new);
        let later: Later<B> = RefCell::new(Vec::new());
        let sweep = SWEEPS.fetch_add(1, Ordering::Relaxed);
        for id in (low..=result).rev() {
            if !reaches[id - low] {
                continue;
            }
            if !shares[id - low].is_empty() {
                let shares = std::mem::take(&mut shares[id - low]);
                let shape = self.0.borrow()[id].output.shape();
                include(id, Tensor::from(add_up(shares, shape)?))?;
            }
            let gathered = std::mem::take(&mut grads.borrow_mut()[id - low]);
            let Some(grad) = gathered.sum()? else { continue };
            if id <= high {
                for (slot, _) in found.iter_mut().zip(variables).filter(|&(_, &v)| v == id) {
                    *slot = Some(grad.clone());
                }
            }
            let Some(Recalled { op, inputs, output, ids }) = self.recall(id, mode) else { continue };
            let wanted: SmallVec<[bool; 3]> =
                ids.iter().map(|id| id.is_some_and(|id| id >= low && reaches[id - low])).collect();
            if !wanted.contains(&true) {
                continue;
            }
            let later_here = (mode == GradMode::Plain).then_some(&later);
            let gathered =
                |i: usize| ids[i].filter(|_| wanted[i]).and_then(|id| grads.borrow_mut()[id - low].take());
            let recorded = Recorded {
                inputs: &inputs,
                output: &output,
                wanted: &wanted,
                sweep,
                later: later_here,
                gathered: &gathered,
            };
            let input_grads = op.backward(&recorded, &grad)?;
            for (i, share) in later.borrow_mut().drain(..) {
                // put off is only what is wanted, of inputs from `low` on
                if let Some(id) = ids[i] {
                    shares[id - low].push(share);
                }
            }
            for ((input, grad), wanted) in ids.into_iter().zip(input_grads).zip(wanted) {
                if let (Some(input), Some(grad), true) = (input, grad, wanted) {
                    include(input, grad)?;
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

/// Numbers sweeps, so that operations with a state of their own know one from the next.
static SWEEPS: AtomicU64 = AtomicU64::new(1);

/// The sum of a node's shares; all are of one kind, as only one kind of operation reads such a node.
fn add_up<B: Backend>(shares: Vec<Share<B>>, shape: Shape) -> Result<Array<B>> {
    let (mut outer, mut rows, mut steps, mut normal) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut normal_eps = 0.0;
    for share in &shares {
        match share {
            Share::Outer(g, x) => outer.push((&g.buffer, &x.buffer)),
            Share::Rows(g) => rows.push(&g.buffer),
            Share::Step(t, g) => steps.push((*t, &g.buffer)),
            Share::Normal { g, x, eps } => {
                normal_eps = *eps;
                normal.push((&g.buffer, &x.buffer));
            }
        }
    }
    let (Share::Outer(g, _) | Share::Rows(g) | Share::Step(_, g) | Share::Normal { g, .. }) = &shares[0];
    let backend = &g.backend;
    let mut sum: Option<Array<B>> = None;
    let mut include = |buffer: B::Buffer| -> Result<()> {
        let array = Array::new(backend, buffer, shape);
        match &mut sum {
            Some(sum) => sum.add_assign(&array),
            None => {
                sum = Some(array);
                Ok(())
            }
        }
    };
    if let (false, &[out, inp]) = (outer.is_empty(), &shape[..]) {
        include(backend.sum_of_outer_products(&outer, out, inp)?)?;
    }
    if !rows.is_empty() {
        include(backend.sum_of_rows(&rows, shape.len())?)?;
    }
    if let (false, Some(kernels)) = (normal.is_empty(), backend.along_sequences()) {
        include(kernels.by_gamma(&normal, shape.len(), normal_eps)?)?;
    }
    if let (false, &[batch, total, width]) = (steps.is_empty(), &shape[..]) {
        include(backend.place_steps(&steps, batch, total, width)?)?;
    }
    Ok(sum.expect("a node with shares has at least one, of a kind that its shape fits"))
}

/// A node's gradient while the sweep gathers it, in the order in which its parts come.
struct Gathered<B: Backend> {
    sum: Option<Tensor<B>>,
    /// Plain parts that wait to be added to it at once.
    more: Vec<Array<B>>,
}

impl<B: Backend> Default for Gathered<B> {
    fn default() -> Self {
        Self { sum: None, more: Vec::new() }
    }
}

impl<B: Backend> Gathered<B> {
    fn include(&mut self, grad: Tensor<B>) -> Result<()> {
        let Some(sum) = &mut self.sum else {
            self.sum = Some(grad);
            return Ok(());
        };
        if sum.node.is_some() || grad.node.is_some() {
            sum.array.add_all(&std::mem::take(&mut self.more))?;
            *sum = sum.add(&grad)?;
            return Ok(());
        }
        self.more.push(grad.array);
        if self.more.len() >= sum.array.backend().addends() {
            sum.array.add_all(&self.more)?;
            self.more.clear();
        }
        Ok(())
    }

    /// Hands a plain sum out, to come back with another share in it; not while others wait to be added to it.
    fn take(&mut self) -> Option<Array<B>> {
        let plain = self.more.is_empty() && self.sum.as_ref().is_some_and(|sum| sum.node.is_none());
        self.sum.take_if(|_| plain).map(|sum| sum.array)
    }

    fn sum(mut self) -> Result<Option<Tensor<B>>> {
        if let Some(sum) = &mut self.sum {
            sum.array.add_all(&self.more)?;
        }
        Ok(self.sum)
    }
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
    let one = Array::full(result.array.backend(), num_traits::One::one(), result.shape())?;
    grad_along(result, &Tensor::from(one), variables, mode)
}

/// The gradients of `⟨result, seed⟩` with respect to each of `variables`, the seed being held constant: what [`grad`] gives of a
/// scalar of which the seed is the gradient by `result`. Where they are tracked, they are functions of the seed, too; a plain
/// sweep takes its values.
///
/// # Errors
/// [`TensorError::Incompatible`] when the seed has another shape, otherwise as [`grad`].
pub fn grad_along<B: Backend>(
    result: &Tensor<B>,
    seed: &Tensor<B>,
    variables: &[&Tensor<B>],
    mode: GradMode,
) -> Result<Vec<Option<Tensor<B>>>> {
    if seed.shape() != result.shape() {
        return Err(result.incompatible("grad", seed, "a seed has the result's shape"));
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
    let seed = if mode == GradMode::Plain { seed.detach() } else { seed.clone() };
    tape.sweep(*result_id, seed, &ids, mode)
}
