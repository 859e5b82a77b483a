//! The CUDA backend against the CPU in double precision: every operation's values and its derivatives of
//! first and second order, and the same bits from one run to the next. Each test is skipped where no device
//! can be opened.

use std::sync::{LazyLock, RwLock, RwLockReadGuard};

use plastica_tensor::ops::outer::decay_outer;
use plastica_tensor::optim::{AdamW, AdamWSettings, clip_global_norm, global_norm};
use plastica_tensor::{
    Array, Backend, Cpu, Cuda, Element, GradMode, Result, Shape, Storage, Tape, Tensor, TensorError,
    dropout_mask, grad,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

#[path = "cuda/conv_block.rs"]
mod conv_block;

const CPU: Cpu<f64> = Cpu::new();

/// Largest error of a value and of a derivative, relative to the largest of its tensor.
const VALUE: f64 = 1e-5;
const DERIVATIVE: f64 = 3e-5;

/// Held by every test, and alone by the one that takes all of the device's memory.
static MEMORY: RwLock<()> = RwLock::new(());

/// The first device, and a hold on its memory; `None`, with the reason on the screen, when there is none.
fn device() -> Option<(Cuda, RwLockReadGuard<'static, ()>)> {
    Some((opened()?, MEMORY.read().unwrap_or_else(|poisoned| poisoned.into_inner())))
}

fn opened() -> Option<Cuda> {
    static DEVICE: LazyLock<Result<Cuda>> = LazyLock::new(|| Cuda::new(0));
    match &*DEVICE {
        Ok(cuda) => Some(cuda.clone()),
        Err(error) => {
            println!("skipped, for want of a device: {error}");
            None
        }
    }
}

/// Where an input's elements are drawn from.
#[derive(Clone, Copy)]
enum Draw {
    /// [−1, 1)
    Any,
    /// [0.5, 2)
    Positive,
}
use Draw::{Any, Positive};

/// Values that single precision holds, so that both backends compute with the same.
fn draw(from: Draw, seed: u64, len: usize) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut uniform = || (rng.next_u32() >> 8) as f32 / 2.0_f32.powi(24);
    (0..len)
        .map(|_| match from {
            Any => 2.0 * uniform() - 1.0,
            Positive => 0.5 + 1.5 * uniform(),
        })
        .collect()
}

fn array<B: Backend>(backend: &B, values: &[f32], shape: Shape) -> Array<B> {
    let values = values.iter().map(|&x| B::Elem::of(f64::from(x))).collect();
    Array::from_vec(backend, values, shape).unwrap()
}

/// A tensor's shape and values.
#[derive(PartialEq, Debug)]
struct Found {
    shape: Shape,
    values: Vec<f64>,
}

impl Found {
    fn of<B: Backend>(tensor: &Tensor<B>) -> Result<Self> {
        let values = tensor.to_vec()?.into_iter().map(Element::wide).collect();
        Ok(Self { shape: tensor.shape(), values })
    }

    /// The largest difference, relative to the largest value; infinite if one is not a number.
    fn off(&self, truth: &Self) -> f64 {
        let largest = |values: &mut dyn Iterator<Item = f64>| values.fold(0.0, f64::max);
        let nan = self.values.iter().any(|x| x.is_nan());
        let off = largest(&mut self.values.iter().zip(&truth.values).map(|(a, b)| (a - b).abs()));
        let scale = largest(&mut truth.values.iter().map(|x| x.abs()));
        if nan { f64::INFINITY } else { off / scale.max(1e-6) }
    }
}

type Function<B> = fn(&[Tensor<B>]) -> Result<Tensor<B>>;

