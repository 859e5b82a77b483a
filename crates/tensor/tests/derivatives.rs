//! Every operation's derivatives of first, second and third order against finite differences, in f64.

use plastica_tensor::ops::outer::decay_outer;
use plastica_tensor::ops::rank_one::rank_one_norms;
use plastica_tensor::ops::rate::{RateConstants, learning_rate};
use plastica_tensor::{Array, Cpu, GradMode, Result, Shape, Tape, Tensor, dropout_mask, grad};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

type Real = Tensor<Cpu<f64>>;

const CPU: Cpu<f64> = Cpu::new();
const ORDERS: usize = 3;
const STEP: f64 = 1e-3;

/// Where an input's elements are drawn from.
#[derive(Clone, Copy)]
enum Draw {
    /// [−1, 1)
    Any,
    /// [0.5, 2)
    Positive,
    /// No two, and none and 0, closer than many finite-difference steps: for functions with kinks.
    Apart,
}
use Draw::{Any, Apart, Positive};

fn uniform(rng: &mut ChaCha8Rng) -> f64 {
    f64::from(rng.next_u32()) / 2.0_f64.powi(32)
}

fn draw(from: Draw, seed: u64, shape: Shape) -> Array<Cpu<f64>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let n = shape.len();
    let mut values: Vec<f64> = (0..n)
        .map(|i| match from {
            Any => 2.0 * uniform(&mut rng) - 1.0,
            Positive => 0.5 + 1.5 * uniform(&mut rng),
            Apart => 2.0 * (i as f64 + 0.25) / n as f64 - 1.0,
        })
        .collect();
    if let Apart = from {
        for i in (1..n).rev() {
            values.swap(i, rng.next_u32() as usize % (i + 1));
        }
    }
    Array::from_vec(&CPU, values, shape).unwrap()
}

/// A number that depends on the derivatives of `f` up to `order`. For order 0 it is a random projection of
/// `f`'s output, bent so that linear functions have higher derivatives too; for each order more, a random
/// projection of the gradient of the number before.
fn functional(order: u64, inputs: &[Real], f: &impl Fn(&[Real]) -> Result<Real>) -> Result<Real> {
    let project = |t: &Real, seed| t.mul(&draw(Any, seed, t.shape()).into())?.sum();
    if order == 0 {
        let y = f(inputs)?;
        return project(&y.mul(&y.scale(0.5)?.shift(1.0)?)?, 1000);
    }
    let mut total = Real::zeros(&CPU, [])?;
    for (gradient, seed) in gradients(&functional(order - 1, inputs, f)?, inputs)?.iter().zip(2000 * order..)
    {
        if let Some(gradient) = gradient {
            total = total.add(&project(gradient, seed)?)?;
        }
    }
    Ok(total)
}

fn gradients(result: &Real, inputs: &[Real]) -> Result<Vec<Option<Real>>> {
    if !result.is_tracked() {
        // it does not depend on the inputs
        return Ok(vec![None; inputs.len()]);
    }
    grad(result, &inputs.iter().collect::<Vec<_>>(), GradMode::Tracked)
}

