//! Clipping a gradient by the norm of all of it (Pascanu, Mikolov and Bengio, arXiv 1211.5063).

use crate::{Array, Backend, Result};

/// The Euclidean norm of all gradients together.
///
/// # Errors
/// Device errors.
pub fn global_norm<B: Backend>(gradients: &[Option<Array<B>>]) -> Result<f64> {
    let given: Vec<&Array<B>> = gradients.iter().flatten().collect();
    let Some(first) = given.first() else { return Ok(0.0) };
    let buffers: Vec<_> = given.iter().map(|gradient| &gradient.buffer).collect();
    Ok(first.backend.sum_of_all_squares(&buffers)?.sqrt())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::tensor;

    fn gradients() -> Vec<Option<Array<crate::Cpu<f64>>>> {
        vec![Some(tensor(&[3.0, 0.0], [2]).array), None, Some(tensor(&[-4.0], []).array)]
    }

    #[test]
    fn a_norm_above_is_brought_down_and_one_below_left_alone() {
        let check = |max_norm: f64, after: f64| {
            let mut clipped = gradients();
            assert_eq!(clip_global_norm(&mut clipped, max_norm).unwrap(), 5.0);
            let scale = after / 5.0;
            let values: Vec<f64> = clipped.iter().flatten().flat_map(|g| g.to_vec().unwrap()).collect();
            for (got, before) in values.iter().zip([3.0, 0.0, -4.0]) {
                assert!((got - scale * before).abs() < 1e-12, "{values:?}");
            }
            assert!(clipped[1].is_none());
        };
        check(1.0, 5.0 / (5.0 + 1e-6));
        check(4.0, 20.0 / (5.0 + 1e-6));
        check(5.1, 5.0);
        check(f64::INFINITY, 5.0);
    }

    #[test]
    fn a_copy_taken_before_keeps_its_values() {
        let mut clipped = gradients();
        let before = clipped[0].clone().unwrap();
        clip_global_norm(&mut clipped, 1.0).unwrap();
        assert_eq!(before.to_vec().unwrap(), [3.0, 0.0]);
    }

    #[test]
    fn the_norm_of_single_precision_is_taken_in_double() {
        let n = 100_003;
        let gradient = Array::full(&crate::Cpu::<f32>::new(), 1e-25, [n]).unwrap();
        let norm = global_norm(&[Some(gradient)]).unwrap();
        assert!((norm / (f64::from(1e-25_f32) * (n as f64).sqrt()) - 1.0).abs() < 1e-12);
    }
}
