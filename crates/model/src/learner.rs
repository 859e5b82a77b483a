//! A whole model, as training and evaluation see it: episodes in, outputs at every step out.

use plastica_rules::Credit;
use plastica_tensor::{Backend, Tape, Tensor};

use crate::{
    Conv4, Diagnostics, EncoderStatistics, ModelConfig, ModelError, ModelKind, Noise, Parameters,
    PlasticTransformer, Result, SequenceModel, SequenceOutput, prototypical_logits,
};

/// A configured model, bound to its parameters: an encoder where steps show images, and what reads its embeddings.
#[derive(Debug)]
pub struct Learner<B: Backend> {
    encoder: Option<Conv4<B>>,
    reader: Reader<B>,
    training: bool,
}

#[derive(Debug)]
enum Reader<B: Backend> {
    Plastic(Box<PlasticTransformer<B>>),
    Prototypical { classes: usize },
}

/// Embeddings of images before their normalisation and after it, and statistics.
struct Encoded<B: Backend> {
    embeddings: Tensor<B>,
    normalised: Tensor<B>,
    statistics: Option<EncoderStatistics<B>>,
}

/// A batch of whole episodes.
#[derive(Debug, Clone)]
pub struct Episodes<'a, B: Backend> {
    /// The task's inputs, `[B, T, w]`.
    pub inputs: &'a Tensor<B>,
    /// The image of every step, `[B, T, channels, height, width]`, for a model with an encoder.
    pub images: Option<&'a Tensor<B>>,
    /// Steps from the first on whose images are the support. In training they are normalised as one group, those of the
    /// other steps as another.
    pub support: usize,
}

/// What whole episodes gave.
#[derive(Debug, Clone)]
pub struct EpisodeOutput<B: Backend> {
    /// The outputs, `[B, T, output_dim]`.
    pub outputs: Tensor<B>,
    /// What plasticity did after each step, where there is any.
    pub diagnostics: Option<Diagnostics<B>>,
    /// The images' embeddings, `[B, T, embedding_dim]`, before their normalisation; `None` without images.
    pub embeddings: Option<Tensor<B>>,
    /// The encoder's statistics in training.
    pub statistics: Option<EncoderStatistics<B>>,
}

impl<B: Backend> Learner<B> {
    /// The model for evaluation: nothing is tracked, and there is no dropout.
    ///
    /// # Errors
    /// When the parameters are not what the configuration asks for.
    pub fn new(config: &ModelConfig, parameters: &Parameters<B>) -> Result<Self> {
        config.validate()?;
        let encoder = config.encoder.as_ref().map(|encoder| Conv4::new(encoder, parameters)).transpose()?;
        let reader = match config.kind {
            ModelKind::Plastic => Reader::Plastic(Box::new(PlasticTransformer::new(config, parameters)?)),
            ModelKind::Prototypical => Reader::Prototypical { classes: config.output_dim },
        };
        Ok(Self { encoder, reader, training: false })
    }

    /// The model for training, with all its parameters as leaves of `tape`; the leaves come back beside it, in the
    /// parameters' order.
    ///
    /// # Errors
    /// When the parameters are not what the configuration asks for.
    pub fn tracked(
        config: &ModelConfig,
        parameters: &Parameters<B>,
        credit: Credit,
        tape: &Tape<B>,
    ) -> Result<(Self, Vec<Tensor<B>>)> {
        config.validate()?;
        // an encoder's parameters come before all others
        let encoder = config.encoder.as_ref().map(|encoder| Conv4::tracked(encoder, parameters, tape));
        let (encoder, leaves) = encoder.transpose()?.unzip();
        let mut leaves = leaves.unwrap_or_default();
        let reader = match config.kind {
            ModelKind::Prototypical => Reader::Prototypical { classes: config.output_dim },
            ModelKind::Plastic => {
                let (model, more) = PlasticTransformer::tracked(config, parameters, credit, tape)?;
                leaves.extend(more);
                Reader::Plastic(Box::new(model))
            }
        };
        Ok((Self { encoder, reader, training: true }, leaves))
    }

