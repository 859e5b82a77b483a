//! Operations, a folder each: what it computes and its derivative (`mod.rs`), and its kernels (`cpu.rs`; for
//! CUDA `kernels.cu` and, to launch them, `cuda.rs`).
//!
//! Every operation is differentiable any number of times, because its backward is written in operations.

pub mod attention;
pub mod batch_norm;
pub mod compose;
pub mod conv_block;
pub mod convolution;
pub mod fast;
pub mod history;
pub mod indexing;
pub mod layer_norm;
pub mod layout;
pub mod linear;
pub mod map;
pub mod matmul;
pub mod normalize;
pub mod onto;
pub mod outer;
pub mod pooling;
pub mod rank_one;
pub mod rate;
pub mod reduce;
pub mod softmax;
pub mod steps;
pub mod zip;