/// The output of `f`, and the derivatives of first and of second order of random projections of it.
fn evaluate<B: Backend>(backend: &B, inputs: &[(Draw, &[usize])], f: Function<B>) -> Result<[Vec<Found>; 3]> {
    let tape = Tape::new();
    let mut leaves = Vec::new();
    for (&(from, dims), seed) in inputs.iter().zip(1..) {
        let shape = Shape::new(dims)?;
        leaves.push(tape.leaf(&array(backend, &draw(from, seed, shape.len()), shape)));
    }
    let project = |t: &Tensor<B>, seed| {
        t.mul(&array(backend, &draw(Any, seed, t.shape().len()), t.shape()).into())?.sum()
    };
    let gradients = |of: &Tensor<B>| {
        if of.is_tracked() {
            grad(of, &leaves.iter().collect::<Vec<_>>(), GradMode::Tracked)
        } else {
            Ok(Vec::new())
        }
    };
    let output = f(&leaves)?;
    // bent, so that linear functions have second derivatives too
    let first = gradients(&project(&output.mul(&output.scale(0.5)?.shift(1.0)?)?, 1000)?)?;
    let mut total = Tensor::zeros(backend, [])?;
    for (gradient, seed) in first.iter().flatten().zip(2000..) {
        total = total.add(&project(gradient, seed)?)?;
    }
    let second = gradients(&total)?;
    let found = |list: Vec<Option<Tensor<B>>>| list.iter().flatten().map(Found::of).collect::<Result<_>>();
    Ok([vec![Found::of(&output)?], found(first)?, found(second)?])
}

fn compare(name: &str, cuda: &Cuda, inputs: &[(Draw, &[usize])], on: (Function<Cpu<f64>>, Function<Cuda>)) {
    let shapes: Vec<_> = inputs.iter().map(|(_, dims)| dims).collect();
    let fail = |error: TensorError| panic!("{name} of {shapes:?}: {error}");
    let truth = evaluate(&CPU, inputs, on.0).unwrap_or_else(fail);
    let found = evaluate(cuda, inputs, on.1).unwrap_or_else(fail);
    assert_eq!(found, evaluate(cuda, inputs, on.1).unwrap_or_else(fail), "{name} of {shapes:?}, run again");
    for (order, (found, truth)) in found.iter().zip(&truth).enumerate() {
        assert_eq!(found.len(), truth.len(), "{name} of {shapes:?}: gradients of order {order}");
        for (found, truth) in found.iter().zip(truth) {
            assert_eq!(found.shape, truth.shape, "{name} of {shapes:?}");
            let (off, most) = (found.off(truth), if order == 0 { VALUE } else { DERIVATIVE });
            assert!(off <= most, "{name} of {shapes:?}: order {order} is off by {off:e}");
        }
    }
}

/// Compares a function on both backends: `check!(cuda, "name", inputs, |x| x[0].exp())`.
macro_rules! check {
    ($cuda:expr, $name:expr, $inputs:expr, |$x:ident| $body:expr) => {{
        fn on<B: Backend>($x: &[Tensor<B>]) -> Result<Tensor<B>> {
            $body
        }
        compare($name, &$cuda, $inputs, (on::<Cpu<f64>>, on::<Cuda>));
    }};
}

#[test]
fn functions_of_one_element() {
    let Some((cuda, _memory)) = device() else { return };
    for dims in [&[][..], &[1], &[3, 85], &[257], &[7, 11, 1300]] {
        let (any, positive) = (&[(Any, dims)], &[(Positive, dims)]);
        check!(cuda, "scale", any, |x| x[0].scale(-1.7));
        check!(cuda, "shift", any, |x| x[0].shift(0.3));
        check!(cuda, "square", any, |x| x[0].square());
        check!(cuda, "exp", any, |x| x[0].scale(5.0)?.exp());
        check!(cuda, "ln", positive, |x| x[0].ln());
        check!(cuda, "sqrt", positive, |x| x[0].sqrt());
        check!(cuda, "sigmoid", any, |x| x[0].scale(3.0)?.sigmoid());
        check!(cuda, "gelu", any, |x| x[0].scale(4.0)?.gelu());
        check!(cuda, "relu", any, |x| x[0].relu());
        check!(cuda, "at_most", any, |x| x[0].at_most(0.25));
    }
}

#[test]
fn gelu_keeps_its_precision_in_the_tail() {
    let Some((cuda, _memory)) = device() else { return };
    let x = Tensor::from_vec(&cuda, vec![-5.0, -9.0, 9.0, -1e30, f32::NEG_INFINITY], [5]).unwrap();
    let y = x.slice(0, 0, 4).unwrap().gelu().unwrap().to_vec().unwrap();
    // −5 Φ(−5) and −9 Φ(−9)
    for (got, expected) in y.into_iter().zip([-1.433_257_859e-6, -1.015_729_565e-18, 9.0, 0.0]) {
        assert!((f64::from(got) - expected).abs() <= 1e-5 * f64::abs(expected), "{got} for {expected}");
    }
    assert_eq!(x.sigmoid().unwrap().to_vec().unwrap()[3..], [0.0, 0.0]);
}

