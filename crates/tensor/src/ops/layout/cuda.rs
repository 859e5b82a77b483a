//! Moving elements on a CUDA device.

use super::LayoutKernels;
use crate::cuda::{Cuda, CudaBuffer, Parts, Slice, Strided, elements, over};
use crate::{Result, Shape};

pub(crate) const KERNELS: &[&str] = &["copy_strided", "copy_runs", "join_runs", "pad", "swap_runs"];

/// Where runs lie in a buffer: how far apart, and where in that the first begins.
#[derive(Clone, Copy)]
struct Runs {
    stride: usize,
    start: usize,
}

impl LayoutKernels for Cuda {
    fn permute(&self, x: &CudaBuffer, shape: &Shape, order: &[usize]) -> Result<CudaBuffer> {
        let (mut out, mut strides) = (*shape, [0; Shape::MAX_RANK]);
        for (to, &from) in order.iter().enumerate() {
            out = out.with_axis(to, shape[from]);
            strides[to] = shape.stride(from);
        }
        self.copy_strided(x, Strided::new(&out, [strides]), out.len())
    }

    fn slice(
        &self,
        x: &CudaBuffer,
        outer: usize,
        stride: usize,
        start: usize,
        len: usize,
    ) -> Result<CudaBuffer> {
        self.build(outer * len, |out| {
            self.copy_runs(out, Runs { stride: len, start: 0 }, x, Runs { stride, start }, outer, len)
        })
    }

    fn pad(
        &self,
        x: &CudaBuffer,
        outer: usize,
        stride: usize,
        start: usize,
        len: usize,
    ) -> Result<CudaBuffer> {
        self.pad_onto(x, None, [outer, stride, start, len])
    }

    fn swap(
        &self,
        x: &CudaBuffer,
        outer: usize,
        stride: usize,
        start: usize,
        [first, second]: [usize; 2],
    ) -> Result<CudaBuffer> {
        let total = outer * stride;
        self.build(total, |out| {
            let sizes = (stride as u32, start as u32, first as u32, second as u32, total as u32);
            let arguments = (out, x.slice(), sizes.0, sizes.1, sizes.2, sizes.3, sizes.4);
            // SAFETY: swap_runs(out, x, stride, start, first, second, total) reads and writes `total` elements, as many as both
            // have, the parts lying inside of a run
            unsafe { self.launch("swap_runs", elements(total), arguments) }
        })
    }

    fn concat(&self, parts: &[(&CudaBuffer, usize)], outer: usize) -> Result<CudaBuffer> {
        let stride: usize = parts.iter().map(|(_, len)| len).sum();
        self.build(outer * stride, |out| {
            let mut start = 0;
            for alike in parts.chunk_by(|a, b| a.1 == b.1) {
                let len = alike[0].1;
                for some in alike.chunks(Parts::MOST) {
                    let buffers: Vec<&CudaBuffer> = some.iter().map(|&(part, _)| part).collect();
                    let sizes = (stride as u32, start as u32, len as u32, (outer * len) as u32);
                    let arguments = (&mut *out, Parts::of(&buffers), sizes.0, sizes.1, sizes.2, sizes.3);
                    // SAFETY: join_runs(out, parts, stride, start, len, total) reads the `total` elements of each part, and
                    // writes runs of `len` of them from `start` on, the parts' side by side, in every `stride` of `out`
                    unsafe { self.launch("join_runs", over(outer * len, some.len()), arguments)? };
                    start += len * some.len();
                }
            }
            Ok(())
        })
    }
}

impl Cuda {
    /// `outer` runs of `stride` elements of what was before, or zeros, with `len` of x added from `start` on.
    pub(crate) fn pad_onto(
        &self,
        x: &CudaBuffer,
        before: Option<&CudaBuffer>,
        [outer, stride, start, len]: [usize; 4],
    ) -> Result<CudaBuffer> {
        let (total, before) = (outer * stride, before.map_or(0, CudaBuffer::address));
        self.build(total, |out| {
            let arguments = (out, x.slice(), before, stride as u32, start as u32, len as u32, total as u32);
            // SAFETY: pad(out, x, before, stride, start, len, total) writes `total` elements, as many as `out` and what was
            // before have, and reads `len` for each `stride` of them, as many as `x` has
            unsafe { self.launch("pad", elements(total), arguments) }
        })
    }

    /// `len` elements of `x`, read along `walk`, which must stay inside of it.
    pub(crate) fn copy_strided(&self, x: &CudaBuffer, walk: Strided<1>, len: usize) -> Result<CudaBuffer> {
        self.build(len, |out| {
            // SAFETY: copy_strided(out, x, walk, len) writes `len` elements, as many as `out` has, and reads
            // where the walk leads, for which the caller vouches
            unsafe { self.launch("copy_strided", elements(len), (out, x.slice(), walk, len as u32)) }
        })
    }

    /// Copies `count` runs of `len` elements from where they lie in `x` to where they shall lie in `out`.
    fn copy_runs(
        &self,
        out: &mut Slice,
        to: Runs,
        x: &CudaBuffer,
        from: Runs,
        count: usize,
        len: usize,
    ) -> Result<()> {
        let arguments = (
            out,
            to.stride as u32,
            to.start as u32,
            x.slice(),
            from.stride as u32,
            from.start as u32,
            len as u32,
            (count * len) as u32,
        );
        // SAFETY: copy_runs(out, its stride and start, x, its stride and start, len, total) moves `total / len`
        // runs of `len` elements, all of which lie inside of both
        unsafe { self.launch("copy_runs", elements(count * len), arguments) }
    }
}
