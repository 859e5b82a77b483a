//! Fast weights by their changes on a CUDA device: products with α on the matrix units, and sweeps of F in registers.

use cudarc::driver::DeviceRepr;

use super::{ByChanges, Change, FastSizes, Prepared, Term};
use crate::cuda::{Cuda, CudaBuffer, elements, grid};
use crate::ops::zip::ZipKernels;
use crate::{Result, Storage};

pub(crate) const KERNELS: &[&str] = &["fast_halves", "fast_mix", "fast_norms", "fast_plastic"];

/// As in `changes.cu`.
const CHANGES: usize = 40;
const TERMS: usize = 80;
/// Rows and columns of a block's share of a product, and how much of what is summed over is taken at once.
const MIX: usize = 128;
const MIX_DEPTH: usize = 32;
/// As in `sweeps.cu`: a block's share of F.
const SWEEP: [usize; 2] = [64, 128];
/// Groups that episodes are summed in: with four shares of α, two rounds of two blocks a multiprocessor of a large card.
const GROUPS: usize = 132;

/// As in `changes.cu`.
#[derive(Clone, Copy)]
#[repr(C)]
struct FastMix {
    outer: [u64; TERMS],
    inner: [u64; TERMS],
    eta: [u64; CHANGES],
    decays: [u8; TERMS],
    biases: [u8; TERMS],
    x: u64,
    beta: u64,
    halves: u64,
    scales: u64,
    out: u64,
    batch: u32,
    width: u32,
    depth: u32,
    count: u32,
    rates: u32,
    reads: u32,
    each: u32,
    unused: u32,
}

// SAFETY: it is laid out as in C, has no padding and holds numbers and addresses only
unsafe impl DeviceRepr for FastMix {}

/// As in `sweeps.cu`.
#[derive(Clone, Copy)]
#[repr(C)]
struct FastNorms {
    p: [u64; CHANGES],
    q: [u64; CHANGES],
    eta: [u64; CHANGES],
    norms: [u64; CHANGES],
    alpha: u64,
    batch: u32,
    out: u32,
    inp: u32,
    changes: u32,
    first: u32,
    unused: u32,
}

// SAFETY: likewise
unsafe impl DeviceRepr for FastNorms {}

/// As in `sweeps.cu`.
#[derive(Clone, Copy)]
#[repr(C)]
struct FastPlastic {
    p: [u64; CHANGES],
    q: [u64; CHANGES],
    eta: [u64; CHANGES],
    left: [u64; TERMS],
    right: [u64; TERMS],
    versions: [u8; TERMS],
    biases: [u8; TERMS],
    by_alpha: u64,
    by_beta: u64,
    batch: u32,
    out: u32,
    inp: u32,
    changes: u32,
    terms: u32,
    unused: u32,
}

// SAFETY: likewise
unsafe impl DeviceRepr for FastPlastic {}

