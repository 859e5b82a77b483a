//! Attention over a cache on a CUDA device.

use std::ops::Range;

use cudarc::driver::DeviceRepr;

use super::{AttendedStep, AttentionKernels, CacheSizes, KeysValues};
use crate::Result;
use crate::cuda::{Cuda, CudaBuffer, elements};

pub(crate) const KERNELS: &[&str] = &[
    "attend",
    "attend_back",
    "attend_slope",
    "attend_slope_back",
    "write_cache",
    "read_cache",
    "add_to_cache",
    "resize_cache",
];

type Pair = KeysValues<CudaBuffer>;

/// As in `kernels.cu`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Heads {
    count: u32,
    heads: u32,
    n: u32,
    capacity: u32,
    first: u32,
    len: u32,
    scale: f32,
}

// SAFETY: it is laid out as in C, has no padding and holds numbers only
unsafe impl DeviceRepr for Heads {}

/// As in `kernels.cu`.
#[derive(Clone, Copy)]
#[repr(C)]
struct SlopeBack {
    d_qkv: u64,
    d_grad: u64,
    d_keys: u64,
    d_values: u64,
    scratch: u64,
    qkv: u64,
    keys: u64,
    values: u64,
    probabilities: u64,
    mask: u64,
    grad: u64,
    h: u64,
}

// SAFETY: it is laid out as in C, has no padding and holds addresses only
unsafe impl DeviceRepr for SlopeBack {}

impl Heads {
    fn of(s: CacheSizes, seen: &Range<usize>) -> Self {
        let scale = (1.0 / (s.per_head as f64).sqrt()) as f32;
        let [count, heads, n] = [s.batch * s.heads, s.heads, s.per_head].map(|size| size as u32);
        Self {
            count,
            heads,
            n,
            capacity: s.capacity as u32,
            first: seen.start as u32,
            len: seen.len() as u32,
            scale,
        }
    }
}

impl AttentionKernels for Cuda {
    fn resize_cache(&self, pair: &Pair, len: usize, from: CacheSizes, to: CacheSizes) -> Result<Pair> {
        let resized = |cache| self.resized_cache(cache, 0..len, from, to.capacity);
        Ok(KeysValues { keys: resized(&pair.keys)?, values: resized(&pair.values)? })
    }

    fn write_cache(
        &self,
        pair: &mut Pair,
        qkv: &CudaBuffer,
        start: usize,
        steps: usize,
        sizes: CacheSizes,
    ) -> Result<()> {
        let len = sizes.batch * sizes.width() * steps;
        let (keys, values) = (pair.keys.make_mut()?, pair.values.make_mut()?);
        let (from, count) = (start as u32, steps as u32);
        let arguments = (keys, values, qkv.slice(), from, count, len as u32, Heads::of(sizes, &(0..0)));
        // SAFETY: write_cache(keys, values, qkv, start, steps, len, sizes) reads `len` keys and values of qkv, which are what
        // `steps` steps have, and writes them to steps of the cache that it has room for
        unsafe { self.launch("write_cache", elements(len), arguments) }
    }

    fn read_cache(&self, pair: &Pair, start: usize, steps: usize, sizes: CacheSizes) -> Result<CudaBuffer> {
        self.read_cache_onto(pair, None, start, steps, sizes)
    }

    fn copy_cache(&self, cache: &CudaBuffer, seen: Range<usize>, sizes: CacheSizes) -> Result<CudaBuffer> {
        let len = seen.len();
        self.resized_cache(cache, seen, sizes, len)
    }

    fn add_to_cache(
        &self,
        cache: &mut CudaBuffer,
        x: &CudaBuffer,
        seen: Range<usize>,
        sizes: CacheSizes,
    ) -> Result<()> {
        let count = x.len();
        let arguments = (cache.make_mut()?, x.slice(), count as u32, Heads::of(sizes, &seen));
        // SAFETY: add_to_cache(cache, x, len, sizes) reads `len` elements, as many as x has, which are those of the steps
        // `seen`, and adds them to these
        unsafe { self.launch("add_to_cache", elements(count), arguments) }
    }

    fn attend(
        &self,
        qkv: &CudaBuffer,
        pair: &Pair,
        mask: Option<&CudaBuffer>,
        seen: Range<usize>,
        sizes: CacheSizes,
    ) -> Result<(CudaBuffer, CudaBuffer)> {
        let heads = sizes.batch * sizes.heads;
        let mut probabilities = self.build(heads * seen.len(), |_| Ok(()))?;
        let out = self.build(sizes.batch * sizes.width(), |out| {
            let (keys, values) = (pair.keys.slice(), pair.values.slice());
            let (p, mask) = (probabilities.make_mut()?, mask.map_or(0, CudaBuffer::address));
            let arguments = (out, p, qkv.slice(), keys, values, mask, Heads::of(sizes, &seen));
            // SAFETY: attend(out, probabilities, qkv, keys, values, mask, sizes) reads a step's qkv and the steps `seen` of the cache,
            // which it has, and writes `out` and as many probabilities as were made; a mask, if there is one, has as many
            unsafe { self.launch("attend", elements(32 * heads), arguments) }
        })?;
        Ok((out, probabilities))
    }

