//! Attention of a sequence's next step to all steps so far, over a cache of keys and values that grows in place.
//!
//! Keys and values are written once and never change, so all steps can read one pair of buffers, each as far as it
//! may look: to the first of them, or through a window of the last W. On the way back the derivatives by keys and values
//! gather in a second pair, and a step's own are whole when the sweep reaches the node that wrote them. A sequence that is
//! only read through a window keeps no more than that needs.
//!
//! All of a sequence's steps can be read at once, too (`sequence.rs`).

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;

use smallvec::smallvec;

use slope::AttendSlope;

use crate::tape::{Grads, Op, Recorded};
use crate::{Array, Backend, Result, Tape, Tensor, TensorError};

mod cpu;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;
mod kernels;
mod sequence;
mod sequence_cpu;
mod slope;

pub use kernels::{AttendedStep, AttentionKernels, CacheSizes, KeysValues};
pub use sequence::SequenceSizes;

/// The keys and values of a sequence so far, for a batch of episodes, and attention to them.
///
/// A clone is a copy of the values, without their history.
#[derive(Debug)]
pub struct AttentionCache<B: Backend> {
    memory: Rc<RefCell<Memory<B>>>,
    /// Stands for the keys and values on the tape: the output of the last write.
    token: Option<Tensor<B>>,
}

#[derive(Debug, Clone)]
struct Memory<B: Backend> {
    backend: B,
    sizes: CacheSizes,
    /// Steps kept.
    len: usize,
    /// Steps before those kept.
    dropped: usize,
    /// How many steps back a step looks, itself among them; all of them if `None`.
    window: Option<usize>,
    /// Whether somebody may come back: what stands on a tape counts steps from the first one kept.
    recorded: bool,
    pair: Option<KeysValues<B::Buffer>>,
    back: Option<(u64, KeysValues<B::Buffer>)>,
}

impl<B: Backend> Clone for AttentionCache<B> {
    fn clone(&self) -> Self {
        let memory = Memory { back: None, recorded: false, ..self.memory.borrow().clone() };
        Self { memory: Rc::new(RefCell::new(memory)), token: None }
    }
}

impl<B: Backend> AttentionCache<B> {
    /// A cache of no steps, with room for `capacity` before it has to grow.
    pub fn new(backend: &B, batch: usize, heads: usize, per_head: usize, capacity: usize) -> Self {
        Self::windowed(backend, batch, heads, per_head, capacity, None)
    }

    /// The same, of which a step sees the last `window` steps alone, itself among them, if there is a window. Of a
    /// sequence that is only read, not many more are kept.
    pub fn windowed(
        backend: &B,
        batch: usize,
        heads: usize,
        per_head: usize,
        capacity: usize,
        window: Option<usize>,
    ) -> Self {
        let sizes = CacheSizes { batch, heads, per_head, capacity };
        let backend = backend.clone();
        let (len, dropped, recorded, pair, back) = (0, 0, false, None, None);
        let memory = Memory { backend, sizes, len, dropped, window, recorded, pair, back };
        Self { memory: Rc::new(RefCell::new(memory)), token: None }
    }

    /// Steps so far, those that no window shows any more among them.
    pub fn len(&self) -> usize {
        let memory = self.memory.borrow();
        memory.dropped + memory.len
    }

    /// How many of the steps so far the last one sees.
    pub fn visible(&self) -> usize {
        self.memory.borrow().seen().len()
    }

    /// Steps that there is room for.
    pub fn capacity(&self) -> usize {
        self.memory.borrow().sizes.capacity
    }

    /// Whether there has been no step yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Lets go of the way back: no derivative will be asked of what was read so far.
    pub fn release(&mut self) {
        self.token = None;
        let mut memory = self.memory.borrow_mut();
        memory.back = None;
        memory.recorded = false;
    }

    /// Takes in the keys and values of the next steps: `qkv` `[B, S, 3d]`, or `[B, 3d]` for one.
    ///
    /// # Errors
    /// [`TensorError::Unsuitable`] for another shape.
    pub fn extend(&mut self, qkv: &Tensor<B>) -> Result<()> {
        let mut memory = self.memory.borrow_mut();
        let (batch, row) = (memory.sizes.batch, 3 * memory.sizes.width());
        let steps = match qkv.shape()[..] {
            [b, steps, width] if (b, width) == (batch, row) => steps,
            [b, width] if (b, width) == (batch, row) => 1,
            _ => return Err(qkv.unsuitable("attention", format!("the cache takes [{batch}, S, {row}]"))),
        };
        memory.drop_unseen(steps)?;
        let start = memory.len;
        memory.extend(&qkv.array, steps)?;
        memory.recorded |= qkv.is_tracked() || self.token.is_some();
        let token = Array::zeros(&memory.backend, [0])?;
        drop(memory);
        let op = Extend { memory: Rc::clone(&self.memory), start, steps };
        let token = match &self.token {
            Some(before) => Tape::record(op, &[qkv, before], token)?,
            None => Tape::record(op, &[qkv], token)?,
        };
        self.token = token.is_tracked().then_some(token);
        Ok(())
    }

