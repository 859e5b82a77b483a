//! What holds exactly for every episode of every configuration.

mod common;

use common::build;
use plastica_tasks::{
    AssociativeRecall, Augmentation, BuiltIn, ConceptShift, Copying, CueReward, Dataset, EpisodeBatch,
    EpisodeOrder, EpisodeSource, FewShot, LossKind, Mapping, Phase, Presentation, Regression, Rotations,
    Targets, TaskConfig, Usage,
};
use proptest::{collection::vec, prelude::*};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

fn sample(task: &TaskConfig, seed: u64, count: usize) -> EpisodeBatch {
    let source = build(task);
    let batch = source.sample(&mut rng(seed), count).expect("it fits in memory");
    check_agrees(source.as_ref(), &batch, count);
    batch
}

/// The batch is what the source announces.
fn check_agrees(source: &dyn EpisodeSource, batch: &EpisodeBatch, count: usize) {
    let announced = (count, source.steps(), source.input_width(), source.output_width());
    let EpisodeBatch { batch: b, steps, input_width, output_width, .. } = *batch;
    assert_eq!((b, steps, input_width, output_width), announced);
    assert_eq!(batch.phases, source.phases());
    assert_eq!(batch.phases.len(), steps);
    assert_eq!(batch.inputs.len(), count * steps * input_width);
    assert!(batch.shifts.as_ref().is_none_or(|shifts| shifts.len() == count));
    match (&batch.targets, source.loss()) {
        (Targets::Classes(classes), LossKind::CrossEntropy | LossKind::QueryCrossEntropy) => {
            assert_eq!(classes.len(), count * steps);
            assert!(classes.iter().all(|&class| (class as usize) < output_width));
        }
        (Targets::Values(values), LossKind::SquaredError) => {
            assert_eq!(values.len(), count * steps * output_width);
        }
        (targets, loss) => panic!("{loss:?} on {targets:?}"),
    }
    assert_eq!(batch.images.as_ref().map(|images| images.shape), source.image_shape());
    if let Some(images) = &batch.images {
        assert_eq!(images.pixels.len(), count * steps * images.shape.iter().product::<usize>());
        assert!(images.pixels.iter().all(|pixel| (-1.0..=1.0).contains(pixel)));
        assert_eq!(images.support, batch.phases.iter().filter(|&&phase| phase == Phase::Shown).count());
    }
}

fn classes(batch: &EpisodeBatch, episode: usize) -> &[u32] {
    let Targets::Classes(classes) = &batch.targets else { panic!("classes expected") };
    &classes[episode * batch.steps..][..batch.steps]
}

fn values(batch: &EpisodeBatch, episode: usize) -> &[f32] {
    let Targets::Values(values) = &batch.targets else { panic!("values expected") };
    &values[episode * batch.steps..][..batch.steps]
}

/// The place of the only one in a row that is otherwise zero.
fn hot(row: &[f32]) -> usize {
    let ones: Vec<usize> = (0..row.len()).filter(|&i| row[i] == 1.0).collect();
    assert_eq!(ones.len(), 1, "{row:?}");
    assert_eq!(row.iter().filter(|&&v| v == 0.0).count(), row.len() - 1, "{row:?}");
    ones[0]
}

/// Least squares of `y` on the columns of `x` and a constant, by the normal equations.
fn fit(x: &[Vec<f64>], y: &[f64]) -> Vec<f64> {
    let n = x[0].len() + 1;
    let mut system = vec![vec![0.0; n + 1]; n];
    for (x, &y) in x.iter().zip(y) {
        let row: Vec<f64> = x.iter().copied().chain([1.0, y]).collect();
        for i in 0..n {
            for j in 0..=n {
                system[i][j] += row[i] * row[j];
            }
        }
    }
    // Gauss and Jordan; a Gram matrix needs no pivoting.
    for i in 0..n {
        let pivot = system[i].clone();
        for (j, row) in system.iter_mut().enumerate() {
            let factor = if i == j { 1.0 - 1.0 / pivot[i] } else { row[i] / pivot[i] };
            for (value, &p) in row.iter_mut().zip(&pivot) {
                *value -= factor * p;
            }
        }
    }
    system.iter().map(|row| row[n]).collect()
}

