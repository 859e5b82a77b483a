//! Pooling on the CPU.

use super::PoolingKernels;
use crate::Result;
use crate::cpu::{Cpu, CpuBuffer, CpuElement};

impl<E: CpuElement> PoolingKernels for Cpu<E> {
    fn largest_of_windows(
        &self,
        x: &CpuBuffer<E>,
        planes: usize,
        height: usize,
        width: usize,
    ) -> Result<Vec<u32>> {
        let x = x.as_slice();
        let mut indices = Vec::with_capacity(planes * (height / 2) * (width / 2));
        for top in (0..planes).flat_map(|plane| (0..height / 2).map(move |row| plane * height + 2 * row)) {
            let (upper, lower) = x[top * width..(top + 2) * width].split_at(width);
            let windows = upper.as_chunks::<2>().0.iter().zip(lower.as_chunks::<2>().0).enumerate();
            indices.extend(windows.map(|(i, (upper, lower))| {
                // picked by index: which one is larger cannot be foreseen, so a branch would often go wrong
                let (up, low) = (is_larger(upper[1], upper[0]), is_larger(lower[1], lower[0]));
                let (up, low) = (usize::from(up), usize::from(low));
                let row = usize::from(is_larger(lower[low], upper[up]));
                ((top + row) * width + 2 * i + [up, low][row]) as u32
            }));
        }
        Ok(indices)
    }
}

/// Whether `b` is larger than `a`, a NaN being larger than anything.
fn is_larger<E: CpuElement>(b: E, a: E) -> bool {
    (b > a) | b.is_nan()
}
