//! The bits of the published tasks on a fixed seed: any change to them is a change to every run.

mod common;

use common::build;
use plastica_tasks::{
    Augmentation, Dataset, EpisodeBatch, EpisodeOrder, FewShot, Rotations, Targets, TaskConfig,
};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

fn sample(name: &str) -> EpisodeBatch {
    let source = TaskConfig::from_name(name).and_then(|task| task.build()).expect("published");
    source.sample(&mut ChaCha8Rng::seed_from_u64(2023), 64).expect("it fits in memory")
}

/// FNV-1a, 64 bits, over the little-endian bytes of the words.
fn hash(words: impl Iterator<Item = u32>) -> u64 {
    words.flat_map(u32::to_le_bytes).fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

fn check(batch: &EpisodeBatch, inputs: u64, targets: u64) {
    let found_targets = match &batch.targets {
        Targets::Classes(classes) => hash(classes.iter().copied()),
        Targets::Values(values) => hash(values.iter().map(|value| value.to_bits())),
    };
    let found_inputs = hash(batch.inputs.iter().map(|value| value.to_bits()));
    assert_eq!((found_inputs, found_targets), (inputs, targets), "{found_inputs:#x} {found_targets:#x}");
}

#[test]
fn fnv_1a_is_the_published_function() {
    // Of the bytes "foob" and of nothing, from Noll's test vectors.
    assert_eq!(hash([u32::from_le_bytes(*b"foob")].into_iter()), 0xdd12_0e79_0c25_12af);
    assert_eq!(hash(std::iter::empty()), 0xcbf2_9ce4_8422_2325);
}

#[test]
fn copying() {
    let batch = sample("copying");
    let Targets::Classes(classes) = &batch.targets else { panic!("classes expected") };
    assert_eq!(classes[26..31], [2, 8, 2, 1, 1]);
    assert_eq!(classes[57..62], [8, 1, 6, 8, 8]);
    check(&batch, 0x5c8f_0ea2_e09b_8865, 0x2bc7_ac2d_c8a6_0299);
}

#[test]
fn cue_reward() {
    let batch = sample("cue-reward");
    let cues: Vec<Option<usize>> =
        (0..8).map(|step| batch.input(0, step)[..20].iter().position(|&x| x == 1.0)).collect();
    assert_eq!(cues, [4, 18, 5, 3, 2, 19, 6, 15].map(Some));
    let Targets::Values(values) = &batch.targets else { panic!("values expected") };
    assert_eq!(values[8..12], [0.9593508, 0.96408117, 0.65302956, 0.51895714]);
    check(&batch, 0x0c97_9be6_a563_57a6, 0x02d0_1f18_1ea3_46f6);
}

#[test]
fn regression() {
    let batch = sample("regression");
    assert_eq!(batch.input(0, 0), [-0.68460214, 0.12484901, 0.15385139, -1.612795, 0.0]);
    let Targets::Values(values) = &batch.targets else { panic!("values expected") };
    assert_eq!(values[10..14], [-2.0427225, -0.8714063, -0.6415038, -1.3754749]);
    check(&batch, 0xfa6e_df76_75d7_38ad, 0x33ae_9c49_3ff6_9f0a);
}

#[test]
fn few_shot_images() {
    let check = |task: TaskConfig, inputs: u64, targets: u64, pixels: u64| {
        let batch = build(&task).sample(&mut ChaCha8Rng::seed_from_u64(2023), 64).expect("it fits in memory");
        let images = batch.images.as_ref().expect("images");
        let found = hash(images.pixels.iter().map(|value| value.to_bits()));
        assert_eq!(found, pixels, "{found:#x}");
        check(&batch, inputs, targets);
    };
    let plain =
        FewShot { data: Dataset::Glyphs, shots: 2, queries: 3, image_size: 12, ..FewShot::omniglot() };
    check(TaskConfig::Omniglot(plain), 0x8ce2_e596_af73_9f25, 0xbb10_307e_e64a_5725, 0xe2c0_e376_4b0d_a1ee);
    let varied = FewShot {
        order: EpisodeOrder::Shuffled,
        permute_labels: true,
        rotations: Rotations::Training,
        augmentation: Augmentation {
            crop_padding: 2,
            flip: true,
            brightness: 0.4,
            contrast: 0.4,
            saturation: 0.0,
        },
        ..plain
    };
    check(TaskConfig::Omniglot(varied), 0x4410_aa8a_6da5_8225, 0x6c95_57b4_bc56_9705, 0x7791_476e_6893_09f6);
}
