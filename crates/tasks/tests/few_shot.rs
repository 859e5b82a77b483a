//! What holds exactly for every few-shot episode: which images it shows, when, and under which label.

use std::{collections::BTreeMap, sync::Arc};

use plastica_tasks::{
    Augmentation, Dataset, EpisodeBatch, EpisodeOrder, EpisodeSource, FewShot, ImageClass, ImageSet, Phase,
    Rotations, Targets, Usage, nearest_neighbour,
};
use proptest::prelude::*;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

const SIZE: usize = 3;
const CLASSES: usize = 7;
const IMAGES: usize = 9;

/// What an image of [`marked`] is: its class, its place in it, and by how many quarter turns it was turned.
type Mark = (usize, usize, usize);

/// The image of a class and a place, which can be told from every other and from every turn of any.
fn mark(class: usize, place: usize) -> [u8; SIZE * SIZE] {
    [class as u8, place as u8, 200, 100, 100, 100, 100, 100, 100]
}

/// Images that say which they are.
fn marked() -> Arc<ImageSet> {
    let class = |index: usize| ImageClass {
        name: format!("c{index}"),
        group: "g".to_owned(),
        images: index * IMAGES..(index + 1) * IMAGES,
    };
    let pixels = (0..CLASSES * IMAGES).flat_map(|i| mark(i / IMAGES, i % IMAGES)).collect();
    let classes = (0..CLASSES).map(class).collect();
    Arc::new(ImageSet::new("marked", [1, SIZE, SIZE], classes, pixels).expect("a consistent set"))
}

fn turned(image: [u8; SIZE * SIZE]) -> [u8; SIZE * SIZE] {
    std::array::from_fn(|i| image[i % SIZE * SIZE + SIZE - 1 - i / SIZE])
}

/// What each image is, by its bytes.
fn marks() -> BTreeMap<Vec<u8>, Mark> {
    let mut marks = BTreeMap::new();
    for (class, place) in (0..CLASSES).flat_map(|class| (0..IMAGES).map(move |place| (class, place))) {
        let mut image = mark(class, place);
        for turns in 0..4 {
            assert_eq!(marks.insert(image.to_vec(), (class, place, turns)), None);
            image = turned(image);
        }
    }
    marks
}

fn sample(config: &FewShot, usage: Usage, seed: u64, count: usize) -> EpisodeBatch {
    let source = config.episodes("omniglot", marked(), usage).expect("the configuration is valid");
    assert_eq!(source.data_name(), Some("marked"));
    source.sample(&mut ChaCha8Rng::seed_from_u64(seed), count).expect("it fits in memory")
}

fn labels(batch: &EpisodeBatch, episode: usize) -> &[u32] {
    let Targets::Classes(labels) = &batch.targets else { panic!("classes expected") };
    &labels[episode * batch.steps..][..batch.steps]
}

/// The bytes of every image of one episode.
fn images(batch: &EpisodeBatch, episode: usize) -> Vec<Vec<u8>> {
    let images = batch.images.as_ref().expect("images");
    let image: usize = images.shape.iter().product();
    let normalisation = Dataset::Glyphs.normalisation();
    images.pixels[episode * batch.steps * image..][..batch.steps * image]
        .chunks(image)
        .map(|image| image.iter().map(|&number| normalisation.invert(0, number).round() as u8).collect())
        .collect()
}

fn shown(batch: &EpisodeBatch, episode: usize) -> Vec<Mark> {
    let marks = marks();
    images(batch, episode).iter().map(|image| marks[image]).collect()
}

fn config() -> impl Strategy<Value = FewShot> {
    let order = prop_oneof![Just(EpisodeOrder::Class), Just(EpisodeOrder::Shuffled)];
    let rotations = prop_oneof![Just(Rotations::None), Just(Rotations::Training), Just(Rotations::Always)];
    (2..=CLASSES, 1usize..5, 1usize..5, order, any::<bool>(), rotations).prop_map(
        |(ways, shots, queries, order, permute_labels, rotations)| FewShot {
            data: Dataset::Glyphs,
            ways,
            shots,
            queries,
            image_size: SIZE,
            order,
            permute_labels,
            rotations,
            ..FewShot::omniglot()
        },
    )
}

