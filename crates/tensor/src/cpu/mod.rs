//! The CPU backend: buffers from pools, ndarray views for general strides, matrixmultiply for
//! matrix products, plain loops where rows are contiguous.
//!
//! An operation runs on the thread that calls it, except for large matrix products and convolutions, which
//! are split the same way however many threads there are. Other parallel work is made of whole episodes, by
//! [`ordered_map`], so that a result never depends on the number of threads.

use std::marker::PhantomData;

use ndarray::ArrayViewD;

use crate::{Element, Result, Shape, Storage};

mod buffer;
mod element;
mod ordered;
pub(crate) mod simd;
pub(crate) mod transpose;

pub use buffer::CpuBuffer;
pub use element::CpuElement;
pub use ordered::{ordered_map, with_threads};

/// The CPU, computing with elements of type `E` (`f32`, or `f64` for gradient checks).
pub struct Cpu<E>(PhantomData<fn() -> E>);

impl<E> Cpu<E> {
    /// A handle; all handles are the same.
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<E> Clone for Cpu<E> {
    fn clone(&self) -> Self {
        Self::new()
    }
}

impl<E> Default for Cpu<E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<E: Element> std::fmt::Debug for Cpu<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cpu<{}>", E::NAME)
    }
}

impl<E: CpuElement> Storage for Cpu<E> {
    type Elem = E;
    type Buffer = CpuBuffer<E>;

    fn name(&self) -> String {
        format!("cpu ({})", E::NAME)
    }

    fn upload(&self, values: Vec<E>) -> Result<CpuBuffer<E>> {
        // into a buffer of the pool: taken over, every upload would in the end add its vector to the pool
        Ok(CpuBuffer::build(values.len(), |out| out.copy_from_slice(&values)))
    }

    fn download(&self, buffer: &CpuBuffer<E>) -> Result<Vec<E>> {
        Ok(buffer.as_slice().to_vec())
    }

    fn full(&self, len: usize, value: E) -> Result<CpuBuffer<E>> {
        Ok(CpuBuffer::build(len, |out| out.fill(value)))
    }
}

/// A buffer seen through ndarray.
pub(crate) fn view<'a, E>(values: &'a [E], shape: &Shape) -> ArrayViewD<'a, E> {
    ArrayViewD::from_shape(&shape[..], values).expect("a buffer is as long as its shape says")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uploads_do_not_pile_up_in_the_pool() {
        let place = || Cpu::<f64>::new().upload(vec![1.0; 54321]).unwrap().as_slice().as_ptr();
        assert_eq!(place(), place());
    }
}
