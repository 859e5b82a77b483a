//! Batches of episodes as tensors.

use plastica_model::Episodes;
use plastica_tasks::EpisodeBatch;
use plastica_tensor::{Backend, Element, Tensor};

use crate::EvalError;

/// A batch's inputs and images on a device.
#[derive(Debug)]
pub(crate) struct EpisodeTensors<B: Backend> {
    inputs: Tensor<B>,
    images: Option<Tensor<B>>,
    support: usize,
}

impl<B: Backend> EpisodeTensors<B> {
    pub(crate) fn of(batch: &EpisodeBatch, backend: &B) -> Result<Self, EvalError> {
        let convert = |values: &[f32]| values.iter().map(|&x| B::Elem::of(f64::from(x))).collect();
        let shape = [batch.batch, batch.steps, batch.input_width];
        let inputs = Tensor::from_vec(backend, convert(&batch.inputs), shape)?;
        let images = match &batch.images {
            Some(images) => {
                let [channels, height, width] = images.shape;
                let shape = [batch.batch, batch.steps, channels, height, width];
                Some(Tensor::from_vec(backend, convert(&images.pixels), shape)?)
            }
            None => None,
        };
        Ok(Self { inputs, images, support: batch.images.as_ref().map_or(0, |images| images.support) })
    }

    /// As a model reads them.
    pub(crate) fn episodes(&self) -> Episodes<'_, B> {
        Episodes { inputs: &self.inputs, images: self.images.as_ref(), support: self.support }
    }
}
