//! Steps of sequences on the CPU.

use super::StepKernels;
use crate::Result;
use crate::cpu::{Cpu, CpuBuffer, CpuElement};
use crate::ops::layout::LayoutKernels;

impl<E: CpuElement> StepKernels for Cpu<E> {
    fn place_steps(
        &self,
        parts: &[(usize, &CpuBuffer<E>)],
        batch: usize,
        steps: usize,
        width: usize,
    ) -> Result<CpuBuffer<E>> {
        Ok(CpuBuffer::build(batch * steps * width, |out| {
            out.fill(E::zero());
            for &(t, part) in parts {
                for (episode, row) in part.as_slice().chunks_exact(width.max(1)).enumerate() {
                    for (out, &x) in out[(episode * steps + t) * width..].iter_mut().zip(row) {
                        *out += x;
                    }
                }
            }
        }))
    }

    fn split_steps(
        &self,
        x: &CpuBuffer<E>,
        batch: usize,
        steps: usize,
        width: usize,
    ) -> Result<Vec<CpuBuffer<E>>> {
        (0..steps).map(|t| self.slice(x, batch, steps * width, t * width, width)).collect()
    }
}
