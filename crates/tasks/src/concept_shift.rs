//! Concept shift: predict, be told, and go on when the mapping is another one.

use rand::Rng;
use rand_distr::{Distribution, StandardUniform, Uniform};
use serde::{Deserialize, Serialize};

use crate::{
    EpisodeBatch, EpisodeSource, LossKind, MAX_STEPS, MAX_WIDTH, Phase, TaskError, batch::Layout,
    bounds::Bounds, draw::below, normal::StandardNormal,
};

/// What is to be predicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mapping {
    /// A linear function, as in regression: `y = w·x + b`, `w` and `b` of `N(0, scale²)`, `x` of `N(0, 1)`.
    #[default]
    Linear,
    /// A reward for each cue, as in cue-reward: `x` one of `input_dim` one-hots, its reward uniform in `[0, scale)`.
    Cues,
}

/// A mapping that changes inside the episode, without notice.
///
/// An episode has `pairs` times two steps: a query asks for the value of an `x`, and the step after it shows `x` with its
/// value. At a pair that is uniform in `margin..=pairs - margin`, drawn anew for every episode, the mapping is replaced by
/// another one, drawn as the first was. Nothing in the inputs tells; what was learned before is from there on wrong.
///
/// A step's input is `[x, value (0 in a query), flag (1 in a query)]`; the target is the value at a query and 0 while shown,
/// as in [`Regression`](crate::Regression) and [`CueReward`](crate::CueReward). [`EpisodeBatch::shifts`] says where the
/// mapping changed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConceptShift {
    /// What is to be predicted.
    pub mapping: Mapping,
    /// Dimensions of `x`, or cues: at least 1.
    pub input_dim: usize,
    /// Queries, each followed by its answer: at least 2.
    pub pairs: usize,
    /// Pairs that each of the two mappings is good for at least: 1 to half of `pairs`.
    pub margin: usize,
    /// Standard deviation of `w` and `b`, from 0 to [`MAX_MAGNITUDE`](crate::MAX_MAGNITUDE), or the rewards' end, above 0.
    pub scale: f32,
}

impl Default for ConceptShift {
    fn default() -> Self {
        ConceptShift { mapping: Mapping::Linear, input_dim: 3, pairs: 40, margin: 10, scale: 1.0 }
    }
}

impl ConceptShift {
    /// The task's name.
    pub const NAME: &'static str = "concept-shift";

    /// Whether every field is in its range.
    ///
    /// # Errors
    ///
    /// [`TaskError::InvalidField`], for the first field that is not.
    pub fn validate(&self) -> Result<(), TaskError> {
        let bounds = Bounds(Self::NAME);
        bounds.within("input_dim", self.input_dim, 1..=MAX_WIDTH - 2)?;
        bounds.within("pairs", self.pairs, 2..=MAX_STEPS / 2)?;
        bounds.within("margin", self.margin, 1..=self.pairs / 2)?;
        bounds.scale("scale", self.scale)?;
        bounds.ensure(self.mapping == Mapping::Linear || self.scale > 0.0, "scale", self.scale, || {
            "a number above 0, because rewards are uniform from 0 to below it".to_owned()
        })
    }

    /// The source of this task's episodes.
    ///
    /// # Errors
    ///
    /// Those of [`validate`](ConceptShift::validate).
    pub fn build(&self) -> Result<impl EpisodeSource + use<>, TaskError> {
        self.validate()?;
        let shifts = self.margin as u32..=(self.pairs - self.margin) as u32;
        Ok(ConceptShiftEpisodes {
            config: *self,
            shifts: Uniform::new_inclusive(shifts.start(), shifts.end())
                .expect("a margin is at most half of the pairs"),
        })
    }
}

/// A validated [`ConceptShift`].
struct ConceptShiftEpisodes {
    config: ConceptShift,
    /// The pair from which the second mapping holds.
    shifts: Uniform<u32>,
}

impl ConceptShiftEpisodes {
    /// Numbers of one mapping: a weight for each dimension and the bias, or a reward for each cue.
    fn draw_mapping(&self, rng: &mut dyn Rng, mapping: &mut Vec<f64>) {
        let scale = f64::from(self.config.scale);
        mapping.clear();
        match self.config.mapping {
            Mapping::Linear => {
                mapping.extend((0..=self.config.input_dim).map(|_| scale * StandardNormal.sample(rng)));
            }
            Mapping::Cues => {
                let unit = |rng: &mut dyn Rng| -> f64 { StandardUniform.sample(rng) };
                mapping.extend((0..self.config.input_dim).map(|_| scale * unit(rng)));
            }
        }
    }

    /// Draws one episode into zeroed `inputs` `[T, input_dim + 2]` and `targets` `[T]`; `mapping` is room for what it asks
    /// for. The pair from which the second mapping holds.
    fn draw(
        &self,
        rng: &mut dyn Rng,
        mapping: &mut Vec<f64>,
        inputs: &mut [f32],
        targets: &mut [f32],
    ) -> u32 {
        let dim = self.config.input_dim;
        let shift = self.shifts.sample(rng);
        let rows = inputs.chunks_exact_mut(2 * (dim + 2)).zip(targets.chunks_exact_mut(2));
        for (pair, (rows, targets)) in rows.enumerate() {
            if pair == 0 || pair == shift as usize {
                self.draw_mapping(rng, mapping);
            }
            let (query, shown) = rows.split_at_mut(dim + 2);
            let y = match self.config.mapping {
                Mapping::Linear => {
                    // y is the function of the rounded x that the model sees, and rounded once itself
                    let mut y = mapping[dim];
                    for (x, &weight) in query.iter_mut().zip(&mapping[..dim]) {
                        *x = StandardNormal.sample(rng) as f32;
                        y += weight * f64::from(*x);
                    }
                    y
                }
                Mapping::Cues => {
                    let cue = below(rng, dim as u32) as usize;
                    query[cue] = 1.0;
                    mapping[cue]
                }
            };
            shown.copy_from_slice(query);
            (query[dim + 1], shown[dim]) = (1.0, y as f32);
            targets[0] = y as f32;
        }
        shift
    }
}

impl EpisodeSource for ConceptShiftEpisodes {
    fn name(&self) -> &'static str {
        ConceptShift::NAME
    }

    fn input_width(&self) -> usize {
        self.config.input_dim + 2
    }

    fn output_width(&self) -> usize {
        1
    }

    fn steps(&self) -> usize {
        2 * self.config.pairs
    }

    fn phases(&self) -> Vec<Phase> {
        [Phase::Recall, Phase::Shown].repeat(self.config.pairs)
    }

    fn loss(&self) -> LossKind {
        LossKind::SquaredError
    }

    fn sample(&self, rng: &mut dyn Rng, count: usize) -> Result<EpisodeBatch, TaskError> {
        let (mut shifts, mut mapping) = (Vec::new(), Vec::new());
        let layout = Layout {
            task: self.name(),
            input_width: self.input_width(),
            output_width: self.output_width(),
            phases: self.phases(),
        };
        let batch = layout.sample(count, |inputs, values| {
            shifts.push(2 * self.draw(rng, &mut mapping, inputs, values));
        })?;
        Ok(EpisodeBatch { shifts: Some(shifts), ..batch })
    }
}
