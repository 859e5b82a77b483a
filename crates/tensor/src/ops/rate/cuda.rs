//! Learning rates on a CUDA device.

use super::{RateConstants, RateKernels};
use crate::Result;
use crate::cuda::{Cuda, CudaBuffer, elements};

pub(crate) const KERNELS: &[&str] = &["learning_rates", "learning_rates_back"];

impl RateKernels for Cuda {
    fn rates(&self, k: RateConstants<f32>, g: &CudaBuffer, s: &CudaBuffer) -> Result<[CudaBuffer; 3]> {
        let len = g.len();
        let (mut gate, mut clip) = (self.build(len, |_| Ok(()))?, self.build(len, |_| Ok(()))?);
        let eta = self.build(len, |eta| {
            let constants = (k.largest, k.most, k.share, k.floor);
            let arguments = (
                eta,
                gate.make_mut()?,
                clip.make_mut()?,
                g.slice(),
                s.slice(),
                constants.0,
                constants.1,
                constants.2,
                constants.3,
                len as u32,
            );
            // SAFETY: learning_rates(eta, gate, clip, g, s, largest, most, share, floor, len) reads and writes `len` elements of
            // each, as many as they have
            unsafe { self.launch("learning_rates", elements(len), arguments) }
        })?;
        Ok([eta, gate, clip])
    }

    fn rates_back(
        &self,
        k: RateConstants<f32>,
        g: &CudaBuffer,
        s: &CudaBuffer,
        grad: &CudaBuffer,
    ) -> Result<[CudaBuffer; 2]> {
        let len = g.len();
        let mut ds = self.build(len, |_| Ok(()))?;
        let dg = self.build(len, |dg| {
            let given = (g.slice(), s.slice(), grad.slice());
            let constants = (k.largest, k.most, k.share, k.floor);
            let arguments = (
                dg,
                ds.make_mut()?,
                given.0,
                given.1,
                given.2,
                constants.0,
                constants.1,
                constants.2,
                constants.3,
                len as u32,
            );
            // SAFETY: learning_rates_back(dg, ds, g, s, grad, largest, most, share, floor, len) likewise
            unsafe { self.launch("learning_rates_back", elements(len), arguments) }
        })?;
        Ok([dg, ds])
    }
}
