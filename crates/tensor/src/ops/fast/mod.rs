//! Fast weights along a sequence: read, changed in place, and taken back on the way back.
//!
//! Per step and layer, `F' = (1 − η) F + η α ∘ (p ⊗ q)` and `c' = (1 − η) c + η β ∘ p`, and reads `F x + c`. The
//! plain way ([`decay_outer`](crate::ops::outer::decay_outer)) makes a new F at every step and keeps them all.
//! Here there is one F. Forward, an update waits for the read that follows it, and both are one walk over F.
//! Backward, F is not replayed from the start but taken back step by step, `F = (F' − η α ∘ (p ⊗ q)) / (1 − η)`,
//! which divides rounding errors by 1 − η each time: so copies are kept wherever these would have grown, and a
//! stretch in which they grow too fast is replayed from its copy instead.
//!
//! With G the derivative of the loss by F', an update needs `(G ∘ α) q`, `(G ∘ α)ᵀ p` and ⟨G, F⟩. The last needs no
//! walk over F: `S = ⟨G, F⟩` satisfies `S = S' − η p·(G ∘ α) q + Σ g·r` over the reads r of the step, S' being the
//! next step's, and `⟨G, F⟩ = (S' − η p·(G ∘ α) q) / (1 − η)` at the update itself.

use std::cell::RefCell;
use std::rc::Rc;

use smallvec::{SmallVec, smallvec};

use crate::tape::{Grads, Op, Recorded};
use crate::{Array, Backend, Element, Result, Shape, Storage, Tape, Tensor, TensorError};

mod by_changes;
mod cpu;
mod credit;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;
#[cfg(feature = "cuda")]
pub(crate) mod cuda_changes;
mod path;
mod recorded;
mod trajectory;
mod walks;

pub use by_changes::{ByChanges, Prepared};
use path::HeldTerm;
pub use trajectory::FastTrajectory;

/// Sizes of a layer's fast weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FastSizes {
    /// Episodes.
    pub batch: usize,
    /// Output units: length of p.
    pub out: usize,
    /// Input units: length of q.
    pub inp: usize,
}

/// How plastic a layer is: α `[out, inp]` and β `[out]`.
#[derive(Debug)]
pub struct Plastic<'a, Buffer> {
    /// α
    pub alpha: &'a Buffer,
    /// β
    pub beta: &'a Buffer,
}

/// One update: η `[batch]`, p `[batch, out]`, q `[batch, inp]`.
#[derive(Debug)]
pub struct Change<'a, Buffer> {
    /// η
    pub eta: &'a Buffer,
    /// p
    pub p: &'a Buffer,
    /// q
    pub q: &'a Buffer,
}

/// A share `left ⊗ right` of the derivative by F, and `left` of that by c if `bias`.
#[derive(Debug)]
pub struct Term<'a, Buffer> {
    /// `[batch, out]`
    pub left: &'a Buffer,
    /// `[batch, inp]`
    pub right: &'a Buffer,
    /// Whether the bias was read too.
    pub bias: bool,
    /// What was read, where S has not taken it in yet.
    pub value: Option<Value<'a, Buffer>>,
}

/// What was read. Its part of S is its inner product with the derivative by it, which is one side of the term.
#[derive(Debug)]
pub enum Value<'a, Buffer> {
    /// By F, `[batch, out]`: beside `left`.
    Read(&'a Buffer),
    /// By Fᵀ, `[batch, inp]`: beside `right`.
    Transposed(&'a Buffer),
}

impl<Buffer> Term<'_, Buffer> {
    /// The two sides of its part of S, where S has not taken it in yet.
    fn inner(&self) -> Option<(&Buffer, &Buffer)> {
        match self.value.as_ref()? {
            Value::Read(value) => Some((self.left, value)),
            Value::Transposed(value) => Some((self.right, value)),
        }
    }
}

/// A read of `F x`.
#[derive(Debug)]
pub struct Reading<'a, Buffer> {
    /// `[batch, inp]`
    pub x: &'a Buffer,
    /// Whether c is added.
    pub bias: bool,
    /// What is read is also wanted added to these: `[batch, out]`, and a row `[out]`.
    pub onto: Option<[&'a Buffer; 2]>,
}

impl<Buffer> Clone for Reading<'_, Buffer> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<Buffer> Copy for Reading<'_, Buffer> {}

