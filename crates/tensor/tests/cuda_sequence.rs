//! The CUDA backend's kernels of sequence models against the CPU in double precision: values and the derivatives of a
//! plain sweep, of odd sizes and usual ones, and the same bits from one run to the next. Each test is skipped where no
//! device can be opened.

use std::sync::LazyLock;

use plastica_tensor::ops::attention::AttentionCache;
use plastica_tensor::ops::fast::FastTrajectory;
use plastica_tensor::ops::history::FastHistory;
use plastica_tensor::ops::rank_one::rank_one_norms;
use plastica_tensor::ops::rate::{RateConstants, learning_rate};
use plastica_tensor::{Array, Backend, Cpu, Cuda, Element, GradMode, Result, Shape, Tape, Tensor, grad};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const CPU: Cpu<f64> = Cpu::new();

/// Largest error of a value and of a derivative, relative to the largest of its tensor.
const VALUE: f64 = 1e-5;
const DERIVATIVE: f64 = 3e-5;

fn device() -> Option<Cuda> {
    static DEVICE: LazyLock<Result<Cuda>> = LazyLock::new(|| Cuda::new(0));
    match &*DEVICE {
        Ok(cuda) => Some(cuda.clone()),
        Err(error) => {
            println!("skipped, for want of a device: {error}");
            None
        }
    }
}

/// Values in [−1, 1) that single precision holds, so that both backends compute with the same.
fn array<B: Backend>(backend: &B, seed: u64, shape: Shape) -> Array<B> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut uniform = || f64::from((rng.next_u32() >> 8) as f32 / 2.0_f32.powi(23) - 1.0);
    let values = (0..shape.len()).map(|_| B::Elem::of(uniform())).collect();
    Array::from_vec(backend, values, shape).unwrap()
}

type Function<B> = fn(&[Tensor<B>]) -> Result<Vec<Tensor<B>>>;
type Values = Vec<Vec<f64>>;

/// The outputs of `f`, and the gradients by its inputs of a random projection of the tracked ones.
fn evaluate<B: Backend>(backend: &B, inputs: &[&[usize]], f: Function<B>) -> Result<[Values; 2]> {
    let tape = Tape::new();
    let mut leaves = Vec::new();
    for (dims, seed) in inputs.iter().zip(1..) {
        leaves.push(tape.leaf(&array(backend, seed, Shape::new(dims)?)));
    }
    let outputs = f(&leaves)?;
    let mut total = Tensor::zeros(backend, [])?;
    for (output, seed) in outputs.iter().zip(100..) {
        total = total.add(&output.mul(&array(backend, seed, output.shape()).into())?.sum()?)?;
    }
    let gradients = if total.is_tracked() {
        grad(&total, &leaves.iter().collect::<Vec<_>>(), GradMode::Plain)?
    } else {
        Vec::new()
    };
    let wide = |t: &Tensor<B>| Ok(t.to_vec()?.into_iter().map(Element::wide).collect());
    let values = outputs.iter().map(wide).collect::<Result<_>>()?;
    Ok([values, gradients.iter().flatten().map(wide).collect::<Result<_>>()?])
}

/// The largest difference, relative to the largest value; infinite if one is not a number.
fn off(found: &[f64], truth: &[f64]) -> f64 {
    if found.len() != truth.len() || found.iter().any(|x| x.is_nan()) {
        return f64::INFINITY;
    }
    let apart = found.iter().zip(truth).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    apart / truth.iter().map(|x| x.abs()).fold(1e-6, f64::max)
}

fn compare(name: &str, inputs: &[&[usize]], (cpu, cuda): (Function<Cpu<f64>>, Function<Cuda>)) {
    let Some(device) = device() else { return };
    let truth = evaluate(&CPU, inputs, cpu).unwrap_or_else(|e| panic!("{name} of {inputs:?}: {e}"));
    let found = evaluate(&device, inputs, cuda).unwrap_or_else(|e| panic!("{name} of {inputs:?}: {e}"));
    let again = evaluate(&device, inputs, cuda).unwrap_or_else(|e| panic!("{name} of {inputs:?}: {e}"));
    assert!(found == again, "{name} of {inputs:?}: another run gives other bits");
    for (order, most) in [VALUE, DERIVATIVE].into_iter().enumerate() {
        assert_eq!(found[order].len(), truth[order].len(), "{name} of {inputs:?}: order {order}");
        for (i, (found, truth)) in found[order].iter().zip(&truth[order]).enumerate() {
            let off = off(found, truth);
            assert!(off <= most, "{name} of {inputs:?}: order {order}, number {i} is off by {off:e}");
        }
    }
}

