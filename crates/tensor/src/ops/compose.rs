//! Layers' mathematics put together from operations.

use crate::{Backend, Result, Tensor};

impl<B: Backend> Tensor<B> {
    /// The sum of squares of each row: `[B, n] → [B]`.
    ///
    /// # Errors
    /// [`TensorError::Unsuitable`](crate::TensorError::Unsuitable) for another number of axes.
    pub fn row_squares(&self) -> Result<Self> {
        let &[batch, _] = &self.shape()[..] else {
            return Err(self.unsuitable("row_squares", "rows are [B, n]"));
        };
        self.square()?.sum_to([batch, 1])?.reshape([batch])
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
