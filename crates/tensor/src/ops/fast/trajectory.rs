//! One layer's fast weights on their way through a sequence.

use super::path::{Pair, Path, Record};
use super::recorded::{Read, Update, transposed};
use super::*;
use crate::ops::linear::Linear;
use crate::ops::matmul::MatMulSizes;
use crate::ops::zip::Zip;

/// Steps between copies at least, while the length of the sequence is not known.
const STRETCH: usize = 32;

/// One layer's fast weights F and c on their way through a sequence, for a batch of episodes.
///
/// They are zero at first. Reads and updates happen in place and are recorded on the tape of what they read and are
/// changed by; the tape's order is the sequence's. A clone is a copy of their values, without their history.
#[derive(Debug)]
pub struct FastTrajectory<B: Backend> {
    path: Rc<RefCell<Path<B>>>,
    /// Stands for F on the tape: the output of the last update. `None` while F has no history there.
    token: Option<Tensor<B>>,
}

impl<B: Backend> Clone for FastTrajectory<B> {
    fn clone(&self) -> Self {
        let path = self.path.borrow();
        let copy =
            Self::starting(&path.backend, path.sizes, path.fast.clone(), Some(path.stretch * path.stretch));
        let mut here = copy.path.borrow_mut();
        here.plastic = path.plastic.clone();
        here.largest_rate = path.largest_rate;
        here.changes = path.changes[path.version..].to_vec();
        here.carried = path.carried.saturating_sub(path.version);
        drop(here);
        copy
    }
}

impl<B: Backend> FastTrajectory<B> {
    /// Fast weights `[batch, out, inp]` and `[batch, out]`, zero, of a sequence of `steps` steps if that is known.
    pub fn new(backend: &B, batch: usize, out: usize, inp: usize, steps: Option<usize>) -> Self {
        let new = Self::starting(backend, FastSizes { batch, out, inp }, None, steps);
        new.path.borrow_mut().steps = steps;
        new
    }

    /// Fast weights that start as given: F `[batch, out, inp]`, c `[batch, out]`.
    ///
    /// # Errors
    /// [`TensorError::Incompatible`] when the shapes don't fit.
    pub fn from_parts(weight: &Array<B>, bias: &Array<B>) -> Result<Self> {
        let (&[batch, out, inp], &[b, o]) = (&weight.shape()[..], &bias.shape()[..]) else {
            return Err(
                Tensor::from(weight.clone()).unsuitable("fast weights", "F is [B, out, in] and c [B, out]")
            );
        };
        if (b, o) != (batch, out) {
            let (weight, bias) = (Tensor::from(weight.clone()), Tensor::from(bias.clone()));
            return Err(weight.incompatible("fast weights", &bias, "F is [B, out, in] and c [B, out]"));
        }
        let pair = (weight.buffer.clone(), bias.buffer.clone());
        Ok(Self::starting(weight.backend(), FastSizes { batch, out, inp }, Some(pair), None))
    }

    fn starting(backend: &B, sizes: FastSizes, start: Option<Pair<B>>, steps: Option<usize>) -> Self {
        let stretch = steps.map_or(STRETCH, |steps| (steps as f64).sqrt().ceil() as usize);
        let path = Path {
            backend: backend.clone(),
            sizes,
            plastic: None,
            prepared: None,
            fast: start.clone(),
            start,
            version: 0,
            changes: Vec::new(),
            carried: 0,
            norms: Vec::new(),
            steps: None,
            copies: Vec::new(),
            replayed: None,
            stretch,
            largest_rate: None,
            recorded: false,
            back: None,
        };
        Self { path: Rc::new(RefCell::new(path)), token: None }
    }

    /// The same, of which it is known that no η is above `bound`: a device whose η would have to be waited for takes the
    /// bound for it where it decides which copies to keep.
    #[must_use]
    pub fn with_rates_up_to(self, bound: Option<f64>) -> Self {
        self.path.borrow_mut().largest_rate = bound;
        self
    }

    /// `F x + c`: x `[B, in]` to `[B, out]`.
    ///
    /// # Errors
    /// [`TensorError::Unsuitable`] when x has another shape.
    pub fn read(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        self.read_as(x, true)
    }

