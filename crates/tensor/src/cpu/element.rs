//! What the CPU's kernels ask of an element type beyond [`Element`].

use std::cell::RefCell;

use super::buffer::{Pool, visit};
use crate::Element;

/// `1/sqrt(2π)`
const NORMAL_SCALE: f64 = 0.398_942_280_401_432_7;

/// An element type that the CPU backend computes with: `f32` and `f64`.
pub trait CpuElement: Element {
    /// Standard normal distribution function, `(1 + erf(x/√2)) / 2`.
    fn normal_cdf(self) -> Self;

    /// Standard normal density, `exp(−x²/2)/√(2π)`.
    fn normal_density(self) -> Self {
        Self::of(NORMAL_SCALE) * (Self::of(-0.5) * self * self).exp()
    }

    /// `c ← a b + beta c`, matrices by pointer and (row, column) strides.
    ///
    /// # Safety
    /// Every element that the sizes `m`, `k`, `n` and the strides reach must be in bounds, and those of
    /// `c` must not overlap with `a` or `b`.
    unsafe fn gemm(
        sizes: (usize, usize, usize),
        a: (*const Self, isize, isize),
        b: (*const Self, isize, isize),
        beta: Self,
        c: (*mut Self, isize, isize),
    );

    /// Runs `f` on this thread's pool of free buffers; `None` when the thread is ending.
    fn with_pool<R>(f: impl FnOnce(&RefCell<Pool<Self>>) -> R) -> Option<R>;
}

macro_rules! cpu_element {
    ($type:ty, $erfc:path, $gemm:path) => {
        impl CpuElement for $type {
            fn normal_cdf(self) -> Self {
                // erfc keeps its relative precision in the left tail, where 1 + erf would cancel
                0.5 * $erfc(-self * std::f64::consts::FRAC_1_SQRT_2 as $type)
            }

            unsafe fn gemm(
                (m, k, n): (usize, usize, usize),
                (a, ra, ca): (*const Self, isize, isize),
                (b, rb, cb): (*const Self, isize, isize),
                beta: Self,
                (c, rc, cc): (*mut Self, isize, isize),
            ) {
                // SAFETY: the caller vouches for the bounds
                unsafe { $gemm(m, k, n, 1.0, a, ra, ca, b, rb, cb, beta, c, rc, cc) }
            }

            fn with_pool<R>(f: impl FnOnce(&RefCell<Pool<Self>>) -> R) -> Option<R> {
                thread_local!(static POOL: RefCell<Pool<$type>> = RefCell::new(Pool::new()));
                visit(&POOL, f)
            }
        }
    };
}

cpu_element!(f32, libm::erfcf, matrixmultiply::sgemm);
cpu_element!(f64, libm::erfc, matrixmultiply::dgemm);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_normal_distribution_keeps_its_precision_in_the_tails() {
        // Abramowitz and Stegun, table 26.1 and 26.2
        let check = |x: f64, cdf: f64| {
            assert!((x.normal_cdf() / cdf - 1.0).abs() < 1e-9, "{x}");
            assert!((f64::from((x as f32).normal_cdf()) / cdf - 1.0).abs() < 1e-5, "{x} in f32");
        };
        check(0.0, 0.5);
        check(1.0, 0.841_344_746_068_543);
        check(-2.0, 0.022_750_131_948_179_2);
        check(-5.0, 2.866_515_718_791_94e-7);
    }
}
