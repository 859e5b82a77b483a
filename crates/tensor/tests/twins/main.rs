//! Operations that work in place, or add their gradients up late, against the same mathematics put together plainly.

mod attention;
mod common;
mod encoder;
mod fast;
mod layers;
