//! Each rule against its definition, by hand.

use plastica_tensor::Shape;

use super::*;
use crate::{FastWeights, LayerTrace, PlasticSite, RankOne, RuleMemory};

type F64 = Cpu<f64>;
type Change = Option<(Vec<f64>, Vec<f64>)>;

const X: [f64; 6] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
const Y: [f64; 4] = [0.1, 0.2, 0.3, 0.4];

fn tensor(values: &[f64], shape: &[usize]) -> plastica_tensor::Tensor<F64> {
    plastica_tensor::Tensor::from_vec(&F64::new(), values.to_vec(), Shape::new(shape).unwrap()).unwrap()
}

/// A layer of two units with three inputs, for two episodes.
struct Layer {
    rule: Rule,
    parameters: Vec<plastica_tensor::Tensor<F64>>,
    fast: FastWeights<F64>,
    memory: RuleMemory<F64>,
}

impl Layer {
    fn new(rule: Rule, parameters: &[&[f64]]) -> Self {
        let specs = rule.parameters(LayerSizes { out: 2, inp: 3 });
        assert_eq!(specs.len(), parameters.len(), "{rule}");
        let parameters =
            specs.iter().zip(parameters).map(|(spec, values)| tensor(values, &spec.shape)).collect();
        Self { rule, parameters, fast: FastWeights::zero(), memory: RuleMemory::default() }
    }

    fn change(&mut self, x: &[f64], y: &[f64], internal_gradient: Option<&[f64]>) -> Result<Change> {
        let trace = LayerTrace {
            input: tensor(x, &[2, 3]),
            output: tensor(y, &[2, 2]),
            internal_gradient: internal_gradient.map(|g| tensor(g, &[2, 2])),
        };
        let (fast, memory) = (&self.fast, &mut self.memory);
        let mut site = PlasticSite { trace: &trace, parameters: &self.parameters, fast, memory };
        let change = self.rule.build()?.change(&mut site)?;
        Ok(change.map(|RankOne { p, q }| (p.to_vec().unwrap(), q.to_vec().unwrap())))
    }
}

#[track_caller]
fn assert_close(found: Change, p: &[f64], q: &[f64]) {
    let (found_p, found_q) = found.expect("a change");
    let pairs = found_p.iter().zip(p).chain(found_q.iter().zip(q));
    let apart = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(
        found_p.len() == p.len() && found_q.len() == q.len() && apart < 1e-12,
        "{found_p:?}, {found_q:?}"
    );
}

#[test]
fn the_published_rules() {
    let gradient: &[f64] = &[-1.0, 0.5, 0.0, 2.0];
    for given in [None, Some(gradient)] {
        assert_eq!(Layer::new(Rule::None, &[]).change(&X, &Y, given).unwrap(), None);
        let hebbian = Layer::new(Rule::Hebbian, &[]).change(&X, &Y, given).unwrap();
        assert_eq!(hebbian, Some((Y.to_vec(), X.to_vec())));
    }
    let found = Layer::new(Rule::Gradient, &[]).change(&X, &Y, Some(gradient)).unwrap();
    assert_eq!(found, Some((gradient.to_vec(), X.to_vec())));
}

#[test]
fn oja_takes_off_the_input_what_the_fast_weights_make_of_the_output() {
    let mut layer = Layer::new(Rule::Oja, &[]);
    assert_close(layer.change(&X, &Y, None).unwrap(), &Y, &X);
    let weight = [1.0, 0.0, 2.0, 0.0, 3.0, -1.0, 10.0, 0.0, 0.0, 0.0, 0.0, 20.0];
    layer.fast = FastWeights::from_parts(tensor(&weight, &[2, 2, 3]), tensor(&[9.0; 4], &[2, 2])).unwrap();
    // Fᵀ y is [0.1, 0.6, 0.2 − 0.2] and [3, 0, 8]; c has no part in it
    assert_close(layer.change(&X, &Y, None).unwrap(), &Y, &[0.9, 1.4, 3.0, 1.0, 5.0, -2.0]);
}

#[test]
fn delta_learns_the_difference_from_its_target() {
    let mut layer = Layer::new(Rule::Delta, &[&[1.0, 0.0, -1.0, 0.5, 0.5, 0.0], &[0.0, 1.0]]);
    // T x + t is [1 − 3, 1.5 + 1] and [4 − 6, 4.5 + 1]
    assert_close(layer.change(&X, &Y, None).unwrap(), &[-2.1, 2.3, -2.3, 5.1], &X);
}

