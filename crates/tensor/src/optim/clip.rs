//! Clipping a gradient by the norm of all of it (Pascanu, Mikolov and Bengio, arXiv 1211.5063).

use crate::{Array, Backend, Result};

/// The Euclidean norm of all gradients together.
///
/// # Errors
/// Device errors.
pub fn global_norm<B: Backend>(gradients: &[Option<Array<B>>]) -> Result<f64> {
    let mut squares = 0.0;
    for gradient in gradients.iter().flatten() {
        squares += gradient.backend.sum_of_squares(&gradient.buffer)?;
    }
    Ok(squares.sqrt())
}

/// Scales all gradients by `max_norm / (norm + 1e-6)` where that is below 1; returns the norm before.
///
/// # Errors
/// Device errors.
pub fn clip_global_norm<B: Backend>(gradients: &mut [Option<Array<B>>], max_norm: f64) -> Result<f64> {
    let norm = global_norm(gradients)?;
    let scale = max_norm / (norm + 1e-6);
    if scale < 1.0 {
        for gradient in gradients.iter_mut().flatten() {
            let backend = gradient.backend.clone();
            backend.scale_assign(&mut gradient.buffer, scale)?;
        }
    }
    Ok(norm)
}
