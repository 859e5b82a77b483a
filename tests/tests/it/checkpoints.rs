//! Checkpoints are plain safetensors files under the published names.

use std::collections::BTreeMap;

use plastica_eval::{RunConfig, Trainer};
use plastica_model::{Checkpoint, ModelConfig, Parameters};
use plastica_rules::Rule;
use plastica_tensor::Cpu;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use safetensors::{Dtype, SafeTensors};

use crate::recording::{Recording, all};

/// Names and shapes of a file's tensors under `prefix`, which are all f32.
fn shapes(file: &SafeTensors<'_>, prefix: &str) -> BTreeMap<String, Vec<usize>> {
    let named = file.iter().filter_map(|(name, view)| Some((name.strip_prefix(prefix)?.to_owned(), view)));
    named
        .map(|(name, view)| {
            assert_eq!(view.dtype(), Dtype::F32, "{name}");
            (name, view.shape().to_vec())
        })
        .collect()
}

/// The recordings' parameters were named and shaped by an independent implementation.
#[test]
fn names_and_shapes_are_the_published_ones() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    for recording in all().iter().map(|path| Recording::read(path)) {
        let size = |key: &str| recording.setting(key).parse::<usize>().unwrap();
        let config = ModelConfig {
            input_dim: size("input_dim"),
            output_dim: size("output_dim"),
            model_dim: size("model_dim"),
            num_heads: size("num_heads"),
            num_layers: size("num_layers"),
            ffn_dim: size("ffn_dim"),
            aux_dim: size("aux_dim"),
            rule: recording.setting("rule").parse().unwrap(),
            ..ModelConfig::default()
        };
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let parameters = Parameters::init(&config, &Cpu::<f32>::new(), &mut rng).unwrap();
        Checkpoint { config, parameters, metadata: Default::default() }.write(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let written = shapes(&SafeTensors::deserialize(&bytes).unwrap(), "");
        assert_eq!(written, shapes(&recording.tensors(), "param."));
        assert!(written.contains_key("blocks.0.feed_forward.fc1.alpha"));
    }
}

#[test]
fn a_trained_model_is_read_by_name_and_read_back() {
    let mut config = RunConfig::published("regression", Rule::Gradient).unwrap();
    config.model = ModelConfig { model_dim: 8, ffn_dim: 12, num_heads: 2, num_layers: 2, ..config.model };
    (config.training.epochs, config.training.dataset_size) = (1, 2);
    let mut trainer = Trainer::new(&config, &Cpu::<f32>::new()).unwrap();
    trainer.epoch_step(&mut |_| {}).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trained.safetensors");
    trainer.checkpoint().write(&path).unwrap();

    let bytes = std::fs::read(&path).unwrap();
    let file = Recording(bytes);
    assert_eq!(file.tensors().len(), trainer.parameters().names().len());
    for (name, array) in trainer.parameters().iter() {
        assert_eq!(file.tensors().tensor(name).unwrap().shape(), &array.shape()[..], "{name}");
        assert_eq!(file.values(name), array.to_vec().unwrap(), "{name}");
    }
    let run: RunConfig = serde_json::from_str(&file.setting("plastica.run")).unwrap();
    assert_eq!(run, config);

    // f64 holds every f32, so what the other backend reads is the same numbers
    let wide = Checkpoint::read(&path, &Cpu::<f64>::new()).unwrap();
    assert_eq!(wide.config, config.model);
    for ((name, narrow), (wide_name, wide)) in trainer.parameters().iter().zip(wide.parameters.iter()) {
        let narrow: Vec<f64> = narrow.to_vec().unwrap().into_iter().map(f64::from).collect();
        assert_eq!((wide_name, wide.to_vec().unwrap()), (name, narrow));
    }
}
