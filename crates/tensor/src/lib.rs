//! plastica-tensor

pub mod cpu;
pub mod ops;
pub mod optim;

mod array;
mod backend;
mod dropout;
mod error;
mod shape;
mod tape;
mod tensor;

pub use array::Array;
pub use backend::{Backend, Element, Storage};
pub use cpu::Cpu;
pub use dropout::dropout_mask;
pub use error::{Result, TensorError};
pub use shape::Shape;
pub use tape::{GradMode, Grads, Op, Recorded, Tape, grad};
pub use tensor::Tensor;
