//! The fast-weight update on the CPU: one pass over F.

use super::{OuterKernels, OuterSizes};
use crate::Result;
use crate::cpu::{Cpu, CpuBuffer, CpuElement};

impl<E: CpuElement> OuterKernels for Cpu<E> {
    fn decay_outer(
        &self,
        f: Option<&CpuBuffer<E>>,
        eta: &CpuBuffer<E>,
        alpha: &CpuBuffer<E>,
        p: &CpuBuffer<E>,
        q: &CpuBuffer<E>,
        OuterSizes { batch, out, inp }: OuterSizes,
    ) -> Result<CpuBuffer<E>> {
        let (eta, alpha, p, q) = (eta.as_slice(), alpha.as_slice(), p.as_slice(), q.as_slice());
        Ok(CpuBuffer::build(batch * out * inp, |new| {
            for episode in 0..batch {
                let (eta, q) = (eta[episode], &q[episode * inp..][..inp]);
                let keep = E::one() - eta;
                for unit in 0..out {
                    let row = (episode * out + unit) * inp;
                    let gain = eta * p[episode * out + unit];
                    let new = &mut new[row..row + inp];
                    let alpha = &alpha[unit * inp..][..inp];
                    match f {
                        Some(f) => {
                            let f = &f.as_slice()[row..row + inp];
                            for (((new, &f), &alpha), &q) in new.iter_mut().zip(f).zip(alpha).zip(q) {
                                *new = keep * f + gain * (alpha * q);
                            }
                        }
                        None => {
                            for ((new, &alpha), &q) in new.iter_mut().zip(alpha).zip(q) {
                                *new = gain * (alpha * q);
                            }
                        }
                    }
                }
            }
        }))
    }
}