    /// Attention of the step that was taken in last to all steps that it sees: its `qkv` `[B, 3d]` to `[B, d]`; `mask`
    /// `[B, heads, visible]` multiplies the probabilities.
    ///
    /// # Errors
    /// [`TensorError::Unsuitable`] for another shape.
    pub fn attend(&self, qkv: &Tensor<B>, mask: Option<&Tensor<B>>) -> Result<Tensor<B>> {
        let memory = self.memory.borrow();
        let CacheSizes { batch, heads, .. } = memory.sizes;
        let (width, seen) = (memory.sizes.width(), memory.seen());
        let len = seen.len();
        if qkv.shape()[..] != [batch, 3 * width] {
            return Err(qkv.unsuitable("attention", format!("a step is [{batch}, {}]", 3 * width)));
        }
        if let Some(mask) = mask.filter(|m| m.shape()[..] != [batch, heads, len]) {
            return Err(mask.unsuitable("attention", format!("the mask is [{batch}, {heads}, {len}]")));
        }
        let pair = memory.pair.as_ref().ok_or(TensorError::Untracked { what: "a step attended to" })?;
        let mask = mask.map(|m| m.array.clone());
        let mask_buffer = mask.as_ref().map(|m| &m.buffer);
        let (out, kept) =
            memory.backend.attend(&qkv.array.buffer, pair, mask_buffer, seen.clone(), memory.sizes)?;
        let out = Array::new(&memory.backend, out, [batch, width].into());
        drop(memory);
        let op = Attend { cache: self.handle(), seen, kept, mask };
        match &self.token {
            Some(token) => Tape::record(op, &[qkv, token], out),
            None => Tape::record(op, &[qkv], out),
        }
    }

    /// The keys and the values that the last step sees, each `[B, heads, visible, per_head]`.
    ///
    /// # Errors
    /// Device errors.
    pub fn keys_and_values(&self) -> Result<(Tensor<B>, Tensor<B>)> {
        let seen = self.memory.borrow().seen();
        let copy = |values: bool| copy(&self.memory, self.token.as_ref(), &seen, values);
        Ok((copy(false)?, copy(true)?))
    }

    fn handle(&self) -> Rc<RefCell<Memory<B>>> {
        Rc::clone(&self.memory)
    }
}

impl<B: Backend> Memory<B> {
    /// The steps kept that the last one sees.
    fn seen(&self) -> Range<usize> {
        self.len - self.window.map_or(self.len, |window| window.min(self.len))..self.len
    }

    /// Makes room for `steps` more by dropping steps that none of them will see, if nobody comes back for those. As
    /// many stay as are seen, so a cache of twice the window's capacity copies a step's keys once for each new step.
    fn drop_unseen(&mut self, steps: usize) -> Result<()> {
        let full = self.len + steps > self.sizes.capacity;
        let seen = self.seen();
        let (Some(pair), true, true) = (&self.pair, full && seen.start > 0, !self.recorded) else {
            return Ok(());
        };
        let kept = CacheSizes { capacity: seen.len(), ..self.sizes };
        let copy = |cache| self.backend.copy_cache(cache, seen.clone(), self.sizes);
        let pair = KeysValues { keys: copy(&pair.keys)?, values: copy(&pair.values)? };
        self.pair = Some(self.backend.resize_cache(&pair, seen.len(), kept, self.sizes)?);
        (self.dropped, self.len) = (self.dropped + seen.start, seen.len());
        Ok(())
    }

