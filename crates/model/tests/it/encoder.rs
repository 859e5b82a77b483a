//! Conv-4 against loops, differences and hand computation; its buffers in checkpoints; the prototypical network.

use plastica_model::{
    AttentionInit, Checkpoint, Conv4, EmbeddingNorm, EncoderConfig, Episodes, Learner, ModelConfig,
    ModelKind, Noise, Parameters, prototypical_logits,
};
use plastica_rules::{Credit, Rule};
use plastica_tensor::{Array, Cpu, GradMode, Tape, Tensor, grad};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::support::{distance, perturbed, random, small, uniform, wide};

type F64 = Cpu<f64>;

const CPU: F64 = Cpu::new();

fn encoder(image: [usize; 3], channels: usize) -> EncoderConfig {
    EncoderConfig { image, channels, embedding_dim: 4, ..EncoderConfig::default() }
}

/// A prototypical network's configuration: its parameters are its encoder's alone.
fn alone(encoder: EncoderConfig) -> ModelConfig {
    ModelConfig {
        kind: ModelKind::Prototypical,
        encoder: Some(encoder),
        input_dim: 7,
        output_dim: 2,
        rule: Rule::None,
        ..ModelConfig::default()
    }
}

fn array<'a>(parameters: &'a Parameters<F64>, name: &str) -> &'a Array<F64> {
    let named = parameters.iter().chain(parameters.buffers()).find(|(n, _)| *n == name);
    named.unwrap_or_else(|| panic!("no {name}")).1
}

/// What batch normalisation goes by.
enum By<'a> {
    Groups(&'a [usize]),
    Running,
}

/// Mean and unbiased variance of each group, block and channel: `[group][block][channel]`.
type Seen = Vec<Vec<Vec<(f64, f64)>>>;

/// Conv-4 as nested loops over vectors: embeddings, and what groups' statistics were.
fn by_loops(
    config: &EncoderConfig,
    parameters: &Parameters<F64>,
    images: &Tensor<F64>,
    by: By<'_>,
) -> (Vec<f64>, Seen) {
    let [mut inputs, mut h, mut w] = config.image;
    let n = images.shape()[0];
    let groups = match by {
        By::Groups(groups) => groups.to_vec(),
        By::Running => vec![n],
    };
    let mut x = images.to_vec().unwrap();
    let mut seen: Seen = vec![Vec::new(); groups.len()];
    for block in 1..=4 {
        let get = |name: &str| wide(array(parameters, &format!("encoder.{name}")));
        let (kernel, bias) = (get(&format!("conv{block}.weight")), get(&format!("conv{block}.bias")));
        let (gamma, beta) = (get(&format!("bn{block}.weight")), get(&format!("bn{block}.bias")));
        let running = [get(&format!("bn{block}.running_mean")), get(&format!("bn{block}.running_var"))];
        let c = config.channels;
        let mut y = vec![0.0; n * c * h * w];
        for (at, y) in y.iter_mut().enumerate() {
            let (col, row, out, image) = (at % w, at / w % h, at / (w * h) % c, at / (w * h * c));
            *y = bias[out];
            for (inp, a, b) in (0..inputs).flat_map(|i| (0..9).map(move |ab| (i, ab / 3, ab % 3))) {
                if (1..=h).contains(&(row + a)) && (1..=w).contains(&(col + b)) {
                    let pixel = ((image * inputs + inp) * h + row + a - 1) * w + col + b - 1;
                    *y += kernel[((out * inputs + inp) * 3 + a) * 3 + b] * x[pixel];
                }
            }
        }
        let mut start = 0;
        for (group, &count) in groups.iter().enumerate() {
            let mut of_channels = Vec::new();
            for channel in 0..c {
                let places: Vec<usize> = (start..start + count)
                    .flat_map(|image| (0..h * w).map(move |p| (image * c + channel) * h * w + p))
                    .collect();
                let len = places.len() as f64;
                let mean = places.iter().map(|&p| y[p]).sum::<f64>() / len;
                let squares = places.iter().map(|&p| (y[p] - mean).powi(2)).sum::<f64>();
                of_channels.push((mean, squares / (len - 1.0)));
                let (mean, variance) = match by {
                    By::Groups(_) => (mean, squares / len),
                    By::Running => (running[0][channel], running[1][channel]),
                };
                for p in places {
                    let normal = (y[p] - mean) / (variance + 1e-5).sqrt();
                    y[p] = (normal * gamma[channel] + beta[channel]).max(0.0);
                }
            }
            seen[group].push(of_channels);
            start += count;
        }
        let (h2, w2) = (h / 2, w / 2);
        x = (0..n * c * h2 * w2)
            .map(|at| {
                let (col, row, plane) = (at % w2, at / w2 % h2, at / (w2 * h2));
                let pixel = |a: usize, b: usize| y[(plane * h + 2 * row + a) * w + 2 * col + b];
                pixel(0, 0).max(pixel(0, 1)).max(pixel(1, 0)).max(pixel(1, 1))
            })
            .collect();
        (inputs, h, w) = (c, h2, w2);
    }
    let (weight, bias) =
        (wide(array(parameters, "encoder.fc.weight")), wide(array(parameters, "encoder.fc.bias")));
    let flat = x.len() / n;
    let embed =
        |x: &[f64], e: usize| bias[e] + x.iter().zip(&weight[e * flat..]).map(|(x, w)| x * w).sum::<f64>();
    (x.chunks(flat).flat_map(|x| (0..config.embedding_dim).map(move |e| embed(x, e))).collect(), seen)
}

