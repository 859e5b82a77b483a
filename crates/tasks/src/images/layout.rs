//! The layout of few-shot episodes: labelled support images, then queries.

use crate::{EpisodeBatch, EpisodeImages, Phase, Targets, TaskError, batch::zeros};

/// `support` steps, then `queries` steps; a step's input is `[label one-hot or 0, query flag]`, its target the label.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EpisodeLayout {
    pub ways: usize,
    pub support: usize,
    pub queries: usize,
}

impl EpisodeLayout {
    pub fn steps(&self) -> usize {
        self.support + self.queries
    }

    pub fn input_width(&self) -> usize {
        self.ways + 1
    }

    pub fn phases(&self) -> Vec<Phase> {
        let mut phases = vec![Phase::Shown; self.steps()];
        phases[self.support..].fill(Phase::Recall);
        phases
    }

    /// A batch of `count` episodes of images of `shape`; `draw` writes each episode's labels `[T]` and its pixels
    /// `[T, channels, height, width]`.
    pub fn sample(
        &self,
        task: &'static str,
        count: usize,
        shape: [usize; 3],
        mut draw: impl FnMut(&mut [u32], &mut [f32]),
    ) -> Result<EpisodeBatch, TaskError> {
        let (steps, width) = (self.steps(), self.input_width());
        let image: usize = shape.iter().product();
        // The largest first, so that what cannot fit is refused before memory is spent on the rest.
        let mut pixels = zeros(task, count, steps, image)?;
        let mut inputs = zeros::<f32>(task, count, steps, width)?;
        let mut labels = zeros(task, count, steps, 1)?;
        for episode in 0..count {
            let rows = episode * steps..(episode + 1) * steps;
            let labels = &mut labels[rows.clone()];
            draw(labels, &mut pixels[rows.start * image..rows.end * image]);
            let inputs = inputs[rows.start * width..rows.end * width].chunks_exact_mut(width);
            for (step, (input, &mut label)) in inputs.zip(labels).enumerate() {
                input[if step < self.support { label as usize } else { self.ways }] = 1.0;
            }
        }
        Ok(EpisodeBatch {
            batch: count,
            steps,
            input_width: width,
            output_width: self.ways,
            inputs,
            images: Some(EpisodeImages { shape, pixels, support: self.support }),
            targets: Targets::Classes(labels),
            shifts: None,
            phases: self.phases(),
        })
    }
}
