//! Layers' mathematics put together from operations.

use crate::{Backend, Result, Tensor};

impl<B: Backend> Tensor<B> {
    /// Layer normalisation over the last axis: `normalize(x, eps) γ + β`, γ and β of the last axis' length.
    ///
    /// # Errors
    /// When the shapes don't fit.
    pub fn layer_norm(&self, gamma: &Self, beta: &Self, eps: f64) -> Result<Self> {
        self.normalize(eps)?.mul(gamma)?.add(beta)
    }

    /// Cross-entropy of each row's softmax against its class, in nats: `[.., n] → [.., 1]`.
    ///
    /// # Errors
    /// [`TensorError::Index`](crate::TensorError::Index) for a class of `n` or more, and when there is not
    /// one class a row.
    pub fn cross_entropy(&self, classes: &[u32]) -> Result<Self> {
        self.log_softmax()?.gather_last(classes)?.scale(-1.0)
    }
}
