//! The norm of changes of rank one, which never needs the changes themselves: `‖p ⊗ q‖² = ‖p‖² ‖q‖²`.

use smallvec::SmallVec;

use crate::tape::{Grads, Op, Recorded};
use crate::{Array, Backend, Result, Shape, Storage, Tape, Tensor, TensorError};

mod cpu;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;

/// Kernels of changes of rank one, p and q `[batch, ..]` an episode a row.
pub trait RankOneKernels: Storage {
    /// `Σ ‖p‖² ‖q‖²` over the pairs, `[batch]`.
    ///
    /// # Errors
    /// Device errors.
    fn rank_one_norms(&self, pairs: &[(&Self::Buffer, &Self::Buffer)], batch: usize) -> Result<Self::Buffer>;

    /// The derivatives by p and q of one pair, `2 g ‖q‖² p` and `2 g ‖p‖² q`, g `[batch]`.
    ///
    /// # Errors
    /// Device errors.
    fn rank_one_norms_back(
        &self,
        p: &Self::Buffer,
        q: &Self::Buffer,
        grad: &Self::Buffer,
    ) -> Result<[Self::Buffer; 2]>;
}

/// Inputs: p and q of every pair in turn.
struct RankOneNorms;

/// `g ‖other‖² t` by rows.
fn scaled<B: Backend>(t: &Tensor<B>, other: &Tensor<B>, g: &Tensor<B>) -> Result<Tensor<B>> {
    let rows = [g.shape().len(), 1];
    t.mul(&other.square()?.sum_to(rows)?.mul(&g.reshape(rows)?)?)
}

impl<B: Backend> Op<B> for RankOneNorms {
    fn name(&self) -> &'static str {
        "rank_one_norms"
    }

    fn backward(&self, r: &Recorded<'_, B>, grad: &Tensor<B>) -> Result<Grads<B>> {
        if let Some(kernels) = r.onto() {
            let pairs: Vec<_> =
                r.inputs.chunks_exact(2).map(|pair| (&pair[0].array.buffer, &pair[1].array.buffer)).collect();
            let before: Vec<_> =
                (0..pairs.len()).map(|i| [r.take_sum(2 * i), r.take_sum(2 * i + 1)]).collect();
            let found = kernels.rank_one_norms_back(&pairs, &grad.array.buffer, &before)?;
            let all = r.inputs.iter().zip(found.into_iter().flatten()).zip(r.wanted);
            return Ok(all
                .map(|((t, d), wanted)| wanted.then(|| Array::new(t.backend(), d, t.shape()).into()))
                .collect());
        }
        let mut grads = SmallVec::with_capacity(r.inputs.len());
        let twice = grad.scale(2.0)?;
        for (pair, wanted) in r.inputs.chunks_exact(2).zip(r.wanted.chunks_exact(2)) {
            let [p, q] = pair else { unreachable!("chunks of two") };
            if r.is_plain() && wanted.contains(&true) {
                let back = |t: &Tensor<B>, buffer| Tensor::from(Array::new(t.backend(), buffer, t.shape()));
                let (pb, qb) = (&p.array.buffer, &q.array.buffer);
                let [dp, dq] = grad.backend().rank_one_norms_back(pb, qb, &grad.array.buffer)?;
                grads.extend([wanted[0].then(|| back(p, dp)), wanted[1].then(|| back(q, dq))]);
            } else {
                let of = |wanted: bool, t, other| wanted.then(|| scaled(t, other, &twice)).transpose();
                grads.extend([of(wanted[0], p, q)?, of(wanted[1], q, p)?]);
            }
        }
        Ok(grads)
    }
}

/// `Σ ‖p ⊗ q‖²` of each episode over pairs p `[B, ..]` and q `[B, ..]`, by `‖p‖² ‖q‖²`: `[B]`.
///
/// # Errors
/// [`TensorError::Incompatible`] when the pairs are not all of as many rows, [`TensorError::Setting`] when there is no pair.
pub fn rank_one_norms<B: Backend>(pairs: &[(&Tensor<B>, &Tensor<B>)]) -> Result<Tensor<B>> {
    let Some((first, _)) = pairs.first() else {
        let rule = "give at least one";
        return Err(TensorError::Setting { name: "pairs", value: "[]".into(), rule });
    };
    let inputs: Vec<&Tensor<B>> = pairs.iter().flat_map(|&(p, q)| [p, q]).collect();
    let batch = first.shape().first().copied().unwrap_or(1);
    if let Some(other) = inputs.iter().find(|t| t.shape().rank() != 2 || t.shape()[0] != batch) {
        return Err(first.incompatible("rank_one_norms", other, "all are [B, n], with one B"));
    }
    let buffers: Vec<_> = pairs.iter().map(|(p, q)| (&p.array.buffer, &q.array.buffer)).collect();
    let buffer = first.backend().rank_one_norms(&buffers, batch)?;
    Tape::record(RankOneNorms, &inputs, Array::new(first.backend(), buffer, Shape::from([batch])))
}
