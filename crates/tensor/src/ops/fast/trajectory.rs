//! One layer's fast weights on their way through a sequence.

use super::recorded::{Read, Update, transposed};
use super::*;
use crate::ops::linear::Linear;
use crate::ops::matmul::MatMulSizes;
use crate::ops::zip::Zip;

/// Growth of rounding errors from which a copy of F is kept, if enough steps have passed since the last.
const GROWTH_TO_COPY: f64 = 4.0;
/// Growth of rounding errors up to which a stretch between copies is walked back by taking changes back.
const GROWTH_TO_RETREAT: f64 = 64.0;
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

/// The derivative by what was read, and what its own is added to, if anything.
type ByRead<'a, B> = (&'a Array<B>, Option<&'a <B as Storage>::Buffer>);
type Pair<B> = (<B as Storage>::Buffer, <B as Storage>::Buffer);

#[derive(Debug)]
pub(super) struct Path<B: Backend> {
    pub(super) backend: B,
    pub(super) sizes: FastSizes,
    plastic: Option<(Array<B>, Array<B>)>,
    /// α for products, where F is not formed.
    pub(super) prepared: Option<B::Buffer>,
    /// F and c before the first change, `None` for zero.
    pub(super) start: Option<Pair<B>>,
    /// F and c after `version` changes.
    pub(super) fast: Option<Pair<B>>,
    version: usize,
    pub(super) changes: Vec<Record<B>>,
    /// Changes that have been carried out at some time.
    pub(super) carried: usize,
    /// ‖F‖² `[batch]` after each change, as they are carried out for the first time, until taken.
    pub(super) norms: Vec<Array<B>>,
    /// How long the sequence will be, if that is known.
    pub(super) steps: Option<usize>,
    /// Copies of F and c, by version.
    copies: Vec<(usize, Pair<B>)>,
    /// Every version of a stretch that is replayed: the first one's number, and they.
    replayed: Option<(usize, Vec<Option<Pair<B>>>)>,
    stretch: usize,
    /// What no η is above, if that is known.
    largest_rate: Option<f64>,
    /// Whether somebody may come back: a read or an update stands on a tape.
    pub(super) recorded: bool,
    pub(super) back: Option<WayBack<B>>,
}

#[derive(Debug, Clone)]
pub(super) struct Record<B: Backend> {
    pub(super) eta: Array<B>,
    p: Array<B>,
    q: Array<B>,
    /// By how much taking it back multiplies rounding errors: 1/(1 − η), the largest over episodes.
    growth: f64,
}

impl<B: Backend> Record<B> {
    pub(super) fn change(&self) -> Change<'_, B::Buffer> {
        Change { eta: &self.eta.buffer, p: &self.p.buffer, q: &self.q.buffer }
    }
}

/// A [`Term`] until the sweep comes through an update.
#[derive(Debug)]
pub(super) struct HeldTerm<B: Backend> {
    /// How many changes it comes after.
    pub(super) version: usize,
    left: Array<B>,
    right: Array<B>,
    bias: bool,
    value: Option<HeldValue<B>>,
}

/// A [`Value`] likewise.
#[derive(Debug)]
pub(super) enum HeldValue<B: Backend> {
    Read(Array<B>),
    Transposed(Array<B>),
}

impl<B: Backend> HeldTerm<B> {
    pub(super) fn term(&self) -> Term<'_, B::Buffer> {
        let value = self.value.as_ref().map(|value| match value {
            HeldValue::Read(value) => Value::Read(&value.buffer),
            HeldValue::Transposed(value) => Value::Transposed(&value.buffer),
        });
        Term { left: &self.left.buffer, right: &self.right.buffer, bias: self.bias, value }
    }
}

#[derive(Debug)]
pub(super) struct WayBack<B: Backend> {
    sweep: u64,
    pub(super) credit: Credit<B::Buffer>,
    /// Of the update that the sweep came through last.
    pub(super) decay: Option<Array<B>>,
    /// What has been read since.
    pub(super) terms: SmallVec<[HeldTerm<B>; 2]>,
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

impl<B: Backend> Path<B> {
    pub(super) fn plastic(&self) -> Result<(Array<B>, Array<B>)> {
        self.plastic.clone().ok_or(TensorError::Untracked { what: "a change of fast weights" })
    }

