//! Tensors, reverse-mode differentiation and optimisers, for models whose weights change while they run:
//! learning *inside* a computation, and training *through* that learning.
//!
//! One decision shaped it: **an operation's backward is written once, in operations**. Run on plain values
//! it records nothing and is the fast backward; run on tracked ones it is a computation like any other and
//! can be differentiated again. So there is no second set of rules for second derivatives, and an order of
//! derivatives is never out of reach.
//!
//! Here a weight takes one step of gradient descent, and the loss after it is differentiated by the step's
//! size, which goes through the first derivative:
//!
//! ```
//! use plastica_tensor::{Array, Cpu, GradMode, Tape, Tensor, grad};
//!
//! let cpu = Cpu::<f64>::new();
//! let tape = Tape::new();
//! let w = tape.leaf(&Array::from_vec(&cpu, vec![1.0, -2.0], [2])?);
//! let rate = tape.leaf(&Array::full(&cpu, 0.125, [])?);
//! let loss = |w: &Tensor<Cpu<f64>>| w.square()?.sum();
//!
//! let slope = grad(&loss(&w)?, &[&w], GradMode::Tracked)?.remove(0); // 2w, or None if w had no part in it
//! let stepped = w.sub(&slope.expect("the loss is made of w").mul(&rate)?)?; // (1 − 2 rate) w
//! let by_rate = grad(&loss(&stepped)?, &[&rate], GradMode::Plain)?.remove(0);
//!
//! // d/d rate (1 − 2 rate)² ‖w‖² = −4 (1 − 2 rate) ‖w‖²
//! assert_eq!(by_rate.expect("the step is made with it").item()?, -4.0 * 0.75 * 5.0);
//! # Ok::<(), plastica_tensor::TensorError>(())
//! ```
//!
//! Where to look: an operation's value, derivative and kernels stand together in a folder of [`ops`]; the
//! derivative's machinery is [`Tape`] and [`grad`]; numbers live behind a [`Backend`], of which [`Cpu`] is
//! one and, with the feature `cuda`, `Cuda` another; [`optim`] updates [`Array`]s, which parameters and
//! gradients are.

pub mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod ops;
pub mod optim;

mod array;
mod backend;
mod dropout;
mod error;
mod shape;
mod tape;
mod tensor;
#[cfg(test)]
mod testing;

pub use array::Array;
pub use backend::{Backend, Element, Storage};
pub use cpu::Cpu;
#[cfg(feature = "cuda")]
pub use cuda::Cuda;
pub use dropout::dropout_mask;
pub use error::{Result, TensorError};
pub use shape::Shape;
pub use tape::{GradMode, Grads, Op, Recorded, Tape, grad, grad_along};
pub use tensor::Tensor;
