//! Few-shot classification of images: drawing the episodes.

use std::sync::Arc;

use rand::Rng;

use super::{
    Augmentation, EpisodeOrder, FewShot, ImageSet, Rotations, Usage,
    augment::{Renderer, Variation},
    layout::EpisodeLayout,
};
use crate::{
    EpisodeBatch, EpisodeSource, LossKind, Phase, TaskError,
    bounds::Bounds,
    draw::{deal, shuffle},
};

/// A validated [`FewShot`] and its images.
pub(super) struct FewShotEpisodes {
    task: &'static str,
    layout: EpisodeLayout,
    shots: usize,
    order: EpisodeOrder,
    permute_labels: bool,
    /// Classes made of each class of the set: 4 when quarter turns are classes, or 1.
    turns: u32,
    augmentation: Option<Augmentation>,
    set: Arc<ImageSet>,
    renderer: Renderer,
}

/// Room for what an episode draws, kept from one to the next.
#[derive(Default)]
struct Hands {
    deck: Vec<u32>,
    labels: Vec<u32>,
    shots: Vec<Shot>,
}

/// What a step shows.
#[derive(Clone, Copy, Default)]
struct Shot {
    label: u32,
    image: usize,
    turns: u32,
}

impl FewShotEpisodes {
    /// `config` is valid.
    pub fn new(
        task: &'static str,
        config: &FewShot,
        set: Arc<ImageSet>,
        usage: Usage,
    ) -> Result<Self, TaskError> {
        let bounds = Bounds(task);
        if set.shape() != config.image_shape() {
            return Err(TaskError::ImageSet {
                name: set.name().to_owned(),
                problem: format!(
                    "its images are of channels, height and width {:?}, expected {:?} for {task} on data {}",
                    set.shape(),
                    config.image_shape(),
                    config.data
                ),
            });
        }
        let rotated = match config.rotations {
            Rotations::None => false,
            Rotations::Training => usage == Usage::Training,
            Rotations::Always => true,
        };
        let turns = if rotated { 4 } else { 1 };
        let classes = set.classes().len() * turns as usize;
        bounds.ensure(config.ways <= classes, "ways", config.ways, || {
            let turned = if rotated { ", each turn one of its own" } else { "" };
            format!("at most {classes}, the classes of {} for {usage}{turned}", set.name())
        })?;
        let needed = config.shots + config.queries;
        if let Some(class) = set.classes().iter().find(|class| class.images.len() < needed) {
            let slash = if class.group.is_empty() { "" } else { "/" };
            return Err(TaskError::InvalidField {
                task,
                field: "shots + queries",
                value: needed.to_string(),
                expected: format!(
                    "at most {}, the images of class {}{slash}{} of {} for {usage}",
                    class.images.len(),
                    class.group,
                    class.name,
                    set.name()
                ),
            });
        }
        Ok(Self {
            task,
            layout: config.layout(),
            shots: config.shots,
            order: config.order,
            permute_labels: config.permute_labels,
            turns,
            augmentation: (usage == Usage::Training && config.augmentation != Augmentation::default())
                .then_some(config.augmentation),
            renderer: Renderer::new(config.data, config.image_size),
            set,
        })
    }

    /// Draws one episode into `labels` `[T]` and `pixels` `[T, channels, height, width]`.
    fn draw(&self, rng: &mut dyn Rng, hands: &mut Hands, labels: &mut [u32], pixels: &mut [f32]) {
        self.pick(rng, hands);
        let image = self.set.shape().iter().product();
        for ((shot, label), pixels) in hands.shots.iter().zip(labels).zip(pixels.chunks_exact_mut(image)) {
            let mut variation =
                self.augmentation.map_or(Variation::NONE, |augmentation| augmentation.draw(rng));
            variation.turns = shot.turns;
            *label = shot.label;
            self.renderer.render(self.set.image(shot.image), &variation, pixels);
        }
    }

    /// Draws what each step shows.
    fn pick(&self, rng: &mut dyn Rng, Hands { deck, labels, shots }: &mut Hands) {
        let EpisodeLayout { ways, support, .. } = self.layout;
        shots.resize(self.layout.steps(), Shot::default());
        labels.clear();
        labels.extend(0..ways as u32);
        if self.permute_labels {
            shuffle(rng, labels);
        }
        deal(rng, deck, self.set.classes().len() as u32 * self.turns, ways);
        let classes = deck[..ways].to_vec();
        let of_class = self.layout.steps() / ways;
        let queries = of_class - self.shots;
        for (way, (&class, &label)) in classes.iter().zip(&*labels).enumerate() {
            let images = &self.set.classes()[(class / self.turns) as usize].images;
            deal(rng, deck, images.len() as u32, of_class);
            let shot = |&image: &u32| Shot {
                label,
                image: images.start + image as usize,
                turns: class % self.turns,
            };
            let (shown, asked) = deck[..of_class].split_at(self.shots);
            shown.iter().zip(&mut shots[way * self.shots..]).for_each(|(image, step)| *step = shot(image));
            asked
                .iter()
                .zip(&mut shots[support + way * queries..])
                .for_each(|(image, step)| *step = shot(image));
        }
        if self.order == EpisodeOrder::Shuffled {
            shuffle(rng, &mut shots[..support]);
            shuffle(rng, &mut shots[support..]);
        }
    }
}

impl EpisodeSource for FewShotEpisodes {
    fn name(&self) -> &'static str {
        self.task
    }

    fn data_name(&self) -> Option<&str> {
        Some(self.set.name())
    }

    fn input_width(&self) -> usize {
        self.layout.input_width()
    }

    fn image_shape(&self) -> Option<[usize; 3]> {
        Some(self.set.shape())
    }

    fn output_width(&self) -> usize {
        self.layout.ways
    }

    fn steps(&self) -> usize {
        self.layout.steps()
    }

    fn phases(&self) -> Vec<Phase> {
        self.layout.phases()
    }

    fn loss(&self) -> LossKind {
        LossKind::QueryCrossEntropy
    }

    fn sample(&self, rng: &mut dyn Rng, count: usize) -> Result<EpisodeBatch, TaskError> {
        let mut hands = Hands::default();
        self.layout.sample(self.task, count, self.set.shape(), |labels, pixels| {
            self.draw(rng, &mut hands, labels, pixels);
        })
    }
}
