//! The published model on a shard of 8 episodes of 31 steps: a forward and backward pass as in training, under every
//! rule and credit; and one step of one episode, read as a stream.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use plastica_model::{ModelConfig, Noise, Parameters, PlasticTransformer, Result, SequenceModel};
use plastica_rules::{Credit, Rule};
use plastica_tensor::{Cpu, GradMode, Tape, Tensor, grad};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

type B = Cpu<f32>;

const EPISODES: usize = 8;
const STEPS: usize = 31;
const WIDTH: usize = 10;

fn config(rule: Rule) -> ModelConfig {
    ModelConfig { input_dim: WIDTH, output_dim: WIDTH, dropout: 0.0, rule, ..ModelConfig::default() }
}

fn parameters(config: &ModelConfig) -> Result<Parameters<B>> {
    Parameters::init(config, &B::new(), &mut ChaCha8Rng::seed_from_u64(1))
}

/// One-hot inputs `[episodes, steps, WIDTH]`, or of one step without `steps`.
fn inputs(episodes: usize, steps: usize) -> Result<Tensor<B>> {
    let one_hot = |place: usize| (0..WIDTH).map(move |i| if i == place * 7 % WIDTH { 1.0 } else { 0.0 });
    Ok(Tensor::from_vec(
        &B::new(),
        (0..episodes * steps).flat_map(one_hot).collect(),
        [episodes, steps, WIDTH],
    )?)
}

fn forward_and_back(
    config: &ModelConfig,
    parameters: &Parameters<B>,
    credit: Credit,
    inputs: &Tensor<B>,
) -> Result<Vec<Option<Tensor<B>>>> {
    let tape = Tape::new();
    let (model, leaves) = PlasticTransformer::tracked(config, parameters, credit, &tape)?;
    let noise = Noise::new(config.dropout, config.num_layers, &[0; EPISODES]);
    let mut state = model.init_training_state(EPISODES, noise);
    let loss = model.forward(inputs, &mut state)?.outputs.square()?.sum()?;
    Ok(grad(&loss, &leaves.iter().collect::<Vec<_>>(), GradMode::Plain)?)
}

fn training_step(c: &mut Criterion) {
    let mut group = c.benchmark_group("forward and back");
    group.throughput(Throughput::Elements(EPISODES as u64));
    for rule in Rule::ALL {
        let config = config(rule);
        let parameters = parameters(&config).expect("the configuration is valid");
        let inputs = inputs(EPISODES, STEPS).expect("the shape fits");
        for credit in [Credit::Detached, Credit::Full] {
            group.bench_function(BenchmarkId::new(rule.name(), credit), |b| {
                b.iter(|| forward_and_back(&config, &parameters, credit, &inputs).expect("the inputs fit"));
            });
        }
    }
}

fn streaming_step(c: &mut Criterion) {
    let mut group = c.benchmark_group("one step of one episode");
    for rule in Rule::ALL {
        let config = config(rule);
        let parameters = parameters(&config).expect("the configuration is valid");
        let model =
            PlasticTransformer::new(&config, &parameters).expect("the parameters are the configuration's");
        let input = inputs(1, 1).and_then(|x| Ok(x.reshape([1, WIDTH])?)).expect("the shape fits");
        let mut state = model.init_state(1);
        group.bench_function(rule.name(), |b| {
            b.iter(|| {
                if state.step() == STEPS {
                    state = model.init_state(1);
                }
                model.step(&input, &mut state).expect("the input fits")
            });
        });
    }
}

criterion_group!(benches, training_step, streaming_step);
criterion_main!(benches);
