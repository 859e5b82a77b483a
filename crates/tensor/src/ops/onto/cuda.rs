//! Derivatives added to what is there, on a CUDA device: the kernels of their operations.

use std::ops::Range;

use super::OntoKernels;
use crate::Result;
use crate::cuda::{Cuda, CudaBuffer};
use crate::ops::attention::{AttendedStep, CacheSizes, KeysValues};
use crate::ops::normalize::Groups;

impl OntoKernels<Cuda> for Cuda {
    fn gelu_back(
        &self,
        x: &CudaBuffer,
        grad: &CudaBuffer,
        before: Option<&CudaBuffer>,
    ) -> Result<CudaBuffer> {
        self.map_back_onto("gelu_back", x, grad, before)
    }

    fn gelu_slope_back(
        &self,
        x: &CudaBuffer,
        grad: &CudaBuffer,
        before: Option<&CudaBuffer>,
    ) -> Result<CudaBuffer> {
        self.map_back_onto("gelu_slope_back", x, grad, before)
    }

    fn linear_back(
        &self,
        grad: &CudaBuffer,
        weight: &CudaBuffer,
        before: CudaBuffer,
        rows: usize,
        out: usize,
        inp: usize,
    ) -> Result<CudaBuffer> {
        self.linear_back_onto(grad, weight, before, [rows, out, inp])
    }

    fn layer_norm_back(
        &self,
        x: &CudaBuffer,
        gamma: &CudaBuffer,
        grad: &CudaBuffer,
        before: &CudaBuffer,
        cols: usize,
        eps: f64,
    ) -> Result<CudaBuffer> {
        self.layer_norm_back_onto([x, gamma, grad], Some(before), None, cols, eps)
    }

    fn normalize_slope_back(
        &self,
        given: [&CudaBuffer; 3],
        before: [Option<&CudaBuffer>; 2],
        groups: Groups,
        eps: f64,
    ) -> Result<[CudaBuffer; 2]> {
        self.normalize_slope_back_onto(given, before, groups, eps)
    }

    fn rank_one_norms_back(
        &self,
        pairs: &[(&CudaBuffer, &CudaBuffer)],
        grad: &CudaBuffer,
        before: &[[Option<CudaBuffer>; 2]],
    ) -> Result<Vec<[CudaBuffer; 2]>> {
        self.rank_one_norms_back_onto(pairs, grad, before)
    }

    fn pad(
        &self,
        x: &CudaBuffer,
        before: &CudaBuffer,
        outer: usize,
        stride: usize,
        start: usize,
        len: usize,
    ) -> Result<CudaBuffer> {
        self.pad_onto(x, Some(before), [outer, stride, start, len])
    }

    fn attend_slope(
        &self,
        step: AttendedStep<'_, CudaBuffer>,
        pair: &KeysValues<CudaBuffer>,
        grad: &CudaBuffer,
        seen: Range<usize>,
        sizes: CacheSizes,
    ) -> Result<CudaBuffer> {
        self.attend_slope_of(step, pair, grad, seen, sizes)
    }

    fn attend_slope_back(
        &self,
        step: AttendedStep<'_, CudaBuffer>,
        pair: &KeysValues<CudaBuffer>,
        back: &mut KeysValues<CudaBuffer>,
        given: [&CudaBuffer; 2],
        seen: Range<usize>,
        sizes: CacheSizes,
    ) -> Result<[CudaBuffer; 2]> {
        self.attend_slope_back_of(step, pair, back, given, seen, sizes)
    }

    fn read_cache(
        &self,
        pair: &KeysValues<CudaBuffer>,
        before: &CudaBuffer,
        start: usize,
        steps: usize,
        sizes: CacheSizes,
    ) -> Result<CudaBuffer> {
        self.read_cache_onto(pair, Some(before), start, steps, sizes)
    }
}