/// Compares a function on both backends: `check!("name", inputs, |x| Ok(vec![x[0].exp()?]))`.
macro_rules! check {
    ($name:expr, $inputs:expr, |$x:ident| $body:expr) => {{
        fn on<B: Backend>($x: &[Tensor<B>]) -> Result<Vec<Tensor<B>>> {
            $body
        }
        compare($name, $inputs, (on::<Cpu<f64>>, on::<Cuda>));
    }};
}

#[test]
fn linear_layers_used_at_several_steps() {
    for (batch, steps, inp, out) in [(1, 1, 1, 1), (3, 2, 5, 7), (5, 70, 3, 2), (33, 4, 128, 65)] {
        check!("linear", &[&[batch, steps, inp], &[out, inp], &[out]], |x| {
            let steps = x[0].shape()[1];
            (0..steps).map(|t| x[0].step(t)?.linear(&x[1], &x[2])?.sigmoid()).collect()
        });
        check!("linear, and all at once", &[&[batch, steps, inp], &[out, inp], &[out]], |x| {
            Ok(vec![x[0].linear(&x[1], &x[2])?, x[0].step(0)?.square()?.linear(&x[1], &x[2])?])
        });
    }
}

#[test]
fn steps_and_stacks() {
    for (batch, steps, width) in [(1, 1, 1), (3, 5, 7), (2, 150, 3), (130, 4, 128)] {
        check!("steps, some twice", &[&[batch, steps, width]], |x| {
            let steps = x[0].shape()[1];
            let mut all = Vec::new();
            for t in (0..steps).chain(0..steps / 2) {
                all.push(x[0].step(t)?.scale(1.0 + t as f64)?);
            }
            Ok(vec![Tensor::stack_steps(&all)?])
        });
        check!("steps at once", &[&[batch, steps, width]], |x| {
            let steps = x[0].steps()?;
            let all: Vec<_> = steps.iter().map(Tensor::sigmoid).collect::<Result<_>>()?;
            Ok(vec![Tensor::stack_steps(&all)?, steps[steps.len() / 2].square()?])
        });
    }
}

/// Uses of a matrix and a vector in turn: on the way back, each adds its share of their gradients to the ones before it.
#[test]
fn shares_of_a_gradient_are_added_up() {
    for (rows, cols) in [(1, 2), (3, 5), (33, 40), (70, 128), (2, 1500)] {
        let inputs: [&[usize]; 5] = [&[rows, cols], &[7, cols], &[7], &[cols], &[rows, 3]];
        check!("uses of a tensor in turn", &inputs, |x| {
            let (y, cols) = (x[0].scale(1.5)?, x[0].shape()[1]);
            Ok(vec![
                y.slice(1, cols / 2, 1)?.sigmoid()?,
                y.gelu()?,
                y.layer_norm(&x[3], &x[3], 1e-3)?,
                rank_one_norms(&[(&y, &x[4]), (&x[4], &y), (&y, &y)])?,
                y.linear(&x[1], &x[2])?.gelu()?,
                y.gelu()?.add(&y)?,
                y.slice(1, 0, 1)?.slice(0, 0, 1)?,
                y.linear(&x[1], &x[2])?,
                y.layer_norm(&x[3], &x[3], 1e-3)?,
                y.gelu()?,
                y.add(&x[0])?.add(&y)?,
            ])
        });
    }
}

#[test]
fn layer_normalisation() {
    for dims in [&[1, 3][..], &[7, 33], &[70, 128], &[3, 50, 24], &[2500, 10], &[2, 1500]] {
        let cols = &dims[dims.len() - 1..];
        check!("layer_norm", &[dims, cols, cols], |x| Ok(vec![x[0].layer_norm(&x[1], &x[2], 1e-3)?]));
        check!("layer_norm of constants", &[dims, cols, cols], |x| {
            Ok(vec![x[0].layer_norm(&x[1].detach(), &x[2].detach(), 1e-3)?])
        });
    }
    for dims in [&[1, 3][..], &[7, 33], &[70, 128], &[3, 50, 24], &[2, 1500], &[3, 9000]] {
        let cols = &dims[dims.len() - 1..];
        check!("a sum and its layer_norm", &[dims, dims, cols, cols], |x| {
            let [sum, normed] = x[0].add_layer_norm(&x[1], &x[2], &x[3], 1e-3)?;
            Ok(vec![normed, sum.sigmoid()?])
        });
    }
    check!("layer_norm of many steps", &[&[9, 40], &[40], &[40]], |x| {
        let step = |t| x[0].scale(0.1 + 0.02 * f64::from(t))?.layer_norm(&x[1], &x[2], 1e-3);
        Ok(vec![Tensor::stack_steps(&(0..70).map(step).collect::<Result<Vec<_>>>()?)?])
    });
}