#[test]
fn it_is_the_nested_loops() {
    for (image, channels, groups) in
        [([1, 16, 16], 3, &[2][..]), ([3, 19, 34], 5, &[1, 2]), ([2, 32, 17], 9, &[2, 1, 2])]
    {
        let config = encoder(image, channels);
        let parameters = perturbed(&alone(config.clone()), &CPU, 3);
        let conv4 = Conv4::new(&config, &parameters).unwrap();
        let [c, h, w] = image;
        let images = random(&CPU, [groups.iter().sum(), c, h, w], 11);
        let trained = conv4.encode_groups(&images, groups).unwrap().0;
        let (expected, _) = by_loops(&config, &parameters, &images, By::Groups(groups));
        assert!(distance(&wide(trained.array()), &expected) < 1e-11, "{image:?} in training");
        let evaluated = conv4.encode(&images).unwrap();
        let (expected, _) = by_loops(&config, &parameters, &images, By::Running);
        assert!(distance(&wide(evaluated.array()), &expected) < 1e-11, "{image:?} in evaluation");
    }
}

#[test]
fn derivatives_are_differences() {
    for norm in [EmbeddingNorm::None, EmbeddingNorm::LayerNorm, EmbeddingNorm::L2, EmbeddingNorm::CentredL2] {
        let config = EncoderConfig { norm, ..encoder([2, 17, 16], 3) };
        let mut parameters = perturbed(&alone(config.clone()), &CPU, 5);
        // off zero, so that a centre is somewhere
        let seen = random(&CPU, [4, 2, 17, 16], 4);
        let (_, statistics) = Conv4::new(&config, &parameters).unwrap().encode_groups(&seen, &[4]).unwrap();
        parameters.update_running_statistics(&statistics).unwrap();
        let images = random(&CPU, [3, 2, 17, 16], 6);
        let projection = random(&CPU, [3, 4], 7);
        let loss = |conv4: &Conv4<F64>| {
            let embeddings = conv4.encode_groups(&images, &[1, 2]).unwrap().0;
            conv4.normalise(&embeddings).unwrap().mul(&projection).unwrap().sum().unwrap()
        };
        let tape = Tape::new();
        let (conv4, leaves) = Conv4::tracked(&config, &parameters, &tape).unwrap();
        let gradients = grad(&loss(&conv4), &leaves.iter().collect::<Vec<_>>(), GradMode::Plain).unwrap();
        for (i, (name, gradient)) in parameters.names().iter().zip(gradients).enumerate() {
            let Some(gradient) = gradient else {
                assert!(name.contains("conv") && name.ends_with("bias"), "{name} has a gradient");
                continue;
            };
            let direction = uniform(1.0, gradient.shape().len(), 100 + i as u64);
            let moved = |by: f64| {
                let mut parameters = parameters.clone();
                let array = &mut parameters.arrays_mut()[i];
                let values = wide(array).into_iter().zip(&direction).map(|(x, d)| x + by * d).collect();
                *array = Array::from_vec(&CPU, values, array.shape()).unwrap();
                loss(&Conv4::new(&config, &parameters).unwrap()).item().unwrap()
            };
            // so small a step that no maximum changes its place
            let difference = (moved(1e-6) - moved(-1e-6)) / 2e-6;
            let along: f64 = wide(gradient.array()).iter().zip(&direction).map(|(g, d)| g * d).sum();
            assert!((along - difference).abs() < 1e-6 * along.abs().max(0.1), "{name}: {along} {difference}");
        }
    }
}

