//! Optimisers: AdamW, clipping of the gradient's norm, learning-rate schedules.

mod adamw;
mod clip;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;
mod schedule;

pub use adamw::{AdamW, AdamWSettings, AdamWStep, AdamWUpdate, Moments, OptimiserKernels};
pub use clip::{clip_global_norm, global_norm};
pub use schedule::Schedule;
