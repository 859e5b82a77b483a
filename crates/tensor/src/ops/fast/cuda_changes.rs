//! Fast weights by their changes on a CUDA device: products with α on the matrix units.

use cudarc::driver::DeviceRepr;

use super::{ByChanges, Change, FastSizes, Plastic, Term};
use crate::cuda::{Cuda, CudaBuffer, elements, grid};
use crate::ops::zip::ZipKernels;
use crate::{Result, Storage};

pub(crate) const KERNELS: &[&str] =
    &["fast_mix", "fast_mix_transposed", "fast_mix_squared", "fast_pairs", "fast_next_norm"];

/// As in `changes.cu`.
const CHANGES: usize = 40;
const TERMS: usize = 80;
const PAIRS: usize = CHANGES * TERMS / 2 + TERMS;
/// Rows and columns of a block's share of a product.
const MIX: usize = 128;
/// Groups that episodes are summed in: two blocks a multiprocessor of a large card, for two squares of α.
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
    alpha: u64,
    beta: u64,
    out: u64,
    batch: u32,
    width: u32,
    depth: u32,
    count: u32,
    rates: u32,
    kind: u32,
    each: u32,
    unused: u32,
}

// SAFETY: it is laid out as in C, has no padding and holds numbers and addresses only
unsafe impl DeviceRepr for FastMix {}