    fn read_as(&self, x: &Tensor<B>, bias: bool) -> Result<Tensor<B>> {
        let mut path = self.path.borrow_mut();
        let FastSizes { batch, inp, .. } = path.sizes;
        if x.shape()[..] != [batch, inp] {
            return Err(x.unsuitable("fast weights", format!("they read [{batch}, {inp}]")));
        }
        let version = path.changes.len();
        let (value, _) = path.read_onto(version, &x.array, bias, None)?;
        if x.is_tracked() {
            path.begin();
        }
        drop(path);
        let op = Read { path: Rc::clone(&self.path), version, value: value.clone(), bias };
        self.record(op, x, value)
    }

    /// `(W + F) x + b + c`: what a plastic linear layer gives, x `[B, in]`, W `[out, in]` and b `[out]`, to `[B, out]`.
    ///
    /// # Errors
    /// When the shapes don't fit.
    pub fn linear(&self, x: &Tensor<B>, weight: &Tensor<B>, bias: &Tensor<B>) -> Result<Tensor<B>> {
        let mut path = self.path.borrow_mut();
        let FastSizes { batch, out, inp } = path.sizes;
        let fits = x.shape() == [batch, inp].into()
            && weight.shape() == [out, inp].into()
            && bias.shape() == [out].into();
        if !fits || path.is_by_changes() || path.backend.onto().is_none() {
            drop(path);
            return x.linear(weight, bias)?.add(&self.read(x)?);
        }
        let sizes = MatMulSizes { batch: 1, m: batch, k: inp, n: out, transpose_a: false, transpose_b: true };
        let product = path.backend.matmul(&x.array.buffer, &weight.array.buffer, sizes)?;
        let version = path.changes.len();
        let onto = Some([&product, &bias.array.buffer]);
        let (value, total) = path.read_onto(version, &x.array, true, onto)?;
        let total = total.ok_or(TensorError::Untracked { what: "a read of fast weights" })?;
        let array = |buffer| Array::new(&path.backend, buffer, [batch, out].into());
        let (product, total) = (array(product), array(total));
        if x.is_tracked() {
            path.begin();
        }
        drop(path);
        // as the operations that it stands for; nobody sees of the first that its bias is not in yet
        let slow = Linear::record([x, weight, bias], product)?;
        let op = Read { path: Rc::clone(&self.path), version, value: value.clone(), bias: true };
        let read = self.record(op, x, value)?;
        Tape::record(Zip::Add, &[&slow, &read], total)
    }

    /// `Fᵀ g`: g `[B, out]` to `[B, in]`.
    ///
    /// # Errors
    /// [`TensorError::Unsuitable`] when g has another shape.
    pub fn read_transposed(&self, g: &Tensor<B>) -> Result<Tensor<B>> {
        let mut path = self.path.borrow_mut();
        let FastSizes { batch, out, .. } = path.sizes;
        if g.shape()[..] != [batch, out] {
            return Err(g.unsuitable("fast weights", format!("transposed, they read [{batch}, {out}]")));
        }
        let version = path.changes.len();
        if g.is_tracked() {
            path.seek_end()?;
            path.begin();
        }
        drop(path);
        transposed(&self.path, version, g, self.token.as_ref())
    }

    fn record(&self, op: impl Op<B>, x: &Tensor<B>, value: Array<B>) -> Result<Tensor<B>> {
        match &self.token {
            Some(token) => Tape::record(op, &[x, token], value),
            None => Tape::record(op, &[x], value),
        }
    }

