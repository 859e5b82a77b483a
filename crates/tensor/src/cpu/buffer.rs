//! Buffers that come from, and go back to, a pool, so that a training step in its steady state allocates nothing.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::CpuElement;
use super::transpose::transpose;

/// Most bytes a pool keeps, an element type.
const POOL_BYTES: usize = 512 << 20;

/// Elements from which free buffers are everybody's. A shard's gradients are made on one thread and go on another: in pools
/// a thread they would pile up on the second while the first asks for new memory at every step.
const SHARED_FROM: usize = 1 << 13;

/// Bytes of a cache line. A buffer from the pool begins with one, so that no register's worth of it lies across two.
const LINE: usize = 64;

/// Free blocks, by length.
#[derive(Debug)]
pub struct Pool<E: CpuElement> {
    free: HashMap<usize, Vec<Arc<Block<E>>>, BuildHasherDefault<LengthHasher>>,
    bytes: usize,
}

/// Hashes lengths. They are few and nobody's input, so one multiplication will do: the table's own hash costs as much
/// as a small operation.
#[derive(Debug, Default)]
struct LengthHasher(u64);

impl Hasher for LengthHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_usize(byte.into()));
    }

    fn write_usize(&mut self, length: usize) {
        // 2⁶⁴ over the golden ratio spreads neighbours over the upper bits, the swap brings those down
        self.0 = (self.0 ^ length as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).swap_bytes();
    }
}

impl<E: CpuElement> Pool<E> {
    pub(super) fn new() -> Self {
        Self { free: HashMap::default(), bytes: 0 }
    }

    fn take(&mut self, len: usize) -> Option<Arc<Block<E>>> {
        let block = self.free.get_mut(&len)?.pop()?;
        self.bytes -= size_of_val(block.elements());
        Some(block)
    }

    fn put(&mut self, block: Arc<Block<E>>) {
        let bytes = size_of_val(block.elements());
        if bytes > 0 && self.bytes + bytes <= POOL_BYTES {
            self.bytes += bytes;
            self.free.entry(block.range.len()).or_default().push(block);
        }
    }
}

#[derive(Debug)]
struct Block<E: CpuElement> {
    /// The elements, with room before and after them.
    values: Vec<E>,
    /// Where the elements are in that.
    range: Range<usize>,
    /// The values as a matrix transposed, once somebody has asked for it.
    transposed: OnceLock<CpuBuffer<E>>,
}

impl<E: CpuElement> Block<E> {
    fn zeros(len: usize) -> Self {
        let room = LINE / size_of::<E>();
        let values = vec![E::zero(); len + room];
        let start = values.as_ptr().align_offset(LINE).min(room);
        Self { values, range: start..start + len, transposed: OnceLock::new() }
    }

    fn elements(&self) -> &[E] {
        &self.values[self.range.clone()]
    }

    fn elements_mut(&mut self) -> &mut [E] {
        &mut self.values[self.range.clone()]
    }
}

/// A flat run of elements in memory. Cloning shares it; writing to a shared one copies it first.
///
/// There is a block until the buffer is dropped, when it goes back to the pool as it is, its counter included.
#[derive(Clone)]
pub struct CpuBuffer<E: CpuElement>(Option<Arc<Block<E>>>);

impl<E: CpuElement> Drop for CpuBuffer<E> {
    fn drop(&mut self) {
        let Some(mut shared) = self.0.take() else { return };
        // most buffers that go are clones: a look at the count is cheaper than asking for the block alone
        if Arc::strong_count(&shared) > 1 {
            return;
        }
        if let Some(block) = Arc::get_mut(&mut shared) {
            let block_len = block.range.len();
            block.transposed.take();
            // a thread that is going away has no pool any more; the block is then freed
            E::with_pool(block_len, |pool| pool.put(shared));
        }
    }
}

impl<E: CpuElement> std::fmt::Debug for CpuBuffer<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CpuBuffer<{}>({} elements)", E::NAME, self.as_slice().len())
    }
}

