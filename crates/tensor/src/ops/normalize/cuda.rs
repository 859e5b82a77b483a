//! Standardising groups of elements on a CUDA device, a group of threads each.

use cudarc::driver::DeviceRepr;

use super::{Groups, NormalizeKernels};
use crate::cuda::{Cuda, CudaBuffer, groups};
use crate::{Result, Storage};

pub(crate) const KERNELS: &[&str] = &["moments", "normalize", "normalize_slope", "normalize_slope_back"];

/// [`Groups`] as in `kernels.cu`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Sizes {
    outer: u32,
    count: u32,
    inner: u32,
}

// SAFETY: it is laid out as in C, has no padding and holds numbers only, so it can be handed to a kernel
unsafe impl DeviceRepr for Sizes {}

impl From<Groups> for Sizes {
    fn from(Groups { outer, count, inner }: Groups) -> Self {
        Self { outer: outer as u32, count: count as u32, inner: inner as u32 }
    }
}

impl NormalizeKernels for Cuda {
    fn normalize(&self, x: &CudaBuffer, by: Groups, eps: f64) -> Result<CudaBuffer> {
        self.build(x.len(), |out| {
            let arguments = (out, x.slice(), Sizes::from(by), eps as f32);
            // SAFETY: normalize(out, x, groups, eps) reads and writes the groups' elements, which are all that
            // `out` and `x` have
            unsafe { self.launch("normalize", groups(by.count, by.size()), arguments) }
        })
    }

    fn normalize_slope(&self, x: &CudaBuffer, g: &CudaBuffer, by: Groups, eps: f64) -> Result<CudaBuffer> {
        self.build(x.len(), |out| {
            let arguments = (out, x.slice(), g.slice(), Sizes::from(by), eps as f32);
            // SAFETY: normalize_slope(out, x, g, groups, eps) reads and writes the groups' elements, which are
            // all that `out`, `x` and `g` have
            unsafe { self.launch("normalize_slope", groups(by.count, by.size()), arguments) }
        })
    }

    fn moments(&self, x: &CudaBuffer, by: Groups) -> Result<(CudaBuffer, CudaBuffer)> {
        let mut variances = self.full(by.count, 0.0)?;
        let means = self.build(by.count, |means| {
            let arguments = (means, variances.make_mut()?, x.slice(), Sizes::from(by));
            // SAFETY: moments(means, variances, x, groups) writes an element for each group and reads the
            // groups' elements, which are all that `x` has
            unsafe { self.launch("moments", groups(by.count, by.size()), arguments) }
        })?;
        Ok((means, variances))
    }
}

impl Cuda {
    /// The derivatives by x and g of `⟨h, J g⟩`, J the derivative of `normalize` at x, each added to what was before.
    pub(crate) fn normalize_slope_back_onto(
        &self,
        [x, g, h]: [&CudaBuffer; 3],
        before: [Option<&CudaBuffer>; 2],
        by: Groups,
        eps: f64,
    ) -> Result<[CudaBuffer; 2]> {
        let before = before.map(|before| before.map_or(0, CudaBuffer::address));
        let mut dg = self.build(g.len(), |_| Ok(()))?;
        let dx = self.build(x.len(), |dx| {
            let (dg, given, sizes) = (dg.make_mut()?, (x.slice(), g.slice(), h.slice()), Sizes::from(by));
            let arguments = (dx, dg, given.0, given.1, given.2, before[0], before[1], sizes, eps as f32);
            // SAFETY: normalize_slope_back(dx, dg, x, g, h, before x, before g, groups, eps) reads and writes the groups'
            // elements, which are all that these have
            unsafe { self.launch("normalize_slope_back", groups(by.count, by.size()), arguments) }
        })?;
        Ok([dx, dg])
    }
}
