//! Buffers that come from, and go back to, a pool on the thread that uses them, so that a training step in
//! its steady state allocates nothing.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use super::CpuElement;
use super::transpose::transpose;

/// Most bytes a thread's pool keeps, an element type.
const POOL_BYTES: usize = 512 << 20;

/// A thread's free vectors, by length.
#[derive(Debug)]
pub struct Pool<E> {
    free: HashMap<usize, Vec<Vec<E>>>,
    bytes: usize,
}

impl<E> Pool<E> {
    pub(super) fn new() -> Self {
        Self { free: HashMap::new(), bytes: 0 }
    }

    fn take(&mut self, len: usize) -> Option<Vec<E>> {
        let values = self.free.get_mut(&len)?.pop()?;
        self.bytes -= size_of_val(&values[..]);
        Some(values)
    }

    fn put(&mut self, values: Vec<E>) {
        let bytes = size_of_val(&values[..]);
        if bytes > 0 && self.bytes + bytes <= POOL_BYTES {
            self.bytes += bytes;
            self.free.entry(values.len()).or_default().push(values);
        }
    }
}

struct Block<E: CpuElement> {
    values: Vec<E>,
    /// The values as a matrix transposed, once somebody has asked for it.
    transposed: OnceLock<Vec<E>>,
}

impl<E: CpuElement> Drop for Block<E> {
    fn drop(&mut self) {
        let (values, transposed) = (std::mem::take(&mut self.values), self.transposed.take());
        // a thread that is going away has no pool any more; the vectors are then freed
        E::with_pool(|pool| {
            pool.borrow_mut().put(values);
            transposed.into_iter().for_each(|values| pool.borrow_mut().put(values));
        });
    }
}

/// A flat run of elements in memory. Cloning shares it; writing to a shared one copies it first.
#[derive(Clone)]
pub struct CpuBuffer<E: CpuElement>(Arc<Block<E>>);

impl<E: CpuElement> std::fmt::Debug for CpuBuffer<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CpuBuffer<{}>({} elements)", E::NAME, self.0.values.len())
    }
}

impl<E: CpuElement> From<Vec<E>> for CpuBuffer<E> {
    fn from(values: Vec<E>) -> Self {
        Self(Arc::new(Block { values, transposed: OnceLock::new() }))
    }
}

/// A vector of the pool, or a new one; what its elements are is unspecified.
fn taken<E: CpuElement>(len: usize) -> Vec<E> {
    E::with_pool(|pool| pool.borrow_mut().take(len)).flatten().unwrap_or_else(|| vec![E::zero(); len])
}

impl<E: CpuElement> CpuBuffer<E> {
    /// A buffer whose every element `write` sets. What the elements are before is unspecified: some
    /// earlier buffer's.
    pub(crate) fn build(len: usize, write: impl FnOnce(&mut [E])) -> Self {
        let mut values = taken(len);
        write(&mut values);
        Self::from(values)
    }

    pub(crate) fn zeros(len: usize) -> Self {
        Self::build(len, |out| out.fill(E::zero()))
    }

    pub(crate) fn as_slice(&self) -> &[E] {
        &self.0.values
    }

    /// The elements for writing; copied first if somebody shares them.
    pub(crate) fn make_mut(&mut self) -> &mut [E] {
        if Arc::get_mut(&mut self.0).is_none() {
            *self = Self::build(self.0.values.len(), |out| out.copy_from_slice(self.as_slice()));
        }
        let block = Arc::get_mut(&mut self.0).expect("nobody else has seen it yet");
        if let Some(outdated) = block.transposed.take() {
            E::with_pool(|pool| pool.borrow_mut().put(outdated));
        }
        &mut block.values
    }

    /// The values, a matrix `[rows, cols]`, transposed. Computed once and kept until the buffer is written.
    pub(crate) fn transposed(&self, rows: usize, cols: usize) -> &[E] {
        self.0.transposed.get_or_init(|| {
            let mut transposed = taken(self.as_slice().len());
            transpose(self.as_slice(), &mut transposed, rows, cols);
            transposed
        })
    }

    pub(crate) fn map(&self, f: impl Fn(E) -> E) -> Self {
        Self::build(self.0.values.len(), |out| {
            for (out, &x) in out.iter_mut().zip(self.as_slice()) {
                *out = f(x);
            }
        })
    }
}

/// The storage behind [`CpuElement::with_pool`].
pub(super) fn visit<E, R>(
    pool: &'static std::thread::LocalKey<RefCell<Pool<E>>>,
    f: impl FnOnce(&RefCell<Pool<E>>) -> R,
) -> Option<R> {
    pool.try_with(f).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_buffer_is_used_again() {
        let first = CpuBuffer::<f32>::build(12345, |x| x.fill(1.0));
        let place = first.as_slice().as_ptr();
        drop(first);
        let second = CpuBuffer::<f32>::zeros(12345);
        assert_eq!(second.as_slice().as_ptr(), place);
        assert!(second.as_slice().iter().all(|&x| x == 0.0));
    }

    #[test]
    fn writing_to_a_shared_buffer_leaves_the_other_alone() {
        let mut a = CpuBuffer::from(vec![1.0_f64, 2.0]);
        let b = a.clone();
        a.make_mut()[0] = 5.0;
        assert_eq!((a.as_slice(), b.as_slice()), (&[5.0, 2.0][..], &[1.0, 2.0][..]));
    }
}