#[test]
fn norms_of_rank_one() {
    for (batch, out, inp) in [(1, 1, 1), (3, 5, 7), (70, 33, 128)] {
        check!("rank_one_norms", &[&[batch, out], &[batch, inp]], |x| {
            Ok(vec![rank_one_norms(&[(&x[0], &x[1]), (&x[1], &x[0]), (&x[0], &x[0])])?])
        });
        check!("rank_one_norms of many", &[&[batch, out], &[batch, inp]], |x| {
            Ok(vec![rank_one_norms(&vec![(&x[0], &x[1]); 20])?])
        });
    }
}

#[test]
fn rates() {
    for len in [1, 70, 300] {
        check!("learning_rate", &[&[len], &[len]], |x| {
            let constants = RateConstants { largest: 0.2, most: 0.3, share: 0.5, floor: 1e-4 };
            Ok(learning_rate(constants, &x[0], &x[1].square()?)?.to_vec())
        });
    }
}

/// Attention of step after step, the first few written at once; with a mask, which is as good as any if it is a constant.
fn attended<B: Backend>(x: &[Tensor<B>], heads: usize, masked: bool) -> Result<Vec<Tensor<B>>> {
    let [batch, steps, width] = x[0].shape()[..] else { unreachable!("it is a sequence") };
    let (backend, first) = (x[0].backend(), steps / 3);
    // room for less than all, so that it has to grow
    let mut cache = AttentionCache::new(backend, batch, heads, width / 3 / heads, 2);
    let mut found = Vec::new();
    if first > 0 {
        cache.extend(&x[0].slice(1, 0, first)?)?;
    }
    for t in first..steps {
        let qkv = x[0].step(t)?;
        cache.extend(&qkv)?;
        let mask = Tensor::from(array(backend, 7, [batch, heads, cache.len()].into()));
        found.push(cache.attend(&qkv, masked.then_some(&mask))?);
    }
    let (keys, values) = cache.keys_and_values()?;
    found.extend([keys.sigmoid()?, values.square()?]);
    Ok(found)
}

#[test]
fn attention_over_a_cache() {
    for (batch, steps, width) in [(1, 1, 12), (3, 7, 36), (5, 40, 12), (4, 9, 384), (2, 70, 3 * 4 * 33)] {
        check!("attention of one head", &[&[batch, steps, width]], |x| attended(x, 1, false));
        check!("attention", &[&[batch, steps, width]], |x| attended(x, 4, false));
        check!("attention under a mask", &[&[batch, steps, width]], |x| attended(x, 2, true));
    }
}

/// The derivative of each step's attention by the step itself, which is differentiated again.
fn attention_slopes<B: Backend>(x: &[Tensor<B>], heads: usize, masked: bool) -> Result<Vec<Tensor<B>>> {
    let [batch, _, width] = x[0].shape()[..] else { unreachable!("it is a sequence") };
    let backend = x[0].backend();
    let mut cache = AttentionCache::new(backend, batch, heads, width / 3 / heads, 2);
    let mut found = Vec::new();
    for step in x[0].steps()? {
        // a scaled copy, which the inner gradient does not go beyond
        let qkv = step.scale(0.7)?;
        cache.extend(&qkv)?;
        let mask = Tensor::from(array(backend, 7, [batch, heads, cache.len()].into()));
        let y = cache.attend(&qkv, masked.then_some(&mask))?;
        let slope = grad(&y.square()?.sum()?, &[&qkv], GradMode::Tracked)?.remove(0);
        found.extend([y, slope.expect("the loss is made of it")]);
    }
    Ok(found)
}