fn copying() -> impl Strategy<Value = Copying> {
    (1usize..9, 0usize..30, 4usize..40).prop_map(|(seq_length, delay, vocab_size)| Copying {
        seq_length,
        delay,
        vocab_size,
        ..Copying::default()
    })
}

fn cue_reward() -> impl Strategy<Value = CueReward> {
    (1usize..30, -5.0f32..5.0, 0.001f32..5.0)
        .prop_flat_map(|(cue_dim, low, span)| (1..=cue_dim, Just((cue_dim, low, span))))
        .prop_map(|(num_pairs, (cue_dim, low, span))| CueReward {
            num_pairs,
            cue_dim,
            reward_range: [low, low + span],
        })
}

fn regression() -> impl Strategy<Value = Regression> {
    (1usize..6, 1usize..12, 1usize..12, 0.0f32..3.0, 0.0f32..3.0).prop_map(
        |(input_dim, k_support, k_query, weight_scale, bias_scale)| Regression {
            input_dim,
            k_support,
            k_query,
            weight_scale,
            bias_scale,
        },
    )
}

fn associative_recall() -> impl Strategy<Value = AssociativeRecall> {
    (1usize..20, 0usize..6, 2usize..9, prop::bool::ANY)
        .prop_flat_map(|(num_pairs, surplus, num_values, tokens)| {
            (1..=num_pairs, 0usize..40, Just((num_pairs, surplus, num_values, tokens)))
        })
        .prop_map(|(num_queries, blanks, (num_pairs, surplus, num_values, tokens))| {
            let shown = if tokens { 2 * num_pairs } else { num_pairs };
            AssociativeRecall {
                num_pairs,
                num_queries,
                steps: shown + num_queries + blanks,
                shortest_steps: None,
                num_keys: num_pairs + surplus,
                num_values,
                presentation: if tokens { Presentation::Tokens } else { Presentation::Pairs },
            }
        })
}

fn concept_shift() -> impl Strategy<Value = ConceptShift> {
    (1usize..6, 2usize..30, prop::bool::ANY, 0.001f32..3.0)
        .prop_flat_map(|(input_dim, pairs, cues, scale)| {
            (1..=pairs / 2, Just((input_dim, pairs, cues, scale)))
        })
        .prop_map(|(margin, (input_dim, pairs, cues, scale))| ConceptShift {
            mapping: if cues { Mapping::Cues } else { Mapping::Linear },
            input_dim,
            pairs,
            margin,
            scale,
        })
}

fn few_shot() -> impl Strategy<Value = FewShot> {
    let images = (1usize..9, prop::bool::ANY, prop::bool::ANY, prop::bool::ANY, prop::bool::ANY);
    (2usize..9, 1usize..4, 1usize..4, images).prop_map(
        |(ways, shots, queries, (image_size, shuffled, permute_labels, turned, varied))| FewShot {
            data: Dataset::Glyphs,
            ways,
            shots,
            queries,
            image_size,
            order: if shuffled { EpisodeOrder::Shuffled } else { EpisodeOrder::Class },
            permute_labels,
            rotations: if turned { Rotations::Training } else { Rotations::None },
            augmentation: Augmentation {
                crop_padding: if varied { image_size / 2 } else { 0 },
                flip: varied,
                brightness: if varied { 0.4 } else { 0.0 },
                contrast: if varied { 0.9 } else { 0.0 },
                saturation: 0.0,
            },
            ..FewShot::omniglot()
        },
    )
}

