//! Where a sequence's fast weights left the numbers, or grew most: the layer, the step, and the norms on the way there.

use std::fmt;

use plastica_model::{Learner, ModelConfig, Noise, Parameters, SequenceModel};
use plastica_tasks::EpisodeBatch;
use plastica_tensor::{Backend, Element};

use crate::tensors::EpisodeTensors;
use crate::{EvalError, format_number};

/// Norms that are shown of those along the sequence.
const SHOWN: usize = 8;

/// The plastic layer that a batch which diverged says most of, and its fast weights along the sequence.
#[derive(Debug, Clone, PartialEq)]
pub struct Whereabouts {
    /// The layer's name, such as `blocks.0.fc1`.
    pub layer: String,
    /// The episode's place in its batch, from 0.
    pub episode: usize,
    /// The first step after which ‖F‖² is no finite number, or the one after which it is largest; from 1.
    pub step: usize,
    /// Steps of the episode.
    pub steps: usize,
    /// `‖F‖²` of the layer after each step up to that one.
    pub squared_norms: Vec<f64>,
}

impl Whereabouts {
    /// Whether the fast weights left the numbers as the sequence was read. Otherwise it was the way back that did, or what
    /// comes after them.
    pub fn in_reading(&self) -> bool {
        self.squared_norms.last().is_some_and(|norm| !norm.is_finite())
    }

    /// Has the model read a batch again, step by step, with the dropout of these keys. `None` for a model without fast
    /// weights.
    ///
    /// # Errors
    /// When the parameters are not the configured model's, or the batch is of other widths.
    pub fn locate<B: Backend>(
        config: &ModelConfig,
        parameters: &Parameters<B>,
        batch: &EpisodeBatch,
        keys: &[u64],
    ) -> Result<Option<Self>, EvalError> {
        let Some(first) = parameters.arrays().first() else { unreachable!("every model has a parameter") };
        let learner = Learner::new(config, parameters)?;
        let tensors = EpisodeTensors::of(batch, first.backend())?;
        let Some((model, inputs)) = learner.transformer(&tensors.episodes())? else { return Ok(None) };
        let noise = Noise::new(config.dropout, config.num_layers, keys);
        let mut state = model.init_training_state(batch.batch, noise);
        // by layer, episode and step
        let mut norms = vec![vec![Vec::new(); batch.batch]; state.fast_weights().len()];
        for t in 0..batch.steps {
            model.step(&inputs.step(t)?, &mut state)?;
            for (norms, fast) in norms.iter_mut().zip(state.fast_weights()) {
                let Some(squares) = fast.squared_norm()? else { return Ok(None) };
                for (norms, square) in norms.iter_mut().zip(squares.to_vec()?) {
                    norms.push(square.wide());
                }
            }
            if norms.iter().flatten().any(|norms| norms.last().is_some_and(|norm| !norm.is_finite())) {
                break;
            }
        }
        Ok(Self::worst(&config.plastic_layer_names(), &norms, batch.steps))
    }

    /// The first that is no number, or the largest, of norms by layer, episode and step.
    fn worst(names: &[String], norms: &[Vec<Vec<f64>>], steps: usize) -> Option<Self> {
        let size = |norm: f64| if norm.is_finite() { norm } else { f64::INFINITY };
        let mut worst: Option<(f64, Self)> = None;
        for (layer, episodes) in names.iter().zip(norms) {
            for (episode, along) in episodes.iter().enumerate() {
                let Some((step, norm)) = along
                    .iter()
                    .map(|&norm| size(norm))
                    .enumerate()
                    .max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)))
                else {
                    continue;
                };
                if worst.as_ref().is_some_and(|(largest, _)| norm <= *largest) {
                    continue;
                }
                let layer = layer.clone();
                let squared_norms = along[..=step].to_vec();
                worst = Some((norm, Self { layer, episode, step: step + 1, steps, squared_norms }));
            }
        }
        worst.map(|(_, found)| found)
    }
}

impl fmt::Display for Whereabouts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { layer, episode, step, steps, squared_norms } = self;
        let what =
            if self.in_reading() { "the first that are no numbers" } else { "the largest, and finite" };
        write!(
            f,
            "read again, the fast weights of {layer} are {what}, after step {step} of {steps} of episode {episode}; \
             their norm² on the way there:"
        )?;
        let last = squared_norms.len().saturating_sub(1);
        let mut shown: Vec<usize> = (0..SHOWN).map(|i| i * last / (SHOWN - 1)).collect();
        shown.dedup();
        let mut separator = " ";
        for at in shown {
            if let Some(&norm) = squared_norms.get(at) {
                write!(f, "{separator}{} (step {})", format_number(norm), at + 1)?;
                separator = ", ";
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_is_no_number_comes_before_any_that_is_large() {
        let nan = f64::NAN;
        let norms = vec![
            vec![vec![1.0, 9e30, 2.0], vec![1.0, 2.0, 3.0]],
            vec![vec![1.0, 2.0, 3.0], vec![1.0, 5.0, nan]],
            vec![vec![0.0, 0.0, nan], vec![0.0, 0.0, nan]],
        ];
        let names = ["blocks.0.fc1", "blocks.0.fc2", "blocks.1.fc1"].map(str::to_owned);
        let found = Whereabouts::worst(&names, &norms, 7).unwrap();
        assert_eq!((found.layer.as_str(), found.episode, found.step, found.steps), ("blocks.0.fc2", 1, 3, 7));
        assert!(found.in_reading());
        let said = found.to_string();
        for part in [
            "blocks.0.fc2 are the first that are no numbers",
            "after step 3 of 7 of episode 1",
            "5.000 (step 2)",
        ] {
            assert!(said.contains(part), "{said}");
        }
        let found = Whereabouts::worst(&names, &norms[..1], 7).unwrap();
        assert_eq!(
            (found.layer.as_str(), found.step, &found.squared_norms[..]),
            ("blocks.0.fc1", 2, &[1.0, 9e30][..])
        );
        assert!(!found.in_reading());
        assert_eq!(Whereabouts::worst(&[], &[], 7), None);
    }
}
