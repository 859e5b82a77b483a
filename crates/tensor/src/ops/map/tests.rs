use super::*;
use crate::Cpu;
use crate::testing::{Real, check, tensor};

fn check_map(f: impl Fn(&Real) -> Result<Real>, pairs: &[(f64, f64)]) {
    let (x, y): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
    check(f(&tensor(&x, [x.len()])), &y, [y.len()]);
}

#[test]
fn values_are_those_of_the_functions() {
    check_map(|x| x.scale(-2.0), &[(0.0, 0.0), (1.5, -3.0)]);
    check_map(|x| x.shift(-2.0), &[(0.0, -2.0), (1.5, -0.5)]);
    check_map(|x| x.at_most(1.0), &[(-3.0, -3.0), (0.5, 0.5), (1.0, 1.0), (7.0, 1.0)]);
    check_map(Tensor::exp, &[(0.0, 1.0), (1.0, std::f64::consts::E)]);
    check_map(Tensor::ln, &[(1.0, 0.0), (10.0, std::f64::consts::LN_10)]);
    check_map(Tensor::sqrt, &[(0.0, 0.0), (2.0, std::f64::consts::SQRT_2)]);
    check_map(Tensor::square, &[(-3.0, 9.0), (0.5, 0.25)]);
    check_map(Tensor::sigmoid, &[(0.0, 0.5), (3.0_f64.ln(), 0.75), (-800.0, 0.0), (800.0, 1.0)]);
    check_map(Tensor::relu, &[(-1.0, 0.0), (0.0, 0.0), (2.0, 2.0)]);
}

#[test]
fn gelu_is_the_exact_one() {
    // x Φ(x), Φ from Abramowitz and Stegun, tables 26.1 and 26.2; the tanh form is off in the fourth digit
    check_map(
        Tensor::gelu,
        &[
            (0.0, 0.0),
            (0.5, 0.345_731_230_637_006_6),
            (1.0, 0.841_344_746_068_543),
            (-1.0, -0.158_655_253_931_457),
            (2.0, 1.954_499_736_103_641_6),
            (-3.0, -0.004_049_694_094_890_3),
        ],
    );
}

#[test]
fn a_nan_shows() {
    let x = Tensor::from_vec(&Cpu::<f32>::new(), vec![f32::NAN], [1]).unwrap();
    for y in [x.relu(), x.at_most(1.0), x.sigmoid(), x.gelu(), x.exp()] {
        assert!(y.unwrap().item().unwrap().is_nan());
    }
}
