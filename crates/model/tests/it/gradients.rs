//! The gradient of the whole model's loss by every parameter, against fourth-order central differences in f64.
//!
//! What a credit cuts is a constant to the gradient, and so it must be to the differences: their function reads
//! the sequence with the fast weights put back, or all of the state, wherever the credit cuts, to what they were for the
//! unmoved parameters. What is left is an ordinary function of the parameters.

use plastica_model::{
    FastNorm, ModelConfig, Parameters, PlasticState, PlasticTransformer, Positions, SequenceModel,
};
use plastica_rules::{Credit, Rule};
use plastica_tensor::{Array, Cpu, GradMode, Tape, Tensor, grad};

use crate::support::{distance, options, perturbed, random, small, wide};

type F64 = Cpu<f64>;

/// Which steps are to have their rate turned down.
#[derive(PartialEq, Debug)]
enum Clipped {
    None,
    Some,
}

/// A model and a batch of classified sequences.
struct Trial {
    config: ModelConfig,
    parameters: Parameters<F64>,
    /// `[B, T, input_dim]`
    inputs: Tensor<F64>,
    /// A sequence each: the class of every step.
    classes: Vec<Vec<u32>>,
}

impl Trial {
    fn new(config: ModelConfig, batch: usize, steps: usize) -> Self {
        let cpu = F64::new();
        let parameters = perturbed(&config, &cpu, 1);
        let inputs = random(&cpu, [batch, steps, config.input_dim], 2);
        let class = |episode: usize, step: usize| ((7 * episode + step * step) % config.output_dim) as u32;
        let classes = (0..batch).map(|b| (0..steps).map(|t| class(b, t)).collect()).collect();
        Self { config, parameters, inputs, classes }
    }

    /// The usual one: two sequences of five steps.
    fn of(rule: Rule, max_norm: f64) -> Self {
        Self::new(ModelConfig { max_norm, eta0: 0.5, ..small(rule) }, 2, 5)
    }

    /// The summed cross-entropy of a sequence read step by step; `before` may change the state before each.
    fn loss(
        &self,
        model: &PlasticTransformer<F64>,
        mut before: impl FnMut(usize, &mut PlasticState<F64>),
    ) -> Tensor<F64> {
        let [batch, steps, width] = self.inputs.shape()[..] else { unreachable!("inputs are [B, T, width]") };
        let mut state = model.init_state(batch);
        let mut loss = Tensor::zeros(&F64::new(), []).unwrap();
        for t in 0..steps {
            before(t, &mut state);
            let input = self.inputs.slice(1, t, 1).unwrap().reshape([batch, width]).unwrap();
            let outputs = model.step(&input, &mut state).unwrap().outputs;
            let classes: Vec<u32> = self.classes.iter().map(|sequence| sequence[t]).collect();
            loss = loss.add(&outputs.cross_entropy(&classes).unwrap().sum().unwrap()).unwrap();
        }
        loss
    }

    /// The gradient of the loss of the sequence read at once, by parameter.
    fn gradient(&self, credit: Credit) -> Vec<Option<Vec<f64>>> {
        let tape = Tape::new();
        let (model, leaves) =
            PlasticTransformer::tracked(&self.config, &self.parameters, credit, &tape).unwrap();
        let mut state = model.init_state(self.classes.len());
        let outputs = model.forward(&self.inputs, &mut state).unwrap().outputs;
        let loss = outputs.cross_entropy(&self.classes.concat()).unwrap().sum().unwrap();
        values(&grad(&loss, &leaves.iter().collect::<Vec<_>>(), GradMode::Plain).unwrap())
    }

    /// The same, of window after window, each on a tape of its own: the sum of the windows' gradients.
    fn gradient_by_windows(&self, window: usize) -> Vec<Option<Vec<f64>>> {
        let credit = format!("windowed({window})").parse().unwrap();
        let steps = self.inputs.shape()[1];
        let mut state = None;
        let mut sums: Vec<Option<Vec<f64>>> = vec![None; self.parameters.arrays().len()];
        for start in (0..steps).step_by(window) {
            let end = steps.min(start + window);
            let tape = Tape::new();
            let (model, leaves) =
                PlasticTransformer::tracked(&self.config, &self.parameters, credit, &tape).unwrap();
            let state = state.get_or_insert_with(|| model.init_state(self.classes.len()));
            let inputs = self.inputs.slice(1, start, end - start).unwrap();
            let outputs = model.forward(&inputs, state).unwrap().outputs;
            let classes: Vec<u32> = self.classes.iter().flat_map(|c| c[start..end].to_vec()).collect();
            let loss = outputs.cross_entropy(&classes).unwrap().sum().unwrap();
            let gradients = grad(&loss, &leaves.iter().collect::<Vec<_>>(), GradMode::Plain).unwrap();
            for (sum, gradient) in sums.iter_mut().zip(values(&gradients)) {
                let Some(gradient) = gradient else { continue };
                let sum = sum.get_or_insert_with(|| vec![0.0; gradient.len()]);
                sum.iter_mut().zip(gradient).for_each(|(sum, g)| *sum += g);
            }
        }
        sums
    }

