//! Sums and repetition on the CPU. Sums run in the order of the elements, in blocks of independent
//! partial sums where a contiguous run is added up, so that the result is one and the same everywhere.

use super::ReduceKernels;
use crate::cpu::{Cpu, CpuBuffer, CpuElement, view};
use crate::ops::zip::{Walk, walk};
use crate::{Result, Shape};

impl<E: CpuElement> ReduceKernels for Cpu<E> {
    fn sum_to(&self, x: &CpuBuffer<E>, from: &Shape, to: &Shape) -> Result<CpuBuffer<E>> {
        let x = x.as_slice();
        let repeated = from.repeated_axes(to).unwrap_or_default();
        let flags = &repeated[..from.rank()];
        if x.is_empty() {
            return Ok(CpuBuffer::zeros(to.len()));
        }
        if let Some(run) = runs(flags, from) {
            // every output is the sum, over the leading axes, of sums of contiguous runs
            return Ok(CpuBuffer::build(to.len(), |out| {
                out.fill(E::zero());
                for block in x.chunks_exact(out.len() * run) {
                    if run == 1 {
                        for (out, &x) in out.iter_mut().zip(block) {
                            *out += x;
                        }
                    } else {
                        for (out, run) in out.iter_mut().zip(block.chunks_exact(run)) {
                            *out += sum(run);
                        }
                    }
                }
            }));
        }
        let mut array = view(x, from).into_owned();
        for (axis, _) in flags.iter().enumerate().filter(|&(_, &r)| r) {
            array = array.sum_axis(ndarray::Axis(axis)).insert_axis(ndarray::Axis(axis));
        }
        Ok(CpuBuffer::from(array.iter().copied().collect::<Vec<E>>()))
    }

    fn broadcast_to(&self, x: &CpuBuffer<E>, from: &Shape, to: &Shape) -> Result<CpuBuffer<E>> {
        let x = x.as_slice();
        if to.is_empty() {
            return Ok(CpuBuffer::zeros(0));
        }
        Ok(CpuBuffer::build(to.len(), |out| match walk(from, to) {
            Some(Walk::Whole) => out.copy_from_slice(x),
            Some(Walk::Cycled) => out.chunks_exact_mut(x.len()).for_each(|out| out.copy_from_slice(x)),
            Some(Walk::Held(run)) => {
                for (out, &x) in out.chunks_exact_mut(run).zip(x.iter().cycle()) {
                    out.fill(x);
                }
            }
            None => {
                let x = view(x, from);
                let repeated = x.broadcast(&to[..]).expect("the caller checked that it broadcasts");
                for (out, &x) in out.iter_mut().zip(repeated.iter()) {
                    *out = x;
                }
            }
        }))
    }
}

/// The length of the contiguous runs that a sum over the flagged axes adds up, if those axes are leading
/// ones and trailing ones and none between.
fn runs(summed: &[bool], from: &Shape) -> Option<usize> {
    // axes of length 1 are summed or not
    let axes = || summed.iter().zip(from.iter()).filter(|&(_, &n)| n != 1);
    let run = axes().rev().take_while(|&(&s, _)| s).map(|(_, &n)| n).product();
    let mut between = axes().skip_while(|&(&s, _)| s).skip_while(|&(&s, _)| !s);
    between.all(|(&s, _)| s).then_some(run)
}

/// Sum of a contiguous run, in sixteen interleaved partial sums.
#[inline(always)]
pub(crate) fn sum<E: CpuElement>(run: &[E]) -> E {
    sum_of(run, |x| x)
}

/// Sum of `f` of each element of a contiguous run, in sixteen interleaved partial sums.
#[inline(always)]
pub(crate) fn sum_of<E: CpuElement>(run: &[E], f: impl Fn(E) -> E) -> E {
    let mut lanes = [E::zero(); 16];
    let (blocks, rest) = run.as_chunks::<16>();
    for block in blocks {
        for (lane, &x) in lanes.iter_mut().zip(block) {
            *lane += f(x);
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(rest) {
        *lane += f(x);
    }
    fold(lanes)
}

/// Dot product of two runs of equal length, in sixteen interleaved partial sums.
#[inline(always)]
pub(crate) fn dot<E: CpuElement>(a: &[E], b: &[E]) -> E {
    let mut lanes = [E::zero(); 16];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<16>(), b.as_chunks::<16>());
    for (a, b) in a.iter().zip(b) {
        for ((lane, &a), &b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += a * b;
        }
    }
    for ((lane, &a), &b) in lanes.iter_mut().zip(a_rest).zip(b_rest) {
        *lane += a * b;
    }
    fold(lanes)
}

/// Adds the partial sums up as a tree.
#[inline(always)]
pub(crate) fn fold<E: CpuElement>(mut lanes: [E; 16]) -> E {
    for half in [8, 4, 2, 1] {
        let (low, high) = lanes.split_at_mut(half);
        for (low, &high) in low.iter_mut().zip(&*high) {
            *low += high;
        }
    }
    lanes[0]
}
