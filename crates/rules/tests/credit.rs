//! What the outer gradient sees of one plastic layer's history, in f64 against fourth-order central differences.
//!
//! A layer reads a short sequence and changes after each step; a loss of its outputs is differentiated by
//! everything that it depends on. What a credit cuts is a constant, so the differences are taken of the function
//! in which the fast weights are put back there to what they were.

use plastica_rules::{
    Credit, FastWeights, LayerTrace, Neuromodulation, Plastic, PlasticLinear, Plasticity, Rule,
};
use plastica_tensor::{Array, Cpu, GradMode, Shape, Tape, Tensor, grad};

type F64 = Cpu<f64>;

/// Three updates, so four outputs.
const STEPS: usize = 4;
const BATCH: usize = 2;
const OUT: usize = 3;
const IN: usize = 4;

/// What the loss depends on, by name: W, b, α, β, each step's gate pre-activations and inputs.
const NAMES: [&str; 6] = ["W", "b", "alpha", "beta", "g", "x"];

fn variables() -> Vec<Array<F64>> {
    let shapes: [&[usize]; 6] =
        [&[OUT, IN], &[OUT], &[OUT, IN], &[OUT], &[STEPS, BATCH], &[STEPS, BATCH, IN]];
    let array = |(k, shape): (usize, &&[usize])| {
        let shape = Shape::new(shape).unwrap();
        let value = |i: usize| (1.0 + 7.3 * k as f64 + 1.7 * i as f64).sin();
        Array::from_vec(&F64::new(), (0..shape.len()).map(value).collect(), shape).unwrap()
    };
    shapes.iter().enumerate().map(array).collect()
}

/// A layer with a rule.
struct Trial {
    rule: Rule,
    max_norm: f64,
    credit: Credit,
}

impl Trial {
    /// The loss of a sequence, and the clip factor of every update; `before` may change the fast weights before
    /// each step.
    fn read(
        &self,
        variables: &[Tensor<F64>],
        mut before: impl FnMut(usize, &mut FastWeights<F64>),
    ) -> (Tensor<F64>, Vec<f64>) {
        let [weight, bias, alpha, beta, g, x] = variables else { unreachable!("six variables") };
        let layer = PlasticLinear {
            weight: weight.clone(),
            bias: bias.clone(),
            plastic: Plastic::new(alpha.clone(), beta.clone()),
        };
        let plasticity = Plasticity {
            rule: self.rule.build().unwrap(),
            neuromodulation: Neuromodulation { eta0: 0.7, max_norm: self.max_norm, ..Default::default() },
            eta0: None,
            credit: self.credit,
        };
        let mut fast = [FastWeights::zero()];
        let mut loss = Tensor::zeros(&F64::new(), []).unwrap();
        let mut clips = Vec::new();
        for t in 0..STEPS {
            before(t, &mut fast[0]);
            let input = x.slice(0, t, 1).unwrap().reshape([BATCH, IN]).unwrap();
            let output = layer.forward(&input, &fast[0]).unwrap();
            let curved = output.gelu().unwrap().mul(&output.shift(0.1 * t as f64).unwrap()).unwrap();
            loss = loss.add(&curved.sum().unwrap()).unwrap();
            let trace =
                LayerTrace { internal_gradient: Some(self.internal_gradient(&output)), input, output };
            let g = g.slice(0, t, 1).unwrap().reshape([BATCH]).unwrap();
            let modulation = plasticity.update(t, &g, [&layer.plastic], &[trace], &mut fast).unwrap();
            clips.extend(modulation.into_iter().flat_map(|m| m.clip.to_vec().unwrap()));
        }
        (loss, clips)
    }

    /// The derivative of the internal loss `Σ sigmoid(y)²` by the layer's output: itself differentiable.
    fn internal_gradient(&self, output: &Tensor<F64>) -> Tensor<F64> {
        let watched = if output.is_tracked() { output.clone() } else { Tape::new().leaf(output.array()) };
        let internal = watched.sigmoid().unwrap().square().unwrap().sum().unwrap();
        let gradients = grad(&internal, &[&watched], GradMode::Tracked).unwrap();
        let gradient = gradients.into_iter().flatten().next().expect("the loss depends on the output");
        if output.is_tracked() { gradient } else { gradient.detach() }
    }

    fn gradient(&self) -> Vec<Option<Vec<f64>>> {
        let tape = Tape::new();
        let leaves: Vec<_> = variables().iter().map(|array| tape.leaf(array)).collect();
        let (loss, _) = self.read(&leaves, |_, _| ());
        let gradients = grad(&loss, &leaves.iter().collect::<Vec<_>>(), GradMode::Plain).unwrap();
        gradients.into_iter().map(|g| g.map(|g| g.to_vec().unwrap())).collect()
    }

