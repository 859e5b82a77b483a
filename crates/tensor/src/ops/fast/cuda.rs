//! Fast weights along a sequence on a CUDA device: one walk over F or G an update.

use cudarc::driver::{DeviceRepr, LaunchConfig};

use super::{Advanced, ByChanges, Change, Credit, FastKernels, FastSizes, Plastic, Reading, Term, Value};
use crate::cuda::{Cuda, CudaBuffer, elements, grid};
use crate::ops::zip::{Zip, ZipKernels};
use crate::{Result, Storage};

pub(crate) const KERNELS: &[&str] = &[
    "fast_forward_short",
    "fast_forward_long",
    "fast_forward_any",
    "fast_backward_short",
    "fast_backward_long",
    "fast_backward_any",
    "fast_credit_short",
    "fast_credit_long",
    "fast_credit_any",
    "fast_credit_end",
    "add_inner",
];

/// Warps of a block, as in `kernels.cu`.
const WARPS: usize = 8;
/// Blocks that a large walk is cut into: about four for each multiprocessor of a large card.
const BLOCKS: usize = 528;
/// Most episodes of a block for which the last block of a group adds up what the others put down. For more, a launch of its own
/// has more of the card at work.
const ENDS: usize = 2;
/// Shares of G that one walk takes.
const TERMS: usize = 4;

type Pair = (CudaBuffer, CudaBuffer);

/// As in `kernels.cu`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct FastWalk {
    from: u64,
    to: u64,
    bias_from: u64,
    bias_to: u64,
    eta: u64,
    p: u64,
    q: u64,
    alpha: u64,
    beta: u64,
    x: u64,
    read: u64,
    base: u64,
    row: u64,
    total: u64,
    norms: u64,
    norm: u64,
    before: u64,
    sum: u64,
    batch: u32,
    out: u32,
    inp: u32,
    each: u32,
    fresh: u32,
    with_bias: u32,
    ends: u32,
    unused: u32,
}

// SAFETY: it is laid out as in C, has no padding and holds numbers and addresses only
unsafe impl DeviceRepr for FastWalk {}

/// As in `kernels.cu`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct FastEnd {
    inner: u64,
    value: [u64; TERMS],
    d_eta: u64,
    before: u64,
    dq: u64,
    ends: u32,
    transposed: u32,
}

/// As in `kernels.cu`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct FastBack {
    from: u64,
    to: u64,
    bias_from: u64,
    bias_to: u64,
    decay: u64,
    left: [u64; TERMS],
    right: [u64; TERMS],
    eta: u64,
    p: u64,
    q: u64,
    alpha: u64,
    beta: u64,
    a: u64,
    b: u64,
    by_alpha: u64,
    by_beta: u64,
    batch: u32,
    out: u32,
    inp: u32,
    each: u32,
    fresh: u32,
    terms: u32,
    biases: u32,
    unused: u32,
    end: FastEnd,
}

// SAFETY: likewise
unsafe impl DeviceRepr for FastBack {}

/// How a walk is cut into blocks.
#[derive(Clone, Copy)]
struct Cut {
    kernel: usize,
    /// Blocks of rows.
    blocks: usize,
    /// Groups of episodes.
    groups: usize,
    /// Episodes of a group.
    each: usize,
}

impl Cut {
    fn of(FastSizes { batch, out, inp }: FastSizes) -> Self {
        let (kernel, rows) = match inp {
            _ if !inp.is_multiple_of(4) => (2, 4),
            0..=128 => (0, 4),
            _ => (1, 2),
        };
        let blocks = out.div_ceil(WARPS * rows).max(1);
        let each = batch.div_ceil((BLOCKS / blocks).clamp(1, batch.max(1))).max(1);
        Self { kernel, blocks, groups: batch.div_ceil(each), each }
    }

    /// Whether a walk adds up itself what its blocks put down.
    fn ends(self) -> bool {
        self.each <= ENDS
    }

    fn config(self) -> LaunchConfig {
        let mut config = grid(self.blocks, 32 * WARPS, 1);
        config.grid_dim.1 = self.groups as u32;
        config
    }
}

impl FastWalk {
    fn of(sizes: FastSizes, cut: Cut) -> Self {
        let FastSizes { batch, out, inp } = sizes;
        Self {
            batch: batch as u32,
            out: out as u32,
            inp: inp as u32,
            each: cut.each as u32,
            ends: u32::from(cut.ends()),
            ..Self::default()
        }
    }