    /// `F ← (1 − η) F + η α ∘ (p ⊗ q)`, `c ← (1 − η) c + η β ∘ p`: η `[B]`, α `[out, in]`, β `[out]`, p `[B, out]`, q
    /// `[B, in]`. α and β are the same at every update; η must stay below 1.
    ///
    /// # Errors
    /// [`TensorError::Unsuitable`] when a shape doesn't fit.
    pub fn update(&mut self, [eta, alpha, beta, p, q]: [&Tensor<B>; 5]) -> Result<()> {
        let mut path = self.path.borrow_mut();
        let FastSizes { batch, out, inp } = path.sizes;
        let shapes: [(&Tensor<B>, &str, Shape); 5] = [
            (eta, "eta", [batch].into()),
            (alpha, "alpha", [out, inp].into()),
            (beta, "beta", [out].into()),
            (p, "p", [batch, out].into()),
            (q, "q", [batch, inp].into()),
        ];
        for (tensor, name, shape) in shapes {
            if tensor.shape() != shape {
                return Err(tensor.unsuitable("fast weights", format!("{name} is {shape} here")));
            }
        }
        if !path.recorded {
            path.forget()?;
        }
        if self.token.is_some() || [eta, alpha, beta, p, q].iter().any(|t| t.is_tracked()) {
            path.begin();
        }
        let index = path.changes.len();
        if index == 0 {
            path.plastic = Some((alpha.array.clone(), beta.array.clone()));
            path.prepared = None;
        }
        let largest = match (path.backend.largest_rate(&eta.array.buffer)?, path.largest_rate) {
            (Some(largest), _) => largest.wide(),
            (None, Some(bound)) => bound,
            (None, None) => {
                path.backend.download(&eta.array.buffer)?.into_iter().map(Element::wide).fold(0.0, f64::max)
            }
        };
        let growth = 1.0 / (1.0 - largest).max(f64::MIN_POSITIVE);
        let (eta_a, p_a, q_a) = (eta.array.clone(), p.array.clone(), q.array.clone());
        path.changes.push(Record { eta: eta_a, p: p_a, q: q_a, growth });
        let token = Array::zeros(&path.backend, [0])?;
        drop(path);
        let op = Update { path: Rc::clone(&self.path), index };
        let token = match &self.token {
            Some(before) => Tape::record(op, &[eta, alpha, beta, p, q, before], token)?,
            None => Tape::record(op, &[eta, alpha, beta, p, q], token)?,
        };
        self.token = token.is_tracked().then_some(token);
        Ok(())
    }

    /// Cuts them from their history: constants from here on.
    ///
    /// # Errors
    /// Device errors.
    pub fn detach(&mut self) -> Result<()> {
        let mut path = self.path.borrow_mut();
        path.seek_end()?;
        let (backend, sizes, fast, stretch) =
            (path.backend.clone(), path.sizes, path.fast.clone(), path.stretch);
        let (norms, bound) = (std::mem::take(&mut path.norms), path.largest_rate);
        drop(path);
        *self = Self::starting(&backend, sizes, fast, Some(stretch * stretch)).with_rates_up_to(bound);
        self.path.borrow_mut().norms = norms;
        Ok(())
    }

    /// F and c as they stand, `[B, out, in]` and `[B, out]`, plain; `None` while they are zero.
    ///
    /// # Errors
    /// Device errors.
    pub fn get(&self) -> Result<Option<(Array<B>, Array<B>)>> {
        if self.path.borrow().is_by_changes() {
            // formed beside them, so that the way back stays what it is
            return self.clone().get();
        }
        let mut path = self.path.borrow_mut();
        path.seek_end()?;
        let FastSizes { batch, out, inp } = path.sizes;
        let array = |buffer: &B::Buffer, shape: Shape| Array::new(&path.backend, buffer.clone(), shape);
        Ok(path
            .fast
            .as_ref()
            .map(|(f, c)| (array(f, [batch, out, inp].into()), array(c, [batch, out].into()))))
    }

    /// ‖F‖² `[B]` after each update that has been carried out since this was last called, plain; c is not counted. An
    /// update is carried out at the read that follows it, or by [`settle`](Self::settle).
    pub fn take_norms(&self) -> Vec<Array<B>> {
        std::mem::take(&mut self.path.borrow_mut().norms)
    }

    /// Carries out the last update now, not at the next read.
    ///
    /// # Errors
    /// Device errors.
    pub fn settle(&self) -> Result<()> {
        let mut path = self.path.borrow_mut();
        if path.is_by_changes() { path.norms_by_changes() } else { path.seek_end() }
    }

    /// Lets go of the way back: no derivative will be asked of what was read so far.
    pub fn release(&mut self) {
        self.path.borrow_mut().recorded = false;
        self.token = None;
    }
}