    /// Fourth-order central differences, with what the credit cuts as it is for the unmoved variables.
    fn differences(&self) -> Vec<Vec<f64>> {
        const H: f64 = 1e-3;
        let plain = |arrays: &[Array<F64>]| arrays.iter().cloned().map(Tensor::from).collect::<Vec<_>>();
        let unmoved = variables();
        let mut trajectory = Vec::new();
        self.read(&plain(&unmoved), |_, fast| trajectory.push(fast.clone()));
        let loss = |arrays: &[Array<F64>]| {
            let put_back = |t: usize, fast: &mut FastWeights<F64>| {
                let cut = match self.credit {
                    Credit::Detached => true,
                    Credit::Full => false,
                    Credit::Truncated(window) | Credit::Windowed(window) => t.is_multiple_of(window.get()),
                };
                if cut {
                    *fast = trajectory[t].clone();
                }
            };
            self.read(&plain(arrays), put_back).0.item().unwrap()
        };
        let derivative = |k: usize, i: usize| {
            let side = |by: f64| {
                let mut moved = unmoved.clone();
                let mut values = moved[k].to_vec().unwrap();
                values[i] += by;
                moved[k] = Array::from_vec(&F64::new(), values, moved[k].shape()).unwrap();
                loss(&moved)
            };
            (8.0 * (side(H) - side(-H)) - (side(2.0 * H) - side(-2.0 * H))) / (12.0 * H)
        };
        let by_variable =
            |(k, array): (usize, &Array<F64>)| (0..array.shape().len()).map(|i| derivative(k, i)).collect();
        unmoved.iter().enumerate().map(by_variable).collect()
    }
}

fn norm(values: impl IntoIterator<Item = f64>) -> f64 {
    values.into_iter().map(|v| v * v).sum::<f64>().sqrt()
}

/// The gradient under a credit is right, and `without` names what has none.
#[track_caller]
fn check(rule: Rule, max_norm: f64, credit: &str, without: &[&str]) {
    let trial = Trial { rule, max_norm, credit: credit.parse().unwrap() };
    for ((name, computed), expected) in NAMES.iter().zip(trial.gradient()).zip(trial.differences()) {
        assert_eq!(computed.is_none(), without.contains(name), "{rule}, {credit}: {name}");
        match computed {
            Some(computed) => {
                let apart = norm(computed.iter().zip(&expected).map(|(a, b)| a - b));
                let error = apart / norm(expected);
                assert!(error < 1e-8, "{rule}, {credit}, max_norm {max_norm}: {name} is off by {error:e}");
            }
            None => assert!(expected.iter().all(|&d| d == 0.0), "{rule}, {credit}: {name} matters"),
        }
    }
}

const LARGE: f64 = 1e6;

/// A largest norm that some of the rule's changes exceed and some don't.
fn middling(rule: Rule) -> f64 {
    let max_norm = if rule == Rule::Hebbian { 3.0 } else { 0.5 };
    let trial = Trial { rule, max_norm, credit: Credit::Full };
    let plain: Vec<_> = variables().into_iter().map(Tensor::from).collect();
    let (_, clips) = trial.read(&plain, |_, _| ());
    assert!(clips.contains(&1.0) && clips.iter().any(|&c| c < 1.0), "{rule}: {clips:?}");
    max_norm
}

#[test]
fn full_credit_runs_through_every_update() {
    for rule in [Rule::Hebbian, Rule::Gradient] {
        check(rule, LARGE, "full", &[]);
        check(rule, middling(rule), "full", &[]);
    }
}

#[test]
fn truncated_credit_holds_fast_weights_constant_at_the_edges_of_windows() {
    for rule in [Rule::Hebbian, Rule::Gradient] {
        for credit in ["truncated(2)", "truncated(3)", "windowed(2)"] {
            check(rule, LARGE, credit, &[]);
            check(rule, middling(rule), credit, &[]);
        }
        // a window of one step: every update is cut off before it is read
        check(rule, LARGE, "truncated(1)", &["alpha", "beta", "g"]);
    }
}

#[test]
fn detached_credit_leaves_plasticity_without_a_gradient() {
    for rule in [Rule::Hebbian, Rule::Gradient] {
        check(rule, LARGE, "detached", &["alpha", "beta", "g"]);
        check(rule, middling(rule), "detached", &["alpha", "beta", "g"]);
    }
}

#[test]
fn rule_none_has_no_plasticity_to_give_credit_to() {
    for credit in ["full", "truncated(2)", "detached"] {
        check(Rule::None, LARGE, credit, &["alpha", "beta", "g"]);
    }
}

#[test]
fn a_window_as_long_as_the_sequence_is_full_credit() {
    for rule in [Rule::Hebbian, Rule::Gradient] {
        let gradient = |credit: &str| {
            Trial { rule, max_norm: middling(rule), credit: credit.parse().unwrap() }.gradient()
        };
        for credit in ["truncated(4)", "truncated(5)", "truncated(4000)"] {
            for (ours, full) in gradient(credit).iter().zip(&gradient("full")) {
                let (ours, full) = (ours.as_ref().unwrap(), full.as_ref().unwrap());
                let apart = ours.iter().zip(full).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
                assert!(ours.len() == full.len() && apart < 1e-12, "{rule}, {credit}: {apart:e}");
            }
        }
        // an update after the last step is read by nobody
        assert_ne!(gradient("truncated(3)"), gradient("full"), "{rule}");
    }
}
