//! Every way to misuse the crate, and what it says.

mod common;

use std::sync::Arc;

use common::{Small, build};
use plastica_tasks::{
    AssociativeRecall, Augmentation, ConceptShift, Copying, CueReward, Dataset, FewShot, Glyphs, ImageClass,
    ImageSet, Mapping, Presentation, Regression, Rotations, TaskConfig, TaskError, Usage,
};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

/// Both `validate` and `build` refuse the task, with this message.
fn check(task: TaskConfig, message: &str) {
    let validated = task.validate().expect_err("an invalid configuration");
    assert_eq!(validated.to_string(), message);
    let built = task.build().map(|source| source.name()).expect_err("an invalid configuration");
    assert_eq!(built, validated);
}

#[test]
fn copying_refuses_lengths_out_of_range() {
    let check = |task, message| check(TaskConfig::Copying(task), message);
    let published = Copying::default();
    check(Copying { seq_length: 0, ..published }, "copying: seq_length = 0, expected 1 to 1000000");
    check(
        Copying { delay: u32::MAX as usize, ..published },
        "copying: delay = 4294967295, expected 0 to 1000000",
    );
    check(
        Copying { seq_length: 500_000, delay: 0, ..published },
        "copying: 2 * seq_length + delay + 1 steps = 1000001, expected 1 to 1000000",
    );
    check(
        Copying { shortest_delay: Some(21), ..published },
        "copying: shortest_delay = 21, expected 0 to 20",
    );
    check(Copying { vocab_size: 3, ..published }, "copying: vocab_size = 3, expected 4 to 1000000");
    check(
        Copying { vocab_size: 1_000_001, ..published },
        "copying: vocab_size = 1000001, expected 4 to 1000000",
    );
}

#[test]
fn cue_reward_refuses_counts_out_of_range() {
    let check = |task, message| check(TaskConfig::CueReward(task), message);
    let published = CueReward::default();
    check(CueReward { num_pairs: 0, ..published }, "cue-reward: num_pairs = 0, expected 1 to 500000");
    check(
        CueReward { num_pairs: 500_001, cue_dim: 600_000, ..published },
        "cue-reward: num_pairs = 500001, expected 1 to 500000",
    );
    check(
        CueReward { num_pairs: 21, ..published },
        "cue-reward: num_pairs = 21, expected at most cue_dim = 20, because the cues of an \
         episode are distinct",
    );
    check(CueReward { cue_dim: 0, ..published }, "cue-reward: cue_dim = 0, expected 1 to 999998");
}

#[test]
fn cue_reward_refuses_ranges_that_hold_no_reward() {
    let check = |range, shown| {
        check(
            TaskConfig::CueReward(CueReward { reward_range: range, ..CueReward::default() }),
            &format!(
                "cue-reward: reward_range = {shown}, expected [low, high] with low < high, both \
                 within ±1e9"
            ),
        );
    };
    check([1.0, 0.0], "[1.0, 0.0]");
    check([0.5, 0.5], "[0.5, 0.5]");
    check([0.0, f32::INFINITY], "[0.0, inf]");
    check([f32::NEG_INFINITY, 0.0], "[-inf, 0.0]");
    check([f32::NAN, 1.0], "[NaN, 1.0]");
    check([0.0, 2e9], "[0.0, 2000000000.0]");
}

#[test]
fn regression_refuses_lengths_out_of_range() {
    let check = |task, message| check(TaskConfig::Regression(task), message);
    let published = Regression::default();
    check(Regression { input_dim: 0, ..published }, "regression: input_dim = 0, expected 1 to 999998");
    check(Regression { k_support: 0, ..published }, "regression: k_support = 0, expected 1 to 1000000");
    check(Regression { k_query: 0, ..published }, "regression: k_query = 0, expected 1 to 1000000");
    check(
        Regression { k_support: 600_000, k_query: 400_001, ..published },
        "regression: k_support + k_query steps = 1000001, expected 1 to 1000000",
    );
}

#[test]
fn regression_refuses_scales_that_are_no_deviation() {
    let check_both = |scale, shown: &str| {
        let published = Regression::default();
        check(
            TaskConfig::Regression(Regression { weight_scale: scale, ..published }),
            &format!("regression: weight_scale = {shown}, expected a number from 0 to 1e9"),
        );
        check(
            TaskConfig::Regression(Regression { bias_scale: scale, ..published }),
            &format!("regression: bias_scale = {shown}, expected a number from 0 to 1e9"),
        );
    };
    check_both(-0.5, "-0.5");
    check_both(f32::NAN, "NaN");
    check_both(f32::INFINITY, "inf");
}

