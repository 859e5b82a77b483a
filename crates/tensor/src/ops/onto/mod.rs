//! Shares of a gradient that are added to the ones before them by the kernels that make them.
//!
//! On a device to which every launch costs the host some microseconds, a small sum costs as much as what is summed. In a plain
//! sweep an operation takes what others gave of an input's gradient (`Recorded::take_sum`) and gives it back with its own share
//! in it. Elsewhere the sweep adds shares up itself, and there are no such kernels.

use std::ops::Range;

use crate::ops::attention::{AttendedStep, CacheSizes, KeysValues};
use crate::ops::normalize::Groups;
use crate::{Result, Storage};

#[cfg(feature = "cuda")]
mod cuda;

/// Kernels of derivatives that are added to what is there: `before`, of the derivative's shape, or nothing.
pub trait OntoKernels<S: Storage> {
    /// `before + grad ∘ GELU'(x)`.
    ///
    /// # Errors
    /// Device errors.
    fn gelu_back(&self, x: &S::Buffer, grad: &S::Buffer, before: Option<&S::Buffer>) -> Result<S::Buffer>;

    /// `before + grad ∘ GELU''(x)`.
    ///
    /// # Errors
    /// Device errors.
    fn gelu_slope_back(
        &self,
        x: &S::Buffer,
        grad: &S::Buffer,
        before: Option<&S::Buffer>,
    ) -> Result<S::Buffer>;

    /// `before + grad W`: grad `[rows, out]`, W `[out, inp]`, before `[rows, inp]`.
    ///
    /// # Errors
    /// Device errors.
    fn linear_back(
        &self,
        grad: &S::Buffer,
        weight: &S::Buffer,
        before: S::Buffer,
        rows: usize,
        out: usize,
        inp: usize,
    ) -> Result<S::Buffer>;

    /// `before` and the derivative by x of a layer normalisation over rows of `cols` elements.
    ///
    /// # Errors
    /// Device errors.
    fn layer_norm_back(
        &self,
        x: &S::Buffer,
        gamma: &S::Buffer,
        grad: &S::Buffer,
        before: &S::Buffer,
        cols: usize,
        eps: f64,
    ) -> Result<S::Buffer>;

    /// The derivatives by x and g of `⟨h, J g⟩`, J the derivative of [`normalize`](crate::Tensor::normalize) at x, each added
    /// to its own `before`.
    ///
    /// # Errors
    /// Device errors.
    fn normalize_slope_back(
        &self,
        given: [&S::Buffer; 3],
        before: [Option<&S::Buffer>; 2],
        groups: Groups,
        eps: f64,
    ) -> Result<[S::Buffer; 2]>;

    /// Of each pair `(p, q)` of changes of rank one, `before + 2 g ‖q‖² p` and `before + 2 g ‖p‖² q`, g `[batch]`.
    ///
    /// # Errors
    /// Device errors.
    fn rank_one_norms_back(
        &self,
        pairs: &[(&S::Buffer, &S::Buffer)],
        grad: &S::Buffer,
        before: &[[Option<S::Buffer>; 2]],
    ) -> Result<Vec<[S::Buffer; 2]>>;

    /// `before`, `outer` runs of `stride` elements, with the `len` elements from `start` on of each added to from `x`.
    ///
    /// # Errors
    /// Device errors.
    fn pad(
        &self,
        x: &S::Buffer,
        before: &S::Buffer,
        outer: usize,
        stride: usize,
        start: usize,
        len: usize,
    ) -> Result<S::Buffer>;

    /// The derivative of attention by its own step's `qkv` `[batch, 3 · width]`, that by its output being `grad`: earlier steps' keys
    /// and values are constants.
    ///
    /// # Errors
    /// Device errors.
    fn attend_slope(
        &self,
        step: AttendedStep<'_, S::Buffer>,
        pair: &KeysValues<S::Buffer>,
        grad: &S::Buffer,
        seen: Range<usize>,
        sizes: CacheSizes,
    ) -> Result<S::Buffer>;

    /// The way back of `attend_slope`, given `grad` and the derivative by what it gave: those by `qkv`, zero for k and v, whose
    /// derivatives are added to `back`, and by `grad`.
    ///
    /// # Errors
    /// Device errors.
    fn attend_slope_back(
        &self,
        step: AttendedStep<'_, S::Buffer>,
        pair: &KeysValues<S::Buffer>,
        back: &mut KeysValues<S::Buffer>,
        given: [&S::Buffer; 2],
        seen: Range<usize>,
        sizes: CacheSizes,
    ) -> Result<[S::Buffer; 2]>;

    /// `before` and steps of a cache from `start` on as `[batch, steps, 3 · width]`, zero for q.
    ///
    /// # Errors
    /// Device errors.
    fn read_cache(
        &self,
        pair: &KeysValues<S::Buffer>,
        before: &S::Buffer,
        start: usize,
        steps: usize,
        sizes: CacheSizes,
    ) -> Result<S::Buffer>;
}