fn any_task() -> impl Strategy<Value = TaskConfig> {
    prop_oneof![
        copying().prop_map(TaskConfig::Copying),
        cue_reward().prop_map(TaskConfig::CueReward),
        regression().prop_map(TaskConfig::Regression),
        associative_recall().prop_map(TaskConfig::AssociativeRecall),
        concept_shift().prop_map(TaskConfig::ConceptShift),
        few_shot().prop_map(TaskConfig::Omniglot),
        few_shot().prop_map(TaskConfig::CifarFs),
    ]
}

proptest! {
    #[test]
    fn copying_shows_waits_and_asks_for_the_same_tokens(task in copying(), seed: u64) {
        let Copying { seq_length: s, delay: d, vocab_size: v, .. } = task;
        let batch = sample(&TaskConfig::Copying(task), seed, 3);
        prop_assert_eq!(batch.steps, 2 * s + d + 1);
        for episode in 0..3 {
            let read: Vec<u32> =
                (0..batch.steps).map(|step| hot(batch.input(episode, step)) as u32).collect();
            let tokens = &read[..s];
            prop_assert!(tokens.iter().all(|&token| token >= 1 && token as usize <= v - 2));
            let expected = [tokens, &vec![0; d], &[v as u32 - 1], &vec![0; s]].concat();
            prop_assert_eq!(&read, &expected);
            prop_assert_eq!(classes(&batch, episode), [&vec![0; s + d + 1], tokens].concat());
        }
        let phases =
            [vec![Phase::Shown; s], vec![Phase::Delay; d + 1], vec![Phase::Recall; s]].concat();
        prop_assert_eq!(batch.phases, phases);
    }

    #[test]
    fn copying_trains_over_delays_up_to_its_own(task in copying(), shortest in 0usize..30, seed: u64) {
        let shortest_delay = Some(shortest.min(task.delay));
        let varied = TaskConfig::Copying(Copying { shortest_delay, ..task });
        let mut generator = rng(seed);
        let source = varied.build().unwrap();
        let lengths: Vec<usize> = (0..8).map(|_| source.sample(&mut generator, 2).unwrap().steps).collect();
        let bounds = 2 * task.seq_length + 1 + shortest.min(task.delay)..=source.steps();
        prop_assert!(lengths.iter().all(|length| bounds.contains(length)), "{lengths:?}");
        prop_assert!(task.delay < shortest + 9 || lengths.iter().any(|length| *length != lengths[0]));
        // evaluation does not know of it
        let evaluation = varied.build_with(&BuiltIn, Usage::Test).unwrap().sample(&mut rng(seed), 3);
        prop_assert_eq!(evaluation.unwrap(), sample(&TaskConfig::Copying(task), seed, 3));
    }

    #[test]
    fn cue_reward_asks_for_the_rewards_in_the_order_shown(task in cue_reward(), seed: u64) {
        let CueReward { num_pairs: n, cue_dim: c, reward_range: [low, high] } = task;
        let batch = sample(&TaskConfig::CueReward(task), seed, 3);
        prop_assert_eq!((batch.steps, batch.input_width), (2 * n, c + 2));
        for episode in 0..3 {
            let target = values(&batch, episode);
            let mut seen = vec![false; c];
            for pair in 0..n {
                let shown = batch.input(episode, pair);
                let query = batch.input(episode, n + pair);
                let cue = hot(&shown[..c]);
                prop_assert!(!std::mem::replace(&mut seen[cue], true), "cue {} twice", cue);
                prop_assert_eq!(hot(&query[..c]), cue);
                prop_assert!(low <= shown[c] && shown[c] < high);
                prop_assert_eq!((shown[c + 1], query[c], query[c + 1]), (0.0, 0.0, 1.0));
                prop_assert_eq!((target[pair], target[n + pair]), (0.0, shown[c]));
            }
        }
        prop_assert_eq!(batch.phases, [vec![Phase::Shown; n], vec![Phase::Recall; n]].concat());
    }

    #[test]
    fn regression_has_one_linear_function_an_episode(
        task in regression(), surplus in 20usize..40, seed: u64,
    ) {
        let task = Regression { k_support: task.k_support + surplus, ..task };
        let Regression { input_dim: d, k_support, k_query, .. } = task;
        let batch = sample(&TaskConfig::Regression(task), seed, 3);
        prop_assert_eq!((batch.steps, batch.input_width), (k_support + k_query, d + 2));
        for episode in 0..3 {
            let target = values(&batch, episode);
            let rows: Vec<&[f32]> =
                (0..batch.steps).map(|step| batch.input(episode, step)).collect();
            let x: Vec<Vec<f64>> =
                rows.iter().map(|row| row[..d].iter().map(|&x| x.into()).collect()).collect();
            let shown: Vec<f64> = rows[..k_support].iter().map(|row| row[d].into()).collect();
            let function = fit(&x[..k_support], &shown);
            for step in 0..batch.steps {
                let query = step >= k_support;
                let y = if query { target[step] } else { rows[step][d] };
                let predicted = function.iter().zip(x[step].iter().chain([&1.0]))
                    .map(|(w, x)| w * x).sum::<f64>();
                prop_assert!((f64::from(y) - predicted).abs() < 1e-4, "{} {}", y, predicted);
                prop_assert_eq!(rows[step][d + 1], f32::from(query));
                prop_assert_eq!(if query { rows[step][d] } else { target[step] }, 0.0);
            }
        }
        let phases = [vec![Phase::Shown; k_support], vec![Phase::Recall; k_query]].concat();
        prop_assert_eq!(batch.phases, phases);
    }

    #[test]
    fn associative_recall_asks_for_what_came_with_the_key(task in associative_recall(), seed: u64) {
        let AssociativeRecall { num_pairs, num_queries, steps, num_keys, num_values, presentation, .. } = task;
        let batch = sample(&TaskConfig::AssociativeRecall(task), seed, 3);
        prop_assert_eq!((batch.steps, batch.input_width), (steps, num_keys + num_values + 1));
        let shown = batch.phases.iter().filter(|&&phase| phase == Phase::Shown).count();
        let queries: Vec<usize> = (0..steps).filter(|&t| batch.phases[t] == Phase::Recall).collect();
        prop_assert_eq!((queries.len(), queries.last()), (num_queries, Some(&(steps - 1))));
        let gaps: Vec<usize> = queries.windows(2).map(|pair| pair[1] - pair[0]).collect();
        prop_assert!(gaps.iter().max().unwrap_or(&1) - gaps.iter().min().unwrap_or(&1) <= 1, "{:?}", gaps);
        for episode in 0..3 {
            let key = |t: usize| hot(&batch.input(episode, t)[..num_keys]);
            let value = |t: usize| hot(&batch.input(episode, t)[num_keys..num_keys + num_values]);
            let pairs: std::collections::BTreeMap<usize, usize> = match presentation {
                Presentation::Pairs => (0..shown).map(|t| (key(t), value(t))).collect(),
                Presentation::Tokens => (0..shown / 2).map(|i| (key(2 * i), value(2 * i + 1))).collect(),
            };
            prop_assert_eq!(pairs.len(), num_pairs, "keys are distinct");
            let mut asked = std::collections::BTreeSet::new();
            for &t in &queries {
                let input = batch.input(episode, t);
                prop_assert!(asked.insert(key(t)), "key {} is asked for twice", key(t));
                prop_assert!(input[num_keys..num_keys + num_values].iter().all(|&x| x == 0.0));
                prop_assert_eq!(Some(&(classes(&batch, episode)[t] as usize)), pairs.get(&key(t)));
            }
            for t in 0..steps {
                let flag = batch.input(episode, t)[num_keys + num_values];
                prop_assert_eq!(flag, f32::from(batch.phases[t] == Phase::Recall));
                let blank = batch.input(episode, t).iter().all(|&x| x == 0.0);
                prop_assert_eq!(blank, batch.phases[t] == Phase::Delay);
            }
        }
    }

    #[test]
    fn associative_recall_trains_over_lengths_up_to_its_own(
        task in associative_recall(), blanks in 0usize..40, seed: u64,
    ) {
        let least = sample(&TaskConfig::AssociativeRecall(task), seed, 1)
            .phases.iter().filter(|&&phase| phase != Phase::Delay).count();
        let shortest = (least + blanks).min(task.steps);
        let varied =
            TaskConfig::AssociativeRecall(AssociativeRecall { shortest_steps: Some(shortest), ..task });
        let mut generator = rng(seed);
        let source = varied.build().unwrap();
        let lengths: Vec<usize> = (0..8)
            .map(|_| {
                let batch = source.sample(&mut generator, 2).unwrap();
                let asked = batch.phases.iter().filter(|&&phase| phase == Phase::Recall).count();
                assert_eq!((batch.phases.len(), asked), (batch.steps, task.num_queries));
                batch.steps
            })
            .collect();
        prop_assert!(lengths.iter().all(|length| (shortest..=task.steps).contains(length)), "{lengths:?}");
        prop_assert!(task.steps < shortest + 9 || lengths.iter().any(|length| *length != lengths[0]));
        // evaluation does not know of it
        let evaluation = varied.build_with(&BuiltIn, Usage::Test).unwrap().sample(&mut rng(seed), 3);
        prop_assert_eq!(evaluation.unwrap(), sample(&TaskConfig::AssociativeRecall(task), seed, 3));
    }

    #[test]
    fn concept_shift_has_one_mapping_before_and_one_after(task in concept_shift(), seed: u64) {
        // enough examples on either side to find the linear function by
        let task = ConceptShift { pairs: task.pairs + 80, margin: task.margin + 40, ..task };
        let (d, cues) = (task.input_dim, task.mapping == Mapping::Cues);
        let batch = sample(&TaskConfig::ConceptShift(task), seed, 3);
        prop_assert_eq!((batch.steps, batch.input_width), (2 * task.pairs, d + 2));
        for (episode, &shift) in batch.shifts.as_ref().unwrap().iter().enumerate() {
            let (shift, target) = (shift as usize, values(&batch, episode));
            prop_assert!(shift.is_multiple_of(2));
            prop_assert!((task.margin..=task.pairs - task.margin).contains(&(shift / 2)));
            for steps in [0..shift, shift..batch.steps] {
                let (mut x, mut y) = (Vec::new(), Vec::new());
                for t in steps.step_by(2) {
                    let (query, shown) = (batch.input(episode, t), batch.input(episode, t + 1));
                    prop_assert_eq!(&query[..d], &shown[..d]);
                    prop_assert_eq!((query[d], query[d + 1], shown[d + 1]), (0.0, 1.0, 0.0));
                    prop_assert_eq!((target[t], target[t + 1]), (shown[d], 0.0));
                    x.push(query[..d].iter().map(|&x| f64::from(x)).collect::<Vec<_>>());
                    y.push(f64::from(shown[d]));
                }
                if cues {
                    let mut rewards = vec![None; d];
                    for (x, &y) in x.iter().zip(&y) {
                        let cue = x.iter().position(|&x| x == 1.0).expect("a one-hot");
                        prop_assert!((0.0..f64::from(task.scale)).contains(&y));
                        prop_assert_eq!(*rewards[cue].get_or_insert(y), y);
                    }
                } else {
                    let function = fit(&x, &y);
                    for (x, &y) in x.iter().zip(&y) {
                        let predicted: f64 = function.iter().zip(x.iter().chain([&1.0])).map(|(w, x)| w * x).sum();
                        prop_assert!((y - predicted).abs() < 1e-4, "{} {}", y, predicted);
                    }
                }
            }
        }
    }

    #[test]
    fn a_batch_is_its_episodes_drawn_one_by_one(task in any_task(), seed: u64, count in 0usize..6) {
        let source = build(&task);
        let (mut at_once, mut one_by_one) = (rng(seed), rng(seed));
        let batch = source.sample(&mut at_once, count)?;
        for episode in 0..count {
            let single = source.sample(&mut one_by_one, 1)?;
            prop_assert_eq!(single, batch.select(episode..episode + 1));
        }
        prop_assert_eq!(at_once, one_by_one, "the generators have moved apart");
    }

    #[test]
    fn shards_put_together_are_the_batch(task in any_task(), cuts in vec(0usize..=8, 0..4)) {
        let batch = sample(&task, 1, 8);
        let mut bounds = [vec![0], cuts, vec![8]].concat();
        bounds.sort_unstable();
        let mut joined = batch.select(0..0);
        for cut in bounds.windows(2) {
            let shard = batch.select(cut[0]..cut[1]);
            check_agrees(build(&task).as_ref(), &shard, cut[1] - cut[0]);
            joined.batch += shard.batch;
            joined.inputs.extend(shard.inputs);
            if let (Some(joined), Some(shard)) = (&mut joined.shifts, shard.shifts) {
                joined.extend(shard);
            }
            match (&mut joined.images, shard.images) {
                (Some(joined), Some(shard)) => joined.pixels.extend(shard.pixels),
                (joined, shard) => assert_eq!(joined.as_ref(), shard.as_ref()),
            }
            match (&mut joined.targets, shard.targets) {
                (Targets::Classes(joined), Targets::Classes(classes)) => joined.extend(classes),
                (Targets::Values(joined), Targets::Values(values)) => joined.extend(values),
                (joined, shard) => panic!("{shard:?} after {joined:?}"),
            }
        }
        prop_assert_eq!(joined, batch);
    }

    #[test]
    fn the_steps_selected_are_those_of_every_episode(task in any_task(), bounds in (0usize..99, 0usize..99)) {
        let batch = sample(&task, 1, 3);
        let (a, b) = (bounds.0 % (batch.steps + 1), bounds.1 % (batch.steps + 1));
        let (start, end) = (a.min(b), a.max(b));
        let part = batch.select_steps(start..end);
        prop_assert_eq!((part.batch, part.steps, &part.phases[..]), (3, end - start, &batch.phases[start..end]));
        for episode in 0..3 {
            for step in 0..part.steps {
                prop_assert_eq!(part.input(episode, step), batch.input(episode, start + step));
                let (here, there) = (episode * part.steps + step, episode * batch.steps + start + step);
                match (&part.targets, &batch.targets) {
                    (Targets::Classes(part), Targets::Classes(whole)) => prop_assert_eq!(part[here], whole[there]),
                    (Targets::Values(part), Targets::Values(whole)) => {
                        let w = batch.output_width;
                        prop_assert_eq!(&part[here * w..][..w], &whole[there * w..][..w]);
                    }
                    (part, whole) => panic!("{part:?} of {whole:?}"),
                }
                if let (Some(part), Some(whole)) = (&part.images, &batch.images) {
                    let w = part.shape.iter().product::<usize>();
                    prop_assert_eq!(&part.pixels[here * w..][..w], &whole.pixels[there * w..][..w]);
                    prop_assert_eq!(step < part.support, start + step < whole.support);
                }
            }
        }
    }

    #[test]
    fn seeds_repeat_and_differ(task in any_task(), seed: u64) {
        // Enough episodes that no two seeds can agree by chance in the smallest configuration.
        let batch = sample(&task, seed, 200);
        prop_assert_eq!(&batch, &sample(&task, seed, 200));
        prop_assert_ne!(&batch, &sample(&task, seed.wrapping_add(1), 200));
    }
}
