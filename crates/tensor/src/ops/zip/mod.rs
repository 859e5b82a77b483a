//! Functions of two elements, with broadcasting: shapes are aligned at the last axis, and an axis of
//! length 1 is repeated.

use smallvec::smallvec;

use crate::ops::onto::OntoKernels;
use crate::tape::{Grads, Op, Recorded};
use crate::{Array, Backend, Result, Shape, Storage, Tape, Tensor};

mod cpu;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;
#[cfg(test)]
mod tests;

pub(crate) use cpu::{Walk, walk};

/// A function applied to every pair of elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zip {
    /// `a + b`
    Add,
    /// `a − b`
    Sub,
    /// `a b`
    Mul,
    /// `a / b`
    Div,
}

/// Kernels of [`Zip`].
pub trait ZipKernels: Storage {
    /// Applies `f` to the elements of `a` and `b`, both broadcast to `out`.
    ///
    /// # Errors
    /// Device errors.
    fn zip(
        &self,
        f: Zip,
        a: (&Self::Buffer, &Shape),
        b: (&Self::Buffer, &Shape),
        out: &Shape,
    ) -> Result<Self::Buffer>;

    /// Adds `x` into `sum`, element by element.
    ///
    /// # Errors
    /// Device errors.
    fn add_assign(&self, sum: &mut Self::Buffer, x: &Self::Buffer) -> Result<()>;

    /// The same with several, one after the other.
    ///
    /// # Errors
    /// Device errors.
    fn add_all(&self, sum: &mut Self::Buffer, others: &[&Self::Buffer]) -> Result<()> {
        others.iter().try_for_each(|x| self.add_assign(sum, x))
    }

    /// How many addends are worth waiting for, to add them at once.
    fn addends(&self) -> usize {
        1
    }

    /// Kernels that add a share of a gradient to the ones before it, where sums cost as much as what is summed.
    fn onto(&self) -> Option<&dyn OntoKernels<Self>> {
        None
    }
}

impl<B: Backend> Op<B> for Zip {
    fn name(&self) -> &'static str {
        match self {
            Zip::Add => "add",
            Zip::Sub => "sub",
            Zip::Mul => "mul",
            Zip::Div => "div",
        }
    }

    fn backward(&self, r: &Recorded<'_, B>, grad: &Tensor<B>) -> Result<Grads<B>> {
        let (a, b) = (&r.inputs[0], &r.inputs[1]);
        let da = r.want(0, || {
            let da = match self {
                Zip::Add | Zip::Sub => grad.clone(),
                Zip::Mul => grad.mul(b)?,
                Zip::Div => grad.div(b)?,
            };
            da.sum_to(a.shape())
        })?;
        let db = r.want(1, || {
            let db = match self {
                Zip::Add => grad.clone(),
                Zip::Sub => grad.scale(-1.0)?,
                Zip::Mul => grad.mul(a)?,
                Zip::Div => grad.mul(r.output)?.div(b)?.scale(-1.0)?,
            };
            db.sum_to(b.shape())
        })?;
        Ok(smallvec![da, db])
    }
}

impl<B: Backend> Tensor<B> {
    fn zip(&self, f: Zip, other: &Self) -> Result<Self> {
        let Some(shape) = self.shape().broadcast(&other.shape()) else {
            let rule = "axes aligned at the last must be equal, or one of them 1";
            return Err(self.incompatible(Op::<B>::name(&f), other, rule));
        };
        let (a, b) = ((&self.array.buffer, &self.shape()), (&other.array.buffer, &other.shape()));
        let buffer = self.backend().zip(f, a, b, &shape)?;
        Tape::record(f, &[self, other], Array::new(self.backend(), buffer, shape))
    }

    /// `a + b`
    ///
    /// # Errors
    /// [`TensorError::Incompatible`](crate::TensorError::Incompatible) when the shapes don't broadcast;
    /// so for every function of two elements.
    pub fn add(&self, other: &Self) -> Result<Self> {
        self.zip(Zip::Add, other)
    }

    /// `a − b`
    ///
    /// # Errors
    /// When the shapes don't broadcast.
    pub fn sub(&self, other: &Self) -> Result<Self> {
        self.zip(Zip::Sub, other)
    }

    /// `a b`, element by element.
    ///
    /// # Errors
    /// When the shapes don't broadcast.
    pub fn mul(&self, other: &Self) -> Result<Self> {
        self.zip(Zip::Mul, other)
    }

    /// `a / b`
    ///
    /// # Errors
    /// When the shapes don't broadcast.
    pub fn div(&self, other: &Self) -> Result<Self> {
        self.zip(Zip::Div, other)
    }
}