#[test]
fn associative_recall_refuses_what_does_not_fit() {
    let check = |task, message| check(TaskConfig::AssociativeRecall(task), message);
    let default = AssociativeRecall::default();
    check(
        AssociativeRecall { num_pairs: 0, ..default },
        "associative-recall: num_pairs = 0, expected 1 to 500000",
    );
    check(
        AssociativeRecall { num_queries: 9, ..default },
        "associative-recall: num_queries = 9, expected 1 to 8",
    );
    check(
        AssociativeRecall { num_keys: 7, ..default },
        "associative-recall: num_keys = 7, expected 8 to 1000000",
    );
    check(
        AssociativeRecall { num_values: 1, ..default },
        "associative-recall: num_values = 1, expected 2 to 1000000",
    );
    check(
        AssociativeRecall { num_keys: 600_000, num_values: 400_000, ..default },
        "associative-recall: num_keys + num_values + 1 inputs = 1000001, expected 1 to 1000000",
    );
    check(
        AssociativeRecall { steps: 1_000_001, ..default },
        "associative-recall: steps = 1000001, expected 1 to 1000000",
    );
    check(
        AssociativeRecall { steps: 15, ..default },
        "associative-recall: steps = 15, expected at least 16: 8 to show 8 pairs as pairs, and one for each of 8 queries",
    );
    check(
        AssociativeRecall { shortest_steps: Some(15), ..default },
        "associative-recall: shortest_steps = 15, expected 16 to 64",
    );
    check(
        AssociativeRecall { shortest_steps: Some(65), ..default },
        "associative-recall: shortest_steps = 65, expected 16 to 64",
    );
    check(
        AssociativeRecall { steps: 23, presentation: Presentation::Tokens, ..default },
        "associative-recall: steps = 23, expected at least 24: 16 to show 8 pairs as tokens, and one for each of 8 \
         queries",
    );
}

#[test]
fn concept_shift_refuses_what_leaves_no_room_for_two_mappings() {
    let check = |task, message| check(TaskConfig::ConceptShift(task), message);
    let default = ConceptShift::default();
    check(ConceptShift { input_dim: 0, ..default }, "concept-shift: input_dim = 0, expected 1 to 999998");
    check(ConceptShift { pairs: 1, ..default }, "concept-shift: pairs = 1, expected 2 to 500000");
    check(ConceptShift { margin: 0, ..default }, "concept-shift: margin = 0, expected 1 to 20");
    check(ConceptShift { margin: 21, ..default }, "concept-shift: margin = 21, expected 1 to 20");
    check(
        ConceptShift { scale: f32::NAN, ..default },
        "concept-shift: scale = NaN, expected a number from 0 to 1e9",
    );
    check(
        ConceptShift { scale: 0.0, mapping: Mapping::Cues, ..default },
        "concept-shift: scale = 0, expected a number above 0, because rewards are uniform from 0 to below it",
    );
}

#[test]
fn few_shot_refuses_numbers_out_of_range() {
    let check = |task, message| check(TaskConfig::Omniglot(task), message);
    let published = FewShot::omniglot();
    check(FewShot { ways: 0, ..published }, "omniglot: ways = 0, expected 2 to 999999");
    check(FewShot { ways: 1, ..published }, "omniglot: ways = 1, expected 2 to 999999");
    check(FewShot { shots: 0, ..published }, "omniglot: shots = 0, expected 1 to 1000000");
    check(FewShot { queries: 0, ..published }, "omniglot: queries = 0, expected 1 to 1000000");
    check(
        FewShot { ways: 100_000, ..published },
        "omniglot: ways * (shots + queries) steps = 2000000, expected 1 to 1000000",
    );
    check(FewShot { image_size: 0, ..published }, "omniglot: image_size = 0, expected 1 to 256");
    check(FewShot { image_size: 257, ..published }, "omniglot: image_size = 257, expected 1 to 256");
}

