//! Few-shot regression: predict a linear function from examples of it.

use rand::Rng;
use rand_distr::Distribution;
use serde::{Deserialize, Serialize};

use crate::{
    EpisodeSource, MAX_STEPS, MAX_WIDTH, TaskError,
    bounds::Bounds,
    normal::StandardNormal,
    pairs::{PairEpisodes, PairLayout},
};

/// The few-shot regression task, as in arXiv 2510.21908, after 2302.03235; the defaults are the
/// published setting.
///
/// Every episode has a function of its own, `y = w·x + b` with `w ~ N(0, weight_scale²)` in each of
/// `input_dim` dimensions and `b ~ N(0, bias_scale²)`, and `x ~ N(0, 1)` anew at every step. It has
/// `k_support` steps that show `y` and `k_query` that ask for it. A step's input is
/// `[x, y (0 in a query), flag (1 in a query)]`; the target is 0 while shown and `y` at a query.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Regression {
    /// Dimensions of `x`: at least 1.
    pub input_dim: usize,
    /// Examples shown: at least 1.
    pub k_support: usize,
    /// Queries: at least 1.
    pub k_query: usize,
    /// Standard deviation of `w`, from 0 to [`MAX_MAGNITUDE`](crate::MAX_MAGNITUDE).
    pub weight_scale: f32,
    /// Standard deviation of `b`, from 0 to [`MAX_MAGNITUDE`](crate::MAX_MAGNITUDE).
    pub bias_scale: f32,
}

impl Default for Regression {
    fn default() -> Self {
        Regression { input_dim: 3, k_support: 10, k_query: 10, weight_scale: 1.0, bias_scale: 1.0 }
    }
}

impl Regression {
    /// The task's name.
    pub const NAME: &'static str = "regression";

    /// Whether every field is in its range.
    ///
    /// # Errors
    ///
    /// [`TaskError::InvalidField`], for the first field that is not.
    pub fn validate(&self) -> Result<(), TaskError> {
        let bounds = Bounds(Self::NAME);
        bounds.within("input_dim", self.input_dim, 1..=MAX_WIDTH - 2)?;
        bounds.within("k_support", self.k_support, 1..=MAX_STEPS)?;
        bounds.within("k_query", self.k_query, 1..=MAX_STEPS)?;
        let steps = self.k_support + self.k_query;
        bounds.within("k_support + k_query steps", steps, 1..=MAX_STEPS)?;
        bounds.scale("weight_scale", self.weight_scale)?;
        bounds.scale("bias_scale", self.bias_scale)
    }

    /// The source of this task's episodes.
    ///
    /// # Errors
    ///
    /// Those of [`validate`](Regression::validate).
    pub fn build(&self) -> Result<impl EpisodeSource + use<>, TaskError> {
        self.validate()?;
        Ok(RegressionEpisodes {
            layout: PairLayout { features: self.input_dim, shown: self.k_support, queries: self.k_query },
            weight_scale: f64::from(self.weight_scale),
            bias_scale: f64::from(self.bias_scale),
        })
    }
}

/// A validated [`Regression`].
struct RegressionEpisodes {
    layout: PairLayout,
    weight_scale: f64,
    bias_scale: f64,
}

impl RegressionEpisodes {
    /// Draws one episode into zeroed `inputs` `[T, input_dim + 2]` and `targets` `[T]`; `weights`
    /// is room for `w`.
    fn draw(&self, rng: &mut dyn Rng, weights: &mut [f64], inputs: &mut [f32], targets: &mut [f32]) {
        for weight in weights.iter_mut() {
            *weight = self.weight_scale * StandardNormal.sample(rng);
        }
        let bias = self.bias_scale * StandardNormal.sample(rng);
        let rows = inputs.chunks_exact_mut(self.layout.input_width());
        for (step, (input, target)) in rows.zip(targets).enumerate() {
            // y is the function of the rounded x that the model sees, and rounded once itself.
            let mut y = bias;
            for (x, &weight) in input.iter_mut().zip(weights.iter()) {
                *x = StandardNormal.sample(rng) as f32;
                y += weight * f64::from(*x);
            }
            self.layout.show_or_ask(step, y as f32, input, target);
        }
    }
}

impl PairEpisodes for RegressionEpisodes {
    const NAME: &'static str = Regression::NAME;

    fn layout(&self) -> &PairLayout {
        &self.layout
    }

    fn drawing(&self) -> impl FnMut(&mut dyn Rng, &mut [f32], &mut [f32]) {
        let mut weights = vec![0.0; self.layout.features];
        move |rng, inputs, targets| self.draw(rng, &mut weights, inputs, targets)
    }
}
