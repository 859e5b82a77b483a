//! [`Zip`] on the CPU: loops over contiguous runs for the shapes that occur in every step, ndarray's
//! broadcasting for the rest.

use ndarray::ArrayViewMutD;

use super::{Zip, ZipKernels};
use crate::cpu::simd::kernel;
use crate::cpu::{Cpu, CpuBuffer, CpuElement, view};
use crate::{Result, Shape};

impl<E: CpuElement> ZipKernels for Cpu<E> {
    fn zip(
        &self,
        f: Zip,
        a: (&CpuBuffer<E>, &Shape),
        b: (&CpuBuffer<E>, &Shape),
        out: &Shape,
    ) -> Result<CpuBuffer<E>> {
        Ok(zip_with(f, a, b, out))
    }

    fn add_assign(&self, sum: &mut CpuBuffer<E>, x: &CpuBuffer<E>) -> Result<()> {
        add(sum.make_mut(), x.as_slice());
        Ok(())
    }
}

/// How an operand's elements lie along the output.
pub(crate) enum Walk {
    /// One for each output element.
    Whole,
    /// The operand again and again: it has the output's last axes.
    Cycled,
    /// The operand again and again, each element for a run of this many: it has axes in the middle.
    Held(usize),
}

/// How `operand`, broadcast to `out`, is walked along; `None` when its axes are too scattered to say.
pub(crate) fn walk(operand: &Shape, out: &Shape) -> Option<Walk> {
    if operand.len() == out.len() {
        return Some(Walk::Whole);
    }
    if operand.len() == 1 {
        return Some(Walk::Held(out.len()));
    }
    let repeated = out.repeated_axes(operand)?;
    // axes of length 1 neither repeat nor distinguish; repeated ones in front make the walk start again
    let mut axes =
        repeated.iter().zip(out.iter()).filter(|&(_, &n)| n != 1).skip_while(|&(&r, _)| r).peekable();
    while axes.next_if(|&(&r, _)| !r).is_some() {}
    let mut run = 1;
    while let Some((_, &n)) = axes.next_if(|&(&r, _)| r) {
        run *= n;
    }
    match (axes.next(), run) {
        (Some(_), _) => None,
        (None, 1) => Some(Walk::Cycled),
        (None, run) => Some(Walk::Held(run)),
    }
}

fn zip_with<E: CpuElement>(
    f: Zip,
    (a, a_shape): (&CpuBuffer<E>, &Shape),
    (b, b_shape): (&CpuBuffer<E>, &Shape),
    out: &Shape,
) -> CpuBuffer<E> {
    let (x, y) = (a.as_slice(), b.as_slice());
    if out.is_empty() {
        return CpuBuffer::zeros(0);
    }
    CpuBuffer::build(out.len(), |z| match (walk(a_shape, out), walk(b_shape, out)) {
        (Some(Walk::Whole), Some(Walk::Whole | Walk::Cycled)) => cycled(f, false, x, y, z),
        (Some(Walk::Cycled), Some(Walk::Whole)) => cycled(f, true, y, x, z),
        (Some(Walk::Whole), Some(Walk::Held(run))) => held(f, false, x, y, run, z),
        (Some(Walk::Held(run)), Some(Walk::Whole)) => held(f, true, y, x, run, z),
        _ => {
            let z = ArrayViewMutD::from_shape(&out[..], z).expect("the output has its own length");
            let zip = ndarray::Zip::from(z).and_broadcast(view(x, a_shape)).and_broadcast(view(y, b_shape));
            match f {
                Zip::Add => zip.for_each(|z, &x, &y| *z = x + y),
                Zip::Sub => zip.for_each(|z, &x, &y| *z = x - y),
                Zip::Mul => zip.for_each(|z, &x, &y| *z = x * y),
                Zip::Div => zip.for_each(|z, &x, &y| *z = x / y),
            }
        }
    })
}

kernel! {
    fn add<E>(sum: &mut [E], x: &[E]) {
        for (sum, &x) in sum.iter_mut().zip(x) {
            *sum += x;
        }
    }
}

kernel! {
    /// `z = f(x, y)`, or `f(y, x)` if swapped, y again and again.
    fn cycled<E>(f: Zip, swapped: bool, x: &[E], y: &[E], z: &mut [E]) {
        match (f, swapped) {
            (Zip::Add, _) => along_cycle(|x, y| x + y, x, y, z),
            (Zip::Mul, _) => along_cycle(|x, y| x * y, x, y, z),
            (Zip::Sub, false) => along_cycle(|x, y| x - y, x, y, z),
            (Zip::Sub, true) => along_cycle(|x, y| y - x, x, y, z),
            (Zip::Div, false) => along_cycle(|x, y| x / y, x, y, z),
            (Zip::Div, true) => along_cycle(|x, y| y / x, x, y, z),
        }
    }
}

kernel! {
    /// The same, each element of y for a run of this many, and y again and again.
    fn held<E>(f: Zip, swapped: bool, x: &[E], y: &[E], run: usize, z: &mut [E]) {
        match (f, swapped) {
            (Zip::Add, _) => along_runs(|x, y| x + y, x, y, run, z),
            (Zip::Mul, _) => along_runs(|x, y| x * y, x, y, run, z),
            (Zip::Sub, false) => along_runs(|x, y| x - y, x, y, run, z),
            (Zip::Sub, true) => along_runs(|x, y| y - x, x, y, run, z),
            (Zip::Div, false) => along_runs(|x, y| x / y, x, y, run, z),
            (Zip::Div, true) => along_runs(|x, y| y / x, x, y, run, z),
        }
    }
}

#[inline(always)]
fn along_cycle<E: CpuElement>(f: impl Fn(E, E) -> E, x: &[E], y: &[E], z: &mut [E]) {
    for (z, x) in z.chunks_exact_mut(y.len()).zip(x.chunks_exact(y.len())) {
        for ((z, &x), &y) in z.iter_mut().zip(x).zip(y) {
            *z = f(x, y);
        }
    }
}

#[inline(always)]
fn along_runs<E: CpuElement>(f: impl Fn(E, E) -> E, x: &[E], y: &[E], run: usize, z: &mut [E]) {
    for ((z, x), &y) in z.chunks_exact_mut(run).zip(x.chunks_exact(run)).zip(y.iter().cycle()) {
        for (z, &x) in z.iter_mut().zip(x) {
            *z = f(x, y);
        }
    }
}