fn usage() -> impl Strategy<Value = Usage> {
    prop_oneof![Just(Usage::Training), Just(Usage::Validation), Just(Usage::Test)]
}

/// The classes of `labels` in order of appearance, each once.
fn distinct(labels: &[u32]) -> Vec<u32> {
    let mut found = Vec::new();
    labels.iter().for_each(|label| {
        if !found.contains(label) {
            found.push(*label);
        }
    });
    found
}

proptest! {
    #[test]
    fn episodes_have_the_classes_images_and_labels_that_they_promise(
        config in config(), usage in usage(), seed: u64,
    ) {
        let FewShot { ways, shots, queries, .. } = config;
        let batch = sample(&config, usage, seed, 3);
        let support = ways * shots;
        prop_assert_eq!(batch.images.as_ref().map(|i| (i.shape, i.support)), Some(([1, SIZE, SIZE], support)));
        let phases = [vec![Phase::Shown; support], vec![Phase::Recall; ways * queries]].concat();
        prop_assert_eq!(&batch.phases, &phases);
        for episode in 0..3 {
            let (labels, shown) = (labels(&batch, episode), shown(&batch, episode));
            let turns = config.rotations == Rotations::Always
                || (config.rotations == Rotations::Training && usage == Usage::Training);
            prop_assert!(turns || shown.iter().all(|&(_, _, turns)| turns == 0));

            // A label is one class, and a class one label.
            let mut of_label = BTreeMap::new();
            let mut of_class = BTreeMap::new();
            for (&label, &(class, _, turns)) in labels.iter().zip(&shown) {
                prop_assert_eq!(*of_label.entry(label).or_insert((class, turns)), (class, turns));
                prop_assert_eq!(*of_class.entry((class, turns)).or_insert(label), label);
            }
            prop_assert_eq!(of_label.keys().copied().collect::<Vec<_>>(), (0..ways as u32).collect::<Vec<_>>());

            // No image comes twice, so none is support and query.
            let mut images = shown.clone();
            images.sort_unstable();
            images.dedup();
            prop_assert_eq!(images.len(), shown.len());

            for label in 0..ways as u32 {
                let count = |labels: &[u32]| labels.iter().filter(|&&found| found == label).count();
                prop_assert_eq!((count(&labels[..support]), count(&labels[support..])), (shots, queries));
            }
            for (step, &label) in labels.iter().enumerate() {
                let hot = if step < support { label as usize } else { ways };
                let expected: Vec<f32> = (0..=ways).map(|i| f32::from(i == hot)).collect();
                prop_assert_eq!(batch.input(episode, step), expected);
            }
        }
    }

    #[test]
    fn class_order_is_class_by_class_and_alike_in_support_and_queries(config in config(), seed: u64) {
        let config = FewShot { order: EpisodeOrder::Class, ..config };
        let batch = sample(&config, Usage::Test, seed, 3);
        for episode in 0..3 {
            let (shown, asked) = labels(&batch, episode).split_at(config.ways * config.shots);
            let order = distinct(shown);
            let blocks = |each| order.iter().flat_map(|&label| vec![label; each]).collect::<Vec<_>>();
            prop_assert_eq!(shown, blocks(config.shots));
            prop_assert_eq!(asked, blocks(config.queries));
            if !config.permute_labels {
                prop_assert_eq!(order, (0..config.ways as u32).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn the_order_of_steps_changes_nothing_else(config in config()) {
        // The first episode of a seed: the steps are put in order after everything else is drawn.
        let sorted = |order| {
            let batch = sample(&FewShot { order, ..config }, Usage::Training, 3, 1);
            let mut steps: Vec<_> = shown(&batch, 0).into_iter().zip(labels(&batch, 0).to_vec()).collect();
            let support = config.ways * config.shots;
            steps[..support].sort_unstable();
            steps[support..].sort_unstable();
            steps
        };
        prop_assert_eq!(sorted(EpisodeOrder::Class), sorted(EpisodeOrder::Shuffled));
    }

    #[test]
    fn only_training_varies_images(config in config(), seed: u64) {
        let augmentation =
            Augmentation { crop_padding: 2, flip: true, brightness: 0.5, contrast: 0.5, ..Augmentation::default() };
        let rotations = Rotations::None;
        let (plain, varied) =
            (FewShot { rotations, ..config }, FewShot { rotations, augmentation, ..config });
        for usage in [Usage::Validation, Usage::Test] {
            prop_assert_eq!(sample(&plain, usage, seed, 2), sample(&varied, usage, seed, 2));
        }
        let [plain, varied] = [plain, varied].map(|config| sample(&config, Usage::Training, seed, 1));
        prop_assert_eq!(&plain.targets, &varied.targets);
        prop_assert_ne!(plain.images, varied.images);
    }

    #[test]
    fn a_photograph_keeps_its_channels(seed: u64) {
        let pixels = (0..CLASSES * IMAGES).flat_map(|i| {
            let [r, g, b] = [(i * 3) as u8, (i * 3 + 1) as u8, (i * 3 + 2) as u8];
            [[r; SIZE * SIZE], [g; SIZE * SIZE], [b; SIZE * SIZE]].concat()
        });
        let set = ImageSet::new("photographs", [3, SIZE, SIZE], marked().classes().to_vec(), pixels.collect());
        let config =
            FewShot { data: Dataset::Natural100, queries: 2, image_size: SIZE, ..FewShot::cifar_fs() };
        let source = config.episodes("cifar-fs", Arc::new(set?), Usage::Test)?;
        let batch = source.sample(&mut ChaCha8Rng::seed_from_u64(seed), 2)?;
        let normalisation = Dataset::Natural100.normalisation();
        for image in batch.images.expect("images").pixels.chunks(3 * SIZE * SIZE) {
            let values: Vec<usize> = image
                .chunks(SIZE * SIZE)
                .enumerate()
                .map(|(channel, plane)| {
                    assert!(plane.iter().all(|&number| number == plane[0]));
                    normalisation.invert(channel, plane[0]).round() as usize
                })
                .collect();
            prop_assert_eq!(values[0] % 3, 0);
            prop_assert_eq!(&values[1..], [values[0] + 1, values[0] + 2]);
        }
    }
}

/// Neither a lookup nor hopeless: what makes glyphs worth learning on.
#[test]
fn glyphs_are_partly_told_apart_by_their_pixels() {
    let check = |image_size, episodes| {
        let set = plastica_tasks::Glyphs { alphabets: 10, size: image_size, ..Default::default() }.draw();
        let config =
            FewShot { data: Dataset::Glyphs, shots: 1, queries: 5, image_size, ..FewShot::omniglot() };
        let source = config.episodes("omniglot", Arc::new(set.expect("glyphs")), Usage::Test).expect("valid");
        let batch = source.sample(&mut ChaCha8Rng::seed_from_u64(1), episodes).expect("it fits in memory");
        let answers = nearest_neighbour(&batch).expect("images and classes");
        let asked: Vec<u32> = (0..episodes).flat_map(|e| labels(&batch, e)[5..].to_vec()).collect();
        let right = answers.iter().zip(&asked).filter(|(answer, label)| answer == label).count();
        let accuracy = right as f64 / asked.len() as f64;
        assert!((0.5..0.9).contains(&accuracy), "{accuracy} at {image_size} pixels");
    };
    check(28, 400);
    check(84, 100);
}
