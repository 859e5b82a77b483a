//! Fast weights: one update, and along sequences in each of the ways that they are kept.

use plastica_tensor::ops::fast::FastTrajectory;
use plastica_tensor::ops::history::FastHistory;
use plastica_tensor::ops::outer::decay_outer;
use plastica_tensor::{Array, Backend, Cpu, Cuda, Element, GradMode, Result, Shape, Tensor, grad};

use crate::common::Draw::Any;
use crate::common::{Derivatives, Draw, check, compare, device, sweep};

#[test]
fn single_updates() {
    for (batch, out, inp) in [(2, 3, 4), (1, 1, 1), (5, 70, 33), (9, 128, 64)] {
        let (eta, alpha, p) = ((Any, &[batch][..]), (Any, &[out, inp][..]), (Any, &[batch, out][..]));
        let (q, fast) = ((Any, &[batch, inp][..]), (Any, &[batch, out, inp][..]));
        check!("decay_outer of zero", &[eta, alpha, p, q], |x| {
            decay_outer(None, &x[0], &x[1], &x[2], &x[3])
        });
        check!("decay_outer", &[eta, alpha, p, q, fast], |x| {
            decay_outer(Some(&x[4]), &x[0], &x[1], &x[2], &x[3])
        });
        check!("two updates", &[eta, alpha, p, q], |x| {
            let (batch, out) = (x[2].shape()[0], x[2].shape()[1]);
            let fast = decay_outer(None, &x[0], &x[1], &x[2], &x[3])?;
            let read = fast.matmul(&x[3].reshape([batch, x[3].shape()[1], 1])?)?.reshape([batch, out])?;
            decay_outer(Some(&fast), &x[0], &x[1], &read, &x[3])
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
        sweep!("a plastic layer", &inputs, |x| plastic_layer(x, false));
        sweep!("a plastic layer by changes", &inputs, |x| plastic_layer(x, true));
    }
}

/// Trajectories of every kind, given episodes, steps and a layer's outputs and inputs.
fn check_trajectories((batch, steps, out, inp): (usize, usize, usize, usize)) {
    let inputs: [&[usize]; 5] = [&[out, inp], &[out], &[batch, steps, inp], &[batch, out], &[batch, steps]];
    sweep!("by changes", &inputs, |x| trajectory(x, 0.2, Some(0.2), true));
    sweep!("by changes, at large rates", &inputs, |x| trajectory(x, 0.85, Some(0.85), true));
    sweep!("in place", &inputs, |x| trajectory(x, 0.2, Some(0.2), false));
    sweep!("in place, without a bound", &inputs, |x| trajectory(x, 0.2, None, false));
    sweep!("in place, at large rates", &inputs, |x| trajectory(x, 0.85, Some(0.85), false));
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
    sweep!("in place, with copies", &long, |x| trajectory(x, 0.2, Some(0.2), true));
    sweep!("in place, replayed", &long, |x| trajectory(x, 0.8, Some(0.8), true));
    let full: [&[usize]; 5] = [&[6, 8], &[6], &[3, 40, 8], &[3, 6], &[3, 40]];
    sweep!("by as many changes as there can be", &full, |x| trajectory(x, 0.2, None, true));
}

/// Units of half precision take numbers that it has no room for, large and small.
#[test]
fn fast_weights_of_large_and_small_numbers() {
    for (batch, steps, out, inp) in [(3, 5, 33, 70), (2, 4, 256, 128), (2, 4, 128, 256)] {
        let inputs: [&[usize]; 5] =
            [&[out, inp], &[out], &[batch, steps, inp], &[batch, out], &[batch, steps]];
        sweep!("by changes, of a large α", &inputs, |x| {
            let [alpha, beta, inputs, slow, gates] = x else { unreachable!("five inputs") };
            let scaled = [alpha.scale(3e5)?, beta.clone(), inputs.scale(3e-4)?, slow.clone(), gates.clone()];
            trajectory(&scaled, 0.2, Some(0.2), true)
        });
        sweep!("by changes, of a small α", &inputs, |x| {
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
    sweep!("many reads in place", &inputs, |x| many_reads(x, None, 11));
    sweep!("many reads by changes", &inputs, |x| many_reads(x, Some(3), 170));
}

#[test]
fn a_sequence_longer_than_was_said() {
    sweep!("fifty steps instead of four", &[&[6, 8], &[6], &[3, 50, 8], &[3, 6], &[3]], |x| {
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
    sweep!("transposed reads in place", &inputs, |x| inner_gradients(x, None));
    sweep!("transposed reads by changes", &inputs, |x| inner_gradients(x, Some(4)));
}

#[test]
fn fast_weights_as_a_history() {
    for (batch, steps, out, inp) in [(1, 1, 4, 4), (3, 5, 33, 17), (70, 8, 64, 128)] {
        sweep!("history", &[&[batch, steps, inp], &[batch, steps, out], &[batch, steps]], |x| {
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
    let Some((cuda, _memory)) = device() else { return };
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
