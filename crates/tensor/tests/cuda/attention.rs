//! Attention over a cache that grows, and its derivatives by a step.

use plastica_tensor::ops::attention::AttentionCache;
use plastica_tensor::{Backend, Cpu, Cuda, GradMode, Result, Tensor, grad};

use crate::common::{Derivatives, Draw, array, compare, draw, sweep};

/// A mask that is as good as any.
fn mask_of<B: Backend>(backend: &B, shape: [usize; 3]) -> Tensor<B> {
    let values = draw(Draw::Any, 7, shape.iter().product());
    array(backend, &values, shape.into()).into()
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
        let mask = mask_of(backend, [batch, heads, cache.len()]);
        found.push(cache.attend(&qkv, masked.then_some(&mask))?);
    }
    let (keys, values) = cache.keys_and_values()?;
    found.extend([keys.sigmoid()?, values.square()?]);
    Ok(found)
}

#[test]
fn attention_over_a_cache() {
    for (batch, steps, width) in [(1, 1, 12), (3, 7, 36), (5, 40, 12), (4, 9, 384), (2, 70, 3 * 4 * 33)] {
        sweep!("attention of one head", &[&[batch, steps, width]], |x| attended(x, 1, false));
        sweep!("attention", &[&[batch, steps, width]], |x| attended(x, 4, false));
        sweep!("attention under a mask", &[&[batch, steps, width]], |x| attended(x, 2, true));
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
        let mask = mask_of(backend, [batch, heads, cache.len()]);
        let y = cache.attend(&qkv, masked.then_some(&mask))?;
        let slope = grad(&y.square()?.sum()?, &[&qkv], GradMode::Tracked)?.remove(0);
        found.extend([y, slope.expect("the loss is made of it")]);
    }
    Ok(found)
}

#[test]
fn derivatives_of_a_step_of_attention() {
    for (batch, steps, width) in [(1, 1, 12), (3, 7, 36), (4, 9, 384), (2, 40, 3 * 4 * 33)] {
        sweep!("slopes of attention", &[&[batch, steps, width]], |x| attention_slopes(x, 4, false));
        sweep!("slopes of attention under a mask", &[&[batch, steps, width]], |x| {
            attention_slopes(x, 2, true)
        });
    }
}
