//! The layout that cue-reward and regression share: pairs of features and a value, first with the
//! value shown, then with the value asked for.

use crate::{EpisodeBatch, Phase, TaskError, batch::Layout};

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

    /// A batch of `count` episodes, each filled by `draw` from zeroed inputs `[T, features + 2]`
    /// and targets `[T]`.
    pub fn sample(
        &self,
        task: &'static str,
        count: usize,
        draw: impl FnMut(&mut [f32], &mut [f32]),
    ) -> Result<EpisodeBatch, TaskError> {
        Layout { task, input_width: self.input_width(), output_width: 1, phases: self.phases() }
            .sample(count, draw)
    }
}
