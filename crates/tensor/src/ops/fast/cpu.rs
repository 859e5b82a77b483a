//! Fast weights along a sequence on the CPU: what surrounds the walks over F and over its derivative.

use super::credit::way_back;
use super::walks::{advance_and_read, advance_fresh, read, read_transposed, retreat_and_read};
use super::{Advanced, Change, Credit, FastKernels, FastSizes, Plastic, Reading, Term};
use crate::Result;
use crate::cpu::{Cpu, CpuBuffer, CpuElement};
use crate::ops::reduce::dot;
use crate::ops::zip::ZipKernels;

pub(super) const LANES: usize = 16;

impl<E: CpuElement> FastKernels for Cpu<E> {
    fn fast_advance(
        &self,
        fast: &mut Option<(CpuBuffer<E>, CpuBuffer<E>)>,
        plastic: &Plastic<'_, CpuBuffer<E>>,
        change: Option<Change<'_, CpuBuffer<E>>>,
        reading: Option<Reading<'_, CpuBuffer<E>>>,
        sizes: FastSizes,
    ) -> Result<Advanced<CpuBuffer<E>>> {
        let FastSizes { batch, out, inp } = sizes;
        let Some(change) = change.map(|c| Step::of(&c)) else {
            // nothing changes: a plain read
            let read = reading.map(|Reading { x, bias, .. }| {
                CpuBuffer::build(batch * out, |y| match fast {
                    Some((f, c)) => read(f.as_slice(), c.as_slice(), x.as_slice(), bias, sizes, y),
                    None => y.fill(E::zero()),
                })
            });
            return Ok(Advanced { total: total(reading, read.as_ref()), read, norm: None });
        };
        let fresh = fast.is_none();
        // a fresh F is written whole, whatever was there
        let (f, c) = fast.get_or_insert_with(|| {
            (CpuBuffer::build(batch * out * inp, |_| ()), CpuBuffer::build(batch * out, |_| ()))
        });
        let mut norms = CpuBuffer::zeros(batch);
        let (alpha, beta) = (plastic.alpha.as_slice(), plastic.beta.as_slice());
        advance_bias(c.make_mut(), beta, &change, out, fresh);
        let (f, norm) = (f.make_mut(), norms.make_mut());
        let read = match reading {
            Some(Reading { x, bias, .. }) => Some(CpuBuffer::build(batch * out, |y| {
                match fresh {
                    true => advance_fresh(f, alpha, &change, x.as_slice(), sizes, y, norm),
                    false => advance_and_read(f, alpha, &change, x.as_slice(), sizes, y, norm),
                }
                if bias {
                    for (y, &c) in y.iter_mut().zip(c.as_slice()) {
                        *y += c;
                    }
                }
            })),
            None => {
                let zeros = CpuBuffer::zeros(batch * inp);
                CpuBuffer::build(batch * out, |y| match fresh {
                    true => advance_fresh(f, alpha, &change, zeros.as_slice(), sizes, y, norm),
                    false => advance_and_read(f, alpha, &change, zeros.as_slice(), sizes, y, norm),
                });
                None
            }
        };
        Ok(Advanced { total: total(reading, read.as_ref()), read, norm: Some(norms) })
    }

    fn fast_retreat(
        &self,
        (f, c): &mut (CpuBuffer<E>, CpuBuffer<E>),
        plastic: &Plastic<'_, CpuBuffer<E>>,
        change: Option<Change<'_, CpuBuffer<E>>>,
        g: Option<&CpuBuffer<E>>,
        before: Option<&CpuBuffer<E>>,
        sizes: FastSizes,
    ) -> Result<Option<CpuBuffer<E>>> {
        let FastSizes { batch, out, inp } = sizes;
        let zeros = CpuBuffer::zeros(if g.is_none() { batch * out } else { 0 });
        let g_values = g.unwrap_or(&zeros).as_slice();
        let dx = CpuBuffer::build(batch * inp, |dx| {
            match before {
                Some(before) => dx.copy_from_slice(before.as_slice()),
                None => dx.fill(E::zero()),
            }
            match change.map(|change| Step::of(&change)) {
                Some(change) => {
                    retreat_bias(c.make_mut(), plastic.beta.as_slice(), &change, out);
                    retreat_and_read(f.make_mut(), plastic.alpha.as_slice(), &change, g_values, sizes, dx);
                }
                None => read_transposed(f.as_slice(), g_values, sizes, dx),
            }
        });
        Ok(g.map(|_| dx))
    }