    fn with_change(self, change: &Change<'_, CudaBuffer>, plastic: &Plastic<'_, CudaBuffer>) -> Self {
        Self {
            eta: change.eta.address(),
            p: change.p.address(),
            q: change.q.address(),
            alpha: plastic.alpha.address(),
            beta: plastic.beta.address(),
            ..self
        }
    }

    /// Goes from F and c as they are to new ones in their place. What comes back keeps the old, if somebody shares it, and
    /// is to be dropped when the walk is queued.
    fn through(&mut self, (f, c): &mut Pair) -> Result<[Option<CudaBuffer>; 2]> {
        (self.from, self.bias_from) = (f.address(), c.address());
        let kept = [f.renew()?, c.renew()?];
        (self.to, self.bias_to) = (f.address(), c.address());
        Ok(kept)
    }
}

impl FastKernels for Cuda {
    fn largest_rate(&self, _: &CudaBuffer) -> Result<Option<f32>> {
        Ok(None)
    }

    fn by_changes(&self) -> Option<&dyn ByChanges<CudaBuffer>> {
        self.has_matrix_units().then_some(self)
    }

    fn fast_advance(
        &self,
        fast: &mut Option<Pair>,
        plastic: &Plastic<'_, CudaBuffer>,
        change: Option<Change<'_, CudaBuffer>>,
        reading: Option<Reading<'_, CudaBuffer>>,
        sizes: FastSizes,
    ) -> Result<Advanced<CudaBuffer>> {
        let FastSizes { batch, out, inp } = sizes;
        let cut = Cut::of(sizes);
        let mut walk = FastWalk::of(sizes, cut);
        let empty = |len| self.build(len, |_| Ok(()));
        // what somebody else keeps of the old F, until the walk is queued
        let (mut norms, mut kept) = (None, None);
        match (&change, &mut *fast) {
            (None, None) => {
                let Some(Reading { onto, .. }) = reading else {
                    return Ok(Advanced { read: None, total: None, norm: None });
                };
                let total = onto.map(|[base, row]| self.with_row(base, row)).transpose()?;
                return Ok(Advanced { read: Some(self.full(batch * out, 0.0)?), total, norm: None });
            }
            (None, Some((f, c))) => (walk.from, walk.bias_from) = (f.address(), c.address()),
            (Some(change), fast) => {
                walk = walk.with_change(change, plastic);
                match fast {
                    Some(pair) => kept = Some(walk.through(pair)?),
                    None => {
                        let (f, c) = fast.insert((empty(batch * out * inp)?, empty(batch * out)?));
                        (walk.to, walk.bias_to, walk.fresh) = (f.address(), c.address(), 1);
                    }
                }
                let by_warps = empty(batch * cut.blocks * WARPS)?;
                let norm = if cut.ends() { Some(empty(batch)?) } else { None };
                (walk.norms, walk.norm) = (by_warps.address(), norm.as_ref().map_or(0, CudaBuffer::address));
                norms = Some((by_warps, norm));
            }
        }
        let (mut read, mut total) = (None, None);
        if let Some(Reading { x, bias, onto }) = reading {
            let to = &*read.insert(empty(batch * out)?);
            (walk.x, walk.read, walk.with_bias) = (x.address(), to.address(), u32::from(bias));
            if let Some([base, row]) = onto {
                let to = &*total.insert(empty(batch * out)?);
                (walk.base, walk.row, walk.total) = (base.address(), row.address(), to.address());
            }
        }
        let kernel = ["fast_forward_short", "fast_forward_long", "fast_forward_any"][cut.kernel];
        // SAFETY: fast_forward_*(walk) stays inside of what `FastKernels` says of F, c, the change, x, what is read and what that is
        // added to, of a sum a warp, and of one an episode; what is null it leaves alone. Its blocks have the threads it is
        // written for
        unsafe { self.launch(kernel, cut.config(), (walk,))? };
        drop(kept);
        let norm = match norms {
            Some((_, Some(norm))) => Some(norm),
            Some((norms, None)) => Some(self.sum_middle(norms, batch, cut.blocks * WARPS, 1)?),
            None => None,
        };
        Ok(Advanced { read, total, norm })
    }

