//! The kernels of a shallow block: a few windows of 2×2 results at a time, which never leave the registers.

#![allow(
    clippy::needless_range_loop,
    reason = "loops over lanes of several arrays become vector code as they are"
)]

use super::shallow::{LANES, PLACES, Shallow, WIDE};
use super::stage::larger;
use crate::cpu::CpuElement;
use crate::cpu::simd::{fma, kernel};

/// Results of `P` places beside each other, in two rows.
type Results<E, const P: usize> = [[[[E; LANES]; 2]; P]; 2];

/// `w·p + shift` at `P` places beside each other of two rows, `WIDE` channels.
///
/// # Safety
/// `x` must have the pixels under the kernel at each place, and `w` `WIDE` channels of each tap and of the shift.
#[inline(always)]
unsafe fn results<E: CpuElement, const P: usize, const FUSED: bool>(
    x: *const E,
    w: *const E,
    s: &Shallow,
) -> Results<E, P> {
    let mut sums = [[[[E::zero(); LANES]; 2]; P]; 2];
    for l in 0..LANES {
        // SAFETY: the shift is behind all taps, and l is below LANES, half of WIDE
        let (shift0, shift1) = unsafe {
            let shift = w.add(s.taps() * s.outer());
            (*shift.add(l), *shift.add(LANES + l))
        };
        for sums in sums.as_flattened_mut() {
            sums[0][l] = shift0;
            sums[1][l] = shift1;
        }
    }
    for channel in 0..s.inputs() {
        for place in 0..PLACES {
            // SAFETY: both are of the kernel, r and p of the places, and l below LANES, half of WIDE
            unsafe {
                let x = x.add(channel * s.plane() + place / 3 * s.line() + place % 3);
                let w = w.add((channel * PLACES + place) * s.outer());
                for l in 0..LANES {
                    let (w0, w1) = (*w.add(l), *w.add(LANES + l));
                    for r in 0..2 {
                        for p in 0..P {
                            let x = *x.add(r * s.line() + p);
                            sums[r][p][0][l] = fma::<E, FUSED>(x, w0, sums[r][p][0][l]);
                            sums[r][p][1][l] = fma::<E, FUSED>(x, w1, sums[r][p][1][l]);
                        }
                    }
                }
            }
        }
    }
    sums
}

/// The windows of `P` places beside each other, from that at `x` on, channels from `col` on: to the first of `pooled`, and if
/// `KEPT` is 1 of `places`.
#[inline(always)]
fn put_windows<E: CpuElement, const P: usize, const KEPT: usize, const FUSED: bool>(
    x: &[E],
    w: &[E],
    pooled: &mut [E],
    places: &mut [u8],
    (s, col): (&Shallow, usize),
) {
    assert!(x.len() >= s.offset(s.taps() - 1) + s.line() + P && col + WIDE <= s.outer());
    assert!(w.len() == (s.taps() + 1) * s.outer());
    // SAFETY: the last tap's pixel lies furthest, P of them are there in the row after its own, and each tap and the shift
    // have WIDE channels from `col` on, as just asserted
    let sums = unsafe { results::<E, P, FUSED>(x.as_ptr(), w.as_ptr().add(col), s) };
    let channels = WIDE.min(s.outputs() - col);
    for window in 0..P / 2 {
        let mut found = [E::zero(); WIDE];
        let mut place_of = [0_u8; WIDE];
        for half in 0..2 {
            for l in 0..LANES {
                let seen = |r: usize, p: usize| (sums[r][2 * window + p][half][l], 1_i32 << (2 * r + p));
                let (z, place) = larger(larger(seen(0, 0), seen(0, 1)), larger(seen(1, 0), seen(1, 1)));
                found[half * LANES + l] = if z <= E::zero() { E::zero() } else { z };
                if KEPT == 1 {
                    place_of[half * LANES + l] = if z > E::zero() { place as u8 } else { 0 };
                }
            }
        }
        let at = window * s.outputs() + col;
        if channels == WIDE {
            pooled[at..][..WIDE].copy_from_slice(&found);
        } else {
            pooled[at..][..channels].copy_from_slice(&found[..channels]);
        }
        if KEPT == 1 {
            if channels == WIDE {
                places[at..][..WIDE].copy_from_slice(&place_of);
            } else {
                places[at..][..channels].copy_from_slice(&place_of[..channels]);
            }
        }
    }
}

kernel! {
    /// `max(w·p + shift, 0)` of each window's largest in two rows of a padded image, from `row` on, `w` being `[taps, outer]`
    /// and after it the shift, `[outer]`; and if `KEPT` is 1, which of the four that is, 1, 2, 4 or 8; 0 if it is not alive.
    pub(super) fn pool_rows<E, const KEPT: usize>(
        padded: &[E],
        w: &[E],
        s: Shallow,
        row: usize,
        pooled: &mut [E],
        places: &mut [u8],
    ) {
        let x = &padded[row * s.line()..];
        let windows = s.width() / 2;
        for col in (0..s.outer()).step_by(WIDE) {
            let mut at = 0;
            while at < windows {
                let (x, to) = (&x[2 * at..], at * s.outputs());
                let (pooled, places) = (&mut pooled[to..], &mut places[KEPT * to..]);
                if at + 2 <= windows {
                    put_windows::<E, 4, KEPT, FUSED>(x, w, pooled, places, (&s, col));
                    at += 2;
                } else {
                    put_windows::<E, 2, KEPT, FUSED>(x, w, pooled, places, (&s, col));
                    at += 1;
                }
            }
        }
    }
}