#[test]
fn bcm_slides_its_threshold_by_the_mean_square() {
    // sigmoid(0) = 1/2
    let mut layer = Layer::new(Rule::Bcm, &[&[0.0]]);
    assert_close(layer.change(&X, &[1.0, -2.0, 0.0, 4.0], None).unwrap(), &[1.0, 4.0, 0.0, 16.0], &X);
    // θ = [0.5, 2, 0, 8]
    let found = layer.change(&X, &[1.0, 1.0, 1.0, 8.0], None).unwrap();
    assert_close(found, &[0.5, -1.0, 1.0, 0.0], &X);
    // θ = [0.75, 1.5, 0.5, 36]
    let found = layer.change(&X, &[1.0, 2.0, 1.0, 10.0], None).unwrap();
    assert_close(found, &[0.25, 1.0, 0.5, -260.0], &X);
    let first = Rule::Bcm.parameters(LayerSizes { out: 2, inp: 3 });
    assert!(
        matches!(first[0].init, crate::Init::Constant(r) if (1.0 / (1.0 + (-r).exp()) - 0.1).abs() < 1e-12)
    );
}

#[test]
fn soft_hebbian_lets_units_compete() {
    let (two, y) = (2_f64.ln(), [0.0, 3_f64.ln(), 1.0, 1.0]);
    let mut layer = Layer::new(Rule::SoftHebbian, &[&[0.0]]);
    assert_close(layer.change(&X, &y, None).unwrap(), &[0.25, 0.75, 0.5, 0.5], &X);
    // twice as sharp: shares 1 and 9
    let mut layer = Layer::new(Rule::SoftHebbian, &[&[two]]);
    assert_close(layer.change(&X, &y, None).unwrap(), &[0.1, 0.9, 0.5, 0.5], &X);
}

#[test]
fn three_factor_changes_by_what_is_still_eligible() {
    // λ = 1/2 for inputs, μ = 3/4 for outputs
    let mut layer = Layer::new(Rule::ThreeFactor, &[&[0.0], &[3_f64.ln()]]);
    let halves: Vec<f64> = X.iter().map(|x| x / 2.0).collect();
    assert_close(layer.change(&X, &[4.0, 0.0, 8.0, -4.0], None).unwrap(), &[1.0, 0.0, 2.0, -1.0], &halves);
    let quarters: Vec<f64> = X.iter().map(|x| x / 4.0).collect();
    assert_close(
        layer.change(&[0.0; 6], &[0.0, 4.0, 0.0, 4.0], None).unwrap(),
        &[0.75, 1.0, 1.5, 0.25],
        &quarters,
    );
}

#[test]
fn hybrid_mixes_hebbian_and_gradient() {
    let mut layer = Layer::new(Rule::Hybrid, &[&[2.0], &[-0.5]]);
    let found = layer.change(&X, &Y, Some(&[1.0, 0.0, -2.0, 4.0])).unwrap();
    assert_close(found, &[-0.3, 0.4, 1.6, -1.2], &X);
}

#[test]
fn rules_of_an_internal_loss_say_what_they_lack() {
    for (rule, name) in [(Rule::Gradient, "gradient"), (Rule::Hybrid, "hybrid")] {
        let parameters: &[&[f64]] = if rule == Rule::Hybrid { &[&[1.0], &[1.0]] } else { &[] };
        let error = Layer::new(rule, parameters).change(&X, &Y, None).unwrap_err();
        assert_eq!(error, RuleError::NoInternalGradient { rule: name });
    }
    let needs: Vec<Rule> = Rule::ALL.into_iter().filter(|rule| rule.needs_internal_gradient()).collect();
    assert_eq!(needs, [Rule::Gradient, Rule::Hybrid]);
}

#[test]
fn a_rule_without_its_parameters_says_so() {
    for rule in Rule::ALL {
        let mut layer = Layer::new(Rule::None, &[]);
        layer.rule = rule;
        let found = layer.change(&X, &Y, Some(&Y));
        let lacks = !rule.parameters(LayerSizes { out: 2, inp: 3 }).is_empty();
        assert_eq!(matches!(found, Err(RuleError::NoParameter { given: 0, .. })), lacks, "{rule}");
    }
}

#[test]
fn a_rule_has_one_name_everywhere() {
    for rule in Rule::ALL {
        assert_eq!(rule.name().parse::<Rule>().unwrap(), rule);
        assert_eq!(rule.to_string(), rule.name());
        assert_eq!(rule.build::<F64>().unwrap().name(), rule.name());
        let json = serde_json::to_string(&rule).unwrap();
        assert_eq!(json, format!("\"{rule}\""));
        assert_eq!(serde_json::from_str::<Rule>(&json).unwrap(), rule);
    }
}

#[test]
fn an_unknown_rule_is_refused_by_name() {
    for name in ["", "Hebbian", "stdp", "gradient "] {
        let error = name.parse::<Rule>().unwrap_err().to_string();
        let names = "none, hebbian, gradient, oja, delta, bcm, soft-hebbian, three-factor, hybrid";
        assert!(
            error.starts_with(&format!("unknown rule '{name}': it is one of {names}, or one of your own"))
        );
    }
}
