//! Norms of changes of rank one on a CUDA device.

use cudarc::driver::DeviceRepr;

use super::RankOneKernels;
use crate::cuda::{Cuda, CudaBuffer, grid, over};
use crate::{Result, Storage};

pub(crate) const KERNELS: &[&str] = &["rank_one_norms", "rank_one_norms_back"];

/// Most pairs of one launch.
const MOST: usize = 16;

/// As in `kernels.cu`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct RankOnePairs {
    p: [u64; MOST],
    q: [u64; MOST],
    out: [u32; MOST],
    inp: [u32; MOST],
}

// SAFETY: it is laid out as in C, has no padding and holds numbers and addresses only
unsafe impl DeviceRepr for RankOnePairs {}

impl RankOnePairs {
    /// Up to as many pairs as there is room for, of `batch` rows.
    fn of(pairs: &[(&CudaBuffer, &CudaBuffer)], batch: usize) -> Self {
        let mut given = Self::default();
        let width = |buffer: &CudaBuffer| (buffer.len() / batch.max(1)) as u32;
        for (n, (p, q)) in pairs.iter().enumerate() {
            (given.p[n], given.q[n]) = (p.address(), q.address());
            (given.out[n], given.inp[n]) = (width(p), width(q));
        }
        given
    }
}

/// As in `kernels.cu`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct RankOneBack {
    dp: [u64; MOST],
    dq: [u64; MOST],
    before_p: [u64; MOST],
    before_q: [u64; MOST],
}

// SAFETY: likewise
unsafe impl DeviceRepr for RankOneBack {}

impl RankOneKernels for Cuda {
    fn rank_one_norms(&self, pairs: &[(&CudaBuffer, &CudaBuffer)], batch: usize) -> Result<CudaBuffer> {
        if pairs.is_empty() || batch == 0 {
            return self.full(batch, 0.0);
        }
        self.build(batch, |sums| {
            for (i, some) in pairs.chunks(MOST).enumerate() {
                let given = RankOnePairs::of(some, batch);
                let arguments = (&mut *sums, given, some.len() as u32, u32::from(i > 0));
                // SAFETY: rank_one_norms(sums, pairs, count, more) has a block for each of the `batch` rows of each pair's p and q,
                // as long as it is told, and of the sums, and a warp for each pair, of which it has no more than there is room for
                unsafe { self.launch("rank_one_norms", grid(batch, 32, some.len()), arguments)? };
            }
            Ok(())
        })
    }

    fn rank_one_norms_back(
        &self,
        p: &CudaBuffer,
        q: &CudaBuffer,
        grad: &CudaBuffer,
    ) -> Result<[CudaBuffer; 2]> {
        let found = self.rank_one_norms_back_onto(&[(p, q)], grad, &[[None, None]])?;
        found.into_iter().next().ok_or_else(|| self.error("a pair without derivatives won't do".to_owned()))
    }
}

impl Cuda {
    /// The derivatives by all pairs, each added to what was before.
    pub(crate) fn rank_one_norms_back_onto(
        &self,
        pairs: &[(&CudaBuffer, &CudaBuffer)],
        grad: &CudaBuffer,
        before: &[[Option<CudaBuffer>; 2]],
    ) -> Result<Vec<[CudaBuffer; 2]>> {
        let batch = grad.len();
        let mut found = Vec::with_capacity(pairs.len());
        for (some, before) in pairs.chunks(MOST).zip(before.chunks(MOST)) {
            let (given, mut back) = (RankOnePairs::of(some, batch), RankOneBack::default());
            let address = |buffer: &Option<CudaBuffer>| buffer.as_ref().map_or(0, CudaBuffer::address);
            for (n, ((p, q), [before_p, before_q])) in some.iter().zip(before).enumerate() {
                let [dp, dq] = [self.build(p.len(), |_| Ok(()))?, self.build(q.len(), |_| Ok(()))?];
                (back.dp[n], back.dq[n]) = (dp.address(), dq.address());
                (back.before_p[n], back.before_q[n]) = (address(before_p), address(before_q));
                found.push([dp, dq]);
            }
            // SAFETY: rank_one_norms_back(back, pairs, grad, batch) reads and writes `batch` rows, as long as it is told, of each
            // pair's p, dp and what was before, and of its q, dq and what was before, as many as they have, and reads `batch`
            // of grad; blockIdx.y stays below the number of pairs
            unsafe {
                let arguments = (back, given, grad.slice(), batch as u32);
                self.launch("rank_one_norms_back", over(32 * batch, some.len()), arguments)?;
            }
        }
        Ok(found)
    }
}