#[test]
fn a_nan_shows() {
    let Some((cuda, _memory)) = device() else { return };
    let x = Tensor::from_vec(&cuda, vec![1.0, f32::NAN], [2]).unwrap();
    for y in
        [x.relu(), x.at_most(1.0), x.sigmoid(), x.gelu(), x.softmax(), x.log_softmax(), x.normalize(1e-5)]
    {
        assert!(y.unwrap().to_vec().unwrap()[1].is_nan());
    }
    for at in 0..4 {
        let mut values = vec![1.0, 2.0, 3.0, f32::INFINITY];
        values[at] = f32::NAN;
        let largest = Tensor::from_vec(&cuda, values, [2, 2]).unwrap().max_pool2d().unwrap();
        assert!(largest.item().unwrap().is_nan(), "NaN at {at}");
    }
}

#[test]
fn functions_of_two_elements() {
    let Some((cuda, _memory)) = device() else { return };
    let shapes: [(&[usize], &[usize]); 14] = [
        (&[], &[]),
        (&[2, 3], &[2, 3]),
        (&[300, 41], &[41]),
        (&[41], &[300, 41]),
        (&[300, 41], &[300, 1]),
        (&[300, 1], &[1, 41]),
        (&[], &[300, 41]),
        (&[17, 1, 9], &[17, 33, 9]),
        (&[2, 33, 9], &[33, 1]),
        (&[8, 5, 4, 3], &[5, 1, 1]),
        (&[2, 1, 3, 1, 5], &[4, 1, 6, 1]),
        (&[2, 4, 3, 6, 5], &[2, 1, 3, 1, 5]),
        (&[2, 1, 3, 1, 5], &[1, 4, 1, 6, 1]),
        (&[1, 1], &[1]),
    ];
    for (a, b) in shapes {
        check!(cuda, "add", &[(Any, a), (Any, b)], |x| x[0].add(&x[1]));
        check!(cuda, "sub", &[(Any, a), (Any, b)], |x| x[0].sub(&x[1]));
        check!(cuda, "mul", &[(Any, a), (Any, b)], |x| x[0].mul(&x[1]));
        check!(cuda, "div", &[(Any, a), (Positive, b)], |x| x[0].div(&x[1]));
    }
    check!(cuda, "both the same", &[(Positive, &[70, 70])], |x| x[0].mul(&x[0])?.div(&x[0].exp()?));
}

#[test]
fn sums_and_repetition() {
    let Some((cuda, _memory)) = device() else { return };
    // one axis: less than a warp's, a block's, a chunk's, and many chunks
    for n in [1, 2, 31, 33, 1000, 1025, 4096, 4097, 300_000] {
        check!(cuda, "sum", &[(Any, &[n])], |x| x[0].sum());
        check!(cuda, "sum of columns", &[(Any, &[n, 3])], |x| x[0].sum_axis(0));
    }
    for dims in
        [&[7, 9000][..], &[9000, 7], &[3, 5], &[1000, 100], &[2, 600, 33], &[2, 33, 600], &[4, 2, 3, 5, 6]]
    {
        check!(cuda, "mean", &[(Any, dims)], |x| x[0].mean());
        check!(cuda, "sum over the first axis", &[(Any, dims)], |x| x[0].sum_axis(0));
        check!(cuda, "sum over the second axis", &[(Any, dims)], |x| x[0].sum_axis(1));
        check!(cuda, "sum over all but the second", &[(Any, dims)], |x| {
            let to: Vec<usize> =
                x[0].shape().iter().enumerate().map(|(i, &n)| if i == 1 { n } else { 1 }).collect();
            x[0].sum_to(Shape::new(&to)?)
        });
        check!(cuda, "sum over every other axis", &[(Any, dims)], |x| {
            let to: Vec<usize> =
                x[0].shape().iter().enumerate().map(|(i, &n)| if i % 2 == 1 { n } else { 1 }).collect();
            x[0].sum_to(Shape::new(&to)?)
        });
    }
    for dims in [&[][..], &[5], &[3, 1], &[70, 1, 5], &[1, 3, 5], &[2, 1, 1, 1]] {
        check!(cuda, "broadcast_to", &[(Any, dims)], |x| x[0].broadcast_to([2, 70, 3, 5]));
    }
}