    /// Lets go of the changes carried out: of a sequence that is only read, F alone is kept.
    fn forget(&mut self) -> Result<()> {
        self.seek_end()?;
        self.changes.clear();
        self.copies.clear();
        self.replayed = None;
        (self.version, self.carried) = (0, 0);
        self.start = None;
        Ok(())
    }

    /// From here on somebody may come back, though not to before: what was forgotten is not known any more. All
    /// changes have been carried out.
    fn begin(&mut self) {
        if self.recorded {
            return;
        }
        self.recorded = true;
        match (self.version, &self.fast) {
            (0, fast) => self.start = fast.clone(),
            (version, Some(fast)) => self.copies = vec![(version, fast.clone())],
            (_, None) => {}
        }
    }

    /// Carries out all changes.
    fn seek_end(&mut self) -> Result<()> {
        self.seek(self.changes.len())
    }

    /// Carries out or takes back changes until `version`.
    fn seek(&mut self, version: usize) -> Result<()> {
        while self.version < version {
            self.advance(None)?;
        }
        if self.version > version {
            self.retreat_to(version, None)?;
        }
        Ok(())
    }

    /// Carries out the next change, and reads.
    fn advance(&mut self, reading: Option<Reading<'_, B::Buffer>>) -> Result<Advanced<B::Buffer>> {
        let (alpha, beta) = self.plastic()?;
        let plastic = Plastic { alpha: &alpha.buffer, beta: &beta.buffer };
        self.keep_copy();
        let change = &self.changes[self.version];
        let mut advanced = self.backend.fast_advance(
            &mut self.fast,
            &plastic,
            Some(change.change()),
            reading,
            self.sizes,
        )?;
        self.version += 1;
        if let (true, Some(norm)) = (self.version > self.carried, advanced.norm.take()) {
            self.carried = self.version;
            self.norms.push(Array::new(&self.backend, norm, [self.sizes.batch].into()));
        }
        Ok(advanced)
    }

    /// Keeps a copy of F as it stands, if taking the changes since the last one back would lose too much.
    fn keep_copy(&mut self) {
        let last = self.copies.last().map_or(0, |&(version, _)| version);
        if self.version < last + self.stretch || self.growth(last, self.version) < GROWTH_TO_COPY {
            return;
        }
        if let Some(fast) = &self.fast {
            // sharing: the next change copies what it writes
            self.copies.push((self.version, fast.clone()));
        }
    }

    /// Growth of rounding errors over the changes from one version to another.
    fn growth(&self, from: usize, to: usize) -> f64 {
        self.changes[from..to].iter().map(|change| change.growth).product()
    }

    /// `F x`, plus c if `bias`, at a version.
    pub(super) fn read_at(&mut self, version: usize, x: &Array<B>, bias: bool) -> Result<Array<B>> {
        Ok(self.read_onto(version, x, bias, None)?.0)
    }

    /// The same, and that added to `[batch, out]` and a row `[out]`, if these are given, which they are where F is formed.
    fn read_onto(
        &mut self,
        version: usize,
        x: &Array<B>,
        bias: bool,
        onto: Option<[&B::Buffer; 2]>,
    ) -> Result<(Array<B>, Option<B::Buffer>)> {
        let FastSizes { batch, out, .. } = self.sizes;
        let array = |path: &Self, buffer| Array::new(&path.backend, buffer, [batch, out].into());
        if let Some(read) = self.read_by_changes(version, x, bias)? {
            return Ok((array(self, read), None));
        }
        if self.version > version {
            self.retreat_to(version, None)?;
        }
        let reading = Reading { x: &x.buffer, bias, onto };
        let mut advanced = None;
        while self.version < version {
            let last = self.version + 1 == version;
            advanced = Some(self.advance(last.then_some(reading))?);
        }
        let advanced = match advanced {
            Some(advanced) => advanced,
            None => {
                let none = Plastic { alpha: &x.buffer, beta: &x.buffer };
                self.backend.fast_advance(&mut self.fast, &none, None, Some(reading), self.sizes)?
            }
        };
        let read = advanced.read.ok_or(TensorError::Untracked { what: "a read of fast weights" })?;
        Ok((array(self, read), advanced.total))
    }

