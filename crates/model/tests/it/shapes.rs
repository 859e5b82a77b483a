//! What a model says of inputs, states and noise that were not made for it.

use plastica_model::{ModelConfig, ModelError, Noise, Parameters, PlasticTransformer, SequenceModel};
use plastica_rules::{FastWeights, Rule};
use plastica_tensor::{Array, Cpu, Tensor};

use crate::support::{perturbed, random, small};

type F64 = Cpu<f64>;

fn model(config: &ModelConfig) -> PlasticTransformer<F64> {
    PlasticTransformer::new(config, &perturbed(config, &F64::new(), 1)).unwrap()
}

#[track_caller]
fn refused<T>(result: Result<T, ModelError>, message: &str) {
    assert_eq!(result.err().map(|e| e.to_string()).as_deref(), Some(message));
}

#[test]
fn an_input_of_another_batch_or_width() {
    for rule in Rule::ALL {
        let model = model(&small(rule));
        let check_step = |shape: &[usize], given: &str| {
            let input = random(&F64::new(), plastica_tensor::Shape::new(shape).unwrap(), 1);
            let message = format!("the model was given an input of shape {given}: it reads [2, 3]");
            refused(model.step(&input, &mut model.init_state(2)), &message);
        };
        check_step(&[3, 3], "[3, 3]");
        check_step(&[2, 4], "[2, 4]");
        check_step(&[2, 1, 3], "[2, 1, 3]");
        check_step(&[6], "[6]");
        check_step(&[], "[]");
        let check_forward = |shape: &[usize], given: &str| {
            let input = random(&F64::new(), plastica_tensor::Shape::new(shape).unwrap(), 1);
            let message = format!(
                "the model was given an input of shape {given}: it reads [2, T, 3] with T at least 1"
            );
            refused(model.forward(&input, &mut model.init_state(2)), &message);
        };
        check_forward(&[1, 5, 3], "[1, 5, 3]");
        check_forward(&[2, 5, 2], "[2, 5, 2]");
        check_forward(&[2, 0, 3], "[2, 0, 3]");
        check_forward(&[2, 3], "[2, 3]");
        check_forward(&[], "[]");
    }
}

#[test]
fn a_refused_input_leaves_the_state_as_it_was() {
    for rule in Rule::ALL {
        let model = model(&small(rule));
        let (good, bad) = (random(&F64::new(), [2, 3], 1), random(&F64::new(), [2, 4], 1));
        let (mut touched, mut untouched) = (model.init_state(2), model.init_state(2));
        model.step(&bad, &mut touched).unwrap_err();
        for _ in 0..2 {
            let a = model.step(&good, &mut touched).unwrap().outputs.to_vec().unwrap();
            let b = model.step(&good, &mut untouched).unwrap().outputs.to_vec().unwrap();
            assert_eq!(a, b);
        }
        assert_eq!(touched.step(), 2);
    }
}

#[test]
fn an_empty_batch_has_empty_outputs() {
    for rule in Rule::ALL {
        let model = model(&small(rule));
        let mut state = model.init_state(0);
        let read = model.forward(&Tensor::zeros(&F64::new(), [0, 4, 3]).unwrap(), &mut state).unwrap();
        assert_eq!(read.outputs.shape()[..], [0, 4, 3]);
    }
}

#[test]
fn a_state_of_another_model() {
    let (two, one) = (small(Rule::Hebbian), ModelConfig { num_layers: 1, ..small(Rule::Hebbian) });
    let (two, one) = (model(&two), model(&one));
    let message = "state.num_layers = 1 won't do: the model has 2 blocks";
    refused(two.step(&random(&F64::new(), [2, 3], 1), &mut one.init_state(2)), message);
    refused(two.forward(&random(&F64::new(), [2, 5, 3], 1), &mut one.init_state(2)), message);
}

