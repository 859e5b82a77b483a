//! Moving elements on the CPU.

use super::LayoutKernels;
use crate::cpu::transpose::transpose;
use crate::cpu::{Cpu, CpuBuffer, CpuElement, view};
use crate::{Result, Shape};

impl<E: CpuElement> LayoutKernels for Cpu<E> {
    fn permute(&self, x: &CpuBuffer<E>, shape: &Shape, order: &[usize]) -> Result<CpuBuffer<E>> {
        // trailing axes that stay where they are move as one run
        let moved = order.iter().enumerate().rposition(|(to, &from)| to != from).map_or(0, |last| last + 1);
        let run: usize = shape[moved..].iter().product();
        if run > 1 {
            let merged = Shape::new(&[&shape[..moved], &[run]].concat())?;
            let runs = view(x.as_slice(), &merged).permuted_axes([&order[..moved], &[moved]].concat());
            return Ok(CpuBuffer::build(shape.len(), |out| {
                for (out, run) in out.chunks_exact_mut(run).zip(runs.rows()) {
                    out.copy_from_slice(run.to_slice().expect("the last axis has kept its place"));
                }
            }));
        }
        if let Some((rows, cols)) = turned(shape, order) {
            return Ok(CpuBuffer::build(shape.len(), |out| {
                let matrices = out.chunks_exact_mut(rows * cols).zip(x.as_slice().chunks_exact(rows * cols));
                matrices.for_each(|(out, x)| transpose(x, out, rows, cols));
            }));
        }
        let x = view(x.as_slice(), shape).permuted_axes(order);
        Ok(CpuBuffer::build(shape.len(), |out| {
            for (out, &x) in out.iter_mut().zip(x.iter()) {
                *out = x;
            }
        }))
    }

    fn slice(
        &self,
        x: &CpuBuffer<E>,
        outer: usize,
        stride: usize,
        start: usize,
        len: usize,
    ) -> Result<CpuBuffer<E>> {
        Ok(CpuBuffer::build(outer * len, |out| {
            if len > 0 {
                for (out, run) in out.chunks_exact_mut(len).zip(x.as_slice().chunks_exact(stride)) {
                    out.copy_from_slice(&run[start..start + len]);
                }
            }
        }))
    }

    fn pad(
        &self,
        x: &CpuBuffer<E>,
        outer: usize,
        stride: usize,
        start: usize,
        len: usize,
    ) -> Result<CpuBuffer<E>> {
        Ok(CpuBuffer::build(outer * stride, |out| {
            out.fill(E::zero());
            if len > 0 {
                for (out, run) in out.chunks_exact_mut(stride).zip(x.as_slice().chunks_exact(len)) {
                    out[start..start + len].copy_from_slice(run);
                }
            }
        }))
    }

    fn swap(
        &self,
        x: &CpuBuffer<E>,
        outer: usize,
        stride: usize,
        start: usize,
        [first, second]: [usize; 2],
    ) -> Result<CpuBuffer<E>> {
        Ok(CpuBuffer::build(outer * stride, |out| {
            out.copy_from_slice(x.as_slice());
            for run in out.chunks_exact_mut(stride.max(1)) {
                run[start..start + first + second].rotate_left(first);
            }
        }))
    }

    fn concat(&self, parts: &[(&CpuBuffer<E>, usize)], outer: usize) -> Result<CpuBuffer<E>> {
        let stride: usize = parts.iter().map(|(_, len)| len).sum();
        Ok(CpuBuffer::build(outer * stride, |out| {
            for (i, out) in out.chunks_exact_mut(stride.max(1)).enumerate() {
                let mut start = 0;
                for &(part, len) in parts {
                    out[start..start + len].copy_from_slice(&part.as_slice()[i * len..(i + 1) * len]);
                    start += len;
                }
            }
        }))
    }
}

/// Rows and columns of the matrices to transpose, where the first axes stay and the others change places as two runs,
/// such as images' channels and pixels.
fn turned(shape: &Shape, order: &[usize]) -> Option<(usize, usize)> {
    let kept = order.iter().enumerate().take_while(|(to, from)| to == *from).count();
    let others = order.len() - kept;
    let turn = *order.get(kept)? - kept;
    let turns = order[kept..].iter().enumerate().all(|(to, &from)| from == kept + (to + turn) % others);
    let [rows, cols] = [kept..kept + turn, kept + turn..order.len()].map(|axes| shape[axes].iter().product());
    (turns && rows * cols > 0).then_some((rows, cols))
}
