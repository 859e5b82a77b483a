//! Associative recall: which value came with which key, asked for much later.

use std::fmt;

use rand::Rng;
use rand_distr::{Distribution, Uniform};
use serde::{Deserialize, Serialize};

use crate::{
    EpisodeBatch, EpisodeSource, LossKind, MAX_STEPS, MAX_WIDTH, Phase, TaskError,
    batch::Layout,
    bounds::Bounds,
    draw::{deal, lengths},
};

/// How a key and its value are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Presentation {
    /// Both in one step: what belongs together is read together, and a model needs no order of steps.
    #[default]
    Pairs,
    /// The key, and in the next step its value, as in a text: a model has to know which step came before.
    Tokens,
}

impl fmt::Display for Presentation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Presentation::Pairs => "pairs",
            Presentation::Tokens => "tokens",
        })
    }
}

/// Multi-query associative recall, after Arora and others (arXiv 2312.04927).
///
/// With `N = num_pairs`, `Q = num_queries`, `T = steps`, `K = num_keys` and `V = num_values`, an episode shows `N` distinct
/// keys, drawn uniformly among `K` without replacement, each with a value, uniform among `V`. Of the steps that are left,
/// `Q` at equal distances, the last of the episode among them, each ask for the value of one of the keys, no key twice and
/// every order equally likely; the others are blank. A query thus looks back by up to `T - 1` steps.
///
/// A step's input is `[key (K), value (V), flag (1 in a query)]`, keys and values as one-hots, zeros where nothing is shown.
/// The target is the value's class at a query, and counts nowhere else. A guess is right once in `V`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AssociativeRecall {
    /// Pairs to remember, `N`: at least 1 and at most `num_keys`.
    pub num_pairs: usize,
    /// Queries, `Q`: at least 1 and at most `num_pairs`.
    pub num_queries: usize,
    /// Steps of the episode, `T`: room for what is shown and for every query.
    pub steps: usize,
    /// The fewest such steps in training, at most `steps`: each batch then has a length of its own, uniform from here to
    /// `steps`, as delays have by [`Copying::shortest_delay`](crate::Copying::shortest_delay).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shortest_steps: Option<usize>,
    /// Different keys, `K`.
    pub num_keys: usize,
    /// Different values, `V`: at least 2.
    pub num_values: usize,
    /// How a pair is shown.
    pub presentation: Presentation,
}

impl Default for AssociativeRecall {
    fn default() -> Self {
        AssociativeRecall {
            num_pairs: 8,
            num_queries: 8,
            steps: 64,
            shortest_steps: None,
            num_keys: 16,
            num_values: 16,
            presentation: Presentation::Pairs,
        }
    }
}

impl AssociativeRecall {
    /// The task's name.
    pub const NAME: &'static str = "associative-recall";

    /// Steps that show the pairs.
    fn shown(&self) -> usize {
        match self.presentation {
            Presentation::Pairs => self.num_pairs,
            Presentation::Tokens => 2 * self.num_pairs,
        }
    }

    /// The step of query `j`.
    fn query_step(&self, j: usize) -> usize {
        let left = self.steps - self.shown();
        self.shown() + (j + 1) * left / self.num_queries - 1
    }

    /// Whether every field is in its range.
    ///
    /// # Errors
    ///
    /// [`TaskError::InvalidField`], for the first field that is not.
    pub fn validate(&self) -> Result<(), TaskError> {
        let bounds = Bounds(Self::NAME);
        bounds.within("num_pairs", self.num_pairs, 1..=MAX_STEPS / 2)?;
        bounds.within("num_queries", self.num_queries, 1..=self.num_pairs)?;
        bounds.within("num_keys", self.num_keys, self.num_pairs..=MAX_WIDTH)?;
        bounds.within("num_values", self.num_values, 2..=MAX_WIDTH)?;
        let width = self.num_keys + self.num_values + 1;
        bounds.within("num_keys + num_values + 1 inputs", width, 1..=MAX_WIDTH)?;
        bounds.within("steps", self.steps, 1..=MAX_STEPS)?;
        let least = self.shown() + self.num_queries;
        bounds.ensure(self.steps >= least, "steps", self.steps, || {
            format!(
                "at least {least}: {} to show {} pairs as {}, and one for each of {} queries",
                self.shown(),
                self.num_pairs,
                self.presentation,
                self.num_queries
            )
        })?;
        bounds.within("shortest_steps", self.shortest_steps.unwrap_or(least), least..=self.steps)
    }