#[test]
fn derivatives_of_a_step_of_attention() {
    for (batch, steps, width) in [(1, 1, 12), (3, 7, 36), (4, 9, 384), (2, 40, 3 * 4 * 33)] {
        check!("slopes of attention", &[&[batch, steps, width]], |x| attention_slopes(x, 4, false));
        check!("slopes of attention under a mask", &[&[batch, steps, width]], |x| {
            attention_slopes(x, 2, true)
        });
    }
}

/// The slope of a layer normalisation and of GELU, differentiated again.
#[test]
fn derivatives_of_slopes() {
    for (rows, cols) in [(1, 2), (7, 33), (70, 128), (2, 1500), (3, 9000)] {
        check!("slopes of a normalisation and of gelu", &[&[rows, cols], &[cols]], |x| {
            let y = x[0].scale(1.5)?;
            let z = y.layer_norm(&x[1], &x[1], 0.1)?.gelu()?.square()?.sum()?;
            let slope = grad(&z, &[&y], GradMode::Tracked)?.remove(0);
            Ok(vec![y.gelu()?, slope.expect("the loss is made of it")])
        });
    }
}

/// A layer of fast weights along a sequence: α `[out, inp]`, β `[out]`, inputs `[B, T, inp]`, slow outputs `[B, out]` and
/// gates `[B, T]`; what was read, ‖F‖² at every step, and F and c in the end. On a device, a short sequence whose length
/// is `known` is one of changes, any other of F in place.
fn trajectory<B: Backend>(
    x: &[Tensor<B>],
    largest: f64,
    bound: Option<f64>,
    known: bool,
) -> Result<Vec<Tensor<B>>> {
    let [alpha, beta, inputs, slow, gates] = x else { unreachable!("five inputs") };
    let (&[batch, steps, inp], out) = (&inputs.shape()[..], beta.shape()[0]) else {
        unreachable!("inputs are a sequence")
    };
    let backend = alpha.backend();
    let mut fast =
        FastTrajectory::new(backend, batch, out, inp, known.then_some(steps)).with_rates_up_to(bound);
    let mut found = Vec::new();
    for t in 0..steps {
        let q = inputs.step(t)?;
        let mut y = slow.add(&fast.read(&q)?)?;
        if t % 3 == 1 {
            // a second read of the same weights
            y = y.add(&fast.read(&q.square()?)?)?;
        }
        found.push(y.clone());
        let eta = gates.slice(1, t, 1)?.reshape([batch])?.sigmoid()?.scale(largest)?;
        fast.update([&eta, alpha, beta, &y.scale(0.3)?, &q])?;
    }
    fast.settle()?;
    found.extend(fast.take_norms().into_iter().map(Tensor::from));
    if let Some((weight, bias)) = fast.get()? {
        found.extend([weight.into(), bias.into()]);
    }
    Ok(found)
}

/// A plastic linear layer along a sequence: α, β, inputs `[B, T, inp]`, W, b and gates `[B, T]`.
fn plastic_layer<B: Backend>(x: &[Tensor<B>], known: bool) -> Result<Vec<Tensor<B>>> {
    let [alpha, beta, inputs, weight, bias, gates] = x else { unreachable!("six inputs") };
    let (&[batch, steps, inp], out) = (&inputs.shape()[..], beta.shape()[0]) else {
        unreachable!("inputs are a sequence")
    };
    let mut fast = FastTrajectory::new(alpha.backend(), batch, out, inp, known.then_some(steps))
        .with_rates_up_to(Some(0.2));
    let mut found = Vec::new();
    for (t, q) in inputs.steps()?.into_iter().enumerate() {
        let q = q.scale(0.2)?;
        let y = fast.linear(&q, weight, bias)?;
        let eta = gates.slice(1, t, 1)?.reshape([batch])?.sigmoid()?.scale(0.2)?;
        found.push(y.gelu()?);
        fast.update([&eta, alpha, beta, &y, &q])?;
        if t % 3 == 2 {
            // two updates by one rate
            fast.update([&eta, alpha, beta, &y.gelu()?, &q])?;
        }
    }
    fast.settle()?;
    found.extend(fast.take_norms().into_iter().map(Tensor::from));
    Ok(found)
}

#[test]
fn plastic_linear_layers() {
    for (batch, steps, out, inp) in
        [(1, 1, 1, 1), (3, 4, 2, 5), (2, 9, 33, 70), (2, 5, 256, 128), (3, 5, 128, 256), (600, 2, 20, 4)]
    {
        let inputs: [&[usize]; 6] =
            [&[out, inp], &[out], &[batch, steps, inp], &[out, inp], &[out], &[batch, steps]];
        check!("a plastic layer", &inputs, |x| plastic_layer(x, false));
        check!("a plastic layer by changes", &inputs, |x| plastic_layer(x, true));
    }
}