    fn fast_retreat(
        &self,
        pair: &mut Pair,
        plastic: &Plastic<'_, CudaBuffer>,
        change: Option<Change<'_, CudaBuffer>>,
        g: Option<&CudaBuffer>,
        before: Option<&CudaBuffer>,
        sizes: FastSizes,
    ) -> Result<Option<CudaBuffer>> {
        let FastSizes { batch, inp, .. } = sizes;
        let cut = Cut::of(sizes);
        let mut walk =
            FastWalk { from: pair.0.address(), bias_from: pair.1.address(), ..FastWalk::of(sizes, cut) };
        let mut kept = None;
        if let Some(change) = &change {
            walk = walk.with_change(change, plastic);
            kept = Some(walk.through(pair)?);
        }
        let read = g.map(|_| self.build(cut.blocks * batch * inp, |_| Ok(()))).transpose()?;
        let mut sum = None;
        if let (Some(g), Some(read)) = (g, &read) {
            (walk.x, walk.read) = (g.address(), read.address());
            if cut.ends() {
                walk.sum = sum.insert(self.build(batch * inp, |_| Ok(()))?).address();
                walk.before = before.map_or(0, CudaBuffer::address);
            }
        }
        let kernel = ["fast_backward_short", "fast_backward_long", "fast_backward_any"][cut.kernel];
        // SAFETY: fast_backward_*(walk) stays inside of what `FastKernels` says of F, c, the change, g and what was before, of a row
        // of `inp` a block of rows and episode, and of one an episode; what is null it leaves alone. Its blocks have the threads
        // it is written for. What is written is either new or nobody else's
        unsafe { self.launch(kernel, cut.config(), (walk,))? };
        drop(kept);
        let (Some(read), None) = (read, &sum) else { return Ok(sum) };
        let mut sum = self.sum_middle(read, 1, cut.blocks, batch * inp)?;
        if let Some(before) = before {
            self.add_assign(&mut sum, before)?;
        }
        Ok(Some(sum))
    }

    fn fast_credit_start(&self, sizes: FastSizes) -> Result<Credit<CudaBuffer>> {
        let groups = Cut::of(sizes).groups;
        let by_plastic =
            (self.full(groups * sizes.out * sizes.inp, 0.0)?, self.full(groups * sizes.out, 0.0)?);
        Ok(Credit { by_fast: None, inner: self.full(sizes.batch, 0.0)?, by_plastic })
    }

    fn fast_credit_by_plastic(&self, credit: &Credit<CudaBuffer>, sizes: FastSizes) -> Result<Pair> {
        let groups = Cut::of(sizes).groups;
        let (by_alpha, by_beta) = credit.by_plastic.clone();
        if groups == 0 {
            return Ok((self.full(sizes.out * sizes.inp, 0.0)?, self.full(sizes.out, 0.0)?));
        }
        let whole = |parts, len| self.sum_middle(parts, 1, groups, len);
        Ok((whole(by_alpha, sizes.out * sizes.inp)?, whole(by_beta, sizes.out)?))
    }

