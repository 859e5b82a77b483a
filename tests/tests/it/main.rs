//! What takes more than one crate to say.

mod checkpoints;
mod configuration;
mod devices;
mod divergence;
mod layers;
mod recording;
mod replays;
