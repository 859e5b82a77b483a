//! The plastic Transformer: a decoder-only Transformer whose feed-forward layers carry fast weights that
//! change while it reads (arXiv 2510.21908).

mod checkpoint;
mod config;
mod error;
mod noise;
mod parameters;
mod sequence;
mod transformer;

pub use checkpoint::{Checkpoint, read_array};
pub use config::ModelConfig;
pub use error::{ModelError, Result};
pub use noise::Noise;
pub use parameters::Parameters;
pub use sequence::{Diagnostics, SequenceModel, SequenceOutput, StepOutput};
pub use transformer::{PlasticState, PlasticTransformer};