/// What the way back carries for one layer.
#[derive(Debug, Clone)]
pub struct Credit<Buffer> {
    /// Derivative by F, `[batch, out, inp]`, and by c, `[batch, out]`; `None` for zero.
    pub by_fast: Option<(Buffer, Buffer)>,
    /// S = ⟨derivative, fast weights⟩, `[batch]`.
    pub inner: Buffer,
    /// Derivatives by α `[out, inp]` and β `[out]`, or what they will be made of
    /// ([`fast_credit_by_plastic`](FastKernels::fast_credit_by_plastic)).
    pub by_plastic: (Buffer, Buffer),
}

/// What came of a change and a read.
#[derive(Debug)]
pub struct Advanced<Buffer> {
    /// What was read, `[batch, out]`, if there was an x.
    pub read: Option<Buffer>,
    /// That added to what it was wanted added to.
    pub total: Option<Buffer>,
    /// ‖F‖² `[batch]`, if there was a change.
    pub norm: Option<Buffer>,
}

/// Kernels of fast weights along a sequence. F is `[batch, out, inp]`, c `[batch, out]`.
pub trait FastKernels: Storage {
    /// The largest of an update's rates η `[batch]`, at least 0; `None` on a device that it would have to be waited for, if
    /// a bound will do.
    ///
    /// # Errors
    /// Device errors.
    fn largest_rate(&self, eta: &Self::Buffer) -> Result<Option<Self::Elem>> {
        Ok(Some(self.download(eta)?.into_iter().fold(num_traits::Zero::zero(), num_traits::Float::max)))
    }

    /// Kernels of fast weights by their changes, on a device that has better ones than those of F.
    fn by_changes(&self) -> Option<&dyn ByChanges<Self::Buffer>> {
        None
    }

    /// Carries `change` out, if there is one, then reads, if that is asked for.
    ///
    /// # Errors
    /// Device errors.
    fn fast_advance(
        &self,
        fast: &mut Option<(Self::Buffer, Self::Buffer)>,
        plastic: &Plastic<'_, Self::Buffer>,
        change: Option<Change<'_, Self::Buffer>>,
        reading: Option<Reading<'_, Self::Buffer>>,
        sizes: FastSizes,
    ) -> Result<Advanced<Self::Buffer>>;

    /// Takes `change` back, if there is one, then reads `Fᵀ g`, if there is a g, and adds that to `before`, if there is one.
    ///
    /// # Errors
    /// Device errors.
    fn fast_retreat(
        &self,
        fast: &mut (Self::Buffer, Self::Buffer),
        plastic: &Plastic<'_, Self::Buffer>,
        change: Option<Change<'_, Self::Buffer>>,
        g: Option<&Self::Buffer>,
        before: Option<&Self::Buffer>,
        sizes: FastSizes,
    ) -> Result<Option<Self::Buffer>>;

    /// What the way back through a layer begins with: nothing.
    ///
    /// # Errors
    /// Device errors.
    fn fast_credit_start(&self, sizes: FastSizes) -> Result<Credit<Self::Buffer>> {
        let zeros = |len| self.full(len, num_traits::Zero::zero());
        let by_plastic = (zeros(sizes.out * sizes.inp)?, zeros(sizes.out)?);
        Ok(Credit { by_fast: None, inner: zeros(sizes.batch)?, by_plastic })
    }

    /// The derivatives by α `[out, inp]` and β `[out]` so far.
    ///
    /// # Errors
    /// Device errors.
    fn fast_credit_by_plastic(
        &self,
        credit: &Credit<Self::Buffer>,
        _: FastSizes,
    ) -> Result<(Self::Buffer, Self::Buffer)> {
        Ok(credit.by_plastic.clone())
    }

    /// The way back through one update: lets the derivative by F decay by the later update's η, adds `terms`, and
    /// gives the derivatives by this update's η `[batch]`, added to `before`, if there is one, p `[batch, out]` and q `[batch,
    /// inp]`.
    ///
    /// # Errors
    /// Device errors.
    fn fast_credit(
        &self,
        credit: &mut Credit<Self::Buffer>,
        plastic: &Plastic<'_, Self::Buffer>,
        decay: Option<&Self::Buffer>,
        terms: &[Term<'_, Self::Buffer>],
        change: Change<'_, Self::Buffer>,
        before: Option<&Self::Buffer>,
        sizes: FastSizes,
    ) -> Result<[Self::Buffer; 3]>;

    /// Adds each episode's ⟨a, b⟩ to `sums` `[batch]`.
    ///
    /// # Errors
    /// Device errors.
    fn add_inner(&self, sums: &mut Self::Buffer, a: &Self::Buffer, b: &Self::Buffer) -> Result<()>;
}
