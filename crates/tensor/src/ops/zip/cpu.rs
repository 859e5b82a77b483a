//! [`Zip`] on the CPU: loops over contiguous runs for the shapes that occur in every step, ndarray's
//! broadcasting for the rest.

use ndarray::ArrayViewMutD;

use super::{Zip, ZipKernels};
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
        Ok(match f {
            Zip::Add => zip_with(|a, b| a + b, a, b, out),
            Zip::Sub => zip_with(|a, b| a - b, a, b, out),
            Zip::Mul => zip_with(|a, b| a * b, a, b, out),
            Zip::Div => zip_with(|a, b| a / b, a, b, out),
        })
    }

    fn add_assign(&self, sum: &mut CpuBuffer<E>, x: &CpuBuffer<E>) -> Result<()> {
        for (sum, &x) in sum.make_mut().iter_mut().zip(x.as_slice()) {
            *sum += x;
        }
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
    f: impl Fn(E, E) -> E,
    (a, a_shape): (&CpuBuffer<E>, &Shape),
    (b, b_shape): (&CpuBuffer<E>, &Shape),
    out: &Shape,
) -> CpuBuffer<E> {
    let (x, y) = (a.as_slice(), b.as_slice());
    if out.is_empty() {
        return CpuBuffer::zeros(0);
    }
    CpuBuffer::build(out.len(), |z| match (walk(a_shape, out), walk(b_shape, out)) {
        (Some(Walk::Whole), Some(Walk::Whole)) => {
            for ((z, &x), &y) in z.iter_mut().zip(x).zip(y) {
                *z = f(x, y);
            }
        }
        (Some(Walk::Whole), Some(Walk::Cycled)) => {
            for (z, x) in z.chunks_exact_mut(y.len()).zip(x.chunks_exact(y.len())) {
                for ((z, &x), &y) in z.iter_mut().zip(x).zip(y) {
                    *z = f(x, y);
                }
            }
        }
        (Some(Walk::Cycled), Some(Walk::Whole)) => {
            for (z, y) in z.chunks_exact_mut(x.len()).zip(y.chunks_exact(x.len())) {
                for ((z, &x), &y) in z.iter_mut().zip(x).zip(y) {
                    *z = f(x, y);
                }
            }
        }
        (Some(Walk::Whole), Some(Walk::Held(run))) => {
            for ((z, x), &y) in z.chunks_exact_mut(run).zip(x.chunks_exact(run)).zip(y.iter().cycle()) {
                for (z, &x) in z.iter_mut().zip(x) {
                    *z = f(x, y);
                }
            }
        }
        (Some(Walk::Held(run)), Some(Walk::Whole)) => {
            for ((z, y), &x) in z.chunks_exact_mut(run).zip(y.chunks_exact(run)).zip(x.iter().cycle()) {
                for (z, &y) in z.iter_mut().zip(y) {
                    *z = f(x, y);
                }
            }
        }
        _ => {
            let z = ArrayViewMutD::from_shape(&out[..], z).expect("the output has its own length");
            ndarray::Zip::from(z)
                .and_broadcast(view(x, a_shape))
                .and_broadcast(view(y, b_shape))
                .for_each(|z, &x, &y| *z = f(x, y));
        }
    })
}
