//! What is computed for whoever looks into a model: attention of the next step, parameters in a few numbers.

use plastica_model::{ModelConfig, ModelError, Parameters, PlasticState, PlasticTransformer, SequenceModel};
use plastica_rules::Rule;
use plastica_tensor::{Array, Cpu, Tensor};

use crate::support::{distance, perturbed, random, small, wide};

const BATCH: usize = 3;
const STEPS: usize = 6;

type Model = PlasticTransformer<Cpu<f64>>;
type State = PlasticState<Cpu<f64>>;

/// A small model, and what `change` has made of its parameters.
fn model(config: &ModelConfig, change: impl Fn(&str, Vec<f64>) -> Vec<f64>) -> Model {
    let cpu = Cpu::<f64>::new();
    let given = perturbed(config, &cpu, 5);
    let changed = given.iter().map(|(name, array)| {
        let values = change(name, wide(array));
        (name.to_owned(), Array::from_vec(&cpu, values, array.shape()).unwrap())
    });
    let parameters = Parameters::from_named(config, changed.collect::<Vec<_>>()).unwrap();
    PlasticTransformer::new(config, &parameters).unwrap()
}

/// Reads steps one by one; before each, `look` sees its input and the state.
fn read(model: &Model, mut look: impl FnMut(&Tensor<Cpu<f64>>, &State)) -> (Vec<f64>, State) {
    let cpu = Cpu::<f64>::new();
    let (mut state, mut outputs) = (model.init_state(BATCH), Vec::new());
    for t in 0..STEPS {
        let input = random(&cpu, [BATCH, 3], t as u64);
        look(&input, &state);
        outputs.extend(wide(model.step(&input, &mut state).unwrap().outputs.array()));
    }
    (outputs, state)
}

#[test]
fn probabilities_are_some_and_looking_changes_nothing() {
    for rule in Rule::ALL {
        let config = small(rule);
        let model = model(&config, |_, values| values);
        let (plain, _) = read(&model, |_, _| {});
        let (watched, _) = read(&model, |input, state| {
            let before = state.step();
            let attention = model.attention(input, state).unwrap();
            assert_eq!((attention.len(), state.step()), (config.num_layers, before));
            for block in &attention {
                assert_eq!(block.shape()[..], [BATCH, config.num_heads, before + 1], "{rule}");
                for row in wide(block.array()).chunks_exact(before + 1) {
                    assert!(row.iter().all(|&p| p > 0.0), "{rule}: {row:?}");
                    assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-12, "{rule}: {row:?}");
                }
            }
        });
        assert_eq!(plain, watched, "{rule}");
    }
}

#[test]
fn the_first_blocks_probabilities_are_those_of_the_equations() {
    let (config, cpu) = (small(Rule::Gradient), Cpu::<f64>::new());
    let parameters = perturbed(&config, &cpu, 5);
    let values = |name: &str| wide(parameters.iter().find(|(n, _)| *n == name).unwrap().1);
    let linear = |weight: &[f64], bias: &[f64], x: &[f64]| -> Vec<f64> {
        let rows = weight.chunks_exact(x.len()).zip(bias);
        rows.map(|(row, bias)| row.iter().zip(x).map(|(w, x)| w * x).sum::<f64>() + bias).collect()
    };
    let (d, heads) = (config.model_dim, config.num_heads);
    let per_head = d / heads;
    // q and k of one step of one episode
    let queries_and_keys = |input: &[f64]| {
        let x = linear(&values("input_proj.weight"), &values("input_proj.bias"), input);
        let mean = x.iter().sum::<f64>() / d as f64;
        let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / d as f64;
        let (gain, shift) = (values("blocks.0.ln1.weight"), values("blocks.0.ln1.bias"));
        let scale = 1.0 / (variance + 1e-5).sqrt();
        let u: Vec<f64> = (0..d).map(|i| (x[i] - mean) * scale * gain[i] + shift[i]).collect();
        let at = "blocks.0.self_attn.in_proj_";
        linear(&values(&format!("{at}weight")), &values(&format!("{at}bias")), &u)
    };
    let model = model(&config, |_, values| values);
    let mut seen: Vec<Vec<Vec<f64>>> = vec![Vec::new(); BATCH];
    read(&model, |input, state| {
        let found = wide(model.attention(input, state).unwrap()[0].array());
        let mut expected = Vec::new();
        for (episode, input) in wide(input.array()).chunks_exact(config.input_dim).enumerate() {
            seen[episode].push(queries_and_keys(input));
            let q = &seen[episode][state.step()];
            for head in (0..heads).map(|h| h * per_head..(h + 1) * per_head) {
                let score = |of: &Vec<f64>| -> f64 {
                    let k = &of[d..2 * d];
                    head.clone().map(|i| q[i] * k[i]).sum::<f64>() / (per_head as f64).sqrt()
                };
                let weights: Vec<f64> = seen[episode].iter().map(|step| score(step).exp()).collect();
                let sum: f64 = weights.iter().sum();
                expected.extend(weights.iter().map(|weight| weight / sum));
            }
        }
        assert!(distance(&found, &expected) < 1e-12);
    });
}