    fn extend(&mut self, qkv: &Array<B>, steps: usize) -> Result<()> {
        let needed = self.len + steps;
        let full = needed > self.sizes.capacity;
        let to = CacheSizes {
            capacity: if full { needed.max(2 * self.sizes.capacity) } else { self.sizes.capacity },
            ..self.sizes
        };
        match &self.pair {
            None => self.pair = Some(self.zeros(to)?),
            Some(pair) if full => {
                self.pair = Some(self.backend.resize_cache(pair, self.len, self.sizes, to)?)
            }
            Some(_) => {}
        }
        self.sizes = to;
        if let Some(pair) = &mut self.pair {
            self.backend.write_cache(pair, &qkv.buffer, self.len, steps, to)?;
        }
        self.len = needed;
        Ok(())
    }

    fn zeros(&self, sizes: CacheSizes) -> Result<KeysValues<B::Buffer>> {
        let zeros = || self.backend.full(sizes.len(), num_traits::Zero::zero());
        Ok(KeysValues { keys: zeros()?, values: zeros()? })
    }

    /// The derivatives by keys and values that this sweep has gathered; zero at its first visit.
    fn back(&mut self, sweep: u64) -> Result<&mut KeysValues<B::Buffer>> {
        if self.back.as_ref().is_none_or(|(of, _)| *of != sweep) {
            self.back = Some((sweep, self.zeros(self.sizes)?));
        }
        match &mut self.back {
            Some((_, back)) => Ok(back),
            None => Err(TensorError::Untracked { what: "a way back" }),
        }
    }
}

fn dummy<B: Backend>(backend: &B, wanted: bool) -> Result<Option<Tensor<B>>> {
    wanted.then(|| Tensor::zeros(backend, [0])).transpose()
}

/// Keys and values written. Inputs: qkv and, if earlier ones have a history, their token.
struct Extend<B: Backend> {
    memory: Rc<RefCell<Memory<B>>>,
    start: usize,
    steps: usize,
}

impl<B: Backend> Op<B> for Extend<B> {
    fn name(&self) -> &'static str {
        "attention cache's write"
    }

    fn backward(&self, r: &Recorded<'_, B>, _: &Tensor<B>) -> Result<Grads<B>> {
        let earlier = r.wanted.get(1).copied().unwrap_or(false);
        if !r.is_plain() {
            if earlier {
                let (what, instead) =
                    ("second derivative through earlier steps", "attention over whole sequences");
                return Err(TensorError::NoDerivative { op: "attention over a cache", what, instead });
            }
            // the step itself has given its keys' and values' share
            return Ok(smallvec![None, None]);
        }
        let mut memory = self.memory.borrow_mut();
        memory.back(r.sweep)?;
        let qkv = r.want(0, || {
            let Some((_, back)) = &memory.back else {
                return Err(TensorError::Untracked { what: "a way back" });
            };
            let (start, steps, sizes) = (self.start, self.steps, memory.sizes);
            let buffer = match (r.onto(), r.take_sum(0)) {
                (Some(kernels), Some(before)) => kernels.read_cache(back, &before, start, steps, sizes)?,
                _ => memory.backend.read_cache(back, start, steps, sizes)?,
            };
            Ok(Tensor::from(Array::new(&memory.backend, buffer, r.inputs[0].shape())))
        })?;
        Ok(smallvec![qkv, dummy(&memory.backend, earlier)?])
    }
}

/// One step's attention. Inputs: its qkv and, if the cache has a history, its token.
struct Attend<B: Backend> {
    cache: Rc<RefCell<Memory<B>>>,
    seen: Range<usize>,
    kept: B::Buffer,
    mask: Option<Array<B>>,
}

impl<B: Backend> Op<B> for Attend<B> {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn backward(&self, r: &Recorded<'_, B>, grad: &Tensor<B>) -> Result<Grads<B>> {
        let qkv = &r.inputs[0];
        if !r.is_plain() {
            return Ok(smallvec![Some(self.backward_tracked(qkv, r.inputs.get(1), grad)?), None]);
        }
        let mut memory = self.cache.borrow_mut();
        memory.back(r.sweep)?;
        let Memory { backend, sizes, pair: Some(pair), back: Some((_, back)), .. } = &mut *memory else {
            return Err(TensorError::Untracked { what: "a step attended to" });
        };
        let mask = self.mask.as_ref().map(|m| &m.buffer);
        let step = AttendedStep { qkv: &qkv.array.buffer, kept: &self.kept, mask };
        let seen = self.seen.clone();
        let d_qkv = backend.attend_back(step, pair, back, &grad.array.buffer, seen, *sizes)?;
        let d_qkv = Tensor::from(Array::new(backend, d_qkv, qkv.shape()));
        let token = dummy(backend, r.wanted.get(1).copied().unwrap_or(false))?;
        Ok(smallvec![Some(d_qkv), token])
    }
}

