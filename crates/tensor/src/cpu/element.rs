//! What the CPU's kernels ask of an element type beyond [`Element`].

use std::cell::RefCell;
use std::sync::{LazyLock, Mutex};

use super::buffer::{Pool, visit};
use super::simd::fma;
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

    /// `exp(x)`, in a form that loops over many elements can be made of.
    fn exp_in_loop<const FUSED: bool>(self) -> Self;

    /// [`normal_cdf`](Self::normal_cdf) and [`normal_density`](Self::normal_density), likewise.
    fn normal_in_loop<const FUSED: bool>(self) -> (Self, Self);

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

    /// Runs `f` on the pool of free buffers of `len` elements; `None` when the thread is ending.
    fn with_pool<R>(len: usize, f: impl FnOnce(&mut Pool<Self>) -> R) -> Option<R>;
}

macro_rules! cpu_element {
    ($type:ty, $erfc:path, $gemm:path, $exp:path, $normal:path) => {
        impl CpuElement for $type {
            fn normal_cdf(self) -> Self {
                // erfc keeps its relative precision in the left tail, where 1 + erf would cancel
                0.5 * $erfc(-self * std::f64::consts::FRAC_1_SQRT_2 as $type)
            }

            #[inline(always)]
            fn exp_in_loop<const FUSED: bool>(self) -> Self {
                $exp(self)
            }

            #[inline(always)]
            fn normal_in_loop<const FUSED: bool>(self) -> (Self, Self) {
                $normal(self)
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

            fn with_pool<R>(len: usize, f: impl FnOnce(&mut Pool<Self>) -> R) -> Option<R> {
                thread_local!(static POOL: RefCell<Pool<$type>> = RefCell::new(Pool::new()));
                static SHARED: LazyLock<Mutex<Pool<$type>>> = LazyLock::new(|| Mutex::new(Pool::new()));
                visit(len, &POOL, &SHARED, f)
            }
        }
    };
}

cpu_element!(f32, libm::erfcf, matrixmultiply::sgemm, exp_f32::<FUSED>, normal_f32::<FUSED>);
cpu_element!(f64, libm::erfc, matrixmultiply::dgemm, f64::exp, normal_f64);

/// `exp` of an f32 without branches: `2ⁿ` by its bits, times a polynomial on ±ln 2/2. Within 2 ulp; 0 below -87.3,
/// infinity above 88.7, NaN for NaN.
#[inline(always)]
fn exp_f32<const FUSED: bool>(x: f32) -> f32 {
    // ln 2 in two parts, so that x − n ln 2 keeps its low bits
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // adding and subtracting 1.5 · 2²³ rounds to the nearest whole number
    const ROUND: f32 = 12_582_912.0;
    // a NaN stays one
    let clamped = x.clamp(-104.0, 89.0);
    let shifted = fma::<f32, FUSED>(clamped, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = fma::<f32, FUSED>(-n, LN2_LOW, fma::<f32, FUSED>(-n, LN2_HIGH, clamped));
    // Taylor's polynomial: on ±0.347 its next term is below 5e-9
    let mut sum = 1.0 / 5040.0;
    for c in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        sum = fma::<f32, FUSED>(sum, r, c);
    }
    // 2ⁿ as two factors, so that neither leaves the normal numbers
    let n = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    let half = n >> 1;
    let power = |n: i32| f32::from_bits((n.wrapping_add(127) as u32) << 23);
    sum * power(half) * power(n.wrapping_sub(half))
}

/// Distribution function and density of the standard normal, f32, without branches.
///
/// `erfc(z) = t exp(−z² + P(t))` with `t = 1/(1 + z/2)` for z ≥ 0: P is a Chebyshev fit of `ln(erfc(z) exp(z²)/t)` on
/// z in 0 to 14, good to 7e-8.
#[inline(always)]
fn normal_f32<const FUSED: bool>(x: f32) -> (f32, f32) {
    const P: [f32; 10] = [
        -1.265_497_5,
        0.999_686_35,
        0.377_223_4,
        0.081_164_61,
        -0.139_631_48,
        0.191_462_3,
        -1.031_657_5,
        1.413_203_1,
        -0.791_463_1,
        0.165_509_9,
    ];
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / fma::<f32, FUSED>(z, 0.5, 1.0);
    let mut p = P[9];
    for &c in P[..9].iter().rev() {
        p = fma::<f32, FUSED>(p, t, c);
    }
    let bell = exp_f32::<FUSED>(-z * z);
    let tail = 0.5 * t * bell * exp_f32::<FUSED>(p);
    (if x < 0.0 { tail } else { 1.0 - tail }, bell * NORMAL_SCALE as f32)
}

fn normal_f64(x: f64) -> (f64, f64) {
    (x.normal_cdf(), x.normal_density())
}

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

    #[test]
    fn exp_without_branches_is_exp() {
        let check = |x: f32| {
            let (ours, exact) = (exp_f32::<true>(x), f64::from(x).exp());
            let error = (f64::from(ours) / exact - 1.0).abs();
            assert!(error < 2.5e-7, "exp({x}) = {ours}, off by {error:e}");
            let apart = f64::from(exp_f32::<false>(x)) / exact - 1.0;
            assert!(apart.abs() < 2e-6, "exp({x}) without fused operations, off by {apart:e}");
        };
        (-8700..8870).for_each(|i| check(i as f32 * 0.01));
        assert_eq!((exp_f32::<true>(0.0), exp_f32::<true>(-200.0)), (1.0, 0.0));
        assert_eq!(exp_f32::<true>(200.0), f32::INFINITY);
        assert_eq!(exp_f32::<true>(f32::NEG_INFINITY), 0.0);
        assert!(exp_f32::<true>(f32::NAN).is_nan());
    }

    #[test]
    fn the_normal_distribution_without_branches_is_the_plain_one() {
        for i in -1200..1200 {
            let x = i as f32 * 0.01;
            let ((cdf, density), (exact_cdf, exact_density)) =
                (normal_f32::<true>(x), normal_f64(f64::from(x)));
            assert!((f64::from(cdf) / exact_cdf - 1.0).abs() < 3e-5, "Φ({x}) = {cdf}, {exact_cdf}");
            assert!((f64::from(cdf) - exact_cdf).abs() < 2e-7, "Φ({x}) = {cdf}, {exact_cdf}");
            assert!((f64::from(density) / exact_density - 1.0).abs() < 3e-5, "φ({x}) = {density}");
        }
        assert!(normal_f32::<true>(f32::NAN).0.is_nan());
    }
}
