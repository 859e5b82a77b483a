//! Every way to misuse the crate, and what it says.

use plastica_tasks::{Copying, CueReward, Regression, TaskConfig, TaskError};
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
fn the_edges_of_every_range_are_allowed() {
    let check = |task: TaskConfig| assert_eq!(task.validate(), Ok(()), "{task:?}");
    check(TaskConfig::Copying(Copying { seq_length: 1, delay: 0, vocab_size: 4 }));
    check(TaskConfig::Copying(Copying { seq_length: 1, delay: 999_997, vocab_size: 1_000_000 }));
    check(TaskConfig::CueReward(CueReward { num_pairs: 1, cue_dim: 1, reward_range: [-1e9, 1e9] }));
    check(TaskConfig::CueReward(CueReward { num_pairs: 500_000, cue_dim: 500_000, ..CueReward::default() }));
    check(TaskConfig::Regression(Regression {
        input_dim: 1,
        k_support: 1,
        k_query: 999_999,
        weight_scale: 0.0,
        bias_scale: 1e9,
    }));
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
        let source = TaskConfig::from_name(name).and_then(|task| task.build()).expect("published");
        for count in [usize::MAX, usize::MAX / (source.steps() * source.input_width())] {
            let refused =
                source.sample(&mut ChaCha8Rng::seed_from_u64(1), count).expect_err("more than memory");
            let (steps, width) = (source.steps(), source.input_width());
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
         cue-reward, regression",
    );
    check("omniglot", "unknown task `omniglot`; the tasks are copying, cue-reward, regression");
}