    fn phases(&self) -> Vec<Phase> {
        let mut phases = vec![Phase::Delay; self.steps];
        phases[..self.shown()].fill(Phase::Shown);
        for j in 0..self.num_queries {
            phases[self.query_step(j)] = Phase::Recall;
        }
        phases
    }

    /// The source of this task's episodes for training.
    ///
    /// # Errors
    ///
    /// Those of [`validate`](AssociativeRecall::validate).
    pub fn build(&self) -> Result<impl EpisodeSource + use<>, TaskError> {
        self.validate()?;
        Ok(AssociativeRecallEpisodes {
            config: *self,
            // a range over u32, and kept: see `Copying::build`
            values: Uniform::new(0, self.num_values as u32).expect("at least two values"),
            lengths: self.shortest_steps.map(|shortest| lengths(shortest, self.steps)),
        })
    }

    /// The source of this task's episodes for evaluation.
    ///
    /// # Errors
    ///
    /// Those of [`validate`](AssociativeRecall::validate).
    pub fn build_for_evaluation(&self) -> Result<impl EpisodeSource + use<>, TaskError> {
        self.validate()?;
        AssociativeRecall { shortest_steps: None, ..*self }.build()
    }
}

/// A validated [`AssociativeRecall`].
struct AssociativeRecallEpisodes {
    config: AssociativeRecall,
    values: Uniform<u32>,
    /// Steps of a batch, where not all have the same.
    lengths: Option<Uniform<u32>>,
}

/// Room for the draws of an episode.
#[derive(Default)]
struct Room {
    keys: Vec<u32>,
    values: Vec<u32>,
    asked: Vec<u32>,
}

impl AssociativeRecallEpisodes {
    /// Draws one episode into zeroed `inputs` `[T, K + V + 1]` and `classes` `[T]`.
    fn draw(&self, rng: &mut dyn Rng, room: &mut Room, inputs: &mut [f32], classes: &mut [u32]) {
        let AssociativeRecall { num_pairs, num_queries, num_keys, presentation, .. } = self.config;
        let width = self.input_width();
        deal(rng, &mut room.keys, num_keys as u32, num_pairs);
        room.values.clear();
        room.values.extend((0..num_pairs).map(|_| self.values.sample(rng)));
        deal(rng, &mut room.asked, num_pairs as u32, num_queries);
        for (pair, (&key, &value)) in room.keys.iter().zip(&room.values).enumerate() {
            let (of_key, of_value) = match presentation {
                Presentation::Pairs => (pair, pair),
                Presentation::Tokens => (2 * pair, 2 * pair + 1),
            };
            inputs[of_key * width + key as usize] = 1.0;
            inputs[of_value * width + num_keys + value as usize] = 1.0;
        }
        let here = AssociativeRecall { steps: classes.len(), ..self.config };
        for (j, &pair) in room.asked[..num_queries].iter().enumerate() {
            let step = here.query_step(j);
            let input = &mut inputs[step * width..][..width];
            input[room.keys[pair as usize] as usize] = 1.0;
            input[width - 1] = 1.0;
            classes[step] = room.values[pair as usize];
        }
    }
}

impl EpisodeSource for AssociativeRecallEpisodes {
    fn name(&self) -> &'static str {
        AssociativeRecall::NAME
    }

    fn input_width(&self) -> usize {
        self.config.num_keys + self.config.num_values + 1
    }

    fn output_width(&self) -> usize {
        self.config.num_values
    }

    fn steps(&self) -> usize {
        self.config.steps
    }

    fn phases(&self) -> Vec<Phase> {
        self.config.phases()
    }

    fn loss(&self) -> LossKind {
        LossKind::QueryCrossEntropy
    }

    fn sample(&self, rng: &mut dyn Rng, count: usize) -> Result<EpisodeBatch, TaskError> {
        let steps = self.lengths.map_or(self.config.steps, |lengths| lengths.sample(rng) as usize);
        let layout = Layout {
            task: self.name(),
            input_width: self.input_width(),
            output_width: self.output_width(),
            phases: AssociativeRecall { steps, ..self.config }.phases(),
        };
        let mut room = Room::default();
        layout.sample(count, |inputs, classes| self.draw(rng, &mut room, inputs, classes))
    }
}
