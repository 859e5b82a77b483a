use crate::testing::{check, check_error, noise, tensor};
use crate::{GradMode, Tape, grad};

#[test]
fn the_largest_of_each_window_and_odd_edges_dropped() {
    #[rustfmt::skip]
    let x = tensor(&[
        1.0, 5.0, 2.0, 0.0, 9.0,
        3.0, 4.0, 8.0, 1.0, 9.0,
        9.0, 9.0, 9.0, 9.0, 9.0,
    ], [3, 5]);
    check(x.max_pool2d(), &[5.0, 8.0], [1, 2]);
    let planes = x.broadcast_to([2, 1, 3, 5]).unwrap();
    check(planes.max_pool2d(), &[5.0, 8.0, 5.0, 8.0], [2, 1, 1, 2]);
}

#[test]
fn the_largest_may_stand_anywhere_in_its_window() {
    for at in 0..4 {
        let mut values = [-1.0, -2.0, -3.0, -4.0];
        values[at] = 7.0;
        check(tensor(&values, [2, 2]).max_pool2d(), &[7.0], [1, 1]);
    }
}

#[test]
fn the_derivative_goes_to_the_first_of_equals_only() {
    let tape = Tape::new();
    let x = tape.leaf(tensor(&[1.0, 4.0, 4.0, 4.0], [2, 2]).array());
    let y = x.max_pool2d().unwrap().scale(3.0).unwrap();
    let gradient = grad(&y, &[&x], GradMode::Plain).unwrap().remove(0).unwrap();
    check(Ok(gradient), &[0.0, 3.0, 0.0, 0.0], [2, 2]);
}

#[test]
fn a_nan_shows() {
    for at in 0..4 {
        let mut values = [1.0, 2.0, 3.0, f64::INFINITY];
        values[at] = f64::NAN;
        assert!(tensor(&values, [2, 2]).max_pool2d().unwrap().item().unwrap().is_nan(), "NaN at {at}");
    }
}

#[test]
fn an_image_without_a_window_is_refused() {
    check_error(
        noise([2, 1, 5]).max_pool2d(),
        "max_pool2d: a tensor of shape [2, 1, 5] won't do: its windows need two last axes of at least 2",
    );
}
