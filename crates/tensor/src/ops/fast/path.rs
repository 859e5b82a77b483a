//! F along the changes of a sequence: carried out, taken back, copied where that would lose too much, and replayed.

use super::*;

/// Growth of rounding errors from which a copy of F is kept, if enough steps have passed since the last.
const GROWTH_TO_COPY: f64 = 4.0;
/// Growth of rounding errors up to which a stretch between copies is walked back by taking changes back.
const GROWTH_TO_RETREAT: f64 = 64.0;

/// The derivative by what was read, and what its own is added to, if anything.
type ByRead<'a, B> = (&'a Array<B>, Option<&'a <B as Storage>::Buffer>);
pub(super) type Pair<B> = (<B as Storage>::Buffer, <B as Storage>::Buffer);

#[derive(Debug)]
pub(super) struct Path<B: Backend> {
    pub(super) backend: B,
    pub(super) sizes: FastSizes,
    pub(super) plastic: Option<(Array<B>, Array<B>)>,
    /// α for products, where F is not formed.
    pub(super) prepared: Option<B::Buffer>,
    /// F and c before the first change, `None` for zero.
    pub(super) start: Option<Pair<B>>,
    /// F and c after `version` changes.
    pub(super) fast: Option<Pair<B>>,
    pub(super) version: usize,
    pub(super) changes: Vec<Record<B>>,
    /// Changes that have been carried out at some time.
    pub(super) carried: usize,
    /// ‖F‖² `[batch]` after each change, as they are carried out for the first time, until taken.
    pub(super) norms: Vec<Array<B>>,
    /// How long the sequence will be, if that is known.
    pub(super) steps: Option<usize>,
    /// Copies of F and c, by version.
    pub(super) copies: Vec<(usize, Pair<B>)>,
    /// Every version of a stretch that is replayed: the first one's number, and they.
    pub(super) replayed: Option<(usize, Vec<Option<Pair<B>>>)>,
    pub(super) stretch: usize,
    /// What no η is above, if that is known.
    pub(super) largest_rate: Option<f64>,
    /// Whether somebody may come back: a read or an update stands on a tape.
    pub(super) recorded: bool,
    pub(super) back: Option<WayBack<B>>,
}

#[derive(Debug, Clone)]
pub(super) struct Record<B: Backend> {
    pub(super) eta: Array<B>,
    pub(super) p: Array<B>,
    pub(super) q: Array<B>,
    /// By how much taking it back multiplies rounding errors: 1/(1 − η), the largest over episodes.
    pub(super) growth: f64,
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

impl<B: Backend> Path<B> {
    pub(super) fn plastic(&self) -> Result<(Array<B>, Array<B>)> {
        self.plastic.clone().ok_or(TensorError::Untracked { what: "a change of fast weights" })
    }

    /// Lets go of the changes carried out: of a sequence that is only read, F alone is kept.
    pub(super) fn forget(&mut self) -> Result<()> {
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
    pub(super) fn begin(&mut self) {
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
    pub(super) fn seek_end(&mut self) -> Result<()> {
        self.seek(self.changes.len())
    }

    /// Carries out or takes back changes until `version`.
    pub(super) fn seek(&mut self, version: usize) -> Result<()> {
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
    pub(super) fn read_onto(
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
