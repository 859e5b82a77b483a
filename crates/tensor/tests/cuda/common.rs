//! The device, inputs that both backends compute with, and how their results are held against each other.

use std::sync::{LazyLock, RwLock, RwLockReadGuard};

use plastica_tensor::{
    Array, Backend, Cpu, Cuda, Element, GradMode, Result, Shape, Tape, Tensor, TensorError, grad,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub(crate) const CPU: Cpu<f64> = Cpu::new();

/// Largest error of a value and of a derivative, relative to the largest of its tensor.
const VALUE: f64 = 1e-5;
const DERIVATIVE: f64 = 3e-5;

/// Held by every test, and alone by the one that takes all of the device's memory.
pub(crate) static MEMORY: RwLock<()> = RwLock::new(());

/// The first device, and a hold on its memory; `None`, with the reason on the screen, when there is none, and a test that has
/// failed where the environment says that there is one (`PLASTICA_NEEDS_DEVICE`).
pub(crate) fn device() -> Option<(Cuda, RwLockReadGuard<'static, ()>)> {
    Some((opened()?, MEMORY.read().unwrap_or_else(|poisoned| poisoned.into_inner())))
}

pub(crate) fn opened() -> Option<Cuda> {
    static DEVICE: LazyLock<Result<Cuda>> = LazyLock::new(|| Cuda::new(0));
    match &*DEVICE {
        Ok(cuda) => Some(cuda.clone()),
        Err(error) => {
            assert!(std::env::var_os("PLASTICA_NEEDS_DEVICE").is_none(), "no device: {error}");
            println!("skipped, for want of a device: {error}");
            None
        }
    }
}

/// Where an input's elements are drawn from.
#[derive(Clone, Copy)]
pub(crate) enum Draw {
    /// [−1, 1)
    Any,
    /// [0.5, 2)
    Positive,
}

/// Values that single precision holds, so that both backends compute with the same.
pub(crate) fn draw(from: Draw, seed: u64, len: usize) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut uniform = || (rng.next_u32() >> 8) as f32 / 2.0_f32.powi(24);
    (0..len)
        .map(|_| match from {
            Draw::Any => 2.0 * uniform() - 1.0,
            Draw::Positive => 0.5 + 1.5 * uniform(),
        })
        .collect()
}

pub(crate) fn array<B: Backend>(backend: &B, values: &[f32], shape: Shape) -> Array<B> {
    let values = values.iter().map(|&x| B::Elem::of(f64::from(x))).collect();
    Array::from_vec(backend, values, shape).unwrap()
}

/// A tensor's shape and values.
#[derive(PartialEq, Debug)]
pub(crate) struct Found {
    pub(crate) shape: Shape,
    pub(crate) values: Vec<f64>,
}

impl Found {
    pub(crate) fn of<B: Backend>(tensor: &Tensor<B>) -> Result<Self> {
        let values = tensor.to_vec()?.into_iter().map(Element::wide).collect();
        Ok(Self { shape: tensor.shape(), values })
    }

    /// The largest difference, relative to the largest value; infinite if one is not a number.
    pub(crate) fn off(&self, truth: &Self) -> f64 {
        let largest = |values: &mut dyn Iterator<Item = f64>| values.fold(0.0, f64::max);
        let nan = self.values.iter().any(|x| x.is_nan());
        let off = largest(&mut self.values.iter().zip(&truth.values).map(|(a, b)| (a - b).abs()));
        let scale = largest(&mut truth.values.iter().map(|x| x.abs()));
        if nan { f64::INFINITY } else { off / scale.max(1e-6) }
    }
}

/// Which derivatives are held against the CPU's.
#[derive(Clone, Copy)]
pub(crate) enum Derivatives {
    /// Of first order, by a plain sweep.
    Swept,
    /// Of first and of second order, by a sweep that is itself recorded.
    Twice,
}