    /// What the encoder makes of the episodes' images; `None` without images.
    fn encode(&self, episodes: &Episodes<'_, B>) -> Result<Option<Encoded<B>>> {
        let &Episodes { inputs, images, support } = episodes;
        match (&self.encoder, images) {
            (Some(encoder), Some(images)) => {
                let (embeddings, statistics) =
                    encoder.encode_episodes(images, self.training.then_some(support))?;
                let normalised = encoder.normalise(&embeddings)?;
                Ok(Some(Encoded { embeddings, normalised, statistics }))
            }
            (None, None) => Ok(None),
            (Some(_), None) => {
                let expected = "an image at every step beside them".to_owned();
                Err(ModelError::Input { found: inputs.shape(), expected })
            }
            (None, Some(images)) => {
                let expected = "no images: it has no encoder".to_owned();
                Err(ModelError::Input { found: images.shape(), expected })
            }
        }
    }

    /// The plastic Transformer inside, and what it reads of these episodes, `[B, T, input_dim]`: the embeddings of their
    /// images, if there are any, beside their inputs. `None` for a prototypical network.
    ///
    /// # Errors
    /// [`ModelError::Input`] when the inputs or images are not of the configured shapes.
    pub fn transformer(
        &self,
        episodes: &Episodes<'_, B>,
    ) -> Result<Option<(&PlasticTransformer<B>, Tensor<B>)>> {
        let Reader::Plastic(model) = &self.reader else { return Ok(None) };
        let inputs = match self.encode(episodes)? {
            Some(encoded) => beside(&encoded.normalised, episodes.inputs)?,
            None => episodes.inputs.clone(),
        };
        Ok(Some((model, inputs)))
    }

    /// Reads episodes from their first step to their last. `noise` is dropout, in training.
    ///
    /// # Errors
    /// [`ModelError::Input`] when the inputs or images are not of the configured shapes, and [`ModelError::State`] when
    /// the noise is for another batch.
    pub fn read(&self, episodes: &Episodes<'_, B>, noise: Option<Noise>) -> Result<EpisodeOutput<B>> {
        let inputs = episodes.inputs;
        let (embeddings, normalised, statistics) = match self.encode(episodes)? {
            Some(Encoded { embeddings, normalised, statistics }) => {
                (Some(embeddings), Some(normalised), statistics)
            }
            None => (None, None, None),
        };
        match (&self.reader, normalised) {
            (Reader::Plastic(model), normalised) => {
                let inputs = match &normalised {
                    Some(normalised) => beside(normalised, inputs)?,
                    None => inputs.clone(),
                };
                let batch = inputs.shape().first().copied().unwrap_or(0);
                let mut state = match noise {
                    Some(noise) => model.init_training_state(batch, noise),
                    None => model.init_state(batch),
                };
                let SequenceOutput { outputs, diagnostics } = model.forward(&inputs, &mut state)?;
                Ok(EpisodeOutput { outputs, diagnostics, embeddings, statistics })
            }
            (&Reader::Prototypical { classes }, Some(normalised)) => {
                let outputs = prototypical_logits(&normalised, inputs, classes)?;
                Ok(EpisodeOutput { outputs, diagnostics: None, embeddings, statistics })
            }
            (Reader::Prototypical { .. }, None) => {
                unreachable!("a prototypical network's configuration has an encoder")
            }
        }
    }
}

/// Embeddings `[B, T, e]` and inputs `[B, T, w]` as one input, `[B, T, e + w]`.
fn beside<B: Backend>(embeddings: &Tensor<B>, inputs: &Tensor<B>) -> Result<Tensor<B>> {
    match (&embeddings.shape()[..], &inputs.shape()[..]) {
        (&[b, t, _], &[batch, steps, _]) if (b, t) == (batch, steps) => {
            Ok(Tensor::concat(&[embeddings, inputs], 2)?)
        }
        (embedded, _) => {
            let expected = format!("[B, T, w] beside embeddings {embedded:?}");
            Err(ModelError::Input { found: inputs.shape(), expected })
        }
    }
}
