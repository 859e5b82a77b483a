//! Whole models of random configurations: what a device computes in single precision, against the CPU in double.

use std::num::NonZeroUsize;

use plastica_model::{ModelConfig, Parameters, PlasticTransformer, SequenceModel};
use plastica_rules::{Credit, Rule};
use plastica_tensor::{Array, Backend, Cpu, Element, GradMode, Shape, Tape, Tensor, grad};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const CONFIGURATIONS: u64 = 20;

/// Largest ‖found − true‖ / ‖true‖ of outputs, rates, norms and loss.
const VALUE: f64 = 1e-4;
/// The same of gradients.
const GRADIENT: f64 = 2e-3;
/// A tensor of a smaller norm is compared with this instead of its norm.
const NORM_FLOOR: f64 = 1e-6;

/// A model, what it reads, and how it is trained on that.
#[derive(Debug, Clone)]
struct Case {
    config: ModelConfig,
    credit: Credit,
    batch: usize,
    steps: usize,
    seed: u64,
}

impl Case {
    /// All of it from a seed; rules and credits take turns, so that every pair of them comes.
    fn random(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let num_heads = rng.random_range(1..=4);
        let config = ModelConfig {
            input_dim: rng.random_range(1..=12),
            output_dim: rng.random_range(1..=12),
            model_dim: num_heads * rng.random_range(2..=24),
            num_heads,
            num_layers: rng.random_range(1..=3),
            ffn_dim: rng.random_range(2..=160),
            aux_dim: rng.random_range(0..=5),
            dropout: 0.0,
            rule: Rule::ALL[seed as usize % 3],
            eta0: rng.random_range(0.05..0.5),
            max_norm: [0.3, 1.0, 5.0][rng.random_range(0..3)],
            plasticity_init: 0.02,
            ..ModelConfig::default()
        };
        let steps = rng.random_range(1..=24);
        let window = NonZeroUsize::new(rng.random_range(1..=8)).expect("a number from 1 on");
        let credit = [Credit::Detached, Credit::Full, Credit::Truncated(window)][seed as usize / 3 % 3];
        Self { config, credit, batch: rng.random_range(1..=40), steps, seed }
    }

    fn numbers(&self, stream: u64, len: usize) -> Vec<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(stream);
        (0..len).map(|_| rng.random_range(-1.0_f32..1.0)).collect()
    }

    fn array<B: Backend>(&self, backend: &B, stream: u64, shape: Shape) -> Array<B> {
        let values = self.numbers(stream, shape.len()).into_iter().map(|x| B::Elem::of(x.into()));
        Array::from_vec(backend, values.collect(), shape).unwrap()
    }

    /// Named tensors: values first, then gradients by every parameter, zero where there is none.
    fn run<B: Backend>(&self, backend: &B) -> (Vec<Named>, Vec<Named>) {
        let single =
            Parameters::init(&self.config, &Cpu::<f32>::new(), &mut ChaCha8Rng::seed_from_u64(self.seed))
                .unwrap();
        let named = single.iter().map(|(name, array)| {
            let values = array.to_vec().unwrap().into_iter().map(|x| B::Elem::of(x.into())).collect();
            (name.to_owned(), Array::from_vec(backend, values, array.shape()).unwrap())
        });
        let parameters = Parameters::from_named(&self.config, named.collect::<Vec<_>>()).unwrap();
        let tape = Tape::new();
        let (model, leaves) =
            PlasticTransformer::tracked(&self.config, &parameters, self.credit, &tape).unwrap();
        let input = self.array(backend, 1, [self.batch, self.steps, self.config.input_dim].into());
        let mut state = model.init_state(self.batch);
        let read = model.forward(&input.into(), &mut state).unwrap();
        let target = self.array(backend, 2, read.outputs.shape());
        let loss = read.outputs.sub(&target.into()).unwrap().square().unwrap().mean().unwrap();
        let gradients = grad(&loss, &leaves.iter().collect::<Vec<_>>(), GradMode::Plain).unwrap();
        let mut values = vec![of("outputs", &read.outputs), of("loss", &loss)];
        if let Some(d) = &read.diagnostics {
            values.extend([of("eta", &d.eta), of("plastic_norm", &d.plastic_norm)]);
        }
        let gradients = parameters.iter().zip(gradients).map(|((name, array), gradient)| match gradient {
            Some(gradient) => of(name, &gradient),
            None => (name.to_owned(), vec![0.0; array.shape().len()]),
        });
        (values, gradients.collect())
    }
}

type Named = (String, Vec<f64>);

fn of<B: Backend>(name: &str, tensor: &Tensor<B>) -> Named {
    (name.to_owned(), tensor.to_vec().unwrap().into_iter().map(Element::wide).collect())
}

/// The largest distance, and the tensor that has it.
fn apart(found: &[Named], truth: &[Named]) -> (f64, String) {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let mut worst = (0.0, "none".to_owned());
    assert_eq!(found.len(), truth.len());
    for ((name, found), (_, truth)) in found.iter().zip(truth) {
        assert_eq!(found.len(), truth.len(), "{name}");
        let difference = norm(&mut found.iter().zip(truth).map(|(a, b)| a - b));
        let distance = difference / norm(&mut truth.iter().copied()).max(NORM_FLOOR);
        if distance.is_nan() || distance > worst.0 {
            worst = (if distance.is_nan() { f64::INFINITY } else { distance }, name.clone());
        }
    }
    worst
}

fn check<B: Backend>(backend: &B) {
    for seed in 0..CONFIGURATIONS {
        let case = Case::random(seed);
        let (values, gradients) = case.run(backend);
        assert!(
            case.run(backend) == (values.clone(), gradients.clone()),
            "{case:?}: not the same bits again"
        );
        let truth = case.run(&Cpu::<f64>::new());
        let (value, gradient) = (apart(&values, &truth.0), apart(&gradients, &truth.1));
        let (rule, credit) = (case.config.rule, case.credit);
        println!(
            "{seed:2} {rule} {credit}: values {:.1e} ({}), gradients {:.1e} ({})",
            value.0, value.1, gradient.0, gradient.1
        );
        assert!(value.0 <= VALUE, "{case:?}: {value:?}");
        assert!(gradient.0 <= GRADIENT, "{case:?}: {gradient:?}");
    }
}

#[test]
fn random_configurations_on_the_cpu() {
    check(&Cpu::<f32>::new());
}

/// The first device; `None`, with the reason on the screen, when there is none, and a test that has failed where the
/// environment says that there is one (`PLASTICA_NEEDS_DEVICE`).
#[cfg(feature = "cuda")]
fn device() -> Option<plastica_tensor::Cuda> {
    match plastica_tensor::Cuda::new(0) {
        Ok(cuda) => Some(cuda),
        Err(error) => {
            assert!(std::env::var_os("PLASTICA_NEEDS_DEVICE").is_none(), "no device: {error}");
            println!("skipped, for want of a device: {error}");
            None
        }
    }
}

#[cfg(feature = "cuda")]
#[test]
fn random_configurations_on_cuda() {
    if let Some(cuda) = device() {
        check(&cuda);
    }
}

/// Every recording too, on the values' own tolerance.
#[cfg(feature = "cuda")]
#[test]
fn every_recording_is_reproduced_on_cuda() {
    let Some(cuda) = device() else { return };
    for path in crate::recording::all() {
        let parity = plastica_eval::replay(&path, &cuda).unwrap();
        println!("{}: {parity:?}", path.display());
        assert!(parity.holds() && parity.values.error <= VALUE, "{}: {parity:?}", path.display());
    }
}
