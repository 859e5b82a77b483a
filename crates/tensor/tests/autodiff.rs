//! What can be differentiated by what, and what is an error.

use plastica_tensor::{Array, Cpu, GradMode, Result, Tape, Tensor, grad, grad_along};
use proptest::prelude::*;

type Real = Tensor<Cpu<f64>>;

fn leaf(tape: &Tape<Cpu<f64>>, values: &[f64]) -> Real {
    tape.leaf(&Array::from_vec(&Cpu::new(), values.to_vec(), [values.len()]).unwrap())
}

fn check(gradient: &Option<Real>, expected: &[f64]) {
    assert_eq!(gradient.as_ref().map(|g| g.to_vec().unwrap()).as_deref(), Some(expected));
}

fn check_error<T>(result: Result<T>, message: &str) {
    assert_eq!(result.err().map(|e| e.to_string()).as_deref(), Some(message));
}

#[test]
fn every_derivative_of_a_power() {
    let tape = Tape::new();
    let x = leaf(&tape, &[3.0]);
    let mut y = x.square().unwrap().square().unwrap().mul(&x).unwrap();
    for expected in [405.0, 540.0, 540.0, 360.0, 120.0] {
        let gradient = grad(&y, &[&x], GradMode::Tracked).unwrap().remove(0);
        check(&gradient, &[expected]);
        y = gradient.unwrap();
    }
}

#[test]
fn an_intermediate_value_is_a_variable_too() {
    let tape = Tape::new();
    let x = leaf(&tape, &[2.0, 3.0]);
    let y = x.square().unwrap();
    let z = y.square().unwrap().sum().unwrap();
    let gradients = grad(&z, &[&y, &x, &z, &y], GradMode::Plain).unwrap();
    check(&gradients[0], &[8.0, 18.0]);
    check(&gradients[1], &[32.0, 108.0]);
    check(&gradients[2], &[1.0]);
    check(&gradients[3], &[8.0, 18.0]);
    // what was recorded before the variable is a constant
    check(&grad(&z, &[&y], GradMode::Plain).unwrap()[0], &[8.0, 18.0]);
}

#[test]
fn variables_that_do_not_reach_the_result_have_no_gradient() {
    let tape = Tape::new();
    let (x, unused) = (leaf(&tape, &[2.0]), leaf(&tape, &[5.0]));
    let y = x.square().unwrap();
    let late = leaf(&tape, &[1.0]);
    let later = late.mul(&x).unwrap();
    let gradients = grad(&y, &[&unused, &x, &late, &later], GradMode::Plain).unwrap();
    assert!(gradients[0].is_none() && gradients[2].is_none() && gradients[3].is_none());
    check(&gradients[1], &[4.0]);
    assert!(grad(&y, &[&late], GradMode::Plain).unwrap()[0].is_none());
    assert!(grad(&y, &[], GradMode::Plain).unwrap().is_empty());
}

#[test]
fn nothing_flows_through_what_is_detached() {
    let tape = Tape::new();
    let x = leaf(&tape, &[3.0]);
    let y = x.mul(&x.detach()).unwrap();
    check(&grad(&y, &[&x], GradMode::Plain).unwrap()[0], &[3.0]);
    assert!(!x.detach().square().unwrap().is_tracked());
}

#[test]
fn gradients_of_what_occurs_often_add_up() {
    let tape = Tape::new();
    let x = leaf(&tape, &[1.0, 2.0]);
    let y = x.add(&x).unwrap().add(&x.mul(&x).unwrap()).unwrap().sum().unwrap();
    for mode in [GradMode::Plain, GradMode::Tracked] {
        check(&grad(&y, &[&x], mode).unwrap()[0], &[4.0, 6.0]);
    }
    // and the values that were shared on the way are what they were
    assert_eq!(x.to_vec().unwrap(), [1.0, 2.0]);
}

#[test]
fn plain_gradients_leave_nothing_on_the_tape() {
    let tape = Tape::new();
    let x = leaf(&tape, &[0.3, -0.4]);
    let y = x.gelu().unwrap().softmax().unwrap().square().unwrap().sum().unwrap();
    let before = tape.len();
    let plain = grad(&y, &[&x], GradMode::Plain).unwrap().remove(0).unwrap();
    assert_eq!(tape.len(), before);
    assert!(!plain.is_tracked());
    let tracked = grad(&y, &[&x], GradMode::Tracked).unwrap().remove(0).unwrap();
    assert!(tape.len() > before && tracked.is_tracked());
    assert_eq!(plain.to_vec().unwrap(), tracked.to_vec().unwrap());
}

/// `⟨y, s⟩` of `y = x²` has `2 x s` for its derivative; with s a function of x, that has derivatives of its own.
#[test]
fn a_gradient_can_start_from_a_seed() {
    let tape = Tape::new();
    let x = leaf(&tape, &[3.0, -5.0]);
    let (y, seed) = (x.square().unwrap(), x.scale(2.0).unwrap());
    check(&grad_along(&y, &seed, &[&x], GradMode::Plain).unwrap()[0], &[36.0, 100.0]);
    let tracked = grad_along(&y, &seed, &[&x], GradMode::Tracked).unwrap().remove(0).unwrap();
    // of 4 x²
    check(&grad(&tracked.sum().unwrap(), &[&x], GradMode::Plain).unwrap()[0], &[24.0, -40.0]);
    check_error(
        grad_along(&y, &leaf(&tape, &[1.0]), &[&x], GradMode::Plain),
        "grad: shapes [2] and [1] don't go together: a seed has the result's shape",
    );
}

#[test]
fn what_cannot_be_differentiated_is_named() {
    let (tape, other) = (Tape::new(), Tape::new());
    let (x, stranger) = (leaf(&tape, &[1.0, 2.0]), leaf(&other, &[1.0, 2.0]));
    check_error(
        x.add(&stranger),
        "add: its operands are tracked by two different tapes; detach one of them or use one tape",
    );
    check_error(
        grad(&x.square().unwrap(), &[&x], GradMode::Plain),
        "grad: a tensor of shape [2] won't do: a gradient is taken of a scalar; sum it first",
    );
    let (loss, plain) = (x.sum().unwrap(), x.detach());
    check_error(
        grad(&loss, &[&stranger], GradMode::Plain),
        "grad: its operands are tracked by two different tapes; detach one of them or use one tape",
    );
    check_error(
        grad(&plain.sum().unwrap(), &[&x], GradMode::Plain),
        "the result is not tracked by a tape: make it a leaf with Tape::leaf before computing with it",
    );
    check_error(
        grad(&loss, &[&plain], GradMode::Plain),
        "a variable is not tracked by a tape: make it a leaf with Tape::leaf before computing with it",
    );
}

proptest! {
    /// `d/dx (f + c g) = f' + c g'`
    #[test]
    fn differentiation_is_linear(x in prop::collection::vec(-2.0..2.0, 1..6), c in -3.0..3.0) {
        let tape = Tape::new();
        let x = leaf(&tape, &x);
        let (f, g) = (x.gelu().unwrap().sum().unwrap(), x.sigmoid().unwrap().sum().unwrap());
        let of = |y: &Real| grad(y, &[&x], GradMode::Plain).unwrap().remove(0).unwrap();
        let together = of(&f.add(&g.scale(c).unwrap()).unwrap());
        let apart = of(&f).add(&of(&g).scale(c).unwrap()).unwrap();
        for (a, b) in together.to_vec().unwrap().into_iter().zip(apart.to_vec().unwrap()) {
            prop_assert!((a - b).abs() < 1e-12);
        }
    }
}
