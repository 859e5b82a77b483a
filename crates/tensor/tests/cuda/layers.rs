//! What a step of a sequence model is made of besides attention and fast weights, used at several steps.

use plastica_tensor::ops::rank_one::rank_one_norms;
use plastica_tensor::ops::rate::{RateConstants, learning_rate};
use plastica_tensor::{Backend, Cpu, Cuda, GradMode, Result, Tensor, grad};

use crate::common::{Derivatives, Draw, compare, sweep};

#[test]
fn linear_layers_used_at_several_steps() {
    for (batch, steps, inp, out) in [(1, 1, 1, 1), (3, 2, 5, 7), (5, 70, 3, 2), (33, 4, 128, 65)] {
        sweep!("linear", &[&[batch, steps, inp], &[out, inp], &[out]], |x| {
            let steps = x[0].shape()[1];
            (0..steps).map(|t| x[0].step(t)?.linear(&x[1], &x[2])?.sigmoid()).collect()
        });
        sweep!("linear, and all at once", &[&[batch, steps, inp], &[out, inp], &[out]], |x| {
            Ok(vec![x[0].linear(&x[1], &x[2])?, x[0].step(0)?.square()?.linear(&x[1], &x[2])?])
        });
    }
}

#[test]
fn steps_and_stacks() {
    for (batch, steps, width) in [(1, 1, 1), (3, 5, 7), (2, 150, 3), (130, 4, 128)] {
        sweep!("steps, some twice", &[&[batch, steps, width]], |x| {
            let steps = x[0].shape()[1];
            let mut all = Vec::new();
            for t in (0..steps).chain(0..steps / 2) {
                all.push(x[0].step(t)?.scale(1.0 + t as f64)?);
            }
            Ok(vec![Tensor::stack_steps(&all)?])
        });
        sweep!("steps at once", &[&[batch, steps, width]], |x| {
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
        sweep!("uses of a tensor in turn", &inputs, |x| {
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
        sweep!("layer_norm", &[dims, cols, cols], |x| Ok(vec![x[0].layer_norm(&x[1], &x[2], 1e-3)?]));
        sweep!("layer_norm of constants", &[dims, cols, cols], |x| {
            Ok(vec![x[0].layer_norm(&x[1].detach(), &x[2].detach(), 1e-3)?])
        });
    }
    for dims in [&[1, 3][..], &[7, 33], &[70, 128], &[3, 50, 24], &[2, 1500], &[3, 9000]] {
        let cols = &dims[dims.len() - 1..];
        sweep!("a sum and its layer_norm", &[dims, dims, cols, cols], |x| {
            let [sum, normed] = x[0].add_layer_norm(&x[1], &x[2], &x[3], 1e-3)?;
            Ok(vec![normed, sum.sigmoid()?])
        });
    }
    sweep!("layer_norm of many steps", &[&[9, 40], &[40], &[40]], |x| {
        let step = |t| x[0].scale(0.1 + 0.02 * f64::from(t))?.layer_norm(&x[1], &x[2], 1e-3);
        Ok(vec![Tensor::stack_steps(&(0..70).map(step).collect::<Result<Vec<_>>>()?)?])
    });
}

#[test]
fn norms_of_rank_one() {
    for (batch, out, inp) in [(1, 1, 1), (3, 5, 7), (70, 33, 128)] {
        sweep!("rank_one_norms", &[&[batch, out], &[batch, inp]], |x| {
            Ok(vec![rank_one_norms(&[(&x[0], &x[1]), (&x[1], &x[0]), (&x[0], &x[0])])?])
        });
        sweep!("rank_one_norms of many", &[&[batch, out], &[batch, inp]], |x| {
            Ok(vec![rank_one_norms(&vec![(&x[0], &x[1]); 20])?])
        });
    }
}

#[test]
fn rates() {
    for len in [1, 70, 300] {
        sweep!("learning_rate", &[&[len], &[len]], |x| {
            let constants = RateConstants { largest: 0.2, most: 0.3, share: 0.5, floor: 1e-4 };
            Ok(learning_rate(constants, &x[0], &x[1].square()?)?.to_vec())
        });
    }
}

/// The slope of a layer normalisation and of GELU, differentiated again.
#[test]
fn derivatives_of_slopes() {
    for (rows, cols) in [(1, 2), (7, 33), (70, 128), (2, 1500), (3, 9000)] {
        sweep!("slopes of a normalisation and of gelu", &[&[rows, cols], &[cols]], |x| {
            let y = x[0].scale(1.5)?;
            let z = y.layer_norm(&x[1], &x[1], 0.1)?.gelu()?.square()?.sum()?;
            let slope = grad(&z, &[&y], GradMode::Tracked)?.remove(0);
            Ok(vec![y.gelu()?, slope.expect("the loss is made of it")])
        });
    }
}
