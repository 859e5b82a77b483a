//! What the unit tests share.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{Cpu, Result, Shape, Tensor};

pub(crate) type Real = Tensor<Cpu<f64>>;

pub(crate) const CPU: Cpu<f64> = Cpu::new();

/// A plain tensor of these values.
pub(crate) fn tensor(values: &[f64], shape: impl Into<Shape>) -> Real {
    Tensor::from_vec(&CPU, values.to_vec(), shape).unwrap()
}

/// Values in [−1, 1), the same at every call.
pub(crate) fn noise(shape: impl Into<Shape>) -> Real {
    let shape = shape.into();
    let mut rng = ChaCha8Rng::seed_from_u64(shape.iter().fold(7, |seed, &n| 31 * seed + n as u64));
    let values = (0..shape.len()).map(|_| f64::from(rng.next_u32()) / 2.0_f64.powi(31) - 1.0).collect();
    Tensor::from_vec(&CPU, values, shape).unwrap()
}

/// Checks shape and values, to twelve digits.
pub(crate) fn check(result: Result<Real>, values: &[f64], shape: impl Into<Shape>) {
    let (result, shape) = (result.unwrap(), shape.into());
    assert_eq!(result.shape(), shape);
    for (i, (got, &expected)) in result.to_vec().unwrap().into_iter().zip(values).enumerate() {
        let close = (got - expected).abs() <= 1e-12 * expected.abs().max(1.0);
        assert!(close, "element {i} is {got}, not {expected}");
    }
    assert_eq!(values.len(), shape.len());
}

/// Checks an error's message.
pub(crate) fn check_error<T>(result: Result<T>, message: &str) {
    assert_eq!(result.err().map(|e| e.to_string()).as_deref(), Some(message));
}

/// The coordinates of every element, in order.
pub(crate) fn coordinates(shape: Shape) -> impl Iterator<Item = Vec<usize>> {
    (0..shape.len())
        .map(move |i| (0..shape.rank()).map(|axis| i / shape.stride(axis) % shape[axis]).collect())
}

/// Where the element that is repeated at `at` of a larger shape lies in a tensor of shape `small`.
pub(crate) fn place(at: &[usize], small: Shape) -> usize {
    let at = &at[at.len() - small.rank()..];
    (0..small.rank()).map(|axis| (at[axis] % small[axis]) * small.stride(axis)).sum()
}

/// Strategies for property tests.
pub(crate) mod any {
    use proptest::prelude::*;

    use crate::Shape;

    /// A shape of up to five axes.
    pub(crate) fn shape() -> impl Strategy<Value = Shape> {
        prop::collection::vec(0_usize..5, 0..=5).prop_map(|dims| Shape::new(&dims).unwrap())
    }

    /// A shape that broadcasts to `large`: some leading axes left out, some others of length 1.
    pub(crate) fn smaller(large: Shape) -> impl Strategy<Value = Shape> {
        (0..=large.rank(), prop::array::uniform5(any::<bool>())).prop_map(move |(lead, ones)| {
            let dims: Vec<usize> =
                (lead..large.rank()).map(|axis| if ones[axis] { 1 } else { large[axis] }).collect();
            Shape::new(&dims).unwrap()
        })
    }
}
