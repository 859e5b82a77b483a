//! The plastic Transformer: a decoder-only Transformer whose feed-forward layers carry fast weights that
//! change while it reads (arXiv 2510.21908), and its checkpoints.
//!
//! One decision shaped the crate: **weights are data, and a model is a view of them**. [`Parameters`] are named
//! arrays that an optimiser changes, a [`Checkpoint`] holds and any number of workers share;
//! [`PlasticTransformer`] is bound to them anew for each pass, plain for evaluation ([`PlasticTransformer::new`])
//! or on a tape for training ([`PlasticTransformer::tracked`]), and costs nothing to throw away. What a sequence
//! changes is in neither: keys, values and fast weights live in a [`PlasticState`], one for a batch of episodes.
//!
//! Where steps show images, a [`Conv4`] encodes them, and the Transformer reads the embeddings beside the task's inputs; a
//! [`Learner`] is the whole of it, or a prototypical network in its place, for whoever runs whole episodes.
//!
//! So the step is the primitive, and **a sequence is steps**: [`SequenceModel::step`] reads one input and changes
//! the state. [`PlasticTransformer::forward`] reads many at once, the same numbers up to rounding, and a state
//! does not care which of the two it came by.
//!
//! Here a model that was never trained reads a stream, and says how strongly it changed itself after each input:
//!
//! ```
//! use plastica_model::{ModelConfig, Parameters, PlasticTransformer, SequenceModel};
//! use plastica_rules::Rule;
//! use plastica_tensor::{Cpu, Tensor};
//! use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
//!
//! let cpu = Cpu::<f32>::new();
//! let config = ModelConfig { input_dim: 3, output_dim: 2, rule: Rule::Hebbian, ..ModelConfig::default() };
//! let parameters = Parameters::init(&config, &cpu, &mut ChaCha8Rng::seed_from_u64(1))?;
//! let model = PlasticTransformer::new(&config, &parameters)?;
//! let mut state = model.init_state(1); // one episode
//! for t in 0..5 {
//!     let input = Tensor::from_vec(&cpu, vec![1.0, 0.5 * t as f32, -1.0], [1, 3])?;
//!     let step = model.step(&input, &mut state)?;
//!     let changed = step.modulation.expect("hebbian changes at every step");
//!     let (outputs, eta) = (step.outputs.to_vec()?, changed.eta.item()?);
//!     println!("{outputs:?} at rate {eta}");
//!     assert!(eta > 0.0 && f64::from(eta) <= config.eta0);
//! }
//! assert!(state.fast_weights().iter().all(|fast| !fast.is_zero()));
//! # Ok::<(), plastica_model::ModelError>(())
//! ```

mod checkpoint;
mod config;
mod encoder;
mod error;
mod learner;
mod noise;
mod options;
mod parameters;
mod prototypical;
mod sequence;
mod specification;
mod summary;
mod transformer;

pub use checkpoint::{Checkpoint, read_array};
pub use config::{ModelConfig, ModelKind};
pub use encoder::{Conv4, EmbeddingNorm, EncoderConfig, EncoderKind, EncoderStatistics};
pub use error::{ModelError, Result};
pub use learner::{EpisodeOutput, Episodes, Learner};
pub use noise::Noise;
pub use options::{AttentionInit, FastNorm, Gates, PlasticLayers, Positions};
pub use parameters::Parameters;
pub use prototypical::prototypical_logits;
pub use sequence::{Diagnostics, SequenceModel, SequenceOutput, StepOutput};
pub use summary::ParameterSummary;
pub use transformer::{PlasticState, PlasticTransformer};