#[test]
fn matrix_products() {
    let Some((cuda, _memory)) = device() else { return };
    let sizes = [(2, 3, 4), (1, 70, 65), (65, 70, 1), (70, 1, 65), (129, 257, 65), (300, 128, 256)];
    for (m, k, n) in sizes {
        for batch in [&[][..], &[1], &[7], &[3, 5]] {
            let (a, at) = ([batch, &[m, k]].concat(), [batch, &[k, m]].concat());
            let (b, bt) = ([batch, &[k, n]].concat(), [batch, &[n, k]].concat());
            check!(cuda, "A B", &[(Any, &a), (Any, &b)], |x| x[0].matmul(&x[1]));
            check!(cuda, "Aᵀ B", &[(Any, &at), (Any, &b)], |x| x[0].matmul_transposed(&x[1], true, false));
            check!(cuda, "A Bᵀ", &[(Any, &a), (Any, &bt)], |x| x[0].matmul_transposed(&x[1], false, true));
            check!(cuda, "Aᵀ Bᵀ", &[(Any, &at), (Any, &bt)], |x| x[0]
                .matmul_transposed(&x[1], true, true));
        }
    }
    check!(cuda, "linear", &[(Any, &[4, 50, 60]), (Any, &[70, 60]), (Any, &[70])], |x| x[0]
        .linear(&x[1], &x[2]));
}

#[test]
fn moving_elements() {
    let Some((cuda, _memory)) = device() else { return };
    check!(cuda, "reshape", &[(Any, &[20, 30])], |x| x[0].reshape([3, 1, 200]));
    check!(cuda, "a transpose", &[(Any, &[200, 31])], |x| x[0].permute(&[1, 0]));
    check!(cuda, "permute", &[(Any, &[20, 3, 40])], |x| x[0].permute(&[2, 0, 1]));
    check!(cuda, "permute heads", &[(Any, &[4, 9, 3, 16])], |x| x[0].permute(&[0, 2, 1, 3]));
    check!(cuda, "permute five", &[(Any, &[2, 3, 4, 5, 6])], |x| x[0].permute(&[4, 2, 0, 3, 1]));
    check!(cuda, "slice", &[(Any, &[20, 40, 3])], |x| x[0].slice(1, 7, 20));
    check!(cuda, "slice of the first axis", &[(Any, &[20, 40])], |x| x[0].slice(0, 3, 1));
    check!(cuda, "slice of the last axis", &[(Any, &[20, 40])], |x| x[0].slice(1, 39, 1));
    check!(cuda, "pad", &[(Any, &[20, 20, 3])], |x| x[0].pad(1, 11, 40));
    check!(cuda, "swap", &[(Any, &[20, 30, 7])], |x| x[0].swap(1, [2, 4]));
    check!(cuda, "swap of nothing", &[(Any, &[300, 70])], |x| x[0].swap(3, [0, 60])?.swap(69, [1, 0]));
    check!(cuda, "concat", &[(Any, &[20, 1, 7]), (Any, &[20, 30, 7])], |x| {
        Tensor::concat(&[&x[0], &x[1], &x[0]], 1)
    });
    check!(cuda, "concat of the last axis", &[(Any, &[300, 1]), (Any, &[300, 2])], |x| {
        Tensor::concat(&[&x[0], &x[1]], 1)
    });
}

