//! Configurations as files hold them.

use std::fmt::Debug;

use plastica_tasks::{
    AssociativeRecall, Augmentation, ConceptShift, Copying, CueReward, Dataset, EpisodeOrder, FewShot,
    Mapping, Phase, Presentation, Regression, Rotations, SplitProtocol, TaskConfig,
};
use proptest::prelude::*;
use serde::{Serialize, de::DeserializeOwned};

fn check_round_trip<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) {
    let json = serde_json::to_string(value).expect("serialises to JSON");
    assert_eq!(&serde_json::from_str::<T>(&json).expect("its own JSON"), value, "{json}");
}

fn check_task_round_trip(task: &TaskConfig) {
    check_round_trip(task);
    let toml = toml::to_string(task).expect("serialises to TOML");
    assert_eq!(&toml::from_str::<TaskConfig>(&toml).expect("its own TOML"), task, "{toml}");
}

fn check_refused(json: &str, reason: &str) {
    let message = serde_json::from_str::<TaskConfig>(json).expect_err("an invalid configuration").to_string();
    assert!(message.contains(reason), "{message}");
}

/// The tasks of arXiv 2510.21908 as its runs were configured, which are also the defaults.
#[test]
fn published_settings_are_the_defaults() {
    let check = |json: &str| {
        let task: TaskConfig = serde_json::from_str(json).expect("a published setting");
        assert_eq!(TaskConfig::from_name(task.name()), Ok(task));
        let short = format!(r#"{{"name": "{}"}}"#, task.name());
        assert_eq!(serde_json::from_str::<TaskConfig>(&short).expect("a name alone"), task);
        assert_eq!(
            serde_json::to_value(task).expect("serialises to JSON"),
            serde_json::from_str::<serde_json::Value>(json).expect("valid JSON")
        );
    };
    check(r#"{"name": "copying", "seq_length": 5, "delay": 20, "vocab_size": 10}"#);
    check(r#"{"name": "cue-reward", "num_pairs": 8, "cue_dim": 20, "reward_range": [0.0, 1.0]}"#);
    check(
        r#"{"name": "regression", "input_dim": 3, "k_support": 10, "k_query": 10,
            "weight_scale": 1.0, "bias_scale": 1.0}"#,
    );
    check(
        r#"{"name": "associative-recall", "num_pairs": 8, "num_queries": 8, "steps": 64, "num_keys": 16,
            "num_values": 16, "presentation": "pairs"}"#,
    );
    check(
        r#"{"name": "concept-shift", "mapping": "linear", "input_dim": 3, "pairs": 40, "margin": 10,
            "scale": 1.0}"#,
    );
    check(
        r#"{"name": "omniglot", "data": "omniglot", "split": "published", "ways": 5, "shots": 5,
            "queries": 15, "image_size": 84, "order": "class", "permute_labels": false, "rotations": "none",
            "augmentation": {"crop_padding": 0, "flip": false, "brightness": 0.0, "contrast": 0.0,
                             "saturation": 0.0}}"#,
    );
    check(
        r#"{"name": "cifar-fs", "data": "cifar-100", "split": "published", "ways": 5, "shots": 1,
            "queries": 15, "image_size": 32, "order": "class", "permute_labels": false, "rotations": "none",
            "augmentation": {"crop_padding": 0, "flip": false, "brightness": 0.0, "contrast": 0.0,
                             "saturation": 0.0}}"#,
    );
}

#[test]
fn every_name_is_its_task() {
    for name in TaskConfig::NAMES {
        assert_eq!(TaskConfig::from_name(name).map(|task| task.name()), Ok(name));
    }
}

#[test]
fn what_a_few_shot_task_says_lies_over_its_own_defaults() {
    let toml = r#"
        name = "omniglot"
        data = "glyphs"
        split = "disjoint"
        image_size = 28
        order = "shuffled"
        rotations = "training"
        augmentation = { crop_padding = 4, brightness = 0.4 }
    "#;
    let expected = FewShot {
        data: Dataset::Glyphs,
        split: SplitProtocol::Disjoint,
        image_size: 28,
        order: EpisodeOrder::Shuffled,
        rotations: Rotations::Training,
        augmentation: Augmentation { crop_padding: 4, brightness: 0.4, ..Augmentation::default() },
        ..FewShot::omniglot()
    };
    assert_eq!(toml::from_str(toml), Ok(TaskConfig::Omniglot(expected)));
}

