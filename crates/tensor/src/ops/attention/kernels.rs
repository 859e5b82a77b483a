//! What attention asks of a device.

use std::ops::Range;

use super::SequenceSizes;
use crate::{Result, Storage, TensorError};

/// Sizes of a cache: keys and values are `[batch, heads, capacity, per_head]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheSizes {
    /// Episodes.
    pub batch: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of a head.
    pub per_head: usize,
    /// Steps that there is room for.
    pub capacity: usize,
}

impl CacheSizes {
    pub(super) fn width(self) -> usize {
        self.heads * self.per_head
    }

    pub(super) fn len(self) -> usize {
        self.batch * self.width() * self.capacity
    }
}

/// A pair of buffers: of keys and of values.
#[derive(Debug, Clone)]
pub struct KeysValues<Buffer> {
    /// Of keys.
    pub keys: Buffer,
    /// Of values.
    pub values: Buffer,
}

/// Kernels of attention over a cache. Rows of `qkv` are `[q, k, v]`, each `heads × per_head`.
pub trait AttentionKernels: Storage {
    /// Moves the first `len` steps of a pair to one of another capacity, the rest zero.
    ///
    /// # Errors
    /// Device errors.
    fn resize_cache(
        &self,
        pair: &KeysValues<Self::Buffer>,
        len: usize,
        from: CacheSizes,
        to: CacheSizes,
    ) -> Result<KeysValues<Self::Buffer>>;

    /// Writes keys and values of `steps` steps `qkv` `[batch, steps, 3 · width]` from step `start` on.
    ///
    /// # Errors
    /// Device errors.
    fn write_cache(
        &self,
        pair: &mut KeysValues<Self::Buffer>,
        qkv: &Self::Buffer,
        start: usize,
        steps: usize,
        sizes: CacheSizes,
    ) -> Result<()>;

    /// The opposite: steps from `start` on as `[batch, steps, 3 · width]`, zero for q.
    ///
    /// # Errors
    /// Device errors.
    fn read_cache(
        &self,
        pair: &KeysValues<Self::Buffer>,
        start: usize,
        steps: usize,
        sizes: CacheSizes,
    ) -> Result<Self::Buffer>;

    /// The steps `seen` of keys, or of values, `[batch, heads, len, per_head]`, len being the range's.
    ///
    /// # Errors
    /// Device errors.
    fn copy_cache(&self, cache: &Self::Buffer, seen: Range<usize>, sizes: CacheSizes)
    -> Result<Self::Buffer>;

    /// The opposite: adds `[batch, heads, len, per_head]` to the steps `seen`.
    ///
    /// # Errors
    /// Device errors.
    fn add_to_cache(
        &self,
        cache: &mut Self::Buffer,
        x: &Self::Buffer,
        seen: Range<usize>,
        sizes: CacheSizes,
    ) -> Result<()>;

    /// Attention of one step's q to the steps `seen`: the output `[batch, width]`, and what the way back takes: the
    /// probabilities `[batch, heads, len]`, or whatever it makes them of again. `mask`, of their shape, multiplies them
    /// before they weigh the values.
    ///
    /// # Errors
    /// Device errors.
    fn attend(
        &self,
        qkv: &Self::Buffer,
        pair: &KeysValues<Self::Buffer>,
        mask: Option<&Self::Buffer>,
        seen: Range<usize>,
        sizes: CacheSizes,
    ) -> Result<(Self::Buffer, Self::Buffer)>;

    /// The way back of `attend`: the derivative by its `qkv` row `[batch, 3 · width]`, zero for k and v, whose
    /// derivatives are added to `back`.
    ///
    /// # Errors
    /// Device errors.
    fn attend_back(
        &self,
        step: AttendedStep<'_, Self::Buffer>,
        pair: &KeysValues<Self::Buffer>,
        back: &mut KeysValues<Self::Buffer>,
        grad: &Self::Buffer,
        seen: Range<usize>,
        sizes: CacheSizes,
    ) -> Result<Self::Buffer>;

    /// Attention of all steps of a sequence at once, each to those that it sees: `qkv` `[batch, steps, 3 · width]` to
    /// `[batch, steps, width]`, and what the way back takes. `masks` is empty, or has one for each step, `[batch, heads,
    /// visible]`, that multiplies its probabilities. `None` where there is no such kernel.
    ///
    /// # Errors
    /// Device errors.
    fn attend_sequence(
        &self,
        _qkv: &Self::Buffer,
        _masks: &[&Self::Buffer],
        _sizes: SequenceSizes,
    ) -> Result<Option<(Self::Buffer, Self::Buffer)>> {
        Ok(None)
    }

    /// The way back of `attend_sequence`, given what that was given and kept: the derivative by its `qkv`.
    ///
    /// # Errors
    /// [`TensorError::NoDerivative`] where there is no such kernel, and device errors.
    fn attend_sequence_back(
        &self,
        _qkv: &Self::Buffer,
        _kept: &Self::Buffer,
        _masks: &[&Self::Buffer],
        _grad: &Self::Buffer,
        _sizes: SequenceSizes,
    ) -> Result<Self::Buffer> {
        let (what, instead) = ("derivative on this device", "attention in operations");
        Err(TensorError::NoDerivative { op: "attention of a sequence", what, instead })
    }
}

/// What `attend` was given and gave, for its way back.
#[derive(Debug, Clone, Copy)]
pub struct AttendedStep<'a, Buffer> {
    /// `[batch, 3 · width]`
    pub qkv: &'a Buffer,
    /// What it kept: the probabilities before the mask, or what they are made of again.
    pub kept: &'a Buffer,
    /// `[batch, heads, len]`
    pub mask: Option<&'a Buffer>,
}
