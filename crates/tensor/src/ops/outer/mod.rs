//! The fast-weight update: decay, and a rank-one term scaled element by element.

use smallvec::smallvec;

use crate::tape::{Grads, Op, Recorded};
use crate::{Array, Backend, Result, Storage, Tape, Tensor};

mod cpu;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;

/// Sizes of a batch of fast-weight matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OuterSizes {
    /// Episodes.
    pub batch: usize,
    /// Output units: length of p.
    pub out: usize,
    /// Input units: length of q.
    pub inp: usize,
}

/// Kernels of the fast-weight update.
pub trait OuterKernels: Storage {
    /// `F' = (1 − η) F + η α ∘ (p ⊗ q)` for every episode; `f: None` stands for F = 0.
    ///
    /// Lengths: F `[batch, out, inp]`, η `[batch]`, α `[out, inp]`, p `[batch, out]`, q `[batch, inp]`.
    ///
    /// # Errors
    /// Device errors.
    fn decay_outer(
        &self,
        f: Option<&Self::Buffer>,
        eta: &Self::Buffer,
        alpha: &Self::Buffer,
        p: &Self::Buffer,
        q: &Self::Buffer,
        sizes: OuterSizes,
    ) -> Result<Self::Buffer>;
}

/// Inputs: η, α, p, q and, if it is not zero, F.
struct DecayOuter;

impl<B: Backend> Op<B> for DecayOuter {
    fn name(&self) -> &'static str {
        "decay_outer"
    }

    fn backward(&self, r: &Recorded<'_, B>, grad: &Tensor<B>) -> Result<Grads<B>> {
        let [eta, alpha, p, q, ..] = r.inputs else { unreachable!("recorded with four inputs or five") };
        let f = r.inputs.get(4);
        let [batch, out, inp] = grad.shape()[..] else { unreachable!("fast weights have three axes") };
        let (eta3, p3, q3) =
            (eta.reshape([batch, 1, 1])?, p.reshape([batch, out, 1])?, q.reshape([batch, inp, 1])?);
        let scaled = grad.mul(alpha)?;
        // (G ∘ α) q, which is what p and, through ⟨G, α ∘ p ⊗ q⟩, η need
        let carried = if r.wanted[0] || r.wanted[2] { Some(scaled.matmul(&q3)?) } else { None };
        let d_eta = match &carried {
            Some(carried) if r.wanted[0] => {
                let grown = carried.mul(&p3)?.sum_to([batch, 1, 1])?;
                let change = match f {
                    Some(f) => grown.sub(&grad.mul(f)?.sum_to([batch, 1, 1])?)?,
                    None => grown,
                };
                Some(change.reshape(eta.shape())?)
            }
            _ => None,
        };
        let d_alpha = r.want(1, || {
            let term = p3.mul(&eta3)?.matmul_transposed(&q3, false, true)?;
            grad.mul(&term)?.sum_to([out, inp])
        })?;
        let d_p = match carried {
            Some(carried) if r.wanted[2] => Some(carried.mul(&eta3)?.reshape(p.shape())?),
            _ => None,
        };
        let d_q = r.want(3, || scaled.matmul_transposed(&p3, true, false)?.mul(&eta3)?.reshape(q.shape()))?;
        let mut grads: Grads<B> = smallvec![d_eta, d_alpha, d_p, d_q];
        if f.is_some() {
            grads.push(r.want(4, || grad.mul(&eta3.scale(-1.0)?.shift(1.0)?))?);
        }
        Ok(grads)
    }
}

/// One fast-weight update, `F' = (1 − η) F + η α ∘ (p ⊗ q)`, for every episode of a batch.
///
/// Shapes: `fast` F `[B, out, in]`, or `None` for zero; `eta` `[B]`; `alpha` `[out, in]`; `p` `[B, out]`;
/// `q` `[B, in]`. The result is F'. (arXiv 2510.21908, section 3.2; arXiv 2302.03235, equation 3.)
///
/// # Errors
/// [`TensorError::Incompatible`](crate::TensorError::Incompatible) when the shapes don't fit.
pub fn decay_outer<B: Backend>(
    fast: Option<&Tensor<B>>,
    eta: &Tensor<B>,
    alpha: &Tensor<B>,
    p: &Tensor<B>,
    q: &Tensor<B>,
) -> Result<Tensor<B>> {
    let name = "decay_outer";
    let (&[batch, out], &[_, inp]) = (&p.shape()[..], &q.shape()[..]) else {
        return Err(p.incompatible(name, q, "p is [B, out] and q [B, in]"));
    };
    if q.shape()[0] != batch {
        return Err(p.incompatible(name, q, "p is [B, out] and q [B, in]"));
    }
    if eta.shape()[..] != [batch] {
        return Err(eta.incompatible(name, p, "eta is [B] where p is [B, out]"));
    }
    if alpha.shape()[..] != [out, inp] {
        let rule = format!("alpha is [out, in], here [{out}, {inp}]");
        return Err(alpha.unsuitable(name, rule));
    }
    if let Some(f) = fast.filter(|f| f.shape()[..] != [batch, out, inp]) {
        let rule = format!("fast weights are [B, out, in], here [{batch}, {out}, {inp}]");
        return Err(f.unsuitable(name, rule));
    }
    let buffer = p.backend().decay_outer(
        fast.map(|f| &f.array.buffer),
        &eta.array.buffer,
        &alpha.array.buffer,
        &p.array.buffer,
        &q.array.buffer,
        OuterSizes { batch, out, inp },
    )?;
    let array = Array::new(p.backend(), buffer, [batch, out, inp].into());
    match fast {
        Some(f) => Tape::record(DecayOuter, &[eta, alpha, p, q, f], array),
        None => Tape::record(DecayOuter, &[eta, alpha, p, q], array),
    }
}