    /// The state before each step.
    fn trajectory(&self) -> Vec<PlasticState<F64>> {
        let model = PlasticTransformer::new(&self.config, &self.parameters).unwrap();
        let mut trajectory = Vec::new();
        self.loss(&model, |_, state| trajectory.push(state.clone()));
        trajectory
    }

    /// The loss for moved parameters, with what the credit cuts as it was for the unmoved ones.
    fn loss_at(&self, parameters: &Parameters<F64>, credit: Credit, trajectory: &[PlasticState<F64>]) -> f64 {
        let model = PlasticTransformer::new(&self.config, parameters).unwrap();
        let loss = self.loss(&model, |t, state| {
            let cut = match credit {
                Credit::Detached => true,
                Credit::Truncated(window) | Credit::Windowed(window) => t.is_multiple_of(window.get()),
                Credit::Full => false,
            };
            match credit {
                Credit::Windowed(_) if cut => *state = trajectory[t].clone(),
                _ if cut => state.set_fast_weights(trajectory[t].fast_weights().to_vec()).unwrap(),
                _ => {}
            }
        });
        loss.item().unwrap()
    }

    fn clips(&self) -> Vec<f64> {
        let model = PlasticTransformer::new(&self.config, &self.parameters).unwrap();
        let read = model.forward(&self.inputs, &mut model.init_state(self.classes.len())).unwrap();
        read.diagnostics.expect("a plastic rule").clip.to_vec().unwrap()
    }

    fn clipped(&self) -> Clipped {
        let clip = self.clips();
        assert!(clip.contains(&1.0), "every step is clipped");
        if clip.iter().any(|&c| c < 1.0) { Clipped::Some } else { Clipped::None }
    }
}

/// A model for many trials, as every scalar takes four readings of each.
fn tiny(rule: Rule) -> ModelConfig {
    ModelConfig { input_dim: 2, model_dim: 4, ffn_dim: 3, aux_dim: 1, ..small(rule) }
}

fn values(gradients: &[Option<Tensor<F64>>]) -> Vec<Option<Vec<f64>>> {
    gradients.iter().map(|g| g.as_ref().map(|g| wide(g.array()))).collect()
}

/// Fourth-order central differences of `f` by every scalar of parameter `i`.
fn differences(parameters: &Parameters<F64>, i: usize, f: impl Fn(&Parameters<F64>) -> f64) -> Vec<f64> {
    const H: f64 = 5e-4;
    let (mut moved, array) = (parameters.clone(), &parameters.arrays()[i]);
    let values = array.to_vec().unwrap();
    let mut derivative = |at: usize| {
        let mut side = |by: f64| {
            let mut values = values.clone();
            values[at] += by;
            moved.arrays_mut()[i] = Array::from_vec(&F64::new(), values, array.shape()).unwrap();
            f(&moved)
        };
        (8.0 * (side(H) - side(-H)) - (side(2.0 * H) - side(-2.0 * H))) / (12.0 * H)
    };
    (0..values.len()).map(&mut derivative).collect()
}

const CREDITS: [&str; 4] = ["full", "truncated(2)", "windowed(2)", "detached"];

/// The gradient under each credit is that of the loss with what the credit cuts held constant.
fn check(trial: &Trial, credits: &[&str]) {
    let ModelConfig { rule, max_norm, .. } = trial.config;
    let options = serde_json::to_string(&trial.config).unwrap();
    let trajectory = trial.trajectory();
    for credit in credits.iter().map(|text| text.parse().unwrap()) {
        let computed = trial.gradient(credit);
        for (i, name) in trial.parameters.names().iter().enumerate() {
            let expected = differences(&trial.parameters, i, |p| trial.loss_at(p, credit, &trajectory));
            match &computed[i] {
                Some(computed) => {
                    let error = distance(computed, &expected);
                    assert!(
                        error < 1e-6,
                        "{rule}, {credit}, max_norm {max_norm}: {name} is off by {error:e}: {options}"
                    );
                }
                None => assert!(expected.iter().all(|&d| d == 0.0), "{rule}, {credit}: {name} matters"),
            }
        }
    }
}