#[test]
fn rows() {
    let Some((cuda, _memory)) = device() else { return };
    for dims in [&[1][..], &[5, 1], &[100, 3], &[9, 31], &[2, 3, 33], &[3, 1024], &[3, 1025], &[2, 9000]] {
        let (x, row) = ((Any, dims), (Any, &dims[dims.len() - 1..]));
        check!(cuda, "softmax", &[x], |x| x[0].scale(9.0)?.softmax());
        check!(cuda, "log_softmax", &[x], |x| x[0].scale(9.0)?.log_softmax());
        check!(cuda, "normalize", &[x], |x| x[0].normalize(0.1));
        check!(cuda, "layer_norm", &[x, row, row], |x| x[0].layer_norm(&x[1], &x[2], 0.1));
    }
    check!(cuda, "normalize, a small eps", &[(Any, &[50, 128])], |x| x[0].normalize(1e-5));
    check!(cuda, "cross_entropy", &[(Any, &[3, 40])], |x| x[0].cross_entropy(&[39, 0, 39]));
    let large = Tensor::from_vec(&cuda, vec![1e30, 1e30, -1e30, 1e4, 1e4 + 1.0, 0.0], [2, 3]).unwrap();
    assert_eq!(large.softmax().unwrap().to_vec().unwrap()[..3], [0.5, 0.5, 0.0]);
    assert!(large.log_softmax().unwrap().to_vec().unwrap()[3..].iter().all(|y| y.is_finite()));
}

#[test]
fn picking_elements() {
    let Some((cuda, _memory)) = device() else { return };
    check!(cuda, "gather, some twice", &[(Any, &[300, 20])], |x| x[0].gather(&[299, 0, 17, 17, 0, 17]));
    check!(cuda, "gather, each once", &[(Any, &[300, 20])], |x| x[0].gather(&[299, 0, 17]));
    check!(cuda, "gather, often", &[(Any, &[3, 20])], |x| {
        x[0].gather(&(0..1000).map(|i| i * i % 3).collect::<Vec<_>>())
    });
    check!(cuda, "gather of scalars", &[(Any, &[40])], |x| x[0].gather(&[1, 39, 1]));
    check!(cuda, "gather of nothing", &[(Any, &[40])], |x| x[0].gather(&[]));
    check!(cuda, "gather_last", &[(Any, &[30, 2, 9])], |x| {
        x[0].gather_last(&(0..60).map(|i| i % 9).collect::<Vec<_>>())
    });
}

#[test]
fn fast_weights() {
    let Some((cuda, _memory)) = device() else { return };
    for (batch, out, inp) in [(2, 3, 4), (1, 1, 1), (5, 70, 33), (9, 128, 64)] {
        let (eta, alpha, p) = ((Any, &[batch][..]), (Any, &[out, inp][..]), (Any, &[batch, out][..]));
        let (q, fast) = ((Any, &[batch, inp][..]), (Any, &[batch, out, inp][..]));
        check!(cuda, "decay_outer of zero", &[eta, alpha, p, q], |x| {
            decay_outer(None, &x[0], &x[1], &x[2], &x[3])
        });
        check!(cuda, "decay_outer", &[eta, alpha, p, q, fast], |x| {
            decay_outer(Some(&x[4]), &x[0], &x[1], &x[2], &x[3])
        });
        check!(cuda, "two updates", &[eta, alpha, p, q], |x| {
            let (batch, out) = (x[2].shape()[0], x[2].shape()[1]);
            let fast = decay_outer(None, &x[0], &x[1], &x[2], &x[3])?;
            let read = fast.matmul(&x[3].reshape([batch, x[3].shape()[1], 1])?)?.reshape([batch, out])?;
            decay_outer(Some(&fast), &x[0], &x[1], &read, &x[3])
        });
    }
}

