//! The gradient of the whole model's loss by every parameter, against fourth-order central differences in f64.
//!
//! What a credit cuts is a constant to the gradient, and so it must be to the differences: their function reads
//! the sequence with the fast weights put back, wherever the credit cuts, to what they were for the unmoved
//! parameters. What is left is an ordinary function of the parameters.

use plastica_model::{ModelConfig, Parameters, PlasticState, PlasticTransformer, SequenceModel};
use plastica_rules::{Credit, FastWeights, Rule};
use plastica_tensor::{Array, Cpu, GradMode, Tape, Tensor, grad};

use crate::support::{distance, perturbed, random, small, wide};

type F64 = Cpu<f64>;

const BATCH: usize = 2;
const STEPS: usize = 5;
const CLASSES: [u32; BATCH * STEPS] = [0, 2, 1, 1, 0, 2, 0, 1, 2, 1];

/// A batch for a model with some rule and clipping.
struct Trial {
    config: ModelConfig,
    parameters: Parameters<F64>,
    inputs: Tensor<F64>,
}

impl Trial {
    fn new(rule: Rule, max_norm: f64) -> Self {
        let config = ModelConfig { max_norm, eta0: 0.5, ..small(rule) };
        let cpu = F64::new();
        let parameters = perturbed(&config, &cpu, 1);
        let inputs = random(&cpu, [BATCH, STEPS, config.input_dim], 2);
        Self { config, parameters, inputs }
    }

    /// The summed cross-entropy of a sequence read step by step; `before` may change the state before each.
    fn loss(
        &self,
        model: &PlasticTransformer<F64>,
        mut before: impl FnMut(usize, &mut PlasticState<F64>),
    ) -> Tensor<F64> {
        let mut state = model.init_state(BATCH);
        let mut loss = Tensor::zeros(&F64::new(), []).unwrap();
        for t in 0..STEPS {
            before(t, &mut state);
            let input = self.inputs.slice(1, t, 1).unwrap().reshape([BATCH, self.config.input_dim]).unwrap();
            let outputs = model.step(&input, &mut state).unwrap().outputs;
            let classes = [CLASSES[t], CLASSES[STEPS + t]];
            loss = loss.add(&outputs.cross_entropy(&classes).unwrap().sum().unwrap()).unwrap();
        }
        loss
    }

    /// The gradient of the loss of the sequence read at once, by parameter.
    fn gradient(&self, credit: Credit) -> Vec<Option<Vec<f64>>> {
        let tape = Tape::new();
        let (model, leaves) =
            PlasticTransformer::tracked(&self.config, &self.parameters, credit, &tape).unwrap();
        let outputs = model.forward(&self.inputs, &mut model.init_state(BATCH)).unwrap().outputs;
        let loss = outputs.cross_entropy(&CLASSES).unwrap().sum().unwrap();
        values(&grad(&loss, &leaves.iter().collect::<Vec<_>>(), GradMode::Plain).unwrap())
    }

    /// The fast weights before each step.
    fn trajectory(&self) -> Vec<Vec<FastWeights<F64>>> {
        let model = PlasticTransformer::new(&self.config, &self.parameters).unwrap();
        let mut trajectory = Vec::new();
        self.loss(&model, |_, state| trajectory.push(state.fast_weights().to_vec()));
        trajectory
    }

    /// The loss for moved parameters, with what the credit cuts as it was for the unmoved ones.
    fn loss_at(
        &self,
        parameters: &Parameters<F64>,
        credit: Credit,
        trajectory: &[Vec<FastWeights<F64>>],
    ) -> f64 {
        let model = PlasticTransformer::new(&self.config, parameters).unwrap();
        let loss = self.loss(&model, |t, state| {
            let cut = match credit {
                Credit::Detached => true,
                Credit::Truncated(window) => t % window.get() == 0,
                Credit::Full => false,
            };
            if cut {
                state.set_fast_weights(trajectory[t].clone()).unwrap();
            }
        });
        loss.item().unwrap()
    }

    /// Whether some step turns the rate down, and whether some step does not.
    fn clipping(&self) -> (bool, bool) {
        let model = PlasticTransformer::new(&self.config, &self.parameters).unwrap();
        let read = model.forward(&self.inputs, &mut model.init_state(BATCH)).unwrap();
        let Some(diagnostics) = read.diagnostics else { return (false, true) };
        let clip = diagnostics.clip.to_vec().unwrap();
        (clip.iter().any(|&c| c < 1.0), clip.contains(&1.0))
    }
}

fn values(gradients: &[Option<Tensor<F64>>]) -> Vec<Option<Vec<f64>>> {
    gradients.iter().map(|g| g.as_ref().map(|g| wide(g.array()))).collect()
}

/// Fourth-order central differences of `f` by every scalar of parameter `i`.
fn differences(parameters: &Parameters<F64>, i: usize, f: impl Fn(&Parameters<F64>) -> f64) -> Vec<f64> {
    const H: f64 = 2e-3;
    let (mut moved, array) = (parameters.clone(), &parameters.arrays()[i]);
    let values = array.to_vec().unwrap();
    let derivative = |at: usize| {
        let mut side = |by: f64| {
            let mut values = values.clone();
            values[at] += by;
            moved.arrays_mut()[i] = Array::from_vec(&F64::new(), values, array.shape()).unwrap();
            f(&moved)
        };
        (8.0 * (side(H) - side(-H)) - (side(2.0 * H) - side(-2.0 * H))) / (12.0 * H)
    };
    let mut derivative = derivative;
    (0..values.len()).map(&mut derivative).collect()
}

#[track_caller]
fn check(rule: Rule, max_norm: f64, clipping: (bool, bool), credit: &str) {
    let (trial, credit) = (Trial::new(rule, max_norm), credit.parse().unwrap());
    assert_eq!(trial.clipping(), clipping, "(some steps clipped, some not)");
    let trajectory = trial.trajectory();
    let computed = trial.gradient(credit);
    let mut worst = (0.0, "-");
    for (i, name) in trial.parameters.names().iter().enumerate() {
        let expected = differences(&trial.parameters, i, |p| trial.loss_at(p, credit, &trajectory));
        let Some(computed) = &computed[i] else {
            assert!(expected.iter().all(|&d| d == 0.0), "{name} has no gradient, but matters");
            continue;
        };
        let error = distance(computed, &expected);
        if error > worst.0 {
            worst = (error, name);
        }
        assert!(error < 1e-6, "{name}: {error:e}");
    }
    println!("{rule} {credit} {max_norm}: {worst:?}");
}

/// Every step clipped, none.
const CLIPPED: (bool, bool) = (true, false);
const UNCLIPPED: (bool, bool) = (false, true);
const MIXED: (bool, bool) = (true, true);

#[test]
fn none() {
    check(Rule::None, 1.0, UNCLIPPED, "full");
}

#[test]
fn hebbian_full() {
    check(Rule::Hebbian, 1e4, UNCLIPPED, "full");
}
#[test]
fn hebbian_full_clip() {
    check(Rule::Hebbian, 1.0, MIXED, "full");
}
#[test]
fn gradient_full() {
    check(Rule::Gradient, 1e4, UNCLIPPED, "full");
}
#[test]
fn gradient_full_clip() {
    check(Rule::Gradient, 1.0, MIXED, "full");
}
