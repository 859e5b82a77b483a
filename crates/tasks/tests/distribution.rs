//! Whether the draws have the distributions that the tasks promise, on fixed seeds.
//!
//! Every bound is one that a correct generator exceeds in fewer than one of a thousand samples.

mod common;

use common::build;
use plastica_tasks::{
    AssociativeRecall, ConceptShift, Copying, CueReward, Dataset, EpisodeBatch, EpisodeOrder, FewShot,
    Mapping, Regression, Targets, TaskConfig,
};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

const EPISODES: usize = 20_000;

fn sample(task: TaskConfig, seed: u64) -> EpisodeBatch {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    build(&task).sample(&mut rng, EPISODES).expect("it fits in memory")
}

/// Pearson's statistic of equally likely cells, as a normal deviate (Wilson and Hilferty).
fn check_uniform(what: &str, counts: &[usize]) {
    let expected = counts.iter().sum::<usize>() as f64 / counts.len() as f64;
    let statistic: f64 = counts.iter().map(|&count| (count as f64 - expected).powi(2) / expected).sum();
    let freedom = (counts.len() - 1) as f64;
    let spread = 2.0 / (9.0 * freedom);
    let deviate = ((statistic / freedom).cbrt() - (1.0 - spread)) / spread.sqrt();
    assert!(deviate.abs() < 3.3, "{what}: {deviate} standard deviations, {counts:?}");
}

/// Mean and variance of independent numbers, whose fourth central moment is `kurtosis` times the
/// square of their variance, each within 3.3 standard errors.
fn check_moments(what: &str, numbers: &[f64], mean: f64, variance: f64, kurtosis: f64) {
    let n = numbers.len() as f64;
    let found_mean = numbers.iter().sum::<f64>() / n;
    let found_variance = numbers.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
    let errors = [
        (found_mean - mean) / (variance / n).sqrt(),
        (found_variance - variance) / (variance * ((kurtosis - 1.0) / n).sqrt()),
    ];
    assert!(
        errors.iter().all(|error| error.abs() < 3.3),
        "{what}: mean {found_mean} against {mean}, variance {found_variance} against {variance}"
    );
}

fn hot(row: &[f32]) -> usize {
    row.iter().position(|&value| value == 1.0).expect("a one-hot row")
}

#[test]
fn tokens_are_uniform_and_independent() {
    let batch = sample(TaskConfig::Copying(Copying::default()), 11);
    let token = |episode, step| hot(batch.input(episode, step)) - 1;
    for step in 0..5 {
        let mut counts = [0; 8];
        (0..EPISODES).for_each(|episode| counts[token(episode, step)] += 1);
        check_uniform(&format!("token {step}"), &counts);
    }
    let mut pairs = [0; 64];
    (0..EPISODES).for_each(|episode| pairs[token(episode, 0) * 8 + token(episode, 1)] += 1);
    check_uniform("first and second token", &pairs);
}

#[test]
fn cues_are_uniform_without_replacement() {
    let task = CueReward { num_pairs: 3, cue_dim: 5, ..CueReward::default() };
    let batch = sample(TaskConfig::CueReward(task), 12);
    let mut ordered = [0; 5 * 5 * 5];
    for episode in 0..EPISODES {
        let cue = |step| hot(&batch.input(episode, step)[..5]);
        ordered[(cue(0) * 5 + cue(1)) * 5 + cue(2)] += 1;
    }
    let dealt: Vec<usize> = ordered.into_iter().filter(|&count| count > 0).collect();
    assert_eq!(dealt.len(), 5 * 4 * 3, "orders of three of five cues");
    check_uniform("ordered cues", &dealt);
}

#[test]
fn rewards_are_uniform_over_their_range() {
    let check = |low: f32, high: f32| {
        let task = CueReward { reward_range: [low, high], ..CueReward::default() };
        let batch = sample(TaskConfig::CueReward(task), 13);
        let Targets::Values(targets) = &batch.targets else { panic!("values expected") };
        let (low, high) = (f64::from(low), f64::from(high));
        let rewards: Vec<f64> =
            targets.chunks(16).flat_map(|episode| &episode[8..]).map(|&r| r.into()).collect();
        let variance = (high - low).powi(2) / 12.0;
        check_moments("rewards", &rewards, (low + high) / 2.0, variance, 1.8);
        let mut tenths = [0; 10];
        for reward in rewards {
            tenths[((reward - low) / (high - low) * 10.0) as usize] += 1;
        }
        check_uniform("tenths of the range", &tenths);
    };
    check(0.0, 1.0);
    check(-3.0, 2.0);
}

#[test]
fn inputs_of_regression_are_standard_normal() {
    let batch = sample(TaskConfig::Regression(Regression::default()), 14);
    let x: Vec<f64> = batch.inputs.chunks(5).flat_map(|row| &row[..3]).map(|&x| x.into()).collect();
    check_moments("x", &x, 0.0, 1.0, 3.0);
}

#[test]
fn weights_have_their_scale() {
    let task = Regression { input_dim: 1, weight_scale: 2.5, bias_scale: 0.0, ..Regression::default() };
    let batch = sample(TaskConfig::Regression(task), 15);
    let slopes: Vec<f64> = (0..EPISODES)
        .map(|episode| {
            let row = batch.input(episode, 0);
            f64::from(row[1]) / f64::from(row[0])
        })
        .collect();
    check_moments("w", &slopes, 0.0, 6.25, 3.0);
}

