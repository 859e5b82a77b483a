use super::*;
use crate::testing::{check, check_error, noise, tensor};

#[test]
fn rows_are_distributions() {
    let y = noise([3, 4, 5]).softmax().unwrap();
    check(y.sum_axis(2), &[1.0; 12], [3, 4, 1]);
    check(tensor(&[0.0, 3.0_f64.ln()], [2]).softmax(), &[0.25, 0.75], [2]);
}

#[test]
fn a_shift_of_a_row_changes_nothing_however_large() {
    let x = noise([2, 5]);
    for shift in [-1e6, 3.0, 1e6] {
        // the shift itself rounds x at 1e-10
        let near = |a: Tensor<_>, b: Tensor<_>| {
            let apart = a.sub(&b).unwrap().square().unwrap().sum().unwrap().item().unwrap();
            assert!(apart < 1e-18, "{apart}");
        };
        near(x.shift(shift).unwrap().softmax().unwrap(), x.softmax().unwrap());
        near(x.shift(shift).unwrap().log_softmax().unwrap(), x.log_softmax().unwrap());
    }
}

#[test]
fn log_softmax_is_the_logarithm_even_where_softmax_vanishes() {
    let x = noise([3, 5]);
    check(x.log_softmax(), &x.softmax().unwrap().ln().unwrap().to_vec().unwrap(), [3, 5]);
    check(tensor(&[-2000.0, 0.0], [2]).log_softmax(), &[-2000.0, 0.0], [2]);
}

#[test]
fn masked_elements_have_no_weight_and_a_nan_shows() {
    check(tensor(&[1.0, f64::NEG_INFINITY, 1.0], [3]).softmax(), &[0.5, 0.0, 0.5], [3]);
    let y = tensor(&[1.0, f64::NAN, 3.0], [3]).softmax().unwrap().to_vec().unwrap();
    assert!(y.iter().all(|y| y.is_nan()));
}

#[test]
fn cross_entropy_is_in_nats_and_names_a_class_that_is_not_there() {
    let uniform = tensor(&[0.3; 8], [2, 4]);
    check(uniform.cross_entropy(&[0, 3]), &[4.0_f64.ln(); 2], [2, 1]);
    check_error(uniform.cross_entropy(&[0, 4]), "gather_last: index 4 is outside of an axis of length 4");
}

#[test]
fn rows_of_no_elements_are_refused() {
    check_error(
        noise([3, 0]).softmax(),
        "softmax: a tensor of shape [3, 0] won't do: it works on rows, which need a last axis of at least one element",
    );
}
