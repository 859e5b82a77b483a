//! Sums and repetition on a CUDA device. A sum is made in stages, each over chunks of a fixed number of
//! neighbours, so that it has work for the whole device and its order depends on the shape alone.

use super::ReduceKernels;
use crate::cuda::{Cuda, CudaBuffer, Strided, grid, groups};
use crate::{Result, Shape, Storage};

pub(crate) const KERNELS: &[&str] = &["sum_rows", "sum_columns"];

/// Most contiguous elements that one group of threads adds up.
const ROW_CHUNK: usize = 4096;

/// Most rows of which one block adds up a column.
const COLUMN_CHUNK: usize = 256;

/// Threads of a block that adds up columns.
const COLUMN_THREADS: usize = 256;

impl ReduceKernels for Cuda {
    fn sum_to(&self, x: &CudaBuffer, from: &Shape, to: &Shape) -> Result<CudaBuffer> {
        if from.is_empty() {
            return self.full(to.len(), 0.0);
        }
        let repeated = from.repeated_axes(to).unwrap_or_default();
        // neighbouring axes that are summed are summed as one, from the last on, so that runs come first
        let (mut sum, mut inner, mut outer) = (x.clone(), 1, from.len());
        let mut axes = from.iter().zip(repeated).rev().filter(|&(&n, _)| n != 1).peekable();
        while let Some((&n, summed)) = axes.next() {
            let mut n = n;
            while let Some((&more, _)) = axes.next_if(|&(_, next)| next == summed) {
                n *= more;
            }
            outer /= n;
            if summed {
                sum = self.sum_middle(sum, outer, n, inner)?;
            } else {
                inner *= n;
            }
        }
        Ok(sum)
    }

    fn broadcast_to(&self, x: &CudaBuffer, from: &Shape, to: &Shape) -> Result<CudaBuffer> {
        self.copy_strided(x, Strided::broadcast(to, [from]), to.len())
    }
}

impl Cuda {
    /// Sums `x`, seen as `[outer, n, inner]`, none of them 0, over its middle axis.
    pub(crate) fn sum_middle(
        &self,
        x: CudaBuffer,
        outer: usize,
        mut n: usize,
        inner: usize,
    ) -> Result<CudaBuffer> {
        let mut sum = x;
        while n > 1 {
            (sum, n) = match inner {
                1 => self.sum_rows(&sum, outer, n)?,
                _ => self.sum_columns(&sum, outer, n, inner)?,
            };
        }
        Ok(sum)
    }

    /// The sums of chunks of rows, and how many there are of a row.
    fn sum_rows(&self, x: &CudaBuffer, outer: usize, n: usize) -> Result<(CudaBuffer, usize)> {
        let chunks = n.div_ceil(ROW_CHUNK);
        let config = groups(outer * chunks, n.min(ROW_CHUNK));
        let sums = self.build(outer * chunks, |out| {
            let arguments = (out, x.slice(), outer as u32, n as u32, ROW_CHUNK as u32, chunks as u32);
            // SAFETY: sum_rows(out, x, outer, n, chunk, chunks) reads `outer` rows of `n` elements and writes
            // `outer * chunks` elements
            unsafe { self.launch("sum_rows", config, arguments) }
        })?;
        Ok((sums, chunks))
    }

    /// The sums of chunks of columns, and how many there are of a column.
    fn sum_columns(
        &self,
        x: &CudaBuffer,
        outer: usize,
        n: usize,
        inner: usize,
    ) -> Result<(CudaBuffer, usize)> {
        let chunks = n.div_ceil(COLUMN_CHUNK);
        let len = outer * chunks * inner;
        // eight elements or more a thread, and as many threads side by side as there are neighbours to read
        let down = n.min(COLUMN_CHUNK).div_ceil(8).next_power_of_two();
        let down = down.min(COLUMN_THREADS / inner.next_power_of_two().min(32));
        let across = len.next_power_of_two().min(COLUMN_THREADS / down);
        let sums = self.build(len, |out| {
            let (chunk, chunks) = (COLUMN_CHUNK as u32, chunks as u32);
            let arguments = (out, x.slice(), n as u32, inner as u32, chunk, chunks, len as u32);
            // SAFETY: sum_columns(out, x, n, inner, chunk, chunks, len) writes `len` elements, as many as `out`
            // has, and reads `outer` matrices of `n` rows and `inner` columns; its blocks have no more than
            // the 256 threads that its shared memory is for
            unsafe { self.launch("sum_columns", grid(len.div_ceil(across), across, down), arguments) }
        })?;
        Ok((sums, chunks))
    }
}
