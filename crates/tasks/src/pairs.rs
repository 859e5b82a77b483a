//! What cue-reward and regression share: pairs of features and a value, first with the value shown, then with the value
//! asked for.

use rand::Rng;

use crate::{EpisodeBatch, EpisodeSource, LossKind, Phase, TaskError, batch::Layout};

/// `shown` steps, then `queries` steps; a step's input is `[features, value or 0, query flag]`,
/// its target the value where it is asked for and 0 where it is shown.
pub(crate) struct PairLayout {
    pub features: usize,
    pub shown: usize,
    pub queries: usize,
}

impl PairLayout {
    pub fn steps(&self) -> usize {
        self.shown + self.queries
    }

    pub fn input_width(&self) -> usize {
        self.features + 2
    }

    pub fn phases(&self) -> Vec<Phase> {
        let mut phases = vec![Phase::Shown; self.steps()];
        phases[self.shown..].fill(Phase::Recall);
        phases
    }

    /// Completes `step`, whose features are written: gives `value` to the input or asks for it.
    pub fn show_or_ask(&self, step: usize, value: f32, input: &mut [f32], target: &mut f32) {
        if step < self.shown {
            input[self.features] = value;
        } else {
            input[self.features + 1] = 1.0;
            *target = value;
        }
    }
}

/// Episodes in this layout.
pub(crate) trait PairEpisodes: Send + Sync {
    /// The task's name.
    const NAME: &'static str;

    fn layout(&self) -> &PairLayout;

    /// Draws episode after episode into zeroed inputs `[T, features + 2]` and targets `[T]`.
    fn drawing(&self) -> impl FnMut(&mut dyn Rng, &mut [f32], &mut [f32]);
}

impl<E: PairEpisodes> EpisodeSource for E {
    fn name(&self) -> &'static str {
        E::NAME
    }

    fn input_width(&self) -> usize {
        self.layout().input_width()
    }

    fn output_width(&self) -> usize {
        1
    }

    fn steps(&self) -> usize {
        self.layout().steps()
    }

    fn phases(&self) -> Vec<Phase> {
        self.layout().phases()
    }

    fn loss(&self) -> LossKind {
        LossKind::SquaredError
    }

    fn sample(&self, rng: &mut dyn Rng, count: usize) -> Result<EpisodeBatch, TaskError> {
        let layout = Layout {
            task: E::NAME,
            input_width: self.input_width(),
            output_width: self.output_width(),
            phases: self.phases(),
        };
        let mut draw = self.drawing();
        layout.sample(count, |inputs, targets| draw(rng, inputs, targets))
    }
}
