//! The plastic Transformer through its public face: derivatives against differences, one way of reading against
//! another, checkpoints against damage.

mod checkpoint;
mod encoder;
mod equivalence;
mod gradients;
mod looking;
mod shapes;
mod support;
