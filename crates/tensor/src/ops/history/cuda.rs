//! Fast weights as a history, on a CUDA device.

use super::{Changes, HistoryKernels};
use crate::cuda::{Cuda, CudaBuffer, grid};
use crate::ops::fast::{Change, FastSizes};
use crate::{Result, Storage};

pub(crate) const KERNELS: &[&str] = &["uniform", "append_change", "read_changes"];

/// Most changes that a read has shared memory for.
const MOST_CHANGES: usize = 12 * 1024;

impl HistoryKernels for Cuda {
    fn uniform(&self, x: &CudaBuffer) -> Result<Option<f32>> {
        if x.len() == 0 {
            return Ok(None);
        }
        let found = self.build(2, |out| {
            // SAFETY: uniform(out, x, len) reads `len` elements, as many as x has, and writes two
            unsafe { self.launch("uniform", grid(1, 1024, 1), (out, x.slice(), x.len() as u32)) }
        })?;
        let found = self.download(&found)?;
        Ok((found[1] != 0.0).then_some(found[0]))
    }

    fn append_change(
        &self,
        changes: &mut Changes<CudaBuffer>,
        change: Change<'_, CudaBuffer>,
        t: usize,
        capacity: usize,
        FastSizes { batch, out, inp }: FastSizes,
    ) -> Result<()> {
        let Changes { p, q, weights } = changes;
        let [t, capacity, out, inp] = [t, capacity, out, inp].map(|size| size as u32);
        let (all_p, all_q, weights) = (p.make_mut()?, q.make_mut()?, weights.make_mut()?);
        let (eta, p, q) = (change.eta.slice(), change.p.slice(), change.q.slice());
        let arguments = (all_p, all_q, weights, eta, p, q, t, capacity, out, inp);
        // SAFETY: append_change(p, q, weights, eta, p, q, t, capacity, out, inp) has a block an episode; it writes change number
        // t, below `capacity`, and what the weights are after it, for which there is one row more
        unsafe { self.launch("append_change", grid(batch, 128, 1), arguments) }
    }

    fn read_changes(
        &self,
        changes: &Changes<CudaBuffer>,
        [alpha, beta]: [f32; 2],
        x: &CudaBuffer,
        y: &mut CudaBuffer,
        t: usize,
        capacity: usize,
        FastSizes { batch, out, inp }: FastSizes,
    ) -> Result<()> {
        if t == 0 {
            return Ok(());
        }
        if t > MOST_CHANGES {
            return Err(self.error(format!("a history of {t} changes won't do: at most {MOST_CHANGES} will")));
        }
        let mut config = grid(batch, 128, 1);
        // in whole runs of four, as they are read
        config.shared_mem_bytes = 4 * t.next_multiple_of(4) as u32;
        let [t, capacity, out, inp] = [t, capacity, out, inp].map(|size| size as u32);
        let (p, q, weights) = (changes.p.slice(), changes.q.slice(), changes.weights.slice());
        let arguments = (y.make_mut()?, x.slice(), p, q, weights, alpha, beta, t, capacity, out, inp);
        // SAFETY: read_changes(y, x, p, q, weights, alpha, beta, t, capacity, out, inp) has a block an episode and room for t
        // numbers in each; it reads the first t changes and row t of the weights
        unsafe { self.launch("read_changes", config, arguments) }
    }
}