#[test]
fn images() {
    let Some((cuda, _memory)) = device() else { return };
    check!(cuda, "conv2d", &[(Any, &[5, 3, 14, 13]), (Any, &[8, 3, 3, 3])], |x| x[0].conv2d(&x[1], 1));
    check!(cuda, "conv2d, one image", &[(Any, &[1, 3, 14, 13]), (Any, &[8, 3, 3, 3])], |x| x[0]
        .conv2d(&x[1], 1));
    check!(cuda, "conv2d without padding", &[(Any, &[2, 2, 9, 7]), (Any, &[3, 2, 2, 3])], |x| x[0]
        .conv2d(&x[1], 0));
    check!(cuda, "conv2d, one by one", &[(Any, &[2, 3, 5, 4]), (Any, &[2, 3, 1, 1])], |x| x[0]
        .conv2d(&x[1], 0));
    check!(cuda, "conv2d, wide padding", &[(Any, &[5, 1, 2, 1]), (Any, &[1, 1, 3, 4])], |x| x[0]
        .conv2d(&x[1], 2));
    check!(cuda, "max_pool2d", &[(Any, &[3, 4, 15, 20])], |x| x[0].max_pool2d());
    check!(cuda, "max_pool2d of equals", &[(Any, &[3, 5, 6])], |x| x[0].sub(&x[0].detach())?.max_pool2d());
    let (gamma, beta) = ((Any, &[6][..]), (Any, &[6][..]));
    check!(cuda, "batch_norm", &[(Any, &[7, 6, 12, 13]), gamma, beta], |x| {
        Ok(x[0].batch_norm(&x[1], &x[2], 0.1)?.0)
    });
    check!(cuda, "batch_norm of large channels", &[(Any, &[20, 6, 30, 20]), gamma, beta], |x| {
        Ok(x[0].batch_norm(&x[1], &x[2], 0.1)?.0)
    });
    check!(cuda, "batch_norm's statistics", &[(Any, &[7, 6, 12, 13]), gamma, beta], |x| {
        let statistics = x[0].batch_norm(&x[1], &x[2], 0.1)?.1;
        Tensor::concat(&[&statistics.mean.into(), &statistics.variance.into()], 0)
    });
    check!(
        cuda,
        "a stage of an encoder",
        &[(Any, &[3, 2, 12, 12]), (Any, &[6, 2, 3, 3]), gamma, beta],
        |x| x[0].conv2d(&x[1], 1)?.batch_norm(&x[2], &x[3], 0.1)?.0.gelu()?.max_pool2d()
    );
}

#[test]
fn a_convolution_whose_patches_need_more_than_one_block() {
    let Some((cuda, _memory)) = device() else { return };
    let (x, w) = ((Any, &[120, 16, 64, 64][..]), (Any, &[2, 16, 3, 3][..]));
    check!(cuda, "conv2d", &[x, w], |x| x[0].conv2d(&x[1], 1));
}

#[test]
fn composed_expressions() {
    let Some((cuda, _memory)) = device() else { return };
    let (first, second) = ([(Any, &[40, 24][..]), (Any, &[40])], [(Any, &[24, 40][..]), (Any, &[24])]);
    check!(cuda, "a perceptron", &[(Any, &[30, 24]), first[0], first[1], second[0], second[1]], |x| {
        let hidden = x[0].normalize(1e-3)?.linear(&x[1], &x[2])?.gelu()?;
        x[0].add(&hidden.linear(&x[3], &x[4])?)?.log_softmax()
    });
    check!(
        cuda,
        "causal attention",
        &[(Any, &[3, 4, 9, 8]), (Any, &[3, 4, 9, 8]), (Any, &[3, 4, 9, 8])],
        |x| {
            let mask = (0..81).map(|i| B::Elem::of(if i % 9 > i / 9 { -1e9 } else { 0.0 })).collect();
            let mask = Tensor::from_vec(x[0].backend(), mask, [9, 9])?;
            let scores = x[0].matmul_transposed(&x[1], false, true)?.scale(0.35)?.add(&mask)?;
            scores.softmax()?.matmul(&x[2])?.permute(&[0, 2, 1, 3])
        }
    );
    check!(cuda, "a tensor that many read", &[(Any, &[7, 50])], |x| {
        let mut y = x[0].add(&x[0])?;
        for n in 0..40 {
            y = y.add(&x[0].scale(0.01 * f64::from(n))?)?;
        }
        Ok(y)
    });
    check!(cuda, "a step of gradient descent", &[(Any, &[20, 30]), (Any, &[30])], |x| {
        let loss = |w: &Tensor<B>| w.matmul(&x[1].reshape([30, 1])?)?.sigmoid()?.square()?.sum();
        let slope = grad(&loss(&x[0])?, &[&x[0]], GradMode::Tracked)?.remove(0);
        loss(&x[0].sub(&slope.expect("the loss is made of it").scale(0.1)?)?)
    });
}