/// The addresses of changes' p, q and η.
fn addresses(changes: &[Change<'_, CudaBuffer>]) -> [[u64; CHANGES]; 3] {
    let mut found = [[0; CHANGES]; 3];
    for (i, change) in changes.iter().enumerate() {
        for (found, buffer) in found.iter_mut().zip([change.p, change.q, change.eta]) {
            found[i] = buffer.address();
        }
    }
    found
}

/// One way of α's halves: those of `rows` rows of `cols` numbers, and after them what each row is scaled back by.
#[derive(Clone, Copy)]
struct Halves {
    rows: usize,
    cols: usize,
}

impl Halves {
    /// α's own, and its transpose's, which lie one after the other.
    fn both(FastSizes { out, inp, .. }: FastSizes) -> [Self; 2] {
        [Self { rows: out, cols: inp }, Self { rows: inp, cols: out }]
    }

    /// Elements before the scales.
    fn scales(self) -> usize {
        self.rows.next_multiple_of(MIX) * self.cols.next_multiple_of(MIX_DEPTH)
    }

    fn len(self) -> usize {
        self.scales() + self.rows.next_multiple_of(MIX)
    }
}

impl FastMix {
    /// Of x by α, or by its transpose, without entries.
    fn new(plastic: &Prepared<'_, CudaBuffer>, x: &CudaBuffer, transposed: bool, sizes: FastSizes) -> Self {
        let [own, other] = Halves::both(sizes);
        let (ours, before) = if transposed { (other, own.len()) } else { (own, 0) };
        let halves = plastic.alpha.address() + 4 * before as u64;
        Self {
            outer: [0; TERMS],
            inner: [0; TERMS],
            eta: [0; CHANGES],
            decays: [0; TERMS],
            biases: [0; TERMS],
            x: x.address(),
            beta: 0,
            halves,
            scales: halves + 4 * ours.scales() as u64,
            out: 0,
            batch: sizes.batch as u32,
            width: ours.rows as u32,
            depth: ours.cols as u32,
            count: 0,
            rates: 0,
            reads: 0,
            each: 0,
            unused: 0,
        }
    }

    fn push(&mut self, outer: &CudaBuffer, inner: &CudaBuffer) -> usize {
        let at = self.count as usize;
        (self.outer[at], self.inner[at]) = (outer.address(), inner.address());
        self.count += 1;
        at
    }
}

impl ByChanges<CudaBuffer> for Cuda {
    fn most(&self) -> usize {
        CHANGES
    }

    fn prepare(&self, alpha: &CudaBuffer, sizes: FastSizes) -> Result<CudaBuffer> {
        let both = Halves::both(sizes);
        let prepared = self.build(both.iter().map(|halves| halves.len()).sum(), |_| Ok(()))?;
        let mut at = prepared.address();
        for (halves, [across, along]) in both.into_iter().zip([[sizes.inp, 1], [1, sizes.inp]]) {
            let scales = at + 4 * halves.scales() as u64;
            let config = elements(32 * halves.rows.next_multiple_of(MIX));
            let [rows, cols, across, along] =
                [halves.rows, halves.cols, across, along].map(|size| size as u32);
            // SAFETY: fast_halves(alpha, halves, scales, rows, cols, across, along) reads α, one way or the other, and writes what
            // `Halves` says of so many rows and columns
            unsafe {
                self.launch("fast_halves", config, (alpha.slice(), at, scales, rows, cols, across, along))?;
            }
            at += 4 * halves.len() as u64;
        }
        Ok(prepared)
    }

    fn read(
        &self,
        plastic: &Prepared<'_, CudaBuffer>,
        changes: &[Change<'_, CudaBuffer>],
        x: &CudaBuffer,
        bias: bool,
        sizes: FastSizes,
    ) -> Result<CudaBuffer> {
        let mut mix = FastMix::new(plastic, x, false, sizes);
        for (i, change) in changes.iter().enumerate() {
            (mix.eta[i], mix.rates) = (change.eta.address(), mix.rates + 1);
            mix.push(change.p, change.q);
        }
        mix.beta = if bias { plastic.beta.address() } else { 0 };
        self.mix(mix)
    }

    fn read_transposed(
        &self,
        plastic: &Prepared<'_, CudaBuffer>,
        changes: &[Change<'_, CudaBuffer>],
        g: &CudaBuffer,
        sizes: FastSizes,
    ) -> Result<CudaBuffer> {
        let mut mix = FastMix::new(plastic, g, true, sizes);
        for (i, change) in changes.iter().enumerate() {
            (mix.eta[i], mix.rates) = (change.eta.address(), mix.rates + 1);
            mix.push(change.q, change.p);
        }
        self.mix(mix)
    }

    fn norms(
        &self,
        alpha: &CudaBuffer,
        changes: &[Change<'_, CudaBuffer>],
        first: usize,
        FastSizes { batch, out, inp }: FastSizes,
    ) -> Result<Vec<CudaBuffer>> {
        let [p, q, eta] = addresses(changes);
        let mut given = FastNorms {
            p,
            q,
            eta,
            norms: [0; CHANGES],
            alpha: alpha.address(),
            batch: batch as u32,
            out: out as u32,
            inp: inp as u32,
            changes: changes.len() as u32,
            first: first as u32,
            unused: 0,
        };
        let mut norms = Vec::with_capacity(changes.len());
        for at in &mut given.norms[first..changes.len()] {
            let norm = self.build(batch, |_| Ok(()))?;
            *at = norm.address();
            norms.push(norm);
        }
        // SAFETY: fast_norms(norms) has a block an episode, reads rows of `out` and `inp` elements, `batch` of them, of as many
        // changes as it is told, and α, and writes `batch` numbers for each from `first` on
        unsafe { self.launch("fast_norms", grid(batch, 256, 1), (given,))? };
        Ok(norms)
    }

    fn credit(
        &self,
        inner: &mut CudaBuffer,
        plastic: &Prepared<'_, CudaBuffer>,
        changes: &[Change<'_, CudaBuffer>],
        terms: &[(usize, Term<'_, CudaBuffer>)],
        sizes: FastSizes,
    ) -> Result<[CudaBuffer; 3]> {
        let Some((change, later)) = changes.split_first() else {
            return Err(self.error("an update without a change won't do".to_owned()));
        };
        let mixed = |x, transposed: bool| {
            let mut sum: Option<CudaBuffer> = None;
            for some in terms.chunks(TERMS) {
                let mut mix = FastMix::new(plastic, x, transposed, sizes);
                mix.reads = 1;
                let rates = some.iter().map(|&(after, _)| after - 1).max().unwrap_or(0);
                for (eta, later) in mix.eta.iter_mut().zip(&later[..rates]) {
                    (*eta, mix.rates) = (later.eta.address(), mix.rates + 1);
                }
                for (after, term) in some {
                    let (outer, inner) =
                        if transposed { (term.right, term.left) } else { (term.left, term.right) };
                    let at = mix.push(outer, inner);
                    (mix.decays[at], mix.biases[at]) = ((after - 1) as u8, u8::from(term.bias));
                }
                mix.beta = if transposed { 0 } else { plastic.beta.address() };
                let part = self.mix(mix)?;
                match &mut sum {
                    Some(sum) => self.add_assign(sum, &part)?,
                    None => sum = Some(part),
                }
            }
            let width = if transposed { sizes.inp } else { sizes.out };
            sum.map_or_else(|| self.full(sizes.batch * width, 0.0), Ok)
        };
        let along = mixed(change.q, false)?;
        let across = mixed(change.p, true)?;
        self.end_credit(inner, None, along, &across, 1, change, sizes)
    }

    fn credit_by_plastic(
        &self,
        changes: &[Change<'_, CudaBuffer>],
        terms: &[(usize, Term<'_, CudaBuffer>)],
        FastSizes { batch, out, inp }: FastSizes,
    ) -> Result<(CudaBuffer, CudaBuffer)> {
        let [p, q, eta] = addresses(changes);
        let mut sum: Option<(CudaBuffer, CudaBuffer)> = None;
        for some in terms.chunks(TERMS) {
            let groups = batch.clamp(1, GROUPS);
            let by_alpha = self.build(groups * out * inp, |_| Ok(()))?;
            let by_beta = self.build(groups * out, |_| Ok(()))?;
            let mut given = FastPlastic {
                p,
                q,
                eta,
                left: [0; TERMS],
                right: [0; TERMS],
                versions: [0; TERMS],
                biases: [0; TERMS],
                by_alpha: by_alpha.address(),
                by_beta: by_beta.address(),
                batch: batch as u32,
                out: out as u32,
                inp: inp as u32,
                changes: changes.len() as u32,
                terms: some.len() as u32,
                unused: 0,
            };
            for (i, (after, term)) in some.iter().enumerate() {
                (given.left[i], given.right[i]) = (term.left.address(), term.right.address());
                (given.versions[i], given.biases[i]) = (*after as u8, u8::from(term.bias));
            }
            let mut config = grid(out.div_ceil(SWEEP[0]) * inp.div_ceil(SWEEP[1]), 256, 1);
            config.grid_dim.1 = groups as u32;
            // SAFETY: fast_plastic(plastic) reads rows of `out` and `inp` elements, `batch` of them, of as many changes and reads as it
            // is told, and writes all of what was made for its groups
            unsafe { self.launch("fast_plastic", config, (given,))? };
            let part =
                (self.sum_middle(by_alpha, 1, groups, out * inp)?, self.sum_middle(by_beta, 1, groups, out)?);
            match &mut sum {
                Some((alpha, beta)) => {
                    self.add_assign(alpha, &part.0)?;
                    self.add_assign(beta, &part.1)?;
                }
                None => sum = Some(part),
            }
        }
        match sum {
            Some(sum) => Ok(sum),
            None => Ok((self.full(out * inp, 0.0)?, self.full(out, 0.0)?)),
        }
    }
}

impl Cuda {
    /// A mixture of all but its `out` and how episodes are dealt to blocks.
    fn mix(&self, mut mix: FastMix) -> Result<CudaBuffer> {
        let (batch, width) = (mix.batch as usize, mix.width as usize);
        let each = MIX / mix.count.max(mix.rates) as usize;
        let mixed = self.build(batch * width, |_| Ok(()))?;
        (mix.out, mix.each) = (mixed.address(), each as u32);
        let config = grid(batch.div_ceil(each) * width.div_ceil(MIX), 256, 1);
        // SAFETY: fast_mix(mix) reads rows of `depth` and of `width` elements, `batch` of them, of as many entries as it is told, and
        // halves of as many rows and columns, and writes `batch` rows of `width`; there are at least one entry and no more than a
        // block has rows for
        unsafe { self.launch("fast_mix", config, (mix,))? };
        Ok(mixed)
    }
}
