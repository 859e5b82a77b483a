//! Copying: repeat a short sequence of tokens after a delay.

use rand::Rng;
use rand_distr::{Distribution, Uniform};
use serde::{Deserialize, Serialize};

use crate::{
    EpisodeBatch, EpisodeSource, LossKind, MAX_STEPS, MAX_WIDTH, Phase, TaskError, batch::Layout,
    bounds::Bounds, draw::lengths,
};

/// The blank: what is read while nothing is shown, and what is to be answered while nothing is
/// asked.
const BLANK: usize = 0;

/// The copying task, as in arXiv 2510.21908, after 2302.03235; the defaults are the published setting.
///
/// With `S = seq_length`, `D = delay` and `V = vocab_size`, an episode has `2S + D + 1` steps of
/// one-hot inputs of width `V`: `S` tokens, each uniform in `1..=V-2`; `D` blanks, token 0; the
/// delimiter, token `V-1`; `S` blanks. The target is class 0 up to and including the delimiter,
/// then the `S` tokens in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Copying {
    /// Tokens to remember, `S`: at least 1.
    pub seq_length: usize,
    /// Blanks between the last token and the delimiter, `D`: 0 is allowed.
    pub delay: usize,
    /// The fewest such blanks in training, at most `delay`: each batch then has a delay of its own, uniform from here to
    /// `delay`. Over short delays there is something to learn from the first step on. Without it all have `delay`, as
    /// evaluation always has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shortest_delay: Option<usize>,
    /// Classes, `V`, the blank and the delimiter among them: at least 4, or there would be no two
    /// tokens to tell apart.
    pub vocab_size: usize,
}

impl Default for Copying {
    fn default() -> Self {
        Copying { seq_length: 5, delay: 20, shortest_delay: None, vocab_size: 10 }
    }
}

impl Copying {
    /// The task's name.
    pub const NAME: &'static str = "copying";

    /// Whether every field is in its range.
    ///
    /// # Errors
    ///
    /// [`TaskError::InvalidField`], for the first field that is not.
    pub fn validate(&self) -> Result<(), TaskError> {
        let bounds = Bounds(Self::NAME);
        bounds.within("seq_length", self.seq_length, 1..=MAX_STEPS)?;
        bounds.within("delay", self.delay, 0..=MAX_STEPS)?;
        bounds.within("shortest_delay", self.shortest_delay.unwrap_or(0), 0..=self.delay)?;
        bounds.within("vocab_size", self.vocab_size, 4..=MAX_WIDTH)?;
        bounds.within("2 * seq_length + delay + 1 steps", self.steps(), 1..=MAX_STEPS)
    }

    /// Steps of an episode with the full delay.
    fn steps(&self) -> usize {
        2 * self.seq_length + self.delay + 1
    }

    fn phases(&self) -> Vec<Phase> {
        let steps = self.steps();
        let mut phases = vec![Phase::Delay; steps];
        phases[..self.seq_length].fill(Phase::Shown);
        phases[steps - self.seq_length..].fill(Phase::Recall);
        phases
    }

    /// The source of this task's episodes for training.
    ///
    /// # Errors
    ///
    /// Those of [`validate`](Copying::validate).
    pub fn build(&self) -> Result<impl EpisodeSource + use<>, TaskError> {
        self.validate()?;
        Ok(CopyingEpisodes {
            config: *self,
            // A range over u32, because over usize the bits drawn depend on the platform's width;
            // and kept, because those of `random_range` depend on rand's feature `unbiased`.
            tokens: Uniform::new(1, self.vocab_size as u32 - 1)
                .expect("at least two tokens lie between the blank and the delimiter"),
            delays: self.shortest_delay.map(|shortest| lengths(shortest, self.delay)),
        })
    }

    /// The source of this task's episodes for evaluation.
    ///
    /// # Errors
    ///
    /// Those of [`validate`](Copying::validate).
    pub fn build_for_evaluation(&self) -> Result<impl EpisodeSource + use<>, TaskError> {
        self.validate()?;
        Copying { shortest_delay: None, ..*self }.build()
    }
}

/// A validated [`Copying`].
struct CopyingEpisodes {
    config: Copying,
    tokens: Uniform<u32>,
    /// Of a batch, where not all have the same.
    delays: Option<Uniform<u32>>,
}

impl CopyingEpisodes {
    /// Draws one episode into zeroed `inputs` `[T, V]` and `classes` `[T]`.
    fn draw(&self, rng: &mut dyn Rng, inputs: &mut [f32], classes: &mut [u32]) {
        let Copying { seq_length, vocab_size, .. } = self.config;
        let asked = classes.len() - seq_length;
        for class in &mut classes[asked..] {
            *class = self.tokens.sample(rng);
        }
        for (step, input) in inputs.chunks_exact_mut(vocab_size).enumerate() {
            let token = if step < seq_length {
                classes[asked + step] as usize
            } else if step + 1 == asked {
                vocab_size - 1
            } else {
                BLANK
            };
            input[token] = 1.0;
        }
    }
}

impl EpisodeSource for CopyingEpisodes {
    fn name(&self) -> &'static str {
        Copying::NAME
    }

    fn input_width(&self) -> usize {
        self.config.vocab_size
    }

    fn output_width(&self) -> usize {
        self.config.vocab_size
    }

    fn steps(&self) -> usize {
        self.config.steps()
    }

    fn phases(&self) -> Vec<Phase> {
        self.config.phases()
    }

    fn loss(&self) -> LossKind {
        LossKind::CrossEntropy
    }

    fn sample(&self, rng: &mut dyn Rng, count: usize) -> Result<EpisodeBatch, TaskError> {
        let delay = self.delays.map_or(self.config.delay, |delays| delays.sample(rng) as usize);
        let here = Copying { delay, ..self.config };
        let (width, phases) = (self.input_width(), here.phases());
        let layout = Layout { task: self.name(), input_width: width, output_width: width, phases };
        layout.sample(count, |inputs, classes| self.draw(rng, inputs, classes))
    }
}