#[test]
fn optimisers() {
    fn trained<B: Backend>(backend: &B) -> Result<(Vec<f64>, Vec<f64>)> {
        let mut parameters =
            [array(backend, &draw(Any, 1, 5000), [5000].into()), Array::zeros(backend, [3])?];
        let mut optimiser = AdamW::new(AdamWSettings { weight_decay: 0.1, ..AdamWSettings::default() })?;
        let mut norms = Vec::new();
        for step in 0..5 {
            let first = array(backend, &draw(Any, 10 + step, 5000), [5000].into());
            let second = (step > 1).then(|| array(backend, &draw(Any, 20 + step, 3), [3].into()));
            let mut gradients = [Some(first), second, None];
            norms.push(clip_global_norm(&mut gradients, 5.0)?);
            norms.push(global_norm(&gradients)?);
            optimiser.step(&mut parameters, &gradients, 0.01)?;
        }
        let values = parameters.iter().map(Array::to_vec).collect::<Result<Vec<_>>>()?.concat();
        Ok((values.into_iter().map(Element::wide).collect(), norms))
    }
    let Some((cuda, _memory)) = device() else { return };
    let (found, truth) = (trained(&cuda).unwrap(), trained(&CPU).unwrap());
    assert_eq!(found, trained(&cuda).unwrap());
    let close = |found: &[f64], truth: &[f64], most: f64| {
        assert_eq!(found.len(), truth.len());
        for (a, b) in found.iter().zip(truth) {
            assert!((a - b).abs() <= most * b.abs().max(0.1), "{a} for {b}");
        }
    };
    close(&found.0, &truth.0, 1e-5);
    close(&found.1, &truth.1, 1e-6);
}

#[test]
fn a_norm_is_taken_in_double_precision() {
    let Some((cuda, _memory)) = device() else { return };
    let n = 1_000_003;
    let norm = |value: f32| global_norm(&[Some(Array::full(&cuda, value, [n]).unwrap())]).unwrap();
    for value in [1e-25_f32, 1.0, 1e25] {
        assert!((norm(value) / (f64::from(value) * (n as f64).sqrt()) - 1.0).abs() < 1e-12, "of {value}");
    }
    assert_eq!(global_norm(&[Some(Array::zeros(&cuda, [0]).unwrap())]).unwrap(), 0.0);
}

#[test]
fn tensors_of_no_elements() {
    let Some((cuda, _memory)) = device() else { return };
    check!(cuda, "map", &[(Any, &[0, 3])], |x| x[0].exp());
    check!(cuda, "zip", &[(Any, &[0, 3]), (Any, &[3])], |x| x[0].mul(&x[1]));
    check!(cuda, "zip, far apart", &[(Any, &[0, 70_000, 70_000]), (Any, &[1, 1])], |x| x[0].mul(&x[1]));
    check!(cuda, "a sum of nothing", &[(Any, &[0, 3])], |x| x[0].sum_axis(0));
    check!(cuda, "a product over nothing", &[(Any, &[4, 0]), (Any, &[0, 5])], |x| x[0].matmul(&x[1]));
    check!(cuda, "a product of nothing", &[(Any, &[0, 4]), (Any, &[4, 5])], |x| x[0].matmul(&x[1]));
    check!(cuda, "permute", &[(Any, &[3, 0, 2])], |x| x[0].permute(&[2, 0, 1]));
    check!(cuda, "slice", &[(Any, &[3, 4])], |x| x[0].slice(1, 2, 0));
    check!(cuda, "concat", &[(Any, &[3, 0]), (Any, &[3, 2])], |x| Tensor::concat(&[&x[0], &x[1]], 1));
    check!(cuda, "softmax", &[(Any, &[0, 4])], |x| x[0].softmax());
    check!(cuda, "normalize", &[(Any, &[0, 4])], |x| x[0].normalize(0.1));
    check!(cuda, "gather", &[(Any, &[4, 0])], |x| x[0].gather(&[1, 1]));
    check!(cuda, "conv2d", &[(Any, &[0, 2, 4, 4]), (Any, &[3, 2, 3, 3])], |x| x[0].conv2d(&x[1], 1));
}