    fn fast_credit(
        &self,
        credit: &mut Credit<CpuBuffer<E>>,
        plastic: &Plastic<'_, CpuBuffer<E>>,
        decay: Option<&CpuBuffer<E>>,
        terms: &[Term<'_, CpuBuffer<E>>],
        change: Change<'_, CpuBuffer<E>>,
        before: Option<&CpuBuffer<E>>,
        sizes: FastSizes,
    ) -> Result<[CpuBuffer<E>; 3]> {
        for (by, value) in terms.iter().filter_map(Term::inner) {
            self.add_inner(&mut credit.inner, by, value)?;
        }
        let decay = decay.map(CpuBuffer::as_slice);
        let mut found = way_back(credit, plastic, decay, terms, &Step::of(&change), sizes);
        if let Some(before) = before {
            self.add_assign(&mut found[0], before)?;
        }
        Ok(found)
    }

    fn add_inner(&self, sums: &mut CpuBuffer<E>, a: &CpuBuffer<E>, b: &CpuBuffer<E>) -> Result<()> {
        let sums = sums.make_mut();
        let width = (a.as_slice().len() / sums.len().max(1)).max(1);
        for ((sum, a), b) in
            sums.iter_mut().zip(a.as_slice().chunks_exact(width)).zip(b.as_slice().chunks_exact(width))
        {
            *sum += dot(a, b);
        }
        Ok(())
    }
}

/// What was read, added to what it is wanted added to.
fn total<E: CpuElement>(
    reading: Option<Reading<'_, CpuBuffer<E>>>,
    read: Option<&CpuBuffer<E>>,
) -> Option<CpuBuffer<E>> {
    let ([base, row], read) = (reading?.onto?, read?.as_slice());
    let (base, row) = (base.as_slice(), row.as_slice());
    Some(CpuBuffer::build(read.len(), |total| {
        for (i, total) in total.iter_mut().enumerate() {
            *total = base[i] + row[i % row.len()] + read[i];
        }
    }))
}

/// An update's values.
pub(super) struct Step<'a, E> {
    pub(super) eta: &'a [E],
    pub(super) p: &'a [E],
    pub(super) q: &'a [E],
}

impl<'a, E: CpuElement> Step<'a, E> {
    fn of(change: &Change<'a, CpuBuffer<E>>) -> Self {
        Self { eta: change.eta.as_slice(), p: change.p.as_slice(), q: change.q.as_slice() }
    }
}

fn advance_bias<E: CpuElement>(c: &mut [E], beta: &[E], change: &Step<'_, E>, out: usize, fresh: bool) {
    for ((c, p), &eta) in c.chunks_exact_mut(out).zip(change.p.chunks_exact(out)).zip(change.eta) {
        for ((c, &p), &beta) in c.iter_mut().zip(p).zip(beta) {
            let kept = if fresh { E::zero() } else { (E::one() - eta) * *c };
            *c = kept + eta * (beta * p);
        }
    }
}

fn retreat_bias<E: CpuElement>(c: &mut [E], beta: &[E], change: &Step<'_, E>, out: usize) {
    for ((c, p), &eta) in c.chunks_exact_mut(out).zip(change.p.chunks_exact(out)).zip(change.eta) {
        for ((c, &p), &beta) in c.iter_mut().zip(p).zip(beta) {
            *c = (*c - eta * (beta * p)) / (E::one() - eta);
        }
    }
}
