use crate::testing::{check, check_error, noise, tensor};

#[test]
fn rows_by_hand() {
    // mean 3, variance 4
    check(tensor(&[1.0, 5.0, 1.0, 5.0], [4]).normalize(0.0), &[-1.0, 1.0, -1.0, 1.0], [4]);
    let r = 1.0 / 9.0_f64.sqrt();
    check(tensor(&[1.0, 5.0], [1, 2]).normalize(5.0), &[-2.0 * r, 2.0 * r], [1, 2]);
    let (gamma, beta) = (tensor(&[2.0, 3.0], [2]), tensor(&[10.0, 20.0], [2]));
    check(tensor(&[1.0, 5.0], [1, 2]).layer_norm(&gamma, &beta, 0.0), &[8.0, 23.0], [1, 2]);
}

#[test]
fn shift_and_scale_of_a_row_do_not_matter() {
    let x = noise([3, 20]);
    let moved = x.scale(4.0).unwrap().shift(2.5).unwrap();
    check(moved.normalize(0.0), &x.normalize(0.0).unwrap().to_vec().unwrap(), [3, 20]);
}

#[test]
fn equal_elements_become_zeros() {
    check(tensor(&[0.7; 6], [2, 3]).normalize(1e-5), &[0.0; 6], [2, 3]);
}

#[test]
fn channels_are_rows_of_another_arrangement() {
    let x = noise([2, 3, 4, 5]);
    let rows = x.permute(&[1, 0, 2, 3]).unwrap().reshape([3, 40]).unwrap();
    let expected =
        rows.normalize(1e-5).unwrap().reshape([3, 2, 4, 5]).unwrap().permute(&[1, 0, 2, 3]).unwrap();
    let (channels, [mean, variance]) = x.normalize_channels(1e-5).unwrap();
    check(Ok(channels), &expected.to_vec().unwrap(), [2, 3, 4, 5]);
    let means = rows.sum_axis(1).unwrap().scale(1.0 / 40.0).unwrap();
    check(Ok(mean.into()), &means.to_vec().unwrap(), [3]);
    let squares = rows.sub(&means).unwrap().square().unwrap().sum_axis(1).unwrap();
    check(Ok(variance.into()), &squares.scale(1.0 / 40.0).unwrap().to_vec().unwrap(), [3]);
}

#[test]
fn a_scalar_is_refused() {
    check_error(
        noise([]).normalize(1e-5),
        "normalize: a tensor of shape [] won't do: it works on rows, which need a last axis of at least one element",
    );
}
