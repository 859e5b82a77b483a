//! Image sets and the few-shot episodes drawn from them.

mod set;

pub use set::{ImageClass, ImageSet};