/// Sums of slopes times pixels, for each place of the kernel, and last of the slopes themselves.
type Sums<E> = [[[E; LANES]; 2]; PLACES + 1];

/// The slope at each of a window's results: `grad` at the one that `place` names.
#[inline(always)]
fn of_window<E: CpuElement>(place: u8, grad: E) -> [E; 4] {
    let (place, zero) = (i32::from(place), E::zero());
    [
        if place & 1 != 0 { grad } else { zero },
        if place & 2 != 0 { grad } else { zero },
        if place & 4 != 0 { grad } else { zero },
        if place & 8 != 0 { grad } else { zero },
    ]
}

/// Adds to sums what comes of `windows` windows beside each other, `outputs` channels apart. By value, so that the sums
/// stay in registers.
///
/// # Safety
/// `x` must have the pixels that the windows see, in rows of `line`, and `places` and `grad` `WIDE` channels of each.
#[inline(always)]
unsafe fn with_windows<E: CpuElement, const FUSED: bool>(
    mut sums: Sums<E>,
    (x, line): (*const E, usize),
    (places, grad): (*const u8, *const E),
    (windows, outputs): (usize, usize),
) -> Sums<E> {
    for window in 0..windows {
        // SAFETY: the window is one of them, and l below LANES, half of WIDE
        unsafe {
            let x = x.add(2 * window);
            let (places, grad) = (places.add(window * outputs), grad.add(window * outputs));
            for l in 0..LANES {
                let left = of_window(*places.add(l), *grad.add(l));
                let right = of_window(*places.add(LANES + l), *grad.add(LANES + l));
                for place in 0..PLACES {
                    for k in 0..4 {
                        let x = *x.add((place / 3 + k / 2) * line + place % 3 + k % 2);
                        sums[place][0][l] = fma::<E, FUSED>(x, left[k], sums[place][0][l]);
                        sums[place][1][l] = fma::<E, FUSED>(x, right[k], sums[place][1][l]);
                    }
                }
                sums[PLACES][0][l] += (left[0] + left[1]) + (left[2] + left[3]);
                sums[PLACES][1][l] += (right[0] + right[1]) + (right[2] + right[3]);
            }
        }
    }
    sums
}

kernel! {
    /// Adds to `Σ g p` of each tap, `[taps, outer]`, and `Σ g`, `[outer]`, one after the other, what comes of two rows of a
    /// padded image, from `row` on: g is `grad` at the place in each window that it is of, and 0 elsewhere.
    pub(super) fn add_peak_sums<E>(
        padded: &[E],
        places: &[u8],
        grad: &[E],
        sums: &mut [E],
        s: Shallow,
        row: usize,
    ) {
        let (windows, outputs, outer) = (s.width() / 2, s.outputs(), s.outer());
        assert!(padded.len() == s.padded_len() && row + 2 <= s.height());
        assert!(places.len() == windows * outputs && grad.len() == windows * outputs);
        let (of_taps, once) = sums.split_at_mut(s.taps() * outer);
        let whole = outputs / WIDE * WIDE;
        for channel in 0..s.inputs() {
            let x = &padded[channel * s.plane() + row * s.line()..];
            let of_taps = &mut of_taps[channel * PLACES * outer..][..PLACES * outer];
            for col in (0..whole).step_by(WIDE) {
                let mut sums = [[[E::zero(); LANES]; 2]; PLACES + 1];
                // SAFETY: below the width all places of the kernel see pixels of the padded image's channel, in two rows
                // of it; every window has WIDE channels from `col` on
                sums = unsafe {
                    let of_result = (places.as_ptr().add(col), grad.as_ptr().add(col));
                    with_windows::<E, FUSED>(sums, (x.as_ptr(), s.line()), of_result, (windows, outputs))
                };
                for place in 0..PLACES {
                    let to = &mut of_taps[place * outer + col..][..WIDE];
                    to.iter_mut().zip(sums[place].as_flattened()).for_each(|(to, &sum)| *to += sum);
                }
                if channel == 0 {
                    let to = &mut once[col..][..WIDE];
                    to.iter_mut().zip(sums[PLACES].as_flattened()).for_each(|(to, &sum)| *to += sum);
                }
            }
            for window in 0..windows {
                for c in whole..outputs {
                    let at = window * outputs + c;
                    let g = of_window(places[at], grad[at]);
                    for place in 0..PLACES {
                        for k in 0..4 {
                            let x = x[2 * window + (place / 3 + k / 2) * s.line() + place % 3 + k % 2];
                            of_taps[place * outer + c] =
                                fma::<E, FUSED>(x, g[k], of_taps[place * outer + c]);
                        }
                    }
                    if channel == 0 {
                        once[c] += (g[0] + g[1]) + (g[2] + g[3]);
                    }
                }
            }
        }
    }
}