#[test]
fn few_shot_refuses_images_of_another_task() {
    check(
        TaskConfig::Omniglot(FewShot::cifar_fs()),
        "omniglot: data = cifar-100, expected omniglot, omniglot-minimal, glyphs",
    );
    check(
        TaskConfig::CifarFs(FewShot::omniglot()),
        "cifar-fs: data = omniglot, expected cifar-100, natural-100, glyphs",
    );
}

#[test]
fn augmentation_refuses_what_it_cannot_do() {
    let check_on = |config: fn(FewShot) -> TaskConfig, base: FewShot, augmentation, message| {
        check(config(FewShot { augmentation, ..base }), message);
    };
    let off = Augmentation::default();
    let photographs = |augmentation, message| {
        check_on(TaskConfig::CifarFs, FewShot::cifar_fs(), augmentation, message);
    };
    photographs(
        Augmentation { crop_padding: 32, ..off },
        "cifar-fs: augmentation.crop_padding = 32, expected 0 to 31",
    );
    photographs(
        Augmentation { brightness: -0.5, ..off },
        "cifar-fs: augmentation.brightness = -0.5, expected 0 to 1",
    );
    photographs(
        Augmentation { contrast: f32::NAN, ..off },
        "cifar-fs: augmentation.contrast = NaN, expected 0 to 1",
    );
    photographs(
        Augmentation { saturation: 1.5, ..off },
        "cifar-fs: augmentation.saturation = 1.5, expected 0 to 1",
    );
    check_on(
        TaskConfig::Omniglot,
        FewShot::omniglot(),
        Augmentation { saturation: 0.5, ..off },
        "omniglot: augmentation.saturation = 0.5, expected 0, because the images of omniglot are grey",
    );
}

#[test]
fn few_shot_refuses_more_than_the_images_give() {
    let small = FewShot { data: Dataset::Glyphs, shots: 1, queries: 2, image_size: 4, ..FewShot::omniglot() };
    let check = |task: FewShot, usage, message: &str| {
        let built = TaskConfig::Omniglot(task).build_with(&Small, usage).map(|source| source.name());
        assert_eq!(built.expect_err("too few images").to_string(), message);
    };
    check(
        FewShot { ways: 13, ..small },
        Usage::Training,
        "omniglot: ways = 13, expected at most 12, the classes of glyphs for training",
    );
    check(
        FewShot { ways: 49, rotations: Rotations::Always, ..small },
        Usage::Test,
        "omniglot: ways = 49, expected at most 48, the classes of glyphs for test, each turn one of its own",
    );
    check(
        FewShot { ways: 49, rotations: Rotations::Training, ..small },
        Usage::Validation,
        "omniglot: ways = 49, expected at most 12, the classes of glyphs for validation",
    );
    check(
        FewShot { queries: 8, ..small },
        Usage::Test,
        "omniglot: shots + queries = 9, expected at most 8, the images of class alphabet01/character01 of \
         glyphs for test",
    );
}

#[test]
fn few_shot_names_the_class_that_is_too_small_and_the_set_that_does_not_fit() {
    let class = |name: &str, images| ImageClass { name: name.to_owned(), group: String::new(), images };
    let set = ImageSet::new("few", [1, 2, 2], vec![class("a", 0..3), class("b", 3..5)], vec![0; 20]);
    let set = Arc::new(set.expect("a consistent set"));
    let check = |task: FewShot, message: &str| {
        let built = task.episodes("omniglot", set.clone(), Usage::Test).map(|_| ());
        assert_eq!(built.expect_err("another set is needed").to_string(), message);
    };
    let fits = FewShot { ways: 2, shots: 1, queries: 1, image_size: 2, ..FewShot::omniglot() };
    assert!(fits.episodes("omniglot", set.clone(), Usage::Test).is_ok());
    check(
        FewShot { queries: 2, ..fits },
        "omniglot: shots + queries = 3, expected at most 2, the images of class b of few for test",
    );
    check(
        FewShot { image_size: 3, ..fits },
        "image set few: its images are of channels, height and width [1, 2, 2], expected [1, 3, 3] for \
         omniglot on data omniglot",
    );
}

