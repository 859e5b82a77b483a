use proptest::prelude::*;

use super::*;
use crate::testing::{any, check, check_error, coordinates, noise, tensor};

fn order() -> impl Strategy<Value = (Shape, Vec<usize>)> {
    any::shape()
        .prop_flat_map(|shape| (Just(shape), Just((0..shape.rank()).collect::<Vec<_>>()).prop_shuffle()))
}

proptest! {
    #[test]
    fn permuting_is_indexing((shape, order) in order()) {
        let x = noise(shape);
        let values = x.to_vec().unwrap();
        let to = Shape::new(&order.iter().map(|&axis| shape[axis]).collect::<Vec<_>>()).unwrap();
        let expected: Vec<f64> = coordinates(to)
            .map(|at| values[order.iter().zip(at).map(|(&axis, i)| i * shape.stride(axis)).sum::<usize>()])
            .collect();
        check(x.permute(&order), &expected, to);
    }

    #[test]
    fn slices_are_indexing_and_join_to_the_whole(
        (shape, axis) in any::shape().prop_filter("an axis", |s| s.rank() > 0)
            .prop_flat_map(|s| (Just(s), 0..s.rank())),
        cut in any::<prop::sample::Index>(),
    ) {
        let x = noise(shape);
        let values = x.to_vec().unwrap();
        let cut = cut.index(shape[axis] + 1);
        let part = |range: std::ops::Range<usize>| -> Vec<f64> {
            coordinates(shape).zip(&values).filter(|(at, _)| range.contains(&at[axis])).map(|(_, &x)| x).collect()
        };
        let low = x.slice(axis, 0, cut).unwrap();
        let high = x.slice(axis, cut, shape[axis] - cut).unwrap();
        check(Ok(low.clone()), &part(0..cut), shape.with_axis(axis, cut));
        check(Ok(high.clone()), &part(cut..shape[axis]), shape.with_axis(axis, shape[axis] - cut));
        check(Tensor::concat(&[&low, &high], axis), &values, shape);
        let apart = low.pad(axis, 0, shape[axis]).unwrap().add(&high.pad(axis, cut, shape[axis]).unwrap());
        check(apart, &values, shape);
    }
}

#[test]
fn values_by_hand() {
    let x = tensor(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [2, 3]);
    check(x.reshape([3, 2]), &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [3, 2]);
    check(x.permute(&[1, 0]), &[1.0, 4.0, 2.0, 5.0, 3.0, 6.0], [3, 2]);
    check(x.slice(1, 1, 2), &[2.0, 3.0, 5.0, 6.0], [2, 2]);
    check(x.swap(0, [1, 2]), &[2.0, 3.0, 1.0, 5.0, 6.0, 4.0], [2, 3]);
    check(x.swap(1, [1, 1]), &[1.0, 3.0, 2.0, 4.0, 6.0, 5.0], [2, 3]);
    check(x.slice(1, 1, 1).unwrap().pad(1, 1, 3), &[0.0, 2.0, 0.0, 0.0, 5.0, 0.0], [2, 3]);
    check(
        Tensor::concat(&[&x, &tensor(&[7.0, 8.0], [2, 1])], 1),
        &[1.0, 2.0, 3.0, 7.0, 4.0, 5.0, 6.0, 8.0],
        [2, 4],
    );
}

#[test]
fn what_does_not_fit_is_named() {
    let x = noise([2, 3]);
    check_error(
        x.reshape([4]),
        "reshape: a tensor of shape [2, 3] won't do: it has not as many elements as [4]",
    );
    check_error(
        x.permute(&[1, 1]),
        "permute: a tensor of shape [2, 3] won't do: [1, 1] does not name each of its axes once",
    );
    check_error(x.slice(1, 2, 2), "slice: index 4 is outside of an axis of length 3");
    check_error(x.slice(2, 0, 1), "slice: index 2 is outside of an axis of length 2");
    check_error(
        x.slice(0, usize::MAX, 2),
        &format!("slice: index {} is outside of an axis of length 2", usize::MAX),
    );
    check_error(
        x.pad(0, usize::MAX, 3),
        &format!("pad: index {} is outside of an axis of length 3", usize::MAX),
    );
    check_error(x.swap(1, [1, 2]), "swap: index 4 is outside of an axis of length 3");
    check_error(x.pad(0, 2, 3), "pad: index 4 is outside of an axis of length 3");
    check_error(
        Tensor::concat(&[&x, &noise([3, 3])], 1),
        "concat: shapes [2, 3] and [3, 3] don't go together: all axes but the joined one must be equal",
    );
    check_error(Tensor::<crate::Cpu<f64>>::concat(&[], 0), "parts = [] won't do: give at least one tensor");
}