#[track_caller]
fn check_rule(rule: Rule, max_norm: f64, clipped: Clipped, credits: &[&str]) {
    let trial = Trial::of(rule, max_norm);
    assert_eq!(trial.clipped(), clipped);
    check(&trial, credits);
}

#[test]
fn hebbian_without_clipping() {
    check_rule(Rule::Hebbian, 1e4, Clipped::None, &["full"]);
}

#[test]
fn hebbian_clipped_at_some_steps() {
    check_rule(Rule::Hebbian, 11.0, Clipped::Some, &CREDITS);
}

#[test]
fn gradient_without_clipping() {
    check_rule(Rule::Gradient, 1e4, Clipped::None, &["full"]);
}

#[test]
fn gradient_clipped_at_some_steps() {
    check_rule(Rule::Gradient, 0.17, Clipped::Some, &CREDITS);
}

/// The clip knows nothing of the rule: it is checked with the published ones.
#[test]
fn every_other_rule_without_clipping() {
    for rule in Rule::ALL.into_iter().filter(|rule| !Rule::PUBLISHED.contains(rule)) {
        let trial = Trial::new(ModelConfig { max_norm: 1e4, eta0: 0.5, ..tiny(rule) }, 2, 5);
        assert_eq!(trial.clipped(), Clipped::None);
        check(&trial, &CREDITS);
    }
}

/// Every option under full credit, and many at once under every credit.
#[track_caller]
fn check_options(rule: Rule, max_norm: f64) {
    for (name, config) in options(rule) {
        let credits: &[&str] = if name == "many" { &CREDITS } else { &["full"] };
        let usual = tiny(rule);
        // a head that turns two pairs
        let num_heads = if config.positions == Positions::Rotary { 1 } else { usual.num_heads };
        let ModelConfig { input_dim, model_dim, ffn_dim, aux_dim, .. } = usual;
        let small =
            ModelConfig { input_dim, model_dim, ffn_dim, aux_dim, num_heads, max_norm, eta0: 0.5, ..config };
        check(&Trial::new(small, 1, 4), credits);
    }
}

#[test]
fn every_option_of_the_gradient_rule() {
    check_options(Rule::Gradient, 0.17);
}

#[test]
fn every_option_of_a_rule_that_reads_its_fast_weights() {
    check_options(Rule::Oja, 5.0);
}

/// A bound far below what a step would write makes rates that are almost 1, and in the end are 1 as far as f64 can say.
#[test]
fn a_bound_however_low() {
    for (log_bound, credits) in [(-8.0, &["full", "truncated(2)"][..]), (-45.0, &[])] {
        let config =
            ModelConfig { fast_norm: FastNorm::Bound, max_norm: 1e30, eta0: 0.5, ..tiny(Rule::Hebbian) };
        let mut trial = Trial::new(config, 1, 4);
        let bounds: Vec<usize> = (0..trial.parameters.names().len())
            .filter(|&i| trial.parameters.names()[i].ends_with(".log_bound"))
            .collect();
        assert!(!bounds.is_empty(), "{:?}", trial.parameters.names());
        for i in bounds {
            trial.parameters.arrays_mut()[i] = Array::from_vec(&F64::new(), vec![log_bound], [1]).unwrap();
        }
        check(&trial, credits);
        let gradients = trial.gradient(Credit::Full);
        assert!(gradients.iter().flatten().flatten().all(|g| g.is_finite()), "{gradients:?}");
    }
}

#[test]
fn the_smallest_models_and_sequences() {
    for rule in [Rule::Hebbian, Rule::Gradient] {
        let config = ModelConfig { num_layers: 1, num_heads: 1, aux_dim: 0, max_norm: 0.5, ..small(rule) };
        check(&Trial::new(config.clone(), 1, 3), &CREDITS);
        check(&Trial::new(config, 2, 1), &CREDITS);
    }
}

