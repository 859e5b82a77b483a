//! Norms of changes of rank one on a CUDA device.

use cudarc::driver::DeviceRepr;

use super::RankOneKernels;
use crate::cuda::{Cuda, CudaBuffer, elements};
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

impl RankOneKernels for Cuda {
    fn rank_one_norms(&self, pairs: &[(&CudaBuffer, &CudaBuffer)], batch: usize) -> Result<CudaBuffer> {
        if pairs.is_empty() || batch == 0 {
            return self.full(batch, 0.0);
        }
        self.build(batch, |sums| {
            for (i, some) in pairs.chunks(MOST).enumerate() {
                let mut given = RankOnePairs::default();
                for (n, (p, q)) in some.iter().enumerate() {
                    (given.p[n], given.q[n]) = (p.address(), q.address());
                    (given.out[n], given.inp[n]) = ((p.len() / batch) as u32, (q.len() / batch) as u32);
                }
                let arguments = (&mut *sums, given, some.len() as u32, batch as u32, u32::from(i > 0));
                // SAFETY: rank_one_norms(sums, pairs, count, batch, more) reads `batch` rows of each pair's p and q, as
                // long as it is told, and reads and writes `batch` sums
                unsafe { self.launch("rank_one_norms", elements(32 * batch), arguments)? };
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
        let batch = grad.len();
        let (out, inp) = (p.len() / batch.max(1), q.len() / batch.max(1));
        let mut dq = self.build(q.len(), |_| Ok(()))?;
        let dp = self.build(p.len(), |dp| {
            let sizes = (out as u32, inp as u32, batch as u32);
            let arguments =
                (dp, dq.make_mut()?, p.slice(), q.slice(), grad.slice(), sizes.0, sizes.1, sizes.2);
            // SAFETY: rank_one_norms_back(dp, dq, p, q, grad, out, inp, batch) reads and writes `batch` rows of `out`
            // elements of p and dp and of `inp` of q and dq, as many as they have, and reads `batch` of grad
            unsafe { self.launch("rank_one_norms_back", elements(32 * batch), arguments) }
        })?;
        Ok([dp, dq])
    }
}
