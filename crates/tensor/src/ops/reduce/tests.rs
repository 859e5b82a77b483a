use proptest::prelude::*;

use super::*;
use crate::testing::{any, check, check_error, coordinates, noise, place, tensor};

proptest! {
    #[test]
    fn sums_and_repetition_are_indexing(
        (large, small) in any::shape().prop_flat_map(|large| (Just(large), any::smaller(large)))
    ) {
        let x = noise(large);
        let mut sums = vec![0.0; small.len()];
        for (at, x) in coordinates(large).zip(x.to_vec().unwrap()) {
            sums[place(&at, small)] += x;
        }
        check(x.sum_to(small), &sums, small);

        let y = noise(small);
        let values = y.to_vec().unwrap();
        let repeated: Vec<f64> = coordinates(large).map(|at| values[place(&at, small)]).collect();
        check(y.broadcast_to(large), &repeated, large);
    }

    #[test]
    fn a_long_sum_is_as_exact_as_pairs_make_it(x in prop::collection::vec(-1.0_f32..1.0, 0..5000)) {
        let exact: f64 = x.iter().map(|&x| f64::from(x)).sum();
        prop_assert!((f64::from(sum(&x)) - exact).abs() < 1e-3);
        let squares: f64 = x.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
        prop_assert!((f64::from(dot(&x, &x)) - squares).abs() < 1e-3);
    }
}

#[test]
fn values_by_hand() {
    let x = tensor(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [2, 3]);
    check(x.sum(), &[21.0], []);
    check(x.mean(), &[3.5], []);
    check(x.sum_axis(0), &[5.0, 7.0, 9.0], [1, 3]);
    check(x.sum_axis(1), &[6.0, 15.0], [2, 1]);
}

#[test]
fn what_does_not_broadcast_is_named() {
    let x = noise([2, 3]);
    check_error(x.sum_to([2]), "sum_to: a tensor of shape [2, 3] won't do: [2] does not broadcast to it");
    check_error(
        x.broadcast_to([3, 2]),
        "broadcast_to: a tensor of shape [2, 3] won't do: it does not broadcast to [3, 2]",
    );
    check_error(x.sum_axis(2), "sum_axis: index 2 is outside of an axis of length 2");
}