#[test]
fn what_is_uploaded_comes_back() {
    let Some((cuda, _memory)) = device() else { return };
    for n in [0, 1, 100_003] {
        let values = draw(Any, n as u64, n);
        let tensor = Tensor::from_vec(&cuda, values.clone(), [n]).unwrap();
        assert_eq!(tensor.to_vec().unwrap(), values);
    }
    let zeros = Array::full(&cuda, -0.0, [3]).unwrap().to_vec().unwrap();
    assert!(zeros.into_iter().all(|x| x == 0.0 && x.is_sign_negative()));
    let generators = || [ChaCha8Rng::seed_from_u64(1), ChaCha8Rng::seed_from_u64(2)];
    let by_cpu = dropout_mask(&Cpu::<f32>::new(), &mut generators(), 50, 0.4).unwrap();
    let by_cuda = dropout_mask(&cuda, &mut generators(), 50, 0.4).unwrap();
    assert_eq!(by_cuda.to_vec().unwrap(), by_cpu.to_vec().unwrap());
}

#[test]
fn writing_to_a_shared_buffer_leaves_the_other_alone() {
    let Some((cuda, _memory)) = device() else { return };
    let mut a = Array::full(&cuda, 1.0, [3000]).unwrap();
    let b = a.clone();
    a.add_assign(&b).unwrap();
    let itself = a.clone();
    a.add_assign(&itself).unwrap();
    assert_eq!([&a, &b, &itself].map(|t| t.to_vec().unwrap()[2999]), [4.0, 1.0, 2.0]);
    let mut gradients = [Some(a.clone())];
    clip_global_norm(&mut gradients, 1.0).unwrap();
    assert_eq!(a.to_vec().unwrap()[0], 4.0);
}

#[test]
fn threads_share_a_device() {
    let Some((cuda, _memory)) = device() else { return };
    let work = |seed: u64| {
        let x = Tensor::from(array(&cuda, &draw(Any, seed, 64 * 64), [64, 64].into()));
        let mut y = x.clone();
        for _ in 0..20 {
            y = y.matmul(&x).unwrap().normalize(1e-3).unwrap().add(&x).unwrap();
        }
        y.to_vec().unwrap()
    };
    let alone: Vec<_> = (0..4).map(work).collect();
    let together: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|seed| scope.spawn(move || work(seed))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(alone == together);
}

#[test]
fn a_device_that_is_not_there_is_named() {
    let error = Cuda::new(4096).map(|_| ()).unwrap_err();
    let TensorError::Device { device, message } = &error else { panic!("{error:?}") };
    assert_eq!(device, "cuda:4096");
    let expected = if opened().is_some() { "there is no such device" } else { "; install " };
    assert!(message.contains(expected), "{message}");
}

#[test]
fn a_device_has_its_number_and_capability_in_its_name() {
    let Some((cuda, _memory)) = device() else { return };
    assert!(cuda.name().starts_with("cuda:0 (sm_"), "{}", cuda.name());
    assert_eq!(cuda.ordinal(), 0);
    cuda.synchronize().unwrap();
}

#[test]
fn a_full_memory_is_an_error_and_what_was_given_back_is_used_again() {
    let Some(cuda) = opened() else { return };
    let _alone = MEMORY.write().unwrap_or_else(|poisoned| poisoned.into_inner());
    let most = i32::MAX as usize;
    let error = Array::zeros(&cuda, [most + 1]).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("2147483648 elements won't do"), "{error}");
    let mut arrays = Vec::new();
    let error = loop {
        match Array::zeros(&cuda, [most]) {
            Ok(array) => arrays.push(array),
            Err(error) => break error.to_string(),
        }
        assert!(arrays.len() < 1000, "a device of more than 8 TB?");
    };
    assert!(
        error.contains("CUDA_ERROR_OUT_OF_MEMORY") && error.contains("make the batch smaller"),
        "{error}"
    );
    // the pool holds these now; buffers of another length need their memory
    drop(arrays);
    let halves: Vec<_> = (0..2).map(|_| Array::full(&cuda, 3.0, [most / 5])).collect();
    for half in halves {
        assert_eq!(Tensor::from(half.unwrap()).slice(0, most / 5 - 1, 1).unwrap().item().unwrap(), 3.0);
    }
}