    fn fast_credit(
        &self,
        credit: &mut Credit<CudaBuffer>,
        plastic: &Plastic<'_, CudaBuffer>,
        decay: Option<&CudaBuffer>,
        terms: &[Term<'_, CudaBuffer>],
        change: Change<'_, CudaBuffer>,
        before: Option<&CudaBuffer>,
        sizes: FastSizes,
    ) -> Result<[CudaBuffer; 3]> {
        let FastSizes { batch, out, inp } = sizes;
        let cut = Cut::of(sizes);
        let ends = cut.ends() && terms.iter().all(|term| term.value.is_some());
        if !ends {
            for (by, value) in terms.iter().filter_map(Term::inner) {
                self.add_inner(&mut credit.inner, by, value)?;
            }
        }
        let mut back = FastBack {
            decay: decay.map_or(0, CudaBuffer::address),
            batch: batch as u32,
            out: out as u32,
            inp: inp as u32,
            each: cut.each as u32,
            fresh: u32::from(credit.by_fast.is_none()),
            ..FastBack::default()
        };
        let (g, gc) = match &mut credit.by_fast {
            Some(pair) => pair,
            none => {
                let empty = |len| self.build(len, |_| Ok(()));
                none.insert((empty(batch * out * inp)?, empty(batch * out)?))
            }
        };
        let (from, bias_from) = (g.address(), gc.address());
        let kept = [g.renew()?, gc.renew()?];
        (back.from, back.bias_from) = (from, bias_from);
        (back.to, back.bias_to) = (g.address(), gc.address());
        let mut some = terms.chunks(TERMS).peekable();
        let kernel = ["fast_credit_short", "fast_credit_long", "fast_credit_any"][cut.kernel];
        let a = self.build(batch * out, |_| Ok(()))?;
        let b = self.build(cut.blocks * batch * inp, |_| Ok(()))?;
        let [d_eta, dq] =
            if ends { [batch, batch * inp] } else { [0; 2] }.map(|len| self.build(len, |_| Ok(())));
        let (d_eta, dq) = (d_eta?, dq?);
        if ends {
            (back.end.ends, back.end.inner) = (1, credit.inner.own()?);
        }
        loop {
            let here = some.next().unwrap_or_default();
            (back.terms, back.biases, back.end.transposed) = (here.len() as u32, 0, 0);
            for (i, term) in here.iter().enumerate() {
                (back.left[i], back.right[i]) = (term.left.address(), term.right.address());
                back.biases |= u32::from(term.bias) << i;
                back.end.value[i] = match term.value {
                    Some(Value::Read(value)) => value.address(),
                    Some(Value::Transposed(value)) => {
                        back.end.transposed |= 1 << i;
                        value.address()
                    }
                    None => 0,
                };
            }
            let last = some.peek().is_none();
            if last {
                (back.eta, back.p, back.q) = (change.eta.address(), change.p.address(), change.q.address());
                (back.alpha, back.beta) = (plastic.alpha.address(), plastic.beta.address());
                (back.a, back.b) = (a.address(), b.address());
                let (by_alpha, by_beta) = &mut credit.by_plastic;
                (back.by_alpha, back.by_beta) = (by_alpha.own()?, by_beta.own()?);
                (back.end.d_eta, back.end.dq) = (d_eta.address(), dq.address());
                back.end.before = before.map_or(0, CudaBuffer::address);
            }
            // SAFETY: fast_credit_*(back) stays inside of what `FastKernels` says of G, the terms, the change and its derivatives,
            // and of what was made for as many groups of episodes and blocks of rows as the grid has; what is null it leaves
            // alone, and with no end all that belongs to that. Its blocks have the threads it is written for
            unsafe { self.launch(kernel, cut.config(), (back,))? };
            (back.from, back.bias_from, back.decay, back.fresh) = (back.to, back.bias_to, 0, 0);
            if last {
                break;
            }
        }
        drop(kept);
        match ends {
            true => Ok([d_eta, a, dq]),
            false => self.end_credit(&mut credit.inner, before, a, &b, cut.blocks, &change, sizes),
        }
    }

    fn add_inner(&self, sums: &mut CudaBuffer, a: &CudaBuffer, b: &CudaBuffer) -> Result<()> {
        let batch = sums.len();
        let width = a.len() / batch.max(1);
        let arguments = (sums.make_mut()?, a.slice(), b.slice(), batch as u32, width as u32);
        // SAFETY: add_inner(sums, a, b, batch, width) reads and writes `batch` sums, and reads as many rows of `width` elements
        // of a and b, which is what they have
        unsafe { self.launch("add_inner", elements(32 * batch), arguments) }
    }
}

impl Cuda {
    /// `base` `[batch, out]` and a row `[out]`.
    fn with_row(&self, base: &CudaBuffer, row: &CudaBuffer) -> Result<CudaBuffer> {
        let (out, batch) = (row.len(), base.len() / row.len().max(1));
        let shape = [batch, out].into();
        self.zip(Zip::Add, (base, &shape), (row, &[out].into()), &shape)
    }

    /// What is left of the way back through a change, given `(G ∘ α) q` with the bias's share `along`, and `(G ∘ α)ᵀ p` by `blocks` of
    /// rows `across`: takes S back and gives the derivatives by η, added to what was before, by p and by q.
    pub(super) fn end_credit(
        &self,
        inner: &mut CudaBuffer,
        before: Option<&CudaBuffer>,
        mut along: CudaBuffer,
        across: &CudaBuffer,
        blocks: usize,
        change: &Change<'_, CudaBuffer>,
        FastSizes { batch, out, inp }: FastSizes,
    ) -> Result<[CudaBuffer; 3]> {
        let mut d_eta = self.build(batch, |_| Ok(()))?;
        let dq = self.build(batch * inp, |dq| {
            let (eta, p, across) = (change.eta.slice(), change.p.slice(), across.slice());
            let (inner, d_eta, dp) = (inner.make_mut()?, d_eta.make_mut()?, along.make_mut()?);
            let [b, o, i, blocks] = [batch, out, inp, blocks].map(|size| size as u32);
            let before = before.map_or(0, CudaBuffer::address);
            let arguments = (inner, d_eta, before, dp, dq, across, eta, p, b, o, i, blocks);
            // SAFETY: fast_credit_end(inner, d_eta, before, a, dq, b, eta, p, batch, out, inp, blocks) has a block for each of the
            // `batch` episodes, rows of which are as long in `a`, `p`, `dq` and `b` as it is told
            unsafe { self.launch("fast_credit_end", grid(batch, 128, 1), arguments) }
        })?;
        Ok([d_eta, along, dq])
    }
}
