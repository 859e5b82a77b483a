//! The prototypical network (Snell, Swersky and Zemel, arXiv 1703.05175): a class is the mean of its support
//! embeddings, and a query belongs to the nearest.

use plastica_tensor::{Backend, Tensor};

use crate::{ModelError, Result};

/// The logits of every step, `[B, T, classes]`: minus the squared Euclidean distance of its embedding from each class's
/// prototype.
///
/// Embeddings are `[B, T, e]`; `inputs` `[B, T, w]`, w at least `classes`, begin with a one-hot label at the steps that
/// show support, and with zeros elsewhere. A class without support has its prototype at zero.
///
/// # Errors
/// [`ModelError::Input`] when the shapes don't fit.
pub fn prototypical_logits<B: Backend>(
    embeddings: &Tensor<B>,
    inputs: &Tensor<B>,
    classes: usize,
) -> Result<Tensor<B>> {
    let (&[batch, steps, width], &[b, t, w]) = (&embeddings.shape()[..], &inputs.shape()[..]) else {
        let expected = format!("embeddings [B, T, e] beside inputs {}", inputs.shape());
        return Err(ModelError::Input { found: embeddings.shape(), expected });
    };
    if (b, t) != (batch, steps) || w < classes {
        let expected = format!("[{batch}, {steps}, w] with w at least {classes}, the number of classes");
        return Err(ModelError::Input { found: inputs.shape(), expected });
    }
    let labels = inputs.slice(2, 0, classes)?;
    let counts = labels.sum_axis(1)?.reshape([batch, classes, 1])?;
    // max(counts, 1)
    let counts = counts.scale(-1.0)?.at_most(-1.0)?.scale(-1.0)?;
    let prototypes = labels.matmul_transposed(embeddings, true, false)?.div(&counts)?;
    let apart = embeddings
        .reshape([batch, steps, 1, width])?
        .sub(&prototypes.reshape([batch, 1, classes, width])?)?;
    Ok(apart.square()?.sum_axis(3)?.scale(-1.0)?.reshape([batch, steps, classes])?)
}
