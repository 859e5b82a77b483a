//! Cue-reward association: which reward came with which cue.

use rand::Rng;
use rand_distr::{Distribution, Uniform};
use serde::{Deserialize, Serialize};

use crate::{
    EpisodeSource, MAX_MAGNITUDE, MAX_STEPS, MAX_WIDTH, TaskError,
    bounds::Bounds,
    pairs::{PairEpisodes, PairLayout},
};

/// The cue-reward association task, as in arXiv 2510.21908, after 2302.03235; the defaults are the
/// published setting.
///
/// With `N = num_pairs` and `C = cue_dim`, an episode has `2N` steps of `C + 2` inputs: `N`
/// distinct cues, drawn uniformly among the `C` one-hots without replacement, each with a reward
/// of its own, uniform in `reward_range`; then the same `N` cues in the same order, as queries.
/// A step's input is `[cue, reward (0 in a query), flag (1 in a query)]`; the target is 0 while
/// shown and the cue's reward at its query.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CueReward {
    /// Pairs to remember, `N`: at least 1 and at most `cue_dim`.
    pub num_pairs: usize,
    /// Different cues, `C`: at least 1.
    pub cue_dim: usize,
    /// Rewards are uniform in `[low, high)`: `low < high`, both within ±[`MAX_MAGNITUDE`].
    pub reward_range: [f32; 2],
}

impl Default for CueReward {
    fn default() -> Self {
        CueReward { num_pairs: 8, cue_dim: 20, reward_range: [0.0, 1.0] }
    }
}

impl CueReward {
    /// The task's name.
    pub const NAME: &'static str = "cue-reward";

    /// Whether every field is in its range.
    ///
    /// # Errors
    ///
    /// [`TaskError::InvalidField`], for the first field that is not.
    pub fn validate(&self) -> Result<(), TaskError> {
        let bounds = Bounds(Self::NAME);
        bounds.within("num_pairs", self.num_pairs, 1..=MAX_STEPS / 2)?;
        bounds.within("cue_dim", self.cue_dim, 1..=MAX_WIDTH - 2)?;
        bounds.ensure(self.num_pairs <= self.cue_dim, "num_pairs", self.num_pairs, || {
            format!("at most cue_dim = {}, because the cues of an episode are distinct", self.cue_dim)
        })?;
        let [low, high] = self.reward_range;
        let magnitudes = -MAX_MAGNITUDE..=MAX_MAGNITUDE;
        bounds.ensure(
            low < high && magnitudes.contains(&low) && magnitudes.contains(&high),
            "reward_range",
            format_args!("[{low:?}, {high:?}]"),
            || format!("[low, high] with low < high, both within ±{MAX_MAGNITUDE:e}"),
        )
    }

    /// The source of this task's episodes.
    ///
    /// # Errors
    ///
    /// Those of [`validate`](CueReward::validate).
    pub fn build(&self) -> Result<impl EpisodeSource + use<>, TaskError> {
        self.validate()?;
        let [low, high] = self.reward_range;
        let cues = self.cue_dim as u32;
        Ok(CueRewardEpisodes {
            layout: PairLayout { features: self.cue_dim, shown: self.num_pairs, queries: self.num_pairs },
            // Ranges over u32, because over usize the bits drawn depend on the platform's width;
            // and kept, because those of `random_range` depend on rand's feature `unbiased`.
            picks: (0..self.num_pairs as u32)
                .map(|dealt| Uniform::new(dealt, cues).expect("fewer cues are dealt than exist"))
                .collect(),
            rewards: Uniform::new(low, high).expect("the range is finite and not empty"),
        })
    }
}

/// A validated [`CueReward`].
struct CueRewardEpisodes {
    layout: PairLayout,
    /// For every pair, which of the cues not yet dealt it takes.
    picks: Vec<Uniform<u32>>,
    rewards: Uniform<f32>,
}

impl CueRewardEpisodes {
    /// Draws one episode into zeroed `inputs` `[T, C + 2]` and `targets` `[T]`; `deck` is room for
    /// the `C` cues.
    fn draw(&self, rng: &mut dyn Rng, deck: &mut Vec<usize>, inputs: &mut [f32], targets: &mut [f32]) {
        // A fresh deck every time: what the last episode dealt must not show in this one.
        deck.clear();
        deck.extend(0..self.layout.features);
        for (dealt, pick) in self.picks.iter().enumerate() {
            deck.swap(dealt, pick.sample(rng) as usize);
        }
        let pairs = self.layout.shown;
        for reward in &mut targets[pairs..] {
            *reward = self.rewards.sample(rng);
        }
        let rows = inputs.chunks_exact_mut(self.layout.input_width());
        for (step, input) in rows.enumerate() {
            let pair = step % pairs;
            let reward = targets[pairs + pair];
            input[deck[pair]] = 1.0;
            self.layout.show_or_ask(step, reward, input, &mut targets[step]);
        }
    }
}

impl PairEpisodes for CueRewardEpisodes {
    const NAME: &'static str = CueReward::NAME;

    fn layout(&self) -> &PairLayout {
        &self.layout
    }

    fn drawing(&self) -> impl FnMut(&mut dyn Rng, &mut [f32], &mut [f32]) {
        let mut deck = Vec::with_capacity(self.layout.features);
        move |rng, inputs, targets| self.draw(rng, &mut deck, inputs, targets)
    }
}