    /// `Fᵀ g` at a version, added to what was before, if anything; not by changes.
    pub(super) fn read_transposed_at(
        &mut self,
        version: usize,
        g: &Array<B>,
        before: Option<&B::Buffer>,
    ) -> Result<Array<B>> {
        let shape = [self.sizes.batch, self.sizes.inp].into();
        if let Some(read) = self.read_transposed_by_changes(version, g)? {
            return Ok(Array::new(&self.backend, read, shape));
        }
        while self.version < version {
            self.advance(None)?;
        }
        let read = self.retreat_to(version, Some((g, before)))?;
        match read.or_else(|| before.cloned()) {
            Some(buffer) => Ok(Array::new(&self.backend, buffer, shape)),
            None => Array::zeros(&self.backend, shape),
        }
    }

    /// Takes changes back until `version`, and reads `Fᵀ g`, added to what was before, if anything.
    fn retreat_to(&mut self, version: usize, g: Option<ByRead<'_, B>>) -> Result<Option<B::Buffer>> {
        while self.version > version {
            if let Some((first, replayed)) = &self.replayed
                && (*first..*first + replayed.len()).contains(&version)
            {
                self.fast = replayed[version - first].clone();
                self.version = version;
                break;
            }
            let copy = self.copies.iter().rfind(|&&(at, _)| at < self.version);
            let from = copy.map_or(0, |&(at, _)| at);
            if version <= from {
                // what was kept is exact
                self.fast = copy.map_or_else(|| self.start.clone(), |(_, fast)| Some(fast.clone()));
                self.version = from;
                continue;
            }
            if self.growth(from, self.version) > GROWTH_TO_RETREAT {
                self.replay(from)?;
                continue;
            }
            self.version -= 1;
            let here = if self.version == version { g } else { None };
            let read = self.take_back(self.version, here)?;
            if self.version == version {
                return Ok(read);
            }
        }
        let Some(fast) = &mut self.fast else { return Ok(None) };
        let Some((g, before)) = g else { return Ok(None) };
        let none = Plastic { alpha: &g.buffer, beta: &g.buffer };
        self.backend.fast_retreat(fast, &none, None, Some(&g.buffer), before, self.sizes)
    }

    /// Takes change `index` back, and reads `Fᵀ g`.
    fn take_back(&mut self, index: usize, g: Option<ByRead<'_, B>>) -> Result<Option<B::Buffer>> {
        let (alpha, beta) = self.plastic()?;
        let plastic = Plastic { alpha: &alpha.buffer, beta: &beta.buffer };
        let Some(fast) = &mut self.fast else { return Ok(None) };
        let change = Some(self.changes[index].change());
        let (g, before) = g.map_or((None, None), |(g, before)| (Some(&g.buffer), before));
        self.backend.fast_retreat(fast, &plastic, change, g, before, self.sizes)
    }

    /// Goes through the stretch from version `from` to here again, and keeps every version.
    fn replay(&mut self, from: usize) -> Result<()> {
        let to = self.version;
        let copy = self.copies.iter().find(|&&(at, _)| at == from);
        self.fast = copy.map_or_else(|| self.start.clone(), |(_, fast)| Some(fast.clone()));
        self.version = from;
        let mut versions = vec![self.fast.clone()];
        while self.version < to {
            self.advance(None)?;
            versions.push(self.fast.clone());
        }
        self.replayed = Some((from, versions));
        Ok(())
    }

    /// What this sweep carries back; new at its first visit.
    pub(super) fn back(&mut self, sweep: u64) -> Result<&mut WayBack<B>> {
        if self.back.as_ref().is_none_or(|back| back.sweep != sweep) {
            let sizes = if self.is_by_changes() { FastSizes { out: 0, ..self.sizes } } else { self.sizes };
            let credit = self.backend.fast_credit_start(sizes)?;
            self.back = Some(WayBack { sweep, credit, decay: None, terms: smallvec![] });
        }
        self.back.as_mut().ok_or(TensorError::Untracked { what: "a way back" })
    }

    /// Takes the derivative by what was read at a version in: `left ⊗ right` by F, and its inner product with the value, for S.
    pub(super) fn include(
        &mut self,
        sweep: u64,
        version: usize,
        [left, right]: [Array<B>; 2],
        bias: bool,
        value: HeldValue<B>,
    ) -> Result<()> {
        let (backend, by_changes) = (self.backend.clone(), self.is_by_changes());
        let back = self.back(sweep)?;
        let mut term = HeldTerm { version, left, right, bias, value: Some(value) };
        if by_changes {
            if let Some((by, value)) = term.term().inner() {
                backend.add_inner(&mut back.credit.inner, by, value)?;
            }
            term.value = None;
        }
        back.terms.push(term);
        Ok(())
    }
}