#[test]
fn rule_none_has_one_gradient_whatever_the_credit() {
    let trial = Trial::of(Rule::None, 1.0);
    let computed = trial.gradient(Credit::Full);
    for (i, name) in trial.parameters.names().iter().enumerate() {
        let expected = differences(&trial.parameters, i, |p| trial.loss_at(p, Credit::Full, &[]));
        let plastic = name.ends_with(".alpha") || name.ends_with(".beta");
        assert_eq!(computed[i].is_none(), plastic, "{name}");
        let error = distance(computed[i].as_deref().unwrap_or(&expected), &expected);
        assert!(error < 1e-6, "{name} is off by {error:e}");
    }
    for credit in ["truncated(2)", "detached"] {
        assert_eq!(trial.gradient(credit.parse().unwrap()), computed, "{credit}");
    }
}

/// Attention is cut where there are no fast weights, too.
#[test]
fn windowed_credit_cuts_attention_of_rule_none() {
    let trial = Trial::of(Rule::None, 1.0);
    check(&trial, &["windowed(2)"]);
    assert_ne!(trial.gradient("windowed(2)".parse().unwrap()), trial.gradient(Credit::Full));
}

/// A window may be taken back at its end and forgotten.
#[test]
fn windows_on_tapes_of_their_own_have_the_gradient_of_the_whole() {
    let check = |trial: &Trial, window: usize| {
        let name = serde_json::to_string(&trial.config).unwrap();
        let credit = format!("windowed({window})").parse().unwrap();
        let (whole, parts) = (trial.gradient(credit), trial.gradient_by_windows(window));
        for ((parameter, whole), part) in trial.parameters.names().iter().zip(whole).zip(parts) {
            match (whole, part) {
                (Some(whole), Some(part)) => {
                    let error = distance(&part, &whole);
                    assert!(error < 1e-12, "windows of {window}: {parameter} is off by {error:e}: {name}");
                }
                (whole, part) => assert_eq!(whole, part, "windows of {window}: {parameter}: {name}"),
            }
        }
    };
    for rule in Rule::ALL {
        for window in [1, 2, 3, 7, 9] {
            check(&Trial::new(ModelConfig { eta0: 0.5, ..small(rule) }, 2, 7), window);
        }
    }
    for (_, config) in options(Rule::Hybrid) {
        check(&Trial::new(config, 2, 7), 3);
    }
}

#[test]
fn full_credit_trains_everything_and_detached_credit_nothing_plastic() {
    for rule in [Rule::Hebbian, Rule::Gradient] {
        let trial = Trial::of(rule, 1e4);
        let plastic = |name: &str| {
            name.ends_with(".alpha") || name.ends_with(".beta") || name == "internal_proj.weight"
        };
        let (full, detached) = (trial.gradient(Credit::Full), trial.gradient(Credit::Detached));
        for ((name, full), detached) in trial.parameters.names().iter().zip(full).zip(detached) {
            assert!(full.is_some_and(|g| g.iter().any(|&g| g != 0.0)), "{rule}: {name} is not trained");
            assert_eq!(detached.is_none(), plastic(name), "{rule}: {name}");
        }
    }
}

/// Under detached credit a plastic model is an ordinary one that is handed its fast weights step by step.
#[test]
fn detached_credit_is_rule_none_with_fast_weights_for_constants() {
    for (rule, max_norm) in [(Rule::Hebbian, 11.0), (Rule::Gradient, 0.17)] {
        let mut trial = Trial::of(rule, max_norm);
        let (trajectory, detached) = (trial.trajectory(), trial.gradient(Credit::Detached));
        let names = trial.parameters.names().to_vec();

        trial.config.rule = Rule::None;
        let shared = trial.parameters.iter().filter(|(name, _)| *name != "internal_proj.weight");
        let shared: Vec<_> = shared.map(|(name, array)| (name.to_owned(), array.clone())).collect();
        trial.parameters = Parameters::from_named(&trial.config, shared).unwrap();
        let tape = Tape::new();
        let (model, leaves) =
            PlasticTransformer::tracked(&trial.config, &trial.parameters, Credit::Full, &tape).unwrap();
        let loss = trial.loss(&model, |t, state| {
            state.set_fast_weights(trajectory[t].fast_weights().to_vec()).unwrap();
        });
        let handed = values(&grad(&loss, &leaves.iter().collect::<Vec<_>>(), GradMode::Plain).unwrap());

        for ((name, handed), detached) in names.iter().zip(handed).zip(detached) {
            match (handed, detached) {
                (Some(handed), Some(detached)) => {
                    let error = distance(&handed, &detached);
                    assert!(error < 1e-11, "{rule}: {name} is off by {error:e}");
                }
                (handed, detached) => assert_eq!(handed, detached, "{rule}: {name}"),
            }
        }
    }
}