/// Trajectories of every kind, given episodes, steps and a layer's outputs and inputs.
fn check_trajectories((batch, steps, out, inp): (usize, usize, usize, usize)) {
    let inputs: [&[usize]; 5] = [&[out, inp], &[out], &[batch, steps, inp], &[batch, out], &[batch, steps]];
    check!("by changes", &inputs, |x| trajectory(x, 0.2, Some(0.2), true));
    check!("by changes, at large rates", &inputs, |x| trajectory(x, 0.85, Some(0.85), true));
    check!("in place", &inputs, |x| trajectory(x, 0.2, Some(0.2), false));
    check!("in place, without a bound", &inputs, |x| trajectory(x, 0.2, None, false));
    check!("in place, at large rates", &inputs, |x| trajectory(x, 0.85, Some(0.85), false));
}

/// Every kernel once or twice: few enough for a tool that watches every access.
#[test]
fn fast_weights_along_a_short_sequence() {
    [(1, 1, 1, 1), (3, 3, 2, 5), (1, 2, 256, 128), (2, 2, 128, 256)].into_iter().for_each(check_trajectories);
}

#[test]
fn fast_weights_along_sequences() {
    let sizes = [(3, 4, 2, 5), (2, 9, 33, 70), (5, 7, 40, 12), (2, 5, 256, 128), (3, 5, 128, 256)];
    sizes
        .into_iter()
        .chain([(70, 3, 9, 8), (600, 2, 20, 4), (1200, 2, 20, 4), (2, 3, 9, 516)])
        .for_each(check_trajectories);
    let long: [&[usize]; 5] = [&[6, 8], &[6], &[3, 45, 8], &[3, 6], &[3, 45]];
    check!("in place, with copies", &long, |x| trajectory(x, 0.2, Some(0.2), true));
    check!("in place, replayed", &long, |x| trajectory(x, 0.8, Some(0.8), true));
    let full: [&[usize]; 5] = [&[6, 8], &[6], &[3, 40, 8], &[3, 6], &[3, 40]];
    check!("by as many changes as there can be", &full, |x| trajectory(x, 0.2, None, true));
}

/// Units of half precision take numbers that it has no room for, large and small.
#[test]
fn fast_weights_of_large_and_small_numbers() {
    for (batch, steps, out, inp) in [(3, 5, 33, 70), (2, 4, 256, 128), (2, 4, 128, 256)] {
        let inputs: [&[usize]; 5] =
            [&[out, inp], &[out], &[batch, steps, inp], &[batch, out], &[batch, steps]];
        check!("by changes, of a large α", &inputs, |x| {
            let [alpha, beta, inputs, slow, gates] = x else { unreachable!("five inputs") };
            let scaled = [alpha.scale(3e5)?, beta.clone(), inputs.scale(3e-4)?, slow.clone(), gates.clone()];
            trajectory(&scaled, 0.2, Some(0.2), true)
        });
        check!("by changes, of a small α", &inputs, |x| {
            let [alpha, beta, inputs, slow, gates] = x else { unreachable!("five inputs") };
            let scaled =
                [alpha.scale(3e-7)?, beta.clone(), inputs.scale(300.0)?, slow.clone(), gates.clone()];
            trajectory(&scaled, 0.2, Some(0.2), true)
        });
    }
}

/// Many reads after two changes, of a sequence of a length that is known or not.
fn many_reads<B: Backend>(x: &[Tensor<B>], steps: Option<usize>, reads: u32) -> Result<Vec<Tensor<B>>> {
    let mut fast = FastTrajectory::new(x[0].backend(), 3, 6, 8, steps).with_rates_up_to(Some(0.5));
    let eta = x[4].sigmoid()?.scale(0.5)?;
    fast.update([&eta, &x[0], &x[1], &x[3], &x[2]])?;
    fast.update([&eta, &x[0], &x[1], &x[3].square()?, &x[2]])?;
    (0..reads).map(|i| fast.read(&x[2].scale(1.0 + f64::from(i))?.sigmoid()?)).collect()
}

