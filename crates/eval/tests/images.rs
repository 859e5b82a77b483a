//! Training on images: an encoder and what reads it learn together, to the bit whatever the number of threads.

use plastica_eval::{EvalError, RunConfig, Snapshot, Trainer, TrainingConfig};
use plastica_model::{EncoderConfig, ModelConfig, ModelKind, Parameters};
use plastica_rules::{Credit, Rule};
use plastica_tasks::{
    Copying, EpisodeBatch, EpisodeImages, EpisodeSource, LossKind, Phase, Targets, TaskConfig, TaskError,
};
use plastica_tensor::Cpu;
use plastica_tensor::cpu::with_threads;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Classes that are bars at some angle and place, images that are those with noise: as many ways as classes are drawn,
/// one shot, `queries` of each in an order of no meaning.
#[derive(Clone, Copy)]
struct Bars {
    ways: usize,
    queries: usize,
    side: usize,
}

/// In [0, 1).
fn uniform(rng: &mut dyn Rng) -> f32 {
    (rng.next_u32() >> 8) as f32 / 16_777_216.0
}

impl Bars {
    fn bar(self, angle: f32, offset: f32, rng: &mut dyn Rng) -> Vec<f32> {
        let (sin, cos) = angle.sin_cos();
        let half = self.side as f32 / 2.0;
        (0..self.side * self.side)
            .map(|at| {
                let (row, col) = ((at / self.side) as f32 - half, (at % self.side) as f32 - half);
                let on = (row * sin + col * cos - offset).abs() < 1.5;
                (if on { 1.0 } else { -0.5 }) + 0.4 * (uniform(rng) - 0.5)
            })
            .collect()
    }
}

impl EpisodeSource for Bars {
    fn name(&self) -> &'static str {
        "bars"
    }

    fn input_width(&self) -> usize {
        self.ways + 1
    }

    fn image_shape(&self) -> Option<[usize; 3]> {
        Some([1, self.side, self.side])
    }

    fn output_width(&self) -> usize {
        self.ways
    }

    fn steps(&self) -> usize {
        self.ways * (1 + self.queries)
    }

    fn phases(&self) -> Vec<Phase> {
        (0..self.steps()).map(|t| if t < self.ways { Phase::Shown } else { Phase::Recall }).collect()
    }

    fn loss(&self) -> LossKind {
        LossKind::QueryCrossEntropy
    }

    fn sample(&self, rng: &mut dyn Rng, count: usize) -> Result<EpisodeBatch, TaskError> {
        let (mut inputs, mut pixels, mut classes) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..count {
            let first = uniform(rng);
            let bars: Vec<(f32, f32)> = (0..self.ways)
                .map(|way| {
                    let turn = (first + way as f32 / self.ways as f32) * std::f32::consts::PI;
                    (turn, 6.0 * (uniform(rng) - 0.5))
                })
                .collect();
            for t in 0..self.steps() {
                let class = t % self.ways;
                pixels.extend(self.bar(bars[class].0, bars[class].1, rng));
                classes.push(class as u32);
                let shown = t < self.ways;
                inputs.extend((0..self.ways).map(|way| if shown && way == class { 1.0 } else { 0.0 }));
                inputs.push(if shown { 0.0 } else { 1.0 });
            }
        }
        Ok(EpisodeBatch {
            batch: count,
            steps: self.steps(),
            input_width: self.input_width(),
            output_width: self.ways,
            inputs,
            images: Some(EpisodeImages { shape: [1, self.side, self.side], pixels, support: self.ways }),
            targets: Targets::Classes(classes),
            shifts: None,
            phases: self.phases(),
        })
    }
}

/// A small model of a kind on bars.
fn config(source: Bars, kind: ModelKind, rule: Rule, batch_size: usize, steps: usize) -> RunConfig {
    let encoder = EncoderConfig { channels: 8, embedding_dim: 16, ..EncoderConfig::default() };
    let model = ModelConfig {
        kind,
        encoder: Some(encoder),
        model_dim: 32,
        num_heads: 2,
        ffn_dim: 32,
        aux_dim: 2,
        dropout: 0.0,
        rule,
        ..ModelConfig::default()
    };
    let training = TrainingConfig {
        batch_size,
        eval_episodes: Some(50),
        credit: Credit::Full,
        seed: 3,
        ..TrainingConfig::new(1, steps * batch_size)
    };
    let mut config = RunConfig { model, task: TaskConfig::Copying(Copying::default()), training };
    config.fit_to_source(&source);
    config
}

fn trainer(config: &RunConfig, source: Bars) -> Result<Trainer<Cpu<f32>>, EvalError> {
    Trainer::with_sources(config, [Box::new(source), Box::new(source)], &Cpu::new())
}

fn bits(parameters: &Parameters<Cpu<f32>>) -> Vec<u32> {
    let arrays = parameters.iter().chain(parameters.buffers());
    arrays.flat_map(|(_, a)| a.to_vec().unwrap()).map(f32::to_bits).collect()
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    // several shards, of several runs of images each
    let source = Bars { ways: 3, queries: 4, side: 19 };
    for (kind, rule) in [(ModelKind::Plastic, Rule::Gradient), (ModelKind::Prototypical, Rule::None)] {
        let config = config(source, kind, rule, 20, 1);
        let epoch = |threads: usize| {
            let config = config.clone();
            with_threads(threads, move || {
                let mut trainer = trainer(&config, source).unwrap();
                let (record, _) = trainer.epoch_step(&mut |_| ()).unwrap();
                (bits(trainer.parameters()), record)
            })
            .unwrap()
        };
        let alone = epoch(1);
        assert!(alone.1.metrics.values().all(|value| value.is_finite()), "{:?}", alone.1);
        for threads in [2, 3] {
            assert_eq!(epoch(threads), alone, "{threads} threads");
        }
    }
}

