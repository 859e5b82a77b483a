use super::*;
use crate::{Cpu, GradMode, grad};

const CONSTANTS: RateConstants = RateConstants { largest: 0.2, most: 2.0, share: 0.25, floor: 1e-8 };

/// Gates, and squared norms on both sides of where the clip begins, and zero.
const G: [f32; 5] = [0.0, 1.0, -3.0, 0.5, 2.0];
const S: [f32; 5] = [0.0, 3.0, 15.9, 16.1, 400.0];

/// η with the derivatives of a weighted sum of it by g and s.
fn with_derivatives(
    eta: impl Fn(&Tensor<Cpu<f32>>, &Tensor<Cpu<f32>>) -> Tensor<Cpu<f32>>,
    mode: GradMode,
) -> [Vec<f32>; 3] {
    let tape = Tape::new();
    let array = |values: &[f32]| Array::from_vec(&Cpu::new(), values.to_vec(), [values.len()]).unwrap();
    let (g, s) = (tape.leaf(&array(&G)), tape.leaf(&array(&S)));
    let eta = eta(&g, &s);
    let sum = eta.mul(&array(&[1.0, -2.0, 0.5, 3.0, 1.5]).into()).unwrap().sum().unwrap();
    let found = grad(&sum, &[&g, &s], mode).unwrap();
    let values = |t: &Option<Tensor<_>>| t.as_ref().unwrap().to_vec().unwrap();
    [eta.to_vec().unwrap(), values(&found[0]), values(&found[1])]
}

#[test]
fn one_operation_has_the_bits_of_many() {
    let plain = with_derivatives(
        |g, s| {
            let Parts { gate, clip, .. } = Parts::of(CONSTANTS, g, s).unwrap();
            gate.mul(&clip).unwrap().scale(CONSTANTS.largest).unwrap()
        },
        GradMode::Plain,
    );
    let fused = |g: &Tensor<_>, s: &Tensor<_>| learning_rate(CONSTANTS, g, s).unwrap()[0].clone();
    assert_eq!(with_derivatives(fused, GradMode::Plain), plain);
    assert_eq!(with_derivatives(fused, GradMode::Tracked), plain);
}

#[test]
fn a_rate_is_what_the_gate_asks_for_up_to_the_norm() {
    let tensor = |values: Vec<f64>| Tensor::from_vec(&Cpu::new(), values, [2]).unwrap();
    let [eta, gate, clip] =
        learning_rate(CONSTANTS, &tensor(vec![0.0, 3_f64.ln()]), &tensor(vec![1.0, 64.0])).unwrap();
    // norms of 0.5 and 4
    for (found, expected) in [(eta, [0.1, 0.075]), (gate, [0.5, 0.75]), (clip, [1.0, 0.5])] {
        let apart =
            found.to_vec().unwrap().iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(apart < 1e-8, "{found:?} for {expected:?}");
    }
}

#[test]
fn every_gate_has_a_norm() {
    let zeros = |n: usize| Tensor::<Cpu<f32>>::zeros(&Cpu::new(), [n]).unwrap();
    assert!(learning_rate(CONSTANTS, &zeros(2), &zeros(3)).is_err());
}
