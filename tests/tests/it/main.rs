//! What takes more than one crate to say.

mod checkpoints;
mod divergence;
mod layers;
mod readme;
mod recording;
mod replays;