#[test]
fn a_convolutions_bias_changes_nothing_in_training() {
    let config = encoder([1, 16, 16], 3);
    let mut parameters = perturbed(&alone(config.clone()), &CPU, 8);
    let images = random(&CPU, [4, 1, 16, 16], 9);
    let embed = |parameters: &Parameters<F64>| {
        let conv4 = Conv4::new(&config, parameters).unwrap();
        wide(conv4.encode_groups(&images, &[1, 3]).unwrap().0.array())
    };
    let before = embed(&parameters);
    assert_eq!(parameters.names()[1], "encoder.conv1.bias");
    parameters.arrays_mut()[1] = random(&CPU, [3], 10).array().clone();
    assert_eq!(embed(&parameters), before);
}

#[test]
fn a_query_changes_nothing_of_the_support() {
    let config = encoder([1, 20, 16], 4);
    let parameters = perturbed(&alone(config.clone()), &CPU, 12);
    let conv4 = Conv4::new(&config, &parameters).unwrap();
    let support = random(&CPU, [2, 2, 1, 20, 16], 13);
    let embed = |seed: u64| {
        let images = Tensor::concat(&[&support, &random(&CPU, [2, 3, 1, 20, 16], seed)], 1).unwrap();
        let (embeddings, statistics) = conv4.encode_episodes(&images, Some(2)).unwrap();
        assert!(statistics.is_some());
        let [of_support, of_queries] =
            [(0, 2), (2, 3)].map(|(start, len)| wide(embeddings.slice(1, start, len).unwrap().array()));
        (of_support, of_queries)
    };
    let (first, second) = (embed(14), embed(15));
    assert_eq!(first.0, second.0);
    assert_ne!(first.1, second.1);
    // and nothing of another episode
    let one = support.slice(0, 0, 1).unwrap();
    let alone = conv4.encode_episodes(&one, Some(2)).unwrap().0;
    assert_eq!(wide(alone.array()), first.0[..8]);
}

#[test]
fn a_centred_embedding_is_a_direction_from_the_running_mean() {
    let config = EncoderConfig { norm: EmbeddingNorm::CentredL2, ..encoder([1, 16, 16], 3) };
    let mut parameters = perturbed(&alone(config.clone()), &CPU, 30);
    let conv4 = Conv4::new(&config, &parameters).unwrap();
    let images = random(&CPU, [5, 1, 16, 16], 31);
    let (embeddings, statistics) = conv4.encode_groups(&images, &[2, 3]).unwrap();
    parameters.update_running_statistics(&statistics).unwrap();
    let rows = wide(embeddings.array());
    let mean = |from: usize, to: usize, i: usize| {
        (from..to).map(|row| rows[4 * row + i]).sum::<f64>() / (to - from) as f64
    };
    let centre: Vec<f64> = (0..4).map(|i| 0.1 * (0.9 * mean(0, 2, i) + mean(2, 5, i))).collect();
    assert!(distance(&wide(array(&parameters, "encoder.centre.running_mean")), &centre) < 1e-12);
    let normalised = Conv4::new(&config, &parameters).unwrap().normalise(&embeddings).unwrap();
    for (row, found) in rows.chunks(4).zip(wide(normalised.array()).chunks(4)) {
        let from_centre: Vec<f64> = row.iter().zip(&centre).map(|(x, c)| x - c).collect();
        let norm = from_centre.iter().map(|x| x * x).sum::<f64>().sqrt();
        let expected: Vec<f64> = from_centre.iter().map(|x| x / norm).collect();
        assert!(distance(found, &expected) < 1e-9, "{found:?} for {expected:?}");
    }
    let message = conv4.normalise(&random(&CPU, [2, 3], 1)).unwrap_err().to_string();
    assert_eq!(message, "the model was given an input of shape [2, 3]: it reads embeddings [.., 4]");
}

