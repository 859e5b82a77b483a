use proptest::prelude::*;

use crate::testing::{Real, any, check, check_error, coordinates, noise, place, tensor};

fn check_against_indexing(a: &Real, b: &Real) {
    let (x, y) = (a.to_vec().unwrap(), b.to_vec().unwrap());
    let shape = a.shape().broadcast(&b.shape()).unwrap();
    let expected = |f: fn(f64, f64) -> f64| -> Vec<f64> {
        coordinates(shape).map(|at| f(x[place(&at, a.shape())], y[place(&at, b.shape())])).collect()
    };
    check(a.add(b), &expected(|a, b| a + b), shape);
    check(a.sub(b), &expected(|a, b| a - b), shape);
    check(a.mul(b), &expected(|a, b| a * b), shape);
    check(a.div(b), &expected(|a, b| a / b), shape);
}

proptest! {
    #[test]
    fn broadcasting_is_indexing(
        (a, b) in any::shape().prop_flat_map(|large| (any::smaller(large), any::smaller(large)))
    ) {
        check_against_indexing(&noise(a), &noise(b));
    }

    #[test]
    fn one_operand_may_have_the_shape_of_the_result(
        (large, small) in any::shape().prop_flat_map(|large| (Just(large), any::smaller(large)))
    ) {
        check_against_indexing(&noise(large), &noise(small));
        check_against_indexing(&noise(small), &noise(large));
    }
}

#[test]
fn values_by_hand() {
    let (a, b) = (tensor(&[1.0, 2.0, 3.0, 4.0], [2, 2]), tensor(&[10.0, 20.0], [2, 1]));
    check(a.add(&b), &[11.0, 12.0, 23.0, 24.0], [2, 2]);
    check(b.sub(&a), &[9.0, 8.0, 17.0, 16.0], [2, 2]);
    check(a.mul(&tensor(&[5.0, 7.0], [2])), &[5.0, 14.0, 15.0, 28.0], [2, 2]);
    check(a.div(&tensor(&[2.0], [])), &[0.5, 1.0, 1.5, 2.0], [2, 2]);
}

#[test]
fn shapes_that_do_not_broadcast_are_named() {
    check_error(
        noise([2, 3]).mul(&noise([2])),
        "mul: shapes [2, 3] and [2] don't go together: axes aligned at the last must be equal, or one of them 1",
    );
}