#[test]
fn noise_for_another_batch_or_model() {
    for rule in Rule::ALL {
        let model = model(&small(rule));
        let check = |p: f64, num_layers, keys: &[u64], message: &str| {
            let input = random(&F64::new(), [3, 5, 3], 1);
            let mut state = model.init_training_state(3, Noise::new(p, num_layers, keys));
            refused(model.forward(&input, &mut state), message);
            let mut state = model.init_training_state(3, Noise::new(p, num_layers, keys));
            refused(model.step(&random(&F64::new(), [3, 3], 1), &mut state), message);
        };
        check(0.1, 1, &[1, 2, 3], "state.noise.num_layers = 1 won't do: the model has 2 blocks");
        let message = "state.noise.keys = 2 won't do: the state is for 3 episodes, a key each";
        check(0.1, 2, &[1, 2], message);
        check(1.0, 2, &[1, 2, 3], "p = 1 won't do: a dropout probability must lie in [0, 1)");
        check(f64::NAN, 2, &[1, 2, 3], "p = NaN won't do: a dropout probability must lie in [0, 1)");
    }
}

#[test]
fn fast_weights_for_another_batch_or_model() {
    let model = model(&small(Rule::Hebbian));
    let fast = |batch, out, inp| {
        let (weight, bias) =
            (random(&F64::new(), [batch, out, inp], 1), random(&F64::new(), [batch, out], 2));
        FastWeights::from_parts(weight, bias).unwrap()
    };
    let mut state = model.init_state(2);
    let message = "state.fast_weights.len() = 3 won't do: the state has 4 plastic layers";
    refused(state.set_fast_weights(vec![FastWeights::zero(); 3]), message);
    let message = "state.fast_weights[1].batch = 5 won't do: the state is for 2 episodes";
    let given = vec![FastWeights::zero(), fast(5, 6, 10), FastWeights::zero(), FastWeights::zero()];
    refused(state.set_fast_weights(given), message);
    // widths are the layers' business, which a state does not know: the step says what does not fit
    state.set_fast_weights(vec![fast(2, 10, 7); 4]).unwrap();
    assert!(model.step(&random(&F64::new(), [2, 3], 1), &mut state).is_err());
    // fc1 is [10, 6], fc2 [6, 10]
    let (fc1, fc2) = (fast(2, 10, 6), fast(2, 6, 10));
    state.set_fast_weights(vec![fc1.clone(), fc2.clone(), fc1, fc2]).unwrap();
    model.step(&random(&F64::new(), [2, 3], 1), &mut state).unwrap();
}

#[test]
fn parameters_of_another_model() {
    let cpu = F64::new();
    let config = small(Rule::Gradient);
    let parameters = perturbed(&config, &cpu, 1);
    let wider = ModelConfig { ffn_dim: 11, ..config.clone() };
    let message = "parameter 'blocks.0.feed_forward.fc1.weight' has shape [10, 6], where the configuration \
                   asks for [11, 6]";
    refused(PlasticTransformer::new(&wider, &parameters), message);
    let hebbian = perturbed(&small(Rule::Hebbian), &cpu, 1);
    let message = "parameter 'internal_proj.weight' of shape [6, 6] is missing";
    refused(PlasticTransformer::new(&config, &hebbian), message);
    let message = "parameter 'internal_proj.weight' belongs to no part of the configured model";
    refused(PlasticTransformer::new(&small(Rule::Hebbian), &parameters), message);

    let named = |parameters: &Parameters<F64>| -> Vec<(String, Array<F64>)> {
        parameters.iter().map(|(name, array)| (name.to_owned(), array.clone())).collect()
    };
    let message = "parameter 'internal_proj.weight' belongs to no part of the configured model";
    refused(Parameters::from_named(&small(Rule::Hebbian), named(&parameters)), message);
    let mut reversed = named(&parameters);
    reversed.reverse();
    let sorted = Parameters::from_named(&config, reversed).unwrap();
    assert_eq!(sorted.names(), parameters.names(), "the order given does not matter");
}