#[test]
fn more_reads_than_one_launch_takes() {
    let inputs: [&[usize]; 5] = [&[6, 8], &[6], &[3, 8], &[3, 6], &[3]];
    check!("many reads in place", &inputs, |x| many_reads(x, None, 11));
    check!("many reads by changes", &inputs, |x| many_reads(x, Some(3), 170));
}

#[test]
fn a_sequence_longer_than_was_said() {
    check!("fifty steps instead of four", &[&[6, 8], &[6], &[3, 50, 8], &[3, 6], &[3]], |x| {
        let mut fast = FastTrajectory::new(x[0].backend(), 3, 6, 8, Some(4)).with_rates_up_to(Some(0.3));
        let (eta, mut found) = (x[4].sigmoid()?.scale(0.3)?, Vec::new());
        for t in 0..50 {
            let q = x[2].step(t)?;
            let y = x[3].add(&fast.read(&q)?)?.sigmoid()?;
            fast.update([&eta, &x[0], &x[1], &y, &q])?;
            found.push(y);
        }
        fast.settle()?;
        found.extend(fast.take_norms().into_iter().map(Tensor::from));
        Ok(found)
    });
}

/// Updates by an inner gradient, which is a transposed read, of a sequence of a length that is known or not.
fn inner_gradients<B: Backend>(x: &[Tensor<B>], steps: Option<usize>) -> Result<Vec<Tensor<B>>> {
    let mut fast = FastTrajectory::new(x[0].backend(), 3, 6, 8, steps).with_rates_up_to(Some(0.3));
    let (eta, mut found) = (x[4].sigmoid()?.scale(0.3)?, Vec::new());
    for t in 0..4 {
        let q = x[2].step(t)?;
        let y = x[3].add(&fast.read(&q)?)?.sigmoid()?;
        let inner = grad(&y.square()?.sum()?, &[&q], GradMode::Tracked)?.remove(0);
        let inner = inner.expect("the loss is made of it");
        found.extend([y.clone(), inner.clone()]);
        fast.update([&eta, &x[0], &x[1], &y, &inner])?;
    }
    Ok(found)
}

#[test]
fn an_inner_gradient_through_fast_weights() {
    let inputs: [&[usize]; 5] = [&[6, 8], &[6], &[3, 4, 8], &[3, 6], &[3]];
    check!("transposed reads in place", &inputs, |x| inner_gradients(x, None));
    check!("transposed reads by changes", &inputs, |x| inner_gradients(x, Some(4)));
}

#[test]
fn fast_weights_as_a_history() {
    for (batch, steps, out, inp) in [(1, 1, 4, 4), (3, 5, 33, 17), (70, 8, 64, 128)] {
        check!("history", &[&[batch, steps, inp], &[batch, steps, out], &[batch, steps]], |x| {
            let &[batch, steps, inp] = &x[0].shape()[..] else { unreachable!("a sequence") };
            let (backend, out) = (x[0].backend(), x[1].shape()[2]);
            let number =
                |value, shape: Shape| Ok(Tensor::from(Array::full(backend, B::Elem::of(value), shape)?));
            let (alpha, beta) = (number(0.25, [out, inp].into())?, number(0.5, [out].into())?);
            let mut history =
                FastHistory::new(&alpha, &beta, batch, steps)?.expect("α and β are one number each");
            let mut found = Vec::new();
            for t in 0..steps {
                let q = x[0].step(t)?.detach();
                let p = x[1].step(t)?.detach();
                let y = history.add_to(p.clone(), &q)?;
                let eta = x[2].detach().slice(1, t, 1)?.reshape([batch])?.sigmoid()?.scale(0.2)?;
                history.update(&eta, &y, &q)?;
                found.push(y);
            }
            found.push(history.add_to(x[1].clone(), &x[0])?);
            found.extend(history.take_norms()?.into_iter().map(Tensor::from));
            Ok(found)
        });
    }
    let Some(cuda) = device() else { return };
    let mut values = vec![0.02; 70_000];
    let plasticity = |values: &[f32]| {
        let alpha = Tensor::from_vec(&cuda, values.to_vec(), [700, 100]).unwrap();
        let beta = Tensor::from_vec(&cuda, vec![0.5; 700], [700]).unwrap();
        FastHistory::plasticity(&alpha, &beta, 4).unwrap()
    };
    assert_eq!(plasticity(&values), Some([0.02, 0.5]));
    values[69_999] = 0.03;
    assert_eq!(plasticity(&values), None);
}