#[test]
fn running_statistics_follow_the_episodes_in_order_whatever_their_shards() {
    // nothing is learnt at rate 0, so only the statistics move
    let source = Bars { ways: 2, queries: 2, side: 16 };
    let buffers = |batches: &[usize]| {
        let mut config = config(source, ModelKind::Prototypical, Rule::None, 20, 1);
        config.training.lr = 0.0;
        let mut trainer = trainer(&config, source).unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        for &count in batches {
            trainer.train_batch(&source.sample(&mut rng, count).unwrap()).unwrap();
        }
        let buffers = trainer.parameters().buffers();
        buffers.map(|(_, array)| array.to_vec().unwrap()).collect::<Vec<_>>()
    };
    let at_once = buffers(&[19]);
    assert!(at_once[0].iter().all(|&mean| mean != 0.0));
    assert_eq!(buffers(&[1; 19]), at_once);
    assert_eq!(buffers(&[10, 9]), at_once);
}

#[test]
fn a_run_on_images_goes_on_from_its_snapshot_to_the_same_bits() {
    let source = Bars { ways: 2, queries: 2, side: 16 };
    let config = config(source, ModelKind::Plastic, Rule::Hebbian, 3, 4);
    let cpu = Cpu::<f32>::new();
    let start = || trainer(&config, source).unwrap();
    let end = |mut trainer: Trainer<Cpu<f32>>| {
        let (record, _) = trainer.epoch_step(&mut |_| ()).unwrap();
        (bits(trainer.parameters()), record)
    };
    let mut stopped = start();
    for _ in 0..2 {
        stopped.advance(&mut |_| ()).unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.snapshot");
    stopped.snapshot().write(&path, &config).unwrap();
    let mut resumed = start();
    resumed.restore(Snapshot::read(&path, &config, &cpu).unwrap().unwrap()).unwrap();
    assert_eq!(end(resumed), end(start()));
}

/// The accuracy after a short training, chance being one in the number of ways.
fn learns(kind: ModelKind, rule: Rule, steps: usize, at_least: f64) {
    let source = Bars { ways: 2, queries: 4, side: 16 };
    let mut config = config(source, kind, rule, 8, steps);
    config.training.lr = 3e-3;
    let mut trainer = trainer(&config, source).unwrap();
    let (record, _) = trainer.epoch_step(&mut |_| ()).unwrap();
    let accuracy = record.metrics["accuracy"];
    assert!(accuracy >= at_least, "{kind:?} {rule}: {:?}", record.metrics);
}

#[test]
fn a_prototypical_network_learns() {
    learns(ModelKind::Prototypical, Rule::None, 30, 0.9);
}

#[test]
fn a_plastic_transformer_learns_behind_its_encoder() {
    learns(ModelKind::Plastic, Rule::Hebbian, 120, 0.75);
}

#[test]
fn a_prototypical_loss_trains_the_encoder_alone() {
    let source = Bars { ways: 2, queries: 2, side: 16 };
    let after_a_step = |prototypical_loss: f64| {
        let mut config = config(source, ModelKind::Plastic, Rule::Hebbian, 3, 4);
        config.training.prototypical_loss = prototypical_loss;
        // not so that the one's gradient clips the other's
        config.training.clip_norm = 1e9;
        let mut trainer = trainer(&config, source).unwrap();
        trainer.advance(&mut |_| ()).unwrap();
        let values = trainer.parameters().iter();
        values.map(|(name, array)| (name.to_owned(), array.to_vec().unwrap())).collect::<Vec<_>>()
    };
    for ((name, without), (_, with)) in after_a_step(0.0).into_iter().zip(after_a_step(1.0)) {
        // biases of convolutions and of the last map change no distance
        let silent = name.starts_with("encoder.conv") || name.starts_with("encoder.fc");
        if !(silent && name.ends_with("bias")) {
            assert_eq!(without != with, name.starts_with("encoder."), "{name}");
        }
    }
}

#[test]
fn a_prototypical_loss_wants_an_encoder_behind_which_something_else_reads() {
    let source = Bars { ways: 2, queries: 1, side: 16 };
    for kind in [ModelKind::Plastic, ModelKind::Prototypical] {
        let mut config = config(source, kind, Rule::None, 1, 1);
        config.training.prototypical_loss = 0.5;
        let message = trainer(&config, source).err().map(|error| error.to_string());
        let expected =
            "training.prototypical_loss is 0.5; it must be 0 but for a plastic Transformer behind an encoder";
        assert_eq!(message.as_deref(), (kind == ModelKind::Prototypical).then_some(expected));
    }
}

#[test]
fn a_configuration_must_have_the_sources_images() {
    let source = Bars { ways: 2, queries: 1, side: 16 };
    let fitted = config(source, ModelKind::Plastic, Rule::Hebbian, 1, 1);
    assert_eq!((fitted.model.input_dim, fitted.model.output_dim), (16 + 3, 2));
    let larger = Bars { side: 20, ..source };
    let message = trainer(&fitted, larger).err().unwrap();
    assert_eq!(
        message.to_string(),
        "model.encoder.image is [1, 16, 16]; it must be [1, 20, 20], as the images of copying"
    );
    let message = fitted.validate().unwrap_err().to_string();
    assert_eq!(message, "model.encoder.image is [1, 16, 16]; it must be none, as the images of copying");
    let mut sequence = fitted.clone();
    sequence.fit_to_task().unwrap();
    assert_eq!((sequence.model.encoder, sequence.model.input_dim), (None, 10));
}
