//! Small models whose every parameter matters, and measures of how far two results are apart.

use plastica_model::{ModelConfig, Parameters};
use plastica_rules::Rule;
use plastica_tensor::{Array, Backend, Element, Shape, Tensor};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Uniform};

/// A model small enough for finite differences by every scalar: two blocks of two heads, no dropout.
pub fn small(rule: Rule) -> ModelConfig {
    ModelConfig {
        input_dim: 3,
        output_dim: 3,
        model_dim: 6,
        num_heads: 2,
        num_layers: 2,
        ffn_dim: 10,
        aux_dim: 2,
        dropout: 0.0,
        rule,
        ..ModelConfig::default()
    }
}

/// Numbers uniform in ± `bound`.
pub fn uniform(bound: f64, count: usize, seed: u64) -> Vec<f64> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let uniform = Uniform::new(-bound, bound).expect("a bound above 0");
    (0..count).map(|_| uniform.sample(&mut rng)).collect()
}

/// A tensor of numbers uniform in ±1, the same up to rounding on every backend.
pub fn random<B: Backend>(backend: &B, shape: impl Into<Shape>, seed: u64) -> Tensor<B> {
    let shape = shape.into();
    let values = uniform(1.0, shape.len(), seed).into_iter().map(B::Elem::of).collect();
    Tensor::from_vec(backend, values, shape).unwrap()
}

/// Parameters off their initial values, so that no α, gain or bias is like its neighbour.
pub fn perturbed<B: Backend>(config: &ModelConfig, backend: &B, seed: u64) -> Parameters<B> {
    let mut parameters = Parameters::init(config, backend, &mut ChaCha8Rng::seed_from_u64(seed)).unwrap();
    for (i, array) in parameters.arrays_mut().iter_mut().enumerate() {
        let noise = uniform(0.3, array.shape().len(), seed + 1000 + i as u64);
        let moved = array.to_vec().unwrap().into_iter().zip(noise);
        let values = moved.map(|(value, noise)| B::Elem::of(value.wide() + noise)).collect();
        *array = Array::from_vec(backend, values, array.shape()).unwrap();
    }
    parameters
}

/// A tensor's values, widened.
pub fn wide<B: Backend>(array: &Array<B>) -> Vec<f64> {
    array.to_vec().unwrap().into_iter().map(Element::wide).collect()
}

/// ‖a − b‖ / ‖b‖, and 0 for two zeros.
pub fn distance(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let apart = norm(&mut a.iter().zip(b).map(|(a, b)| a - b));
    if apart == 0.0 { 0.0 } else { apart / norm(&mut b.iter().copied()) }
}
