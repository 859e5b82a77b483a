//! Picking elements on the CPU.

use super::IndexingKernels;
use crate::Result;
use crate::cpu::{Cpu, CpuBuffer, CpuElement};

impl<E: CpuElement> IndexingKernels for Cpu<E> {
    fn take(&self, x: &CpuBuffer<E>, indices: &[u32], run: usize) -> Result<CpuBuffer<E>> {
        let x = x.as_slice();
        Ok(CpuBuffer::build(indices.len() * run, |out| {
            if run == 1 {
                for (out, &i) in out.iter_mut().zip(indices) {
                    *out = x[i as usize];
                }
                return;
            }
            for (out, &i) in out.chunks_exact_mut(run.max(1)).zip(indices) {
                out.copy_from_slice(&x[i as usize * run..][..run]);
            }
        }))
    }

    fn put(&self, x: &CpuBuffer<E>, indices: &[u32], run: usize, len: usize) -> Result<CpuBuffer<E>> {
        Ok(CpuBuffer::build(len, |out| {
            out.fill(E::zero());
            for (x, &i) in x.as_slice().chunks_exact(run.max(1)).zip(indices) {
                for (out, &x) in out[i as usize * run..].iter_mut().zip(x) {
                    *out += x;
                }
            }
        }))
    }
}