#[test]
fn keys_can_start_as_queries() {
    let init = |attention_init| {
        let config = ModelConfig { attention_init, ..small(Rule::None) };
        Parameters::init(&config, &CPU, &mut ChaCha8Rng::seed_from_u64(1)).unwrap()
    };
    let (apart, alike) = (init(AttentionInit::Xavier), init(AttentionInit::KeysAsQueries));
    for ((name, apart), (_, alike)) in apart.iter().zip(alike.iter()) {
        let (apart, alike) = (wide(apart), wide(alike));
        if name.ends_with("in_proj_weight") {
            let part = apart.len() / 3;
            assert_eq!((&alike[..part], &alike[part..2 * part]), (&apart[..part], &apart[..part]), "{name}");
            assert_eq!(alike[2 * part..], apart[2 * part..], "{name}");
        } else {
            assert_eq!(alike, apart, "{name}");
        }
    }
}

#[test]
fn running_statistics_are_the_groups_in_order() {
    let config = encoder([2, 16, 18], 3);
    let mut parameters = perturbed(&alone(config.clone()), &CPU, 16);
    let images = random(&CPU, [5, 2, 16, 18], 17);
    let groups = [1, 2, 2];
    let (_, statistics) = Conv4::new(&config, &parameters).unwrap().encode_groups(&images, &groups).unwrap();
    let (_, seen) = by_loops(&config, &parameters, &images, By::Groups(&groups));
    parameters.update_running_statistics(&statistics).unwrap();
    for block in 0..4 {
        let mut expected = [vec![0.0; 3], vec![1.0; 3]];
        for group in &seen {
            for (channel, &(mean, variance)) in group[block].iter().enumerate() {
                expected[0][channel] = 0.9 * expected[0][channel] + 0.1 * mean;
                expected[1][channel] = 0.9 * expected[1][channel] + 0.1 * variance;
            }
        }
        for (of, expected) in ["mean", "var"].into_iter().zip(expected) {
            let name = format!("encoder.bn{}.running_{of}", block + 1);
            assert!(distance(&wide(array(&parameters, &name)), &expected) < 1e-12, "{name}");
        }
    }
}

#[test]
fn a_checkpoint_holds_the_buffers() {
    let config =
        ModelConfig { encoder: Some(encoder([1, 16, 16], 2)), input_dim: 4 + 3, ..small(Rule::Hebbian) };
    let mut parameters = perturbed(&config, &Cpu::<f32>::new(), 18);
    let conv4 = Conv4::new(config.encoder.as_ref().unwrap(), &parameters).unwrap();
    let images = random(&Cpu::<f32>::new(), [3, 1, 16, 16], 19);
    let (_, statistics) = conv4.encode_groups(&images, &[3]).unwrap();
    parameters.update_running_statistics(&statistics).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let written = Checkpoint { config, parameters, metadata: Default::default() };
    written.write(&path).unwrap();
    let read = Checkpoint::read(&path, &Cpu::<f32>::new()).unwrap();
    assert_eq!(read.config, written.config);
    let all = |checkpoint: &Checkpoint<Cpu<f32>>| -> Vec<(String, Vec<f32>)> {
        let Checkpoint { parameters, .. } = checkpoint;
        let named = parameters.iter().chain(parameters.buffers());
        named.map(|(name, array)| (name.to_owned(), array.to_vec().unwrap())).collect()
    };
    assert_eq!(all(&read), all(&written));
    let names: Vec<&str> = read.parameters.buffers().map(|(name, _)| name).collect();
    assert_eq!(names[..2], ["encoder.bn1.running_mean", "encoder.bn1.running_var"]);
    assert_eq!(names.len(), 8);
    let lacking = written.parameters.iter().map(|(name, array)| (name.to_owned(), array.clone()));
    let message = Parameters::from_named(&read.config, lacking).unwrap_err().to_string();
    assert_eq!(message, "parameter 'encoder.bn1.running_mean' of shape [2] is missing");
}