impl<B: Backend> Attend<B> {
    /// The derivative by this step's q, k and v, differentiable again; earlier steps' are not asked for.
    fn backward_tracked(
        &self,
        qkv: &Tensor<B>,
        token: Option<&Tensor<B>>,
        grad: &Tensor<B>,
    ) -> Result<Tensor<B>> {
        let (cache, seen) = (Rc::clone(&self.cache), self.seen.clone());
        let slope = AttendSlope { cache, seen, kept: self.kept.clone(), mask: self.mask.clone() };
        if let Some(by_qkv) = slope.of(qkv, grad, token)? {
            return Ok(by_qkv);
        }
        let CacheSizes { batch, heads, per_head, .. } = self.cache.borrow().sizes;
        let width = heads * per_head;
        let head = |t: &Tensor<B>| t.reshape([batch, heads, 1, per_head]);
        let (q, g) = (head(&qkv.slice(1, 0, width)?)?, head(grad)?);
        let keys = copy(&self.cache, token, &self.seen, false)?;
        let values = copy(&self.cache, token, &self.seen, true)?;
        let scale = 1.0 / (per_head as f64).sqrt();
        let probabilities = q.matmul_transposed(&keys, false, true)?.scale(scale)?.softmax()?;
        let mask = match &self.mask {
            Some(mask) => Some(Tensor::from(mask.clone()).reshape([batch, heads, 1, self.seen.len()])?),
            None => None,
        };
        let masked = |t: Tensor<B>| mask.as_ref().map_or(Ok(t.clone()), |mask| t.mul(mask));
        let weights = masked(probabilities.clone())?;
        let d_probabilities = masked(g.matmul_transposed(&values, false, true)?)?;
        let along = d_probabilities.mul(&probabilities)?.sum_axis(3)?;
        let d_scores = d_probabilities.sub(&along)?.mul(&probabilities)?.scale(scale)?;
        let own = |t: &Tensor<B>| t.slice(3, self.seen.len() - 1, 1);
        let parts = [d_scores.matmul(&keys)?, own(&d_scores)?.mul(&q)?, own(&weights)?.mul(&g)?];
        let flat = |t: &Tensor<B>| t.reshape([batch, width]);
        let [dq, dk, dv] = [flat(&parts[0])?, flat(&parts[1])?, flat(&parts[2])?];
        Tensor::concat(&[&dq, &dk, &dv], 1)
    }
}

fn copy<B: Backend>(
    memory: &Rc<RefCell<Memory<B>>>,
    token: Option<&Tensor<B>>,
    seen: &Range<usize>,
    values: bool,
) -> Result<Tensor<B>> {
    let here = memory.borrow();
    let CacheSizes { batch, heads, per_head, .. } = here.sizes;
    let shape = [batch, heads, seen.len(), per_head].into();
    let Some(pair) = &here.pair else { return Tensor::zeros(&here.backend, shape) };
    let source = if values { &pair.values } else { &pair.keys };
    let array = Array::new(&here.backend, here.backend.copy_cache(source, seen.clone(), here.sizes)?, shape);
    drop(here);
    let op = CacheCopy { memory: Rc::clone(memory), seen: seen.clone(), values };
    match token {
        Some(token) => Tape::record(op, &[token], array),
        None => Ok(Tensor::from(array)),
    }
}

/// Steps' keys or values as a tensor. Input: the cache's token.
struct CacheCopy<B: Backend> {
    memory: Rc<RefCell<Memory<B>>>,
    seen: Range<usize>,
    values: bool,
}

impl<B: Backend> Op<B> for CacheCopy<B> {
    fn name(&self) -> &'static str {
        "attention cache's read"
    }

    fn backward(&self, r: &Recorded<'_, B>, grad: &Tensor<B>) -> Result<Grads<B>> {
        if !r.is_plain() {
            let (what, instead) = ("second derivative", "attention over whole sequences");
            return Err(TensorError::NoDerivative { op: "attention cache's read", what, instead });
        }
        let mut memory = self.memory.borrow_mut();
        let (backend, sizes) = (memory.backend.clone(), memory.sizes);
        let back = memory.back(r.sweep)?;
        let into = if self.values { &mut back.values } else { &mut back.keys };
        backend.add_to_cache(into, &grad.array.buffer, self.seen.clone(), sizes)?;
        Ok(smallvec![dummy(&backend, r.wanted[0])?])
    }
}
