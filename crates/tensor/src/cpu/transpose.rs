//! A matrix turned over, a tile at a time.

use super::CpuElement;
use super::simd::kernel;

/// Rows and columns of a tile: a cache line of f32.
const TILE: usize = 16;

/// `to = fromᵀ`, from `[rows, cols]`.
pub(crate) fn transpose<E: CpuElement>(from: &[E], to: &mut [E], rows: usize, cols: usize) {
    transpose_part((from, cols), (to, rows), rows, cols);
}

kernel! {
    /// The same of matrices whose rows lie apart: each with how many elements lie from a row to the next.
    pub(crate) fn transpose_part<E>(from: (&[E], usize), to: (&mut [E], usize), rows: usize, cols: usize) {
        let ((from, from_row), (to, to_row)) = (from, to);
        let (whole_rows, whole_cols) = (rows / TILE * TILE, cols / TILE * TILE);
        for r in (0..whole_rows).step_by(TILE) {
            for c in (0..whole_cols).step_by(TILE) {
                let mut tile = [[E::zero(); TILE]; TILE];
                for (i, tile) in tile.iter_mut().enumerate() {
                    tile.copy_from_slice(&from[(r + i) * from_row + c..][..TILE]);
                }
                for j in 0..TILE {
                    for (to, row) in to[(c + j) * to_row + r..][..TILE].iter_mut().zip(&tile) {
                        *to = row[j];
                    }
                }
            }
        }
        for r in 0..rows {
            for c in if r < whole_rows { whole_cols } else { 0 }..cols {
                to[c * to_row + r] = from[r * from_row + c];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn element_by_element() {
        for (rows, cols) in [(0, 5), (1, 1), (3, 50), (16, 16), (17, 33), (48, 31), (64, 128)] {
            let from: Vec<f32> = (0..rows * cols).map(|i| i as f32).collect();
            let mut to = vec![-1.0; rows * cols];
            transpose(&from, &mut to, rows, cols);
            for (i, &x) in from.iter().enumerate() {
                assert_eq!(to[i % cols * rows + i / cols], x, "{rows} by {cols}");
            }
        }
    }
}