#[test]
fn a_model_without_an_encoder_is_written_as_ever() {
    let json = serde_json::to_string(&small(Rule::None)).unwrap();
    assert!(!json.contains("encoder") && !json.contains("kind"), "{json}");
}

#[test]
fn prototypes_are_means_and_logits_distances() {
    // two classes at (0, 0), (2, 0) → (1, 0) and (0, 4); a query at (1, 1)
    let embeddings = Tensor::from_vec(&CPU, vec![0.0, 0.0, 0.0, 4.0, 2.0, 0.0, 1.0, 1.0], [1, 4, 2]).unwrap();
    let inputs =
        Tensor::from_vec(&CPU, vec![1., 0., 0., 0., 1., 0., 1., 0., 0., 0., 0., 1.], [1, 4, 3]).unwrap();
    let logits = prototypical_logits(&embeddings, &inputs, 2).unwrap();
    assert_eq!(wide(logits.array()), [-1.0, -16.0, -17.0, 0.0, -1.0, -20.0, -1.0, -10.0]);
    let message = prototypical_logits(&embeddings, &inputs, 4).unwrap_err().to_string();
    assert_eq!(
        message,
        "the model was given an input of shape [1, 4, 3]: it reads [1, 4, w] with w at least 4, the number of classes"
    );
}

#[test]
fn a_learner_reads_what_its_configuration_says() {
    let conv4 = encoder([1, 16, 16], 2);
    let plastic =
        ModelConfig { encoder: Some(conv4.clone()), input_dim: 4 + 3, output_dim: 2, ..small(Rule::Hebbian) };
    let (inputs, images) = (random(&CPU, [2, 5, 3], 20), random(&CPU, [2, 5, 1, 16, 16], 21));
    for config in [plastic.clone(), alone(conv4)] {
        let parameters = perturbed(&config, &CPU, 22);
        let tape = Tape::new();
        let (learner, leaves) = Learner::tracked(&config, &parameters, Credit::Full, &tape).unwrap();
        let shapes = |leaves: &mut dyn Iterator<Item = plastica_tensor::Shape>| leaves.collect::<Vec<_>>();
        assert_eq!(
            shapes(&mut leaves.iter().map(Tensor::shape)),
            shapes(&mut parameters.arrays().iter().map(Array::shape))
        );
        let episodes = Episodes { inputs: &inputs, images: Some(&images), support: 2 };
        let noise = Noise::new(0.0, config.num_layers, &[1, 2]);
        let read = learner.read(&episodes, Some(noise)).unwrap();
        assert_eq!(read.outputs.shape()[..], [2, 5, 2]);
        assert!(read.statistics.is_some());
        let evaluated = Learner::new(&config, &parameters).unwrap().read(&episodes, None).unwrap();
        assert!(evaluated.statistics.is_none());
        assert_eq!(evaluated.diagnostics.is_some(), config.kind == ModelKind::Plastic);
        let without = Episodes { images: None, ..episodes };
        let message = learner.read(&without, None).unwrap_err().to_string();
        assert!(message.contains("it reads an image at every step beside them"), "{message}");
    }
    let check = |config: ModelConfig, part: &str| {
        let message = config.validate().unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    };
    let prototypical = ModelConfig { kind: ModelKind::Prototypical, ..plastic };
    check(prototypical.clone(), "model.rule = hebbian won't do: a prototypical network has no fast weights");
    let rule = Rule::None;
    check(ModelConfig { encoder: None, rule, ..prototypical.clone() }, "model.kind = prototypical won't do");
    check(ModelConfig { input_dim: 3, rule, ..prototypical }, "at least encoder.embedding_dim = 4");
}
