//! Matrix products: plain, batched, with either operand transposed.

use smallvec::smallvec;

use crate::tape::{Grads, Op, Recorded, Share};
use crate::{Array, Backend, Result, Storage, Tape, Tensor};

mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
mod skinny;
pub(crate) mod strided;
#[cfg(test)]
mod tests;

pub(crate) use cpu::{dot_of_four, rows_times_transposed};

/// Sizes of a batch of products `C = op(A) op(B)`, A stored as `[m, k]` or, transposed, `[k, m]`; B as
/// `[k, n]` or `[n, k]`; C as `[m, n]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MatMulSizes {
    /// Number of products.
    pub batch: usize,
    /// Rows of the result.
    pub m: usize,
    /// Length that is summed over.
    pub k: usize,
    /// Columns of the result.
    pub n: usize,
    /// Whether A is stored transposed.
    pub transpose_a: bool,
    /// Whether B is stored transposed.
    pub transpose_b: bool,
}

/// Kernels of matrix products.
pub trait MatMulKernels: Storage {
    /// A batch of matrix products.
    ///
    /// # Errors
    /// Device errors.
    fn matmul(&self, a: &Self::Buffer, b: &Self::Buffer, sizes: MatMulSizes) -> Result<Self::Buffer>;
}

struct MatMul {
    transpose_a: bool,
    transpose_b: bool,
}

impl<B: Backend> Op<B> for MatMul {
    fn name(&self) -> &'static str {
        "matmul"
    }

    fn backward(&self, r: &Recorded<'_, B>, grad: &Tensor<B>) -> Result<Grads<B>> {
        let (a, b) = (&r.inputs[0], &r.inputs[1]);
        let (ta, tb) = (self.transpose_a, self.transpose_b);
        // C = A B: dA = G Bᵀ, dB = Aᵀ G; a transposed operand swaps its own pair
        let da = r.want(0, || if ta { product(b, grad, tb, true) } else { product(grad, b, false, !tb) })?;
        if r.is_plain() && !ta && b.shape().rank() == 2 {
            // one matrix for all rows may be one for all steps: its shares are one tall product in the end
            let (a, g) = (a.array().clone(), grad.array().clone());
            r.put_off(1, || if tb { Share::Outer(g, a) } else { Share::Outer(a, g) });
            return Ok(smallvec![da, None]);
        }
        let db = r.want(1, || if tb { product(grad, a, true, ta) } else { product(a, grad, !ta, false) })?;
        Ok(smallvec![da, db])
    }
}

/// `op(A) op(B)` of operands with equal batch axes.
fn product<B: Backend>(a: &Tensor<B>, b: &Tensor<B>, ta: bool, tb: bool) -> Result<Tensor<B>> {
    let rule = "matrices need two axes, equal batch axes before them, and equal inner lengths";
    let error = || a.incompatible("matmul", b, rule);
    let (sa, sb) = (a.shape(), b.shape());
    let (Some((batch_a, &[ra, ca])), Some((batch_b, &[rb, cb]))) =
        (sa.split_last_chunk::<2>(), sb.split_last_chunk::<2>())
    else {
        return Err(error());
    };
    let (m, k) = if ta { (ca, ra) } else { (ra, ca) };
    let (k_b, n) = if tb { (cb, rb) } else { (rb, cb) };
    if batch_a != batch_b || k != k_b {
        return Err(error());
    }
    let sizes = MatMulSizes { batch: batch_a.iter().product(), m, k, n, transpose_a: ta, transpose_b: tb };
    let buffer = a.backend().matmul(&a.array.buffer, &b.array.buffer, sizes)?;
    let rank = sa.rank();
    let shape = sa.with_axis(rank - 2, m).with_axis(rank - 1, n);
    Tape::record(MatMul { transpose_a: ta, transpose_b: tb }, &[a, b], Array::new(a.backend(), buffer, shape))
}

impl<B: Backend> Tensor<B> {
    /// Matrix product over the last two axes: `[.., m, k] · [.., k, n] → [.., m, n]`, batch axes equal; or
    /// `[.., k] · [k, n] → [.., n]`, one matrix for all of a batch.
    ///
    /// # Errors
    /// [`TensorError::Incompatible`](crate::TensorError::Incompatible) when the shapes don't fit.
    pub fn matmul(&self, other: &Self) -> Result<Self> {
        self.matmul_transposed(other, false, false)
    }

    /// Matrix product with the last two axes of an operand swapped first: `op(A) op(B)`.
    ///
    /// # Errors
    /// [`TensorError::Incompatible`](crate::TensorError::Incompatible) when the shapes don't fit.
    pub fn matmul_transposed(
        &self,
        other: &Self,
        transpose_self: bool,
        transpose_other: bool,
    ) -> Result<Self> {
        let (shape, rank) = (self.shape(), self.shape().rank());
        if transpose_self || other.shape().rank() != 2 || rank == 2 || rank == 0 {
            return product(self, other, transpose_self, transpose_other);
        }
        // one matrix for all rows: a single tall product
        let (rows, cols) = shape.rows_cols();
        let tall = self.reshape([rows, cols])?;
        let out = product(&tall, other, false, transpose_other)?;
        let width = out.shape()[1];
        out.reshape(shape.with_axis(rank - 1, width))
    }
}