#[test]
fn what_a_task_does_not_have_is_refused() {
    check_refused(r#"{"name": "copying", "dealy": 3}"#, "unknown field `dealy`");
    check_refused(r#"{"name": "cue-reward", "delay": 3}"#, "unknown field `delay`");
    check_refused(r#"{"name": "regression", "dataset_size": 150}"#, "unknown field `dataset_size`");
    check_refused(r#"{"name": "omniglot", "way": 5}"#, "unknown field `way`");
    check_refused(
        r#"{"name": "omniglot", "data": "mnist"}"#,
        "unknown variant `mnist`, expected one of `omniglot`",
    );
    check_refused(r#"{"name": "cifar-fs", "augmentation": {"crop": 4}}"#, "unknown field `crop`");
    check_refused(
        r#"{"name": "copy"}"#,
        "expected one of `copying`, `cue-reward`, `regression`, `associative-recall`, `concept-shift`, `omniglot`, \
         `cifar-fs`",
    );
    check_refused(r#"{"delay": 3}"#, "missing field `name`");
    check_refused(r#"{"name": "copying", "delay": -3}"#, "invalid value: integer `-3`");
}

#[test]
fn phases_are_lower_case_words() {
    let check = |phase: Phase, word: &str| {
        assert_eq!(phase.to_string(), word);
        assert_eq!(serde_json::to_value(phase).expect("serialises"), word);
        check_round_trip(&phase);
    };
    check(Phase::Shown, "shown");
    check(Phase::Delay, "delay");
    check(Phase::Recall, "recall");
    assert_eq!(format!("[{:>6}]", Phase::Shown), "[ shown]");
}

proptest! {
    #[test]
    fn configurations_survive_files(
        lengths: [u32; 3], reals in prop::array::uniform2(-1e9f32..1e9),
    ) {
        let [a, b, c] = lengths.map(|length| length as usize);
        let [low, high] = reals;
        check_task_round_trip(&TaskConfig::Copying(Copying {
            seq_length: a, delay: b, shortest_delay: (c % 2 == 0).then_some(a), vocab_size: c,
        }));
        check_task_round_trip(&TaskConfig::CueReward(CueReward {
            num_pairs: a, cue_dim: b, reward_range: reals,
        }));
        check_task_round_trip(&TaskConfig::Regression(Regression {
            input_dim: a, k_support: b, k_query: c, weight_scale: low, bias_scale: high,
        }));
        check_task_round_trip(&TaskConfig::AssociativeRecall(AssociativeRecall {
            num_pairs: a, num_queries: b, steps: c,
            shortest_steps: (c % 2 == 0).then_some(a), num_keys: a, num_values: b,
            presentation: if c % 2 == 0 { Presentation::Pairs } else { Presentation::Tokens },
        }));
        check_task_round_trip(&TaskConfig::ConceptShift(ConceptShift {
            mapping: if c % 2 == 0 { Mapping::Linear } else { Mapping::Cues },
            input_dim: a, pairs: b, margin: c, scale: high,
        }));
        let few_shot = FewShot {
            data: Dataset::ALL[a % 5],
            split: if b % 2 == 0 { SplitProtocol::Published } else { SplitProtocol::Disjoint },
            ways: a, shots: b, queries: c, image_size: a,
            order: if c % 2 == 0 { EpisodeOrder::Class } else { EpisodeOrder::Shuffled },
            permute_labels: a % 2 == 0,
            rotations: [Rotations::None, Rotations::Training, Rotations::Always][b % 3],
            augmentation: Augmentation {
                crop_padding: c, flip: b % 2 == 0, brightness: low, contrast: high, saturation: low,
            },
        };
        check_task_round_trip(&TaskConfig::Omniglot(few_shot));
        check_task_round_trip(&TaskConfig::CifarFs(few_shot));
    }
}