/// As in `changes.cu`.
#[derive(Clone, Copy)]
#[repr(C)]
struct FastPairs {
    left: [u64; TERMS],
    right: [u64; TERMS],
    p: [u64; CHANGES],
    q: [u64; CHANGES],
    eta: [u64; CHANGES],
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
unsafe impl DeviceRepr for FastPairs {}

/// What entries of a mixture are.
#[derive(Clone, Copy)]
enum Kind {
    Changes = 0,
    Norm = 1,
    Reads = 2,
}

impl FastMix {
    fn new(kind: Kind, x: &CudaBuffer, batch: usize, [width, depth]: [usize; 2]) -> Self {
        Self {
            outer: [0; TERMS],
            inner: [0; TERMS],
            eta: [0; CHANGES],
            decays: [0; TERMS],
            biases: [0; TERMS],
            x: x.address(),
            alpha: 0,
            beta: 0,
            out: 0,
            batch: batch as u32,
            width: width as u32,
            depth: depth as u32,
            count: 0,
            rates: 0,
            kind: kind as u32,
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

    fn read(
        &self,
        plastic: &Plastic<'_, CudaBuffer>,
        changes: &[Change<'_, CudaBuffer>],
        x: &CudaBuffer,
        bias: bool,
        FastSizes { batch, out, inp }: FastSizes,
    ) -> Result<CudaBuffer> {
        let mut mix = FastMix::new(Kind::Changes, x, batch, [out, inp]);
        for (i, change) in changes.iter().enumerate() {
            (mix.eta[i], mix.rates) = (change.eta.address(), mix.rates + 1);
            mix.push(change.p, change.q);
        }
        (mix.alpha, mix.beta) = (plastic.alpha.address(), if bias { plastic.beta.address() } else { 0 });
        self.mix("fast_mix", mix)
    }

    fn read_transposed(
        &self,
        plastic: &Plastic<'_, CudaBuffer>,
        changes: &[Change<'_, CudaBuffer>],
        g: &CudaBuffer,
        FastSizes { batch, out, inp }: FastSizes,
    ) -> Result<CudaBuffer> {
        let mut mix = FastMix::new(Kind::Changes, g, batch, [inp, out]);
        for (i, change) in changes.iter().enumerate() {
            (mix.eta[i], mix.rates) = (change.eta.address(), mix.rates + 1);
            mix.push(change.q, change.p);
        }
        mix.alpha = plastic.alpha.address();
        self.mix("fast_mix_transposed", mix)
    }

    fn norm(
        &self,
        plastic: &Plastic<'_, CudaBuffer>,
        changes: &[Change<'_, CudaBuffer>],
        before: Option<&CudaBuffer>,
        FastSizes { batch, out, inp }: FastSizes,
    ) -> Result<CudaBuffer> {
        let Some(last) = changes.last() else { return self.full(batch, 0.0) };
        let mut mix = FastMix::new(Kind::Norm, last.q, batch, [out, inp]);
        for (i, change) in changes.iter().enumerate() {
            (mix.eta[i], mix.rates) = (change.eta.address(), mix.rates + 1);
            mix.push(change.p, change.q);
        }
        mix.alpha = plastic.alpha.address();
        let mixed = self.mix("fast_mix_squared", mix)?;
        let before = before.map_or(0, CudaBuffer::address);
        self.build(batch, |norm| {
            let (eta, p) = (last.eta.slice(), last.p.slice());
            let arguments = (norm, before, eta, p, mixed.slice(), batch as u32, out as u32);
            // SAFETY: fast_next_norm(norm, before, eta, p, mixed, batch, out) reads `batch` numbers of eta and, if there are
            // any, of those before, and as many rows of `out` elements of p and mixed, and writes `batch` numbers
            unsafe { self.launch("fast_next_norm", elements(32 * batch), arguments) }
        })
    }

    fn credit(
        &self,
        inner: &mut CudaBuffer,
        plastic: &Plastic<'_, CudaBuffer>,
        changes: &[Change<'_, CudaBuffer>],
        terms: &[(usize, Term<'_, CudaBuffer>)],
        sizes: FastSizes,
    ) -> Result<[CudaBuffer; 3]> {
        let FastSizes { batch, out, inp } = sizes;
        let Some((change, later)) = changes.split_first() else {
            return Err(self.error("an update without a change won't do".to_owned()));
        };
        let mixed = |kernel, x, widths: [usize; 2], transposed: bool| {
            let mut sum: Option<CudaBuffer> = None;
            for some in terms.chunks(TERMS) {
                let mut mix = FastMix::new(Kind::Reads, x, batch, widths);
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
                (mix.alpha, mix.beta) =
                    (plastic.alpha.address(), if transposed { 0 } else { plastic.beta.address() });
                let part = self.mix(kernel, mix)?;
                match &mut sum {
                    Some(sum) => self.add_assign(sum, &part)?,
                    None => sum = Some(part),
                }
            }
            sum.map_or_else(|| self.full(batch * widths[0], 0.0), Ok)
        };
        let along = mixed("fast_mix", change.q, [out, inp], false)?;
        let across = mixed("fast_mix_transposed", change.p, [inp, out], true)?;
        self.end_credit(inner, None, along, &across, 1, change, sizes)
    }

    fn credit_by_plastic(
        &self,
        changes: &[Change<'_, CudaBuffer>],
        terms: &[(usize, Term<'_, CudaBuffer>)],
        FastSizes { batch, out, inp }: FastSizes,
    ) -> Result<(CudaBuffer, CudaBuffer)> {
        let pairs: usize = terms.iter().map(|&(after, _)| after.min(changes.len())).sum();
        let few = terms.len() <= TERMS && pairs <= PAIRS;
        let mut sum: Option<(CudaBuffer, CudaBuffer)> = None;
        for some in terms.chunks(if few { TERMS } else { TERMS / 2 }) {
            let mut given = FastPairs {
                left: [0; TERMS],
                right: [0; TERMS],
                p: [0; CHANGES],
                q: [0; CHANGES],
                eta: [0; CHANGES],
                versions: [0; TERMS],
                biases: [0; TERMS],
                by_alpha: 0,
                by_beta: 0,
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
            for (i, change) in changes.iter().enumerate() {
                (given.p[i], given.q[i], given.eta[i]) =
                    (change.p.address(), change.q.address(), change.eta.address());
            }
            let groups = batch.clamp(1, GROUPS);
            let by_alpha = self.build(groups * out * inp, |_| Ok(()))?;
            let by_beta = self.build(groups * out, |_| Ok(()))?;
            (given.by_alpha, given.by_beta) = (by_alpha.address(), by_beta.address());
            let mut config = grid(out.div_ceil(MIX) * inp.div_ceil(MIX), 256, 1);
            config.grid_dim.1 = groups as u32;
            // SAFETY: fast_pairs(pairs) reads rows of `out` and `inp` elements, `batch` of them, of as many changes and reads as it
            // is told, and writes all of what was made for its groups; its tables have room for the pairs, as was seen to above
            unsafe { self.launch("fast_pairs", config, (given,))? };
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
    fn mix(&self, kernel: &'static str, mut mix: FastMix) -> Result<CudaBuffer> {
        let (batch, width) = (mix.batch as usize, mix.width as usize);
        let each = MIX / mix.count.max(mix.rates) as usize;
        let mixed = self.build(batch * width, |_| Ok(()))?;
        (mix.out, mix.each) = (mixed.address(), each as u32);
        let mut config = grid(batch.div_ceil(each), 256, 1);
        config.grid_dim.1 = width.div_ceil(MIX) as u32;
        // SAFETY: fast_mix*(mix) reads rows of `depth` and of `width` elements, `batch` of them, of as many entries as it is told, and
        // writes `batch` rows of `width`; there are at least one entry and no more than a block has rows for
        unsafe { self.launch(kernel, config, (mix,))? };
        Ok(mixed)
    }
}
