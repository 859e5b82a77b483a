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
            let windows = upper.chunks_exact(2).zip(lower.chunks_exact(2)).enumerate();
            indices.extend(windows.map(|(i, (upper, lower))| {
                let up = larger((0, upper[0]), (1, upper[1]));
                let low = larger((width, lower[0]), (width + 1, lower[1]));
                (top * width + 2 * i + larger(up, low).0) as u32
            }));
        }
        Ok(indices)
    }
}

/// The larger of two numbered elements: the first of equals, a NaN before all.
fn larger<E: CpuElement>(a: (usize, E), b: (usize, E)) -> (usize, E) {
    // no short cuts: which one is larger cannot be foreseen, and a wrong guess costs more than a comparison
    let b_wins = (b.1 > a.1) | ((b.1 != b.1) & (a.1 == a.1));
    (if b_wins { b.0 } else { a.0 }, if b_wins { b.1 } else { a.1 })
}
