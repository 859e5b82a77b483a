//! Scratch that starts where a cache line does: a register loaded across two lines costs two loads.

use crate::cpu::{CpuBuffer, CpuElement};

/// Bytes of a cache line, and of the widest register.
const LINE: usize = 64;

/// Elements that are skipped at most.
fn most_skipped<E>() -> usize {
    LINE / size_of::<E>()
}

/// The part of `values` from the first line on, `len` elements of it.
fn from_line<E>(values: &mut [E], len: usize) -> (usize, &mut [E]) {
    // where an address can't be told, nothing is skipped
    let skip = values.as_ptr().align_offset(LINE).min(values.len() - len);
    (skip, &mut values[skip..skip + len])
}

/// Calls `f` with scratch of these lengths, its content unspecified.
pub(super) fn with_scratch<E: CpuElement, const N: usize>(lens: [usize; N], f: impl FnOnce([&mut [E]; N])) {
    let spare = most_skipped::<E>();
    CpuBuffer::build(lens.iter().sum::<usize>() + N * spare, |mut rest| {
        let parts = lens.map(|len| {
            let (part, others) = std::mem::take(&mut rest).split_at_mut(len + spare);
            rest = others;
            from_line(part, len).1
        });
        f(parts);
    });
}

/// A buffer that starts where a cache line does.
pub(super) struct Aligned<E: CpuElement> {
    buffer: CpuBuffer<E>,
    skip: usize,
    len: usize,
}

impl<E: CpuElement> Aligned<E> {
    /// `len` elements, all of which `write` sets.
    pub fn build(len: usize, write: impl FnOnce(&mut [E])) -> Self {
        let mut skip = 0;
        let buffer = CpuBuffer::build(len + most_skipped::<E>(), |values| {
            let (skipped, part) = from_line(values, len);
            skip = skipped;
            write(part);
        });
        Self { buffer, skip, len }
    }

    pub fn as_slice(&self) -> &[E] {
        &self.buffer.as_slice()[self.skip..self.skip + self.len]
    }
}
