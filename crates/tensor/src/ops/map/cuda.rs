//! [`Map`] on a CUDA device.

use super::{Map, MapKernels};
use crate::Result;
use crate::cuda::{Cuda, CudaBuffer, elements};

pub(crate) const KERNELS: &[&str] = &[
    "map_scale",
    "map_shift",
    "map_at_most",
    "map_below",
    "map_exp",
    "map_ln",
    "map_sqrt",
    "map_sigmoid",
    "map_relu",
    "map_positive",
    "map_gelu",
    "map_gelu_slope",
    "map_normal_density",
    "gelu_back",
    "gelu_slope_back",
];

impl MapKernels for Cuda {
    fn map(&self, f: Map<f32>, x: &CudaBuffer) -> Result<CudaBuffer> {
        let (kernel, c) = match f {
            Map::Scale(c) => ("map_scale", c),
            Map::Shift(c) => ("map_shift", c),
            Map::AtMost(c) => ("map_at_most", c),
            Map::Below(c) => ("map_below", c),
            Map::Exp => ("map_exp", 0.0),
            Map::Ln => ("map_ln", 0.0),
            Map::Sqrt => ("map_sqrt", 0.0),
            Map::Sigmoid => ("map_sigmoid", 0.0),
            Map::Relu => ("map_relu", 0.0),
            Map::Positive => ("map_positive", 0.0),
            Map::Gelu => ("map_gelu", 0.0),
            Map::GeluSlope => ("map_gelu_slope", 0.0),
            Map::NormalDensity => ("map_normal_density", 0.0),
        };
        let len = x.len();
        self.build(len, |out| {
            // SAFETY: map_*(out, x, c, len) reads and writes `len` elements, as many as both have
            unsafe { self.launch(kernel, elements(len), (out, x.slice(), c, len as u32)) }
        })
    }
}

impl Cuda {
    /// `before + grad ∘ f'(x)` by a kernel of that name.
    pub(crate) fn map_back_onto(
        &self,
        kernel: &'static str,
        x: &CudaBuffer,
        grad: &CudaBuffer,
        before: Option<&CudaBuffer>,
    ) -> Result<CudaBuffer> {
        let len = x.len();
        self.build(len, |out| {
            let arguments = (out, x.slice(), grad.slice(), before.map_or(0, CudaBuffer::address), len as u32);
            // SAFETY: *_back(out, x, grad, before, len) reads and writes `len` elements, as many as all of them have
            unsafe { self.launch(kernel, elements(len), arguments) }
        })
    }
}
