//! One source for a kernel, compiled once for each instruction set, the best chosen at run time.

/// `a b + c`: in one rounding where the instruction set has it, in two where it would be a library call.
#[inline(always)]
pub(crate) fn fma<E: num_traits::Float, const FUSED: bool>(a: E, b: E, c: E) -> E {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// Has the cache line that lies `ahead` elements after the start of `from` fetched, where there is such an instruction;
/// whether there is such a place does not matter.
#[inline(always)]
pub(crate) fn prefetch<E>(from: &[E], ahead: usize) {
    prefetch_at(from.as_ptr().wrapping_add(ahead));
}

/// Has the cache line at this address fetched, where there is such an instruction; whether there is such a place does not
/// matter.
#[inline(always)]
pub(crate) fn prefetch_at<E>(place: *const E) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 has the instruction, and it never faults whatever the address
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(place.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}

/// Instruction sets that kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// Whatever the target has at least.
    Baseline,
    /// AVX2 and FMA.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

/// The best instruction set of this machine.
#[inline]
pub(crate) fn level() -> Level {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl") {
            return Level::Avx512;
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return Level::Avx2;
        }
    }
    Level::Baseline
}

/// Defines a kernel: the body is compiled for every [`Level`], with `FUSED` saying whether multiply-add is one
/// instruction, and the function calls the one that fits the machine. It may have a size known beforehand, `const N`.
macro_rules! kernel {
    ($(#[$meta:meta])* $vis:vis fn $name:ident<$E:ident $(, const $N:ident: usize)?>(
        $($arg:ident: $ty:ty),* $(,)?
    ) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        $vis fn $name<$E: $crate::cpu::CpuElement $(, const $N: usize)?>($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn body<$E: $crate::cpu::CpuElement, $(const $N: usize,)? const FUSED: bool>($($arg: $ty),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
            fn avx512<$E: $crate::cpu::CpuElement $(, const $N: usize)?>($($arg: $ty),*) $(-> $ret)? {
                body::<$E, $($N,)? true>($($arg),*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2<$E: $crate::cpu::CpuElement $(, const $N: usize)?>($($arg: $ty),*) $(-> $ret)? {
                body::<$E, $($N,)? true>($($arg),*)
            }

            match $crate::cpu::simd::level() {
                // SAFETY: `level` has seen that the machine has these instructions
                #[cfg(target_arch = "x86_64")]
                $crate::cpu::simd::Level::Avx512 => unsafe { avx512::<$E $(, $N)?>($($arg),*) },
                // SAFETY: as above
                #[cfg(target_arch = "x86_64")]
                $crate::cpu::simd::Level::Avx2 => unsafe { avx2::<$E $(, $N)?>($($arg),*) },
                $crate::cpu::simd::Level::Baseline => body::<$E, $($N,)? false>($($arg),*),
            }
        }
    };
}

pub(crate) use kernel;