#[test]
fn data_that_needs_files_is_not_built_in() {
    let built = TaskConfig::Omniglot(FewShot::omniglot()).build().map(|source| source.name());
    assert_eq!(
        built.expect_err("a folder is needed").to_string(),
        "data omniglot: it is not built in, as glyphs is; a folder that holds it has to be given"
    );
    let glyphs = FewShot { data: Dataset::Glyphs, image_size: 4, ..FewShot::omniglot() };
    let source = TaskConfig::Omniglot(glyphs).build().expect("glyphs are built in");
    assert_eq!((source.name(), source.data_name()), ("omniglot", Some(Dataset::Glyphs.name())));
    assert!(Glyphs::default().drawings >= glyphs.shots + glyphs.queries);
}

#[test]
fn the_edges_of_every_range_are_allowed() {
    let check = |task: TaskConfig| assert_eq!(task.validate(), Ok(()), "{task:?}");
    let published = Copying { shortest_delay: Some(0), ..Copying::default() };
    check(TaskConfig::Copying(Copying { seq_length: 1, delay: 0, vocab_size: 4, ..published }));
    check(TaskConfig::Copying(Copying { seq_length: 1, delay: 999_997, vocab_size: 1_000_000, ..published }));
    check(TaskConfig::CueReward(CueReward { num_pairs: 1, cue_dim: 1, reward_range: [-1e9, 1e9] }));
    check(TaskConfig::CueReward(CueReward { num_pairs: 500_000, cue_dim: 500_000, ..CueReward::default() }));
    check(TaskConfig::Regression(Regression {
        input_dim: 1,
        k_support: 1,
        k_query: 999_999,
        weight_scale: 0.0,
        bias_scale: 1e9,
    }));
    check(TaskConfig::CifarFs(FewShot {
        ways: 2,
        shots: 1,
        queries: 1,
        image_size: 1,
        augmentation: Augmentation {
            crop_padding: 0,
            flip: true,
            brightness: 1.0,
            contrast: 1.0,
            saturation: 1.0,
        },
        ..FewShot::cifar_fs()
    }));
    check(TaskConfig::Omniglot(FewShot { ways: 50_000, image_size: 256, ..FewShot::omniglot() }));
}

#[test]
fn the_largest_values_stay_finite_when_squared() {
    let task = Regression { input_dim: 10_000, weight_scale: 1e9, bias_scale: 1e9, ..Regression::default() };
    let source = TaskConfig::Regression(task).build().expect("the configuration is valid");
    let batch = source.sample(&mut ChaCha8Rng::seed_from_u64(1), 4).expect("it fits in memory");
    assert!(batch.inputs.iter().all(|x| (x * x).is_finite()));
}

#[test]
fn a_batch_beyond_memory_is_refused() {
    for name in TaskConfig::NAMES {
        let small = FewShot { data: Dataset::Glyphs, queries: 1, image_size: 4, ..FewShot::omniglot() };
        let source = build(&match TaskConfig::from_name(name).expect("a known name") {
            TaskConfig::Omniglot(_) => TaskConfig::Omniglot(small),
            TaskConfig::CifarFs(_) => TaskConfig::CifarFs(small),
            task => task,
        });
        for count in [usize::MAX, usize::MAX / (source.steps() * source.input_width())] {
            let refused =
                source.sample(&mut ChaCha8Rng::seed_from_u64(1), count).expect_err("more than memory");
            // The array that is refused is the largest: the images', where there are some.
            let width = source.image_shape().map_or(source.input_width(), |shape| shape.iter().product());
            let steps = source.steps();
            assert_eq!(
                refused.to_string(),
                format!(
                    "{name}: {count} episodes of {steps} steps with {width} numbers a step do not \
                     fit in memory, expected a smaller count"
                )
            );
        }
    }
}

#[test]
fn an_unknown_task_is_answered_with_the_known_ones() {
    let check = |name: &str, message: &str| {
        let unknown = TaskConfig::from_name(name).expect_err("an unknown name");
        assert!(matches!(&unknown, TaskError::UnknownTask { name: asked, .. } if asked == name));
        assert_eq!(unknown.to_string(), message);
    };
    check(
        "cue_reward",
        "unknown task `cue_reward`, did you mean `cue-reward`?; the tasks are copying, \
         cue-reward, regression, omniglot, cifar-fs, associative-recall, concept-shift",
    );
    check(
        "sorting",
        "unknown task `sorting`; the tasks are copying, cue-reward, regression, omniglot, cifar-fs, \
         associative-recall, concept-shift",
    );
}