#[test]
fn fast_weights_move_the_attention_of_later_blocks_alone() {
    let plastic = model(&small(Rule::Hebbian), |_, values| values);
    let frozen = model(&small(Rule::Hebbian), |name, values| match name.rsplit_once('.') {
        Some((_, "alpha" | "beta")) => vec![0.0; values.len()],
        _ => values,
    });
    let look = |model: &Model| {
        let mut seen = [Vec::new(), Vec::new()];
        read(model, |input, state| {
            for (seen, block) in seen.iter_mut().zip(model.attention(input, state).unwrap()) {
                seen.extend(wide(block.array()));
            }
        });
        seen
    };
    let ([first, second], [first_frozen, second_frozen]) = (look(&plastic), look(&frozen));
    assert_eq!(first, first_frozen);
    assert!(distance(&second, &second_frozen) > 1e-6);
}

#[test]
fn an_input_of_another_width_is_refused() {
    let model = model(&small(Rule::None), |_, values| values);
    let wrong = random(&Cpu::<f64>::new(), [BATCH, 4], 0);
    let error = model.attention(&wrong, &model.init_state(BATCH)).unwrap_err();
    assert!(matches!(error, ModelError::Input { .. }), "{error}");
}

#[test]
fn summaries_are_of_the_values() {
    let config = small(Rule::Gradient);
    let parameters = perturbed(&config, &Cpu::<f64>::new(), 3);
    let summaries = parameters.summaries().unwrap();
    assert_eq!(summaries.iter().map(|s| s.count).sum::<usize>(), parameters.count());
    for ((name, array), summary) in parameters.iter().zip(&summaries) {
        let values = wide(array);
        let ones = values.iter().map(|v| v.abs()).sum::<f64>();
        assert_eq!((name, &summary.shape[..]), (summary.name.as_str(), &array.shape()[..]));
        assert!((summary.mean_abs * summary.count as f64 / ones - 1.0).abs() < 1e-12, "{name}");
        // Cauchy and Schwarz, with equality for constants alone
        assert!(summary.mean_abs * (summary.count as f64).sqrt() <= summary.norm * (1.0 + 1e-12), "{name}");
        assert!(!summary.buffer);
    }
    let alpha = |scale: f64| Array::from_vec(&Cpu::<f64>::new(), vec![scale; 60], [10, 6]).unwrap();
    let named = parameters.iter().map(|(name, array)| match name {
        "blocks.0.feed_forward.fc1.alpha" => (name.to_owned(), alpha(-2.0)),
        _ => (name.to_owned(), array.clone()),
    });
    let constant = Parameters::from_named(&config, named.collect::<Vec<_>>()).unwrap().summaries().unwrap();
    let constant = constant.iter().find(|s| s.name == "blocks.0.feed_forward.fc1.alpha").unwrap();
    assert_eq!((constant.mean_abs, constant.norm), (2.0, 240f64.sqrt()));
}