impl<E: CpuElement> From<Vec<E>> for CpuBuffer<E> {
    fn from(values: Vec<E>) -> Self {
        // copied, as a vector that the pool took over would never be asked for again
        Self::build(values.len(), |out| out.copy_from_slice(&values))
    }
}

impl<E: CpuElement> CpuBuffer<E> {
    /// A buffer whose every element `write` sets. What the elements are before is unspecified: some
    /// earlier buffer's.
    pub(crate) fn build(len: usize, write: impl FnOnce(&mut [E])) -> Self {
        let pooled = E::with_pool(len, |pool| pool.take(len)).flatten();
        let mut buffer = Self(Some(pooled.unwrap_or_else(|| Arc::new(Block::zeros(len)))));
        if let Some(block) = buffer.0.as_mut().and_then(Arc::get_mut) {
            write(block.elements_mut());
        }
        buffer
    }

    pub(crate) fn zeros(len: usize) -> Self {
        Self::build(len, |out| out.fill(E::zero()))
    }

    pub(crate) fn as_slice(&self) -> &[E] {
        match &self.0 {
            Some(block) => block.elements(),
            None => &[],
        }
    }

    /// The elements for writing; copied first if somebody shares them.
    pub(crate) fn make_mut(&mut self) -> &mut [E] {
        if self.0.as_mut().is_some_and(|shared| Arc::get_mut(shared).is_none()) {
            *self = Self::build(self.as_slice().len(), |out| out.copy_from_slice(self.as_slice()));
        }
        match self.0.as_mut().and_then(Arc::get_mut) {
            Some(block) => {
                block.transposed.take();
                block.elements_mut()
            }
            None => &mut [],
        }
    }

    /// The values, a matrix `[rows, cols]`, transposed. Computed once and kept until the buffer is written.
    pub(crate) fn transposed(&self, rows: usize, cols: usize) -> &[E] {
        let Some(block) = &self.0 else { return &[] };
        let turned = block
            .transposed
            .get_or_init(|| Self::build(block.range.len(), |to| transpose(block.elements(), to, rows, cols)));
        turned.as_slice()
    }

    pub(crate) fn map(&self, f: impl Fn(E) -> E) -> Self {
        Self::build(self.as_slice().len(), |out| {
            for (out, &x) in out.iter_mut().zip(self.as_slice()) {
                *out = f(x);
            }
        })
    }
}

/// The storage behind [`CpuElement::with_pool`]: a thread's own for small buffers, the process's for large ones.
pub(super) fn visit<E: CpuElement, R>(
    len: usize,
    own: &'static std::thread::LocalKey<RefCell<Pool<E>>>,
    shared: &Mutex<Pool<E>>,
    f: impl FnOnce(&mut Pool<E>) -> R,
) -> Option<R> {
    if len >= SHARED_FROM {
        return Some(f(&mut shared.lock().unwrap_or_else(PoisonError::into_inner)));
    }
    own.try_with(|pool| f(&mut pool.borrow_mut())).ok()
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
    fn a_buffer_from_the_pool_begins_with_a_cache_line() {
        let start = |len| CpuBuffer::<f32>::zeros(len).as_slice().as_ptr().addr();
        for len in [1, 3, 100, 4099, 1 << 18] {
            assert_eq!(start(len) % LINE, 0, "{len} elements");
        }
    }

    #[test]
    fn a_large_buffer_dropped_on_another_thread_is_used_again() {
        // of a length that no other test has
        let len = SHARED_FROM + 4321;
        let first = CpuBuffer::<f64>::zeros(len);
        let place = first.as_slice().as_ptr() as usize;
        std::thread::spawn(move || drop(first)).join().unwrap();
        assert_eq!(CpuBuffer::<f64>::zeros(len).as_slice().as_ptr() as usize, place);
    }

    #[test]
    fn writing_to_a_shared_buffer_leaves_the_other_alone() {
        let mut a = CpuBuffer::from(vec![1.0_f64, 2.0]);
        let b = a.clone();
        a.make_mut()[0] = 5.0;
        assert_eq!((a.as_slice(), b.as_slice()), (&[5.0, 2.0][..], &[1.0, 2.0][..]));
    }
}