type Function<B> = fn(&[Tensor<B>]) -> Result<Vec<Tensor<B>>>;
type Inputs<'a> = &'a [(Draw, &'a [usize])];

/// The outputs of `f`, and derivatives by its inputs of random projections of the tracked ones, order after order.
fn evaluate<B: Backend>(
    backend: &B,
    inputs: Inputs<'_>,
    derivatives: Derivatives,
    f: Function<B>,
) -> Result<Vec<Vec<Found>>> {
    let tape = Tape::new();
    let mut leaves = Vec::new();
    for (&(from, dims), seed) in inputs.iter().zip(1..) {
        let shape = Shape::new(dims)?;
        leaves.push(tape.leaf(&array(backend, &draw(from, seed, shape.len()), shape)));
    }
    let projected = |tensors: &[Tensor<B>], seeds: u64| {
        let mut total = Tensor::zeros(backend, [])?;
        for (t, seed) in tensors.iter().zip(seeds..) {
            let along = array(backend, &draw(Draw::Any, seed, t.shape().len()), t.shape());
            total = total.add(&t.mul(&along.into())?.sum()?)?;
        }
        Ok(total)
    };
    let gradients = |of: &Tensor<B>, mode| {
        let by: Vec<_> = leaves.iter().collect();
        let all = if of.is_tracked() { grad(of, &by, mode)? } else { Vec::new() };
        Ok(all.into_iter().flatten().collect::<Vec<_>>())
    };
    let outputs = f(&leaves)?;
    let mut orders = vec![outputs.clone()];
    match derivatives {
        Derivatives::Swept => orders.push(gradients(&projected(&outputs, 100)?, GradMode::Plain)?),
        Derivatives::Twice => {
            // bent, so that linear functions have second derivatives too
            let bent = |y: &Tensor<B>| y.mul(&y.scale(0.5)?.shift(1.0)?);
            let bent: Vec<_> = outputs.iter().map(bent).collect::<Result<_>>()?;
            let first = gradients(&projected(&bent, 1000)?, GradMode::Tracked)?;
            let second = gradients(&projected(&first, 2000)?, GradMode::Tracked)?;
            orders.extend([first, second]);
        }
    }
    orders.iter().map(|order| order.iter().map(Found::of).collect()).collect()
}

/// Holds `cuda` on the device against `cpu`, and against itself, run again.
pub(crate) fn compare(
    name: &str,
    inputs: Inputs<'_>,
    derivatives: Derivatives,
    (cpu, cuda): (Function<Cpu<f64>>, Function<Cuda>),
) {
    let Some((device, _memory)) = device() else { return };
    let shapes: Vec<_> = inputs.iter().map(|(_, dims)| dims).collect();
    let fail = |error: TensorError| panic!("{name} of {shapes:?}: {error}");
    let truth = evaluate(&CPU, inputs, derivatives, cpu).unwrap_or_else(fail);
    let found = evaluate(&device, inputs, derivatives, cuda).unwrap_or_else(fail);
    let again = evaluate(&device, inputs, derivatives, cuda).unwrap_or_else(fail);
    assert!(found == again, "{name} of {shapes:?}: another run gives other bits");
    for (order, (found, truth)) in found.iter().zip(&truth).enumerate() {
        assert_eq!(found.len(), truth.len(), "{name} of {shapes:?}: order {order}");
        for (i, (found, truth)) in found.iter().zip(truth).enumerate() {
            assert_eq!(found.shape, truth.shape, "{name} of {shapes:?}: order {order}, number {i}");
            let (off, most) = (found.off(truth), if order == 0 { VALUE } else { DERIVATIVE });
            assert!(off <= most, "{name} of {shapes:?}: order {order}, number {i} is off by {off:e}");
        }
    }
}

/// Compares a function and its first and second derivatives: `check!("name", inputs, |x| x[0].exp())`.
macro_rules! check {
    ($name:expr, $inputs:expr, |$x:ident| $body:expr) => {{
        fn one<B: Backend>($x: &[Tensor<B>]) -> Result<Tensor<B>> {
            $body
        }
        fn on<B: Backend>(x: &[Tensor<B>]) -> Result<Vec<Tensor<B>>> {
            Ok(vec![one(x)?])
        }
        compare($name, $inputs, Derivatives::Twice, (on::<Cpu<f64>>, on::<Cuda>));
    }};
}

/// Compares several outputs and their gradients by a plain sweep: `sweep!("name", inputs, |x| x[0].steps())`.
macro_rules! sweep {
    ($name:expr, $inputs:expr, |$x:ident| $body:expr) => {{
        fn on<B: Backend>($x: &[Tensor<B>]) -> Result<Vec<Tensor<B>>> {
            $body
        }
        let inputs: &[&[usize]] = $inputs;
        let inputs: Vec<_> = inputs.iter().map(|&dims| (Draw::Any, dims)).collect();
        compare($name, &inputs, Derivatives::Swept, (on::<Cpu<f64>>, on::<Cuda>));
    }};
}

pub(crate) use {check, sweep};