#[test]
fn biases_have_their_scale() {
    let task = Regression { weight_scale: 0.0, bias_scale: 0.5, ..Regression::default() };
    let batch = sample(TaskConfig::Regression(task), 16);
    let biases: Vec<f64> = (0..EPISODES).map(|episode| f64::from(batch.input(episode, 0)[3])).collect();
    check_moments("b", &biases, 0.0, 0.25, 3.0);
}

#[test]
fn answers_of_regression_have_the_variance_of_their_parts() {
    let task = Regression { weight_scale: 2.0, bias_scale: 0.5, ..Regression::default() };
    let batch = sample(TaskConfig::Regression(task), 17);
    let y: Vec<f64> = (0..EPISODES).map(|episode| f64::from(batch.input(episode, 0)[3])).collect();
    // y = w·x + b: variance 3·4 + 1/4. The fourth moment of one product w·x of normals is
    // 9·4², of three of them 3·144 + 18·4², with b 3·(1/4)² + 6·12/4 more.
    let variance = 12.25;
    let fourth = 3.0 * 144.0 + 18.0 * 16.0 + 3.0 / 16.0 + 6.0 * 12.0 / 4.0;
    check_moments("y", &y, 0.0, variance, fourth / (variance * variance));
}

#[test]
fn keys_values_and_the_order_of_queries_are_uniform_and_independent() {
    let task = AssociativeRecall {
        num_pairs: 2,
        num_queries: 1,
        steps: 5,
        num_keys: 3,
        num_values: 2,
        ..Default::default()
    };
    let batch = sample(TaskConfig::AssociativeRecall(task), 19);
    let mut counts = [0; 6 * 4 * 2];
    for episode in 0..EPISODES {
        let row = |t: usize| batch.input(episode, t);
        let (first, second) = (hot(&row(0)[..3]), hot(&row(1)[..3]));
        // the second key is one of the two that are left
        let keys = 2 * first + usize::from(second > 3 - first - second);
        let values = 2 * hot(&row(0)[3..5]) + hot(&row(1)[3..5]);
        let asked = usize::from(hot(&row(4)[..3]) == second);
        counts[(keys * 4 + values) * 2 + asked] += 1;
    }
    check_uniform("keys, values and what is asked for", &counts);
}

#[test]
fn mappings_change_at_a_uniform_place_and_have_their_scale() {
    let task = ConceptShift { input_dim: 1, pairs: 8, margin: 2, scale: 2.0, ..ConceptShift::default() };
    let batch = sample(TaskConfig::ConceptShift(task), 20);
    let mut places = [0; 5];
    for &shift in batch.shifts.as_ref().expect("the mapping changes") {
        places[shift as usize / 2 - 2] += 1;
    }
    check_uniform("places of the change", &places);

    let task = ConceptShift { mapping: Mapping::Cues, input_dim: 3, ..task };
    let batch = sample(TaskConfig::ConceptShift(task), 21);
    let shifts = batch.shifts.as_ref().expect("the mapping changes");
    let mut cues = [0; 9];
    for (episode, &shift) in shifts.iter().enumerate() {
        let cue = |step: usize| hot(&batch.input(episode, step)[..3]);
        cues[3 * cue(0) + cue(shift as usize)] += 1;
    }
    check_uniform("cues of the first and of the changed mapping", &cues);
    let reward = |episode: usize, step: usize| f64::from(batch.input(episode, step + 1)[3]);
    let first: Vec<f64> = (0..EPISODES).map(|episode| reward(episode, 0)).collect();
    let second: Vec<f64> =
        shifts.iter().enumerate().map(|(episode, &shift)| reward(episode, shift as usize)).collect();
    let variance = 4.0 / 12.0;
    check_moments("rewards before", &first, 1.0, variance, 1.8);
    check_moments("rewards after", &second, 1.0, variance, 1.8);
    let product: Vec<f64> = first.iter().zip(&second).map(|(a, b)| (a - 1.0) * (b - 1.0)).collect();
    // of two independent ones: variance 1/9, and a kurtosis that is the square of the uniform's
    check_moments("rewards before and after", &product, 0.0, variance * variance, 1.8 * 1.8);
}

/// The label of every step, whose images are of one pixel.
fn few_shot_labels(task: FewShot) -> Vec<Vec<u32>> {
    let task = FewShot { data: Dataset::Glyphs, ways: 3, shots: 1, queries: 1, image_size: 1, ..task };
    let batch = sample(TaskConfig::Omniglot(task), 18);
    let Targets::Classes(labels) = &batch.targets else { panic!("classes expected") };
    labels.chunks(batch.steps).map(<[u32]>::to_vec).collect()
}

/// The place of an order of three labels among all six.
fn place(order: &[u32]) -> usize {
    let order = [order[0], order[1], order[2]];
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    orders.iter().position(|known| *known == order).expect("every label once")
}

#[test]
fn permuted_labels_are_uniform_over_the_classes() {
    let mut counts = [0; 6];
    let labels = few_shot_labels(FewShot { permute_labels: true, ..FewShot::omniglot() });
    labels.iter().for_each(|labels| counts[place(&labels[..3])] += 1);
    check_uniform("orders of labels", &counts);
}

#[test]
fn shuffled_support_and_queries_are_uniform_and_independent() {
    let mut counts = [0; 36];
    let labels = few_shot_labels(FewShot { order: EpisodeOrder::Shuffled, ..FewShot::omniglot() });
    labels.iter().for_each(|labels| counts[place(&labels[..3]) * 6 + place(&labels[3..])] += 1);
    check_uniform("orders of support and queries", &counts);
}