fn norm(x: &[f64]) -> f64 {
    x.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// For each order, the relative error of the derivative, `‖autodiff − differences‖ / ‖differences‖`, of
/// the input that is worst.
fn errors(inputs: &[(Draw, &[usize])], f: impl Fn(&[Real]) -> Result<Real>) -> Result<[f64; ORDERS]> {
    let arrays: Vec<_> = inputs
        .iter()
        .zip(1..)
        .map(|(&(from, dims), seed)| draw(from, seed, Shape::new(dims).unwrap()))
        .collect();
    let on_a_tape = |arrays: &[Array<Cpu<f64>>]| {
        let tape = Tape::new();
        arrays.iter().map(|a| tape.leaf(a)).collect::<Vec<_>>()
    };
    let mut errors = [0.0_f64; ORDERS];
    for (order, worst) in (0..).zip(&mut errors) {
        let leaves = on_a_tape(&arrays);
        let by_tape = gradients(&functional(order, &leaves, &f)?, &leaves)?;
        for (i, by_tape) in by_tape.into_iter().enumerate() {
            let base = arrays[i].to_vec()?;
            let at = |element: usize, steps: f64| -> Result<f64> {
                let mut moved = base.clone();
                moved[element] += steps * STEP;
                let mut arrays = arrays.clone();
                arrays[i] = Array::from_vec(&CPU, moved, arrays[i].shape())?;
                functional(order, &on_a_tape(&arrays), &f)?.item()
            };
            let differences = (0..base.len())
                .map(|e| {
                    Ok((8.0 * (at(e, 1.0)? - at(e, -1.0)?) - (at(e, 2.0)? - at(e, -2.0)?)) / (12.0 * STEP))
                })
                .collect::<Result<Vec<f64>>>()?;
            let by_tape = by_tape.map_or(Ok(vec![0.0; base.len()]), |g| g.to_vec())?;
            let off: Vec<f64> = by_tape.iter().zip(&differences).map(|(a, b)| a - b).collect();
            // a derivative that vanishes has no relative error
            *worst = worst.max(norm(&off) / norm(&differences).max(1e-3));
        }
    }
    Ok(errors)
}

fn check(name: &str, inputs: &[(Draw, &[usize])], f: impl Fn(&[Real]) -> Result<Real>) {
    let errors = errors(inputs, f).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert!(errors.iter().all(|&e| e < 1e-6), "{name}: relative errors by order {errors:?}");
}

#[test]
fn a_wrong_derivative_is_noticed() {
    // the value of exp, and 99 % of its derivative
    let [first, ..] = errors(&[(Any, &[2, 3])], |x| {
        let y = x[0].exp()?;
        y.scale(0.99)?.add(&y.detach().scale(0.01)?)
    })
    .unwrap();
    assert!(first > 1e-3, "a first derivative off by one percent has error {first}");
    // the value of x² and its first derivative, 2x, but 1.98 for the second
    let [first, second, _] = errors(&[(Any, &[2, 3])], |x| {
        let fixed = x[0].detach();
        let tangent = x[0].mul(&fixed)?.scale(2.0)?.sub(&fixed.square()?)?;
        x[0].square()?.scale(0.99)?.add(&tangent.scale(0.01)?)
    })
    .unwrap();
    assert!(first < 1e-6 && second > 1e-3, "a second derivative off by one percent: {first}, {second}");
}

#[test]
fn functions_of_one_element() {
    check("scale", &[(Any, &[2, 3])], |x| x[0].scale(-1.7));
    check("shift", &[(Any, &[2, 3])], |x| x[0].shift(0.3));
    check("square", &[(Any, &[2, 3])], |x| x[0].square());
    check("exp", &[(Any, &[2, 3])], |x| x[0].exp());
    check("ln", &[(Positive, &[2, 3])], |x| x[0].ln());
    check("sqrt", &[(Positive, &[2, 3])], |x| x[0].sqrt());
    check("sigmoid", &[(Any, &[2, 3])], |x| x[0].scale(3.0)?.sigmoid());
    check("gelu", &[(Any, &[2, 3])], |x| x[0].scale(3.0)?.gelu());
    check("relu", &[(Apart, &[3, 4])], |x| x[0].relu());
    check("at_most", &[(Apart, &[3, 4])], |x| x[0].shift(0.4)?.at_most(0.4));
    check("a scalar", &[(Any, &[])], |x| x[0].exp()?.gelu());
}

#[test]
fn functions_of_two_elements() {
    let shapes: [(&[usize], &[usize]); 9] = [
        (&[2, 3], &[2, 3]),
        (&[2, 3], &[3]),
        (&[3], &[2, 3]),
        (&[2, 3], &[2, 1]),
        (&[2, 1], &[1, 3]),
        (&[2, 3, 2], &[3, 1]),
        (&[3, 1], &[2, 3, 2]),
        (&[2, 2, 3], &[2, 1, 3]),
        (&[], &[2, 3]),
    ];
    for (a, b) in shapes {
        check(&format!("add {a:?} {b:?}"), &[(Any, a), (Any, b)], |x| x[0].add(&x[1]));
        check(&format!("sub {a:?} {b:?}"), &[(Any, a), (Any, b)], |x| x[0].sub(&x[1]));
        check(&format!("mul {a:?} {b:?}"), &[(Any, a), (Any, b)], |x| x[0].mul(&x[1]));
        check(&format!("div {a:?} {b:?}"), &[(Any, a), (Positive, b)], |x| x[0].div(&x[1]));
    }
    check("both operands the same", &[(Positive, &[2, 3])], |x| x[0].mul(&x[0])?.div(&x[0].exp()?));
}

#[test]
fn sums_and_repetition() {
    for to in [&[][..], &[3], &[2, 1, 1], &[1, 2, 3], &[2, 1, 3], &[1, 2, 1]] {
        let to = Shape::new(to).unwrap();
        check(&format!("sum_to {to}"), &[(Any, &[2, 2, 3])], |x| x[0].sum_to(to));
        let from = (Any, &to[..]);
        check(&format!("broadcast_to from {to}"), &[from], |x| x[0].broadcast_to([2, 2, 3]));
    }
    check("sum", &[(Any, &[2, 3])], |x| x[0].sum());
    check("mean", &[(Any, &[2, 3])], |x| x[0].mean());
    check("sum_axis", &[(Any, &[2, 3, 2])], |x| x[0].sum_axis(1));
}

#[test]
fn matrix_products() {
    let swapped = |dims: &[usize], swap: bool| {
        let mut dims = dims.to_vec();
        let rank = dims.len();
        if swap {
            dims.swap(rank - 2, rank - 1);
        }
        dims
    };
    let shapes: [(&[usize], &[usize]); 5] = [
        (&[2, 3], &[3, 4]),
        (&[1, 3], &[3, 4]),
        (&[2, 3], &[3, 1]),
        (&[2, 2, 3], &[2, 3, 4]),
        (&[2, 3, 1], &[2, 1, 2]),
    ];
    for (a, b) in shapes {
        for (ta, tb) in [(false, false), (true, false), (false, true), (true, true)] {
            let (a, b) = (swapped(a, ta), swapped(b, tb));
            let name = format!("matmul {a:?} {b:?} transposed {ta} {tb}");
            check(&name, &[(Any, &a), (Any, &b)], |x| x[0].matmul_transposed(&x[1], ta, tb));
        }
    }
    check("one matrix for all", &[(Any, &[2, 2, 3]), (Any, &[3, 4])], |x| x[0].matmul(&x[1]));
    check("one transposed matrix for all", &[(Any, &[2, 2, 3]), (Any, &[4, 3])], |x| {
        x[0].matmul_transposed(&x[1], false, true)
    });
    check("a vector", &[(Any, &[3]), (Any, &[3, 4])], |x| x[0].matmul(&x[1]));
    check("a matrix by itself", &[(Any, &[3, 3])], |x| x[0].matmul(&x[0]));
    check("linear", &[(Any, &[2, 3]), (Any, &[4, 3]), (Any, &[4])], |x| x[0].linear(&x[1], &x[2]));
    check("linear on steps", &[(Any, &[2, 2, 3]), (Any, &[4, 3]), (Any, &[4])], |x| {
        x[0].linear(&x[1], &x[2])
    });
}

#[test]
fn moving_elements() {
    check("reshape", &[(Any, &[2, 3])], |x| x[0].reshape([3, 1, 2]));
    check("permute", &[(Any, &[2, 3, 4])], |x| x[0].permute(&[2, 0, 1]));
    check("permute, last axis kept", &[(Any, &[2, 3, 2])], |x| x[0].permute(&[1, 0, 2]));
    check("slice", &[(Any, &[2, 4, 2])], |x| x[0].slice(1, 1, 2));
    check("pad", &[(Any, &[2, 2, 2])], |x| x[0].pad(1, 1, 4));
    check("swap", &[(Any, &[2, 5])], |x| x[0].swap(1, [1, 2]));
    check("concat", &[(Any, &[2, 1, 2]), (Any, &[2, 3, 2])], |x| Real::concat(&[&x[0], &x[1], &x[0]], 1));
}

#[test]
fn rows() {
    let (gamma, beta) = ((Any, &[4][..]), (Any, &[4][..]));
    check("softmax", &[(Any, &[2, 4])], |x| x[0].softmax());
    check("log_softmax", &[(Any, &[2, 4])], |x| x[0].log_softmax());
    check("cross_entropy", &[(Any, &[3, 4])], |x| x[0].cross_entropy(&[3, 0, 3]));
    check("normalize", &[(Any, &[3, 4])], |x| x[0].normalize(1e-5));
    check("normalize, a large eps", &[(Any, &[2, 2, 3])], |x| x[0].normalize(0.5));
    check("layer_norm", &[(Any, &[2, 3, 4]), gamma, beta], |x| x[0].layer_norm(&x[1], &x[2], 1e-5));
}

#[test]
fn picking_elements() {
    check("gather", &[(Any, &[3, 2])], |x| x[0].gather(&[2, 0, 2, 2]));
    check("gather of scalars", &[(Any, &[4])], |x| x[0].gather(&[1, 3]));
    check("gather_last", &[(Any, &[2, 2, 3])], |x| x[0].gather_last(&[2, 0, 1, 1]));
}

#[test]
fn fast_weights() {
    let (eta, alpha, p, q) = ((Any, &[2][..]), (Any, &[3, 4][..]), (Any, &[2, 3][..]), (Any, &[2, 4][..]));
    check("decay_outer of zero", &[eta, alpha, p, q], |x| decay_outer(None, &x[0], &x[1], &x[2], &x[3]));
    check("decay_outer", &[eta, alpha, p, q, (Any, &[2, 3, 4])], |x| {
        decay_outer(Some(&x[4]), &x[0], &x[1], &x[2], &x[3])
    });
    check("two updates", &[eta, alpha, p, q], |x| {
        let fast = decay_outer(None, &x[0], &x[1], &x[2], &x[3])?;
        let read = fast.matmul(&x[3].reshape([2, 4, 1])?)?.reshape([2, 3])?;
        decay_outer(Some(&fast), &x[0], &x[1], &read, &x[3])
    });
}

#[test]
fn norms_of_rank_one() {
    let (p, q) = ((Any, &[2, 3][..]), (Any, &[2, 4][..]));
    check("one pair", &[p, q], |x| rank_one_norms(&[(&x[0], &x[1])]));
    check("two pairs", &[p, q, (Any, &[2, 1]), p], |x| rank_one_norms(&[(&x[0], &x[1]), (&x[2], &x[3])]));
    check("one row twice", &[p], |x| rank_one_norms(&[(&x[0], &x[0])]));
}

#[test]
fn rates() {
    // the last begins to clip between 0.5 and 2
    for most in [10.0, 0.1, 0.55] {
        let constants = RateConstants { largest: 0.7, most, share: 0.5, floor: 1e-3 };
        check("learning_rate", &[(Any, &[3]), (Positive, &[3])], |x| {
            Ok(learning_rate(constants, &x[0], &x[1])?[0].clone())
        });
    }
}

#[test]
fn images() {
    check("conv2d", &[(Any, &[2, 2, 4, 3]), (Any, &[3, 2, 3, 3])], |x| x[0].conv2d(&x[1], 1));
    check("conv2d without padding", &[(Any, &[1, 2, 3, 4]), (Any, &[2, 2, 2, 3])], |x| x[0].conv2d(&x[1], 0));
    check("conv2d, one by one", &[(Any, &[2, 3, 2, 2]), (Any, &[2, 3, 1, 1])], |x| x[0].conv2d(&x[1], 0));
    check("conv2d, wide padding", &[(Any, &[5, 1, 2, 1]), (Any, &[1, 1, 3, 4])], |x| x[0].conv2d(&x[1], 2));
    check("max_pool2d", &[(Apart, &[2, 1, 4, 5])], |x| x[0].max_pool2d());
    let (gamma, beta) = ((Any, &[2][..]), (Any, &[2][..]));
    check("batch_norm", &[(Any, &[2, 2, 2, 3]), gamma, beta], |x| Ok(x[0].batch_norm(&x[1], &x[2], 1e-5)?.0));
    check("batch_norm_by", &[(Any, &[2, 2, 1, 3]), gamma, beta], |x| {
        let images = Real::from(draw(Any, 77, [2, 2, 2, 2].into()));
        let (_, statistics) = images.batch_norm(&x[1].detach(), &x[2].detach(), 1e-5)?;
        x[0].batch_norm_by(&statistics, &x[1], &x[2], 1e-5)
    });
    // γ and β that keep every window's largest alive: there ReLU has no kink
    let (gamma_1, beta_1) = ((Positive, &[1][..]), (Positive, &[1][..]));
    check("conv_block", &[(Apart, &[2, 2, 4, 1]), (Any, &[1, 1, 3, 3]), gamma_1, beta_1], |x| {
        Ok(x[0].conv_block(&x[1], &x[2], &x[3], &[1, 1], 0.1)?.0)
    });
    check("a stage of an encoder", &[(Apart, &[2, 1, 4, 4]), (Any, &[2, 1, 3, 3]), gamma, beta], |x| {
        x[0].conv2d(&x[1], 1)?.batch_norm(&x[2], &x[3], 1e-5)?.0.gelu()?.max_pool2d()
    });
}

#[test]
fn dropout() {
    check("dropout", &[(Any, &[2, 5])], |x| {
        let mut generators = [ChaCha8Rng::seed_from_u64(1), ChaCha8Rng::seed_from_u64(2)];
        x[0].mul(&dropout_mask(&CPU, &mut generators, 5, 0.4)?)
    });
}