    fn attend_back(
        &self,
        step: AttendedStep<'_, CudaBuffer>,
        pair: &Pair,
        back: &mut Pair,
        grad: &CudaBuffer,
        seen: Range<usize>,
        sizes: CacheSizes,
    ) -> Result<CudaBuffer> {
        let heads = sizes.batch * sizes.heads;
        let mut scores = self.build(heads * seen.len(), |_| Ok(()))?;
        self.build(3 * sizes.batch * sizes.width(), |d_qkv| {
            let (d_keys, d_values) = (back.keys.make_mut()?, back.values.make_mut()?);
            let (keys, values) = (pair.keys.slice(), pair.values.slice());
            let mask = step.mask.map_or(0, CudaBuffer::address);
            let arguments = (
                d_qkv,
                d_keys,
                d_values,
                scores.make_mut()?,
                step.qkv.slice(),
                keys,
                values,
                step.kept.slice(),
                mask,
                grad.slice(),
                Heads::of(sizes, &seen),
            );
            // SAFETY: attend_back(d_qkv, d_keys, d_values, scores, qkv, keys, values, probabilities, mask, grad, sizes) reads
            // what attend did and gave, writes all of `d_qkv` and of `scores`, and adds to the steps `seen` of the cache's own
            unsafe { self.launch("attend_back", elements(32 * heads), arguments) }
        })
    }
}

impl Cuda {
    /// The derivative of attention by its own step's `qkv`.
    pub(crate) fn attend_slope_of(
        &self,
        step: AttendedStep<'_, CudaBuffer>,
        pair: &Pair,
        grad: &CudaBuffer,
        seen: Range<usize>,
        sizes: CacheSizes,
    ) -> Result<CudaBuffer> {
        let heads = sizes.batch * sizes.heads;
        let mut scores = self.build(heads * seen.len(), |_| Ok(()))?;
        self.build(3 * sizes.batch * sizes.width(), |d_qkv| {
            let (keys, values) = (pair.keys.slice(), pair.values.slice());
            let mask = step.mask.map_or(0, CudaBuffer::address);
            let (qkv, kept, grad) = (step.qkv.slice(), step.kept.slice(), grad.slice());
            let scores = scores.make_mut()?;
            let arguments = (d_qkv, scores, qkv, keys, values, kept, mask, grad, Heads::of(sizes, &seen));
            // SAFETY: attend_slope(d_qkv, scores, qkv, keys, values, probabilities, mask, grad, sizes) reads what attend did and
            // gave, of one step or more, and writes all of `d_qkv` and of `scores`
            unsafe { self.launch("attend_slope", elements(32 * heads), arguments) }
        })
    }

    /// The way back of that: the derivatives by the step's `qkv` and by `grad`; those by keys and values are added to `back`.
    pub(crate) fn attend_slope_back_of(
        &self,
        step: AttendedStep<'_, CudaBuffer>,
        pair: &Pair,
        back: &mut Pair,
        [grad, h]: [&CudaBuffer; 2],
        seen: Range<usize>,
        sizes: CacheSizes,
    ) -> Result<[CudaBuffer; 2]> {
        let heads = sizes.batch * sizes.heads;
        let scratch = self.build(3 * heads * seen.len(), |_| Ok(()))?;
        let d_grad = self.build(grad.len(), |_| Ok(()))?;
        let d_qkv = self.build(3 * sizes.batch * sizes.width(), |_| Ok(()))?;
        let arguments = SlopeBack {
            d_qkv: d_qkv.address(),
            d_grad: d_grad.address(),
            d_keys: back.keys.own()?,
            d_values: back.values.own()?,
            scratch: scratch.address(),
            qkv: step.qkv.address(),
            keys: pair.keys.address(),
            values: pair.values.address(),
            probabilities: step.kept.address(),
            mask: step.mask.map_or(0, CudaBuffer::address),
            grad: grad.address(),
            h: h.address(),
        };
        let arguments = (arguments, Heads::of(sizes, &seen));
        // SAFETY: attend_slope_back(given, sizes) reads what attend_slope did and the derivative by what that gave, writes all of
        // `d_qkv`, of `d_grad` and of `scratch`, which are new, and adds to the steps `seen` of the cache's own
        unsafe { self.launch("attend_slope_back", elements(32 * heads), arguments)? };
        Ok([d_qkv, d_grad])
    }

    /// Steps of a cache as rows of qkv, zero for q, added to what was before.
    pub(crate) fn read_cache_onto(
        &self,
        pair: &Pair,
        before: Option<&CudaBuffer>,
        start: usize,
        steps: usize,
        sizes: CacheSizes,
    ) -> Result<CudaBuffer> {
        let (len, before) = (sizes.batch * sizes.width() * steps, before.map_or(0, CudaBuffer::address));
        self.build(3 * len, |qkv| {
            let (keys, values) = (pair.keys.slice(), pair.values.slice());
            let (from, count) = (start as u32, steps as u32);
            let arguments = (qkv, keys, values, before, from, count, len as u32, Heads::of(sizes, &(0..0)));
            // SAFETY: the opposite of write_cache, read_cache(qkv, keys, values, before, start, steps, len, sizes); it writes q too,
            // and thus all of `qkv`, and reads as many elements of what was before
            unsafe { self.launch("read_cache", elements(len), arguments) }
        })
    }

    /// The steps `seen` of keys or of values, then zeros until `capacity`.
    fn resized_cache(
        &self,
        cache: &CudaBuffer,
        seen: Range<usize>,
        from: CacheSizes,
        capacity: usize,
    ) -> Result<CudaBuffer> {
        let n = from.per_head;
        let total = from.batch * from.heads * capacity * n;
        let sizes = [seen.start * n, seen.len() * n, from.capacity * n, capacity * n];
        let [skip, run, from, to] = sizes.map(|size| size as u32);
        self.build(total, |out| {
            let arguments = (out, cache.slice(), skip, run, from, to, total as u32);
            // SAFETY: resize_cache(out, cache, skip, run, from, to, len) writes `len` elements, as many as `out` has, and reads `run`
            // from `skip` on of each `from`, a head's room, of the cache
            unsafe { self.launch("resize_cache", elements(total), arguments) }
        })
    }
}
