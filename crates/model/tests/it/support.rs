//! Small models whose every parameter matters, and measures of how far two results are apart.

use plastica_model::{FastNorm, Gates, ModelConfig, Parameters, PlasticLayers, Positions};
use plastica_rules::{ClipMode, Rule};
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

/// The small model with each option that is not the published one, by name, then with many at once.
pub fn options(rule: Rule) -> Vec<(&'static str, ModelConfig)> {
    // two heads of two pairs
    let usual = || ModelConfig { model_dim: 8, ..small(rule) };
    let learned = ModelConfig { positions: Positions::Learned, max_positions: 9, ..usual() };
    let plastic_layers = PlasticLayers::Both;
    let many = ModelConfig {
        attention_window: Some(2),
        positions: Positions::Rotary,
        gates: Gates::PerLayer,
        clip: ClipMode::PerLayer,
        learn_eta0: true,
        fast_norm: FastNorm::Bound,
        plastic_layers,
        ..usual()
    };
    vec![
        ("rotary", ModelConfig { positions: Positions::Rotary, ..usual() }),
        ("learned positions", learned),
        ("a window of 1", ModelConfig { attention_window: Some(1), ..usual() }),
        ("a window of 3", ModelConfig { attention_window: Some(3), ..usual() }),
        ("plastic attention", ModelConfig { plastic_layers: PlasticLayers::Attention, ..usual() }),
        ("all layers plastic", ModelConfig { plastic_layers, ..usual() }),
        ("a gate a layer", ModelConfig { gates: Gates::PerLayer, ..usual() }),
        ("clip per-layer", ModelConfig { clip: ClipMode::PerLayer, ..usual() }),
        ("clip rms", ModelConfig { clip: ClipMode::Rms, ..usual() }),
        ("learned η0", ModelConfig { learn_eta0: true, ..usual() }),
        ("bounded", ModelConfig { fast_norm: FastNorm::Bound, ..usual() }),
        ("many", many),
    ]
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
