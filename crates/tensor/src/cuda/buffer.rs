//! Buffers that come from, and go back to, a device's pool, so that a training step in its steady state
//! allocates nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cudarc::driver::sys::CUresult;
use cudarc::driver::{CudaDevice, DevicePtr, DeviceSlice};
use dfdx::tensor::{CudaError, Storage};

use super::{Cuda, describe_dfdx};
use crate::Result;

/// A run of elements on a device, as dfdx stores it. It is also a `CudaSlice<f32>`.
pub(crate) type Slice = <dfdx::tensor::Cuda as Storage<f32>>::Vec;

/// Most elements of a buffer: kernels count in 32 bits, and cuBLAS in signed ones.
const MAX_LEN: usize = i32::MAX as usize;

/// A device's free slices, by length, and what makes new ones. dfdx has a cache of its own, but clears what it
/// takes from there, and may not be asked by two threads at a time; it stays disabled.
pub(super) struct Pool(Mutex<Shelves>);

struct Shelves {
    maker: Maker,
    free: HashMap<usize, Vec<Slice>>,
}

struct Maker(dfdx::tensor::Cuda);

// SAFETY: all that is not `Send` in dfdx's device is the raw handle of a second stream, on which nothing is
// ever queued here. CUDA's handles belong to the process, not to a thread, and cudarc makes the device
// current on the calling thread before it uses one.
unsafe impl Send for Maker {}

impl Pool {
    /// Opens a device, which must exist, with an empty pool.
    pub(super) fn open(ordinal: usize) -> Result<(Self, Arc<CudaDevice>), CudaError> {
        let maker = Maker(dfdx::tensor::Cuda::try_build(ordinal, 0)?);
        let first: Slice = maker.0.try_alloc_len(1)?;
        let device = first.device();
        Ok((Self(Mutex::new(Shelves { maker, free: HashMap::new() })), device))
    }

    fn shelves(&self) -> MutexGuard<'_, Shelves> {
        // whatever panicked elsewhere did so between whole steps
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, len: usize, device: &Arc<CudaDevice>) -> Result<Slice, CudaError> {
        let mut shelves = self.shelves();
        if let Some(slice) = shelves.free.get_mut(&len).and_then(Vec::pop) {
            return Ok(slice);
        }
        match shelves.maker.0.try_alloc_len(len) {
            Err(CudaError::Driver(error)) if error.0 == CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
                // what waits to be used again at other lengths may be enough
                shelves.free.clear();
                device.synchronize()?;
                shelves.maker.0.try_alloc_len(len)
            }
            made => made,
        }
    }

    fn put(&self, slice: Slice) {
        self.shelves().free.entry(slice.len()).or_default().push(slice);
    }

    /// Leaves a lost device's memory alone.
    pub(super) fn abandon(&self) {
        let mut shelves = self.shelves();
        std::mem::forget(std::mem::take(&mut shelves.free));
        std::mem::forget(shelves.maker.0.clone());
    }
}

struct Block {
    /// `None` only while it is dropped. A buffer of no elements has one that is not counted: a device gives out no less.
    slice: Option<Slice>,
    len: usize,
    cuda: Cuda,
}

impl Drop for Block {
    fn drop(&mut self) {
        if let Some(slice) = self.slice.take() {
            self.cuda.0.pool.put(slice);
        }
    }
}

/// A flat run of elements on a device. Cloning shares it; writing to a shared one copies it first.
#[derive(Clone)]
pub struct CudaBuffer(Arc<Block>);

impl std::fmt::Debug for CudaBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CudaBuffer({} elements on {:?})", self.len(), self.0.cuda)
    }
}

impl CudaBuffer {
    pub(crate) fn len(&self) -> usize {
        self.0.len
    }

    /// Where its elements are on the device, for a kernel that is queued before it is dropped.
    pub(crate) fn address(&self) -> u64 {
        *self.slice().device_ptr()
    }

    /// The same for one that a kernel writes to: copied first if somebody shares the elements.
    pub(crate) fn own(&mut self) -> Result<u64> {
        Ok(*self.make_mut()?.device_ptr())
    }

    /// Makes room for other elements in the place of these, which somebody may share: then it is a new buffer, and the
    /// old one comes back.
    pub(crate) fn renew(&mut self) -> Result<Option<Self>> {
        if Arc::get_mut(&mut self.0).is_some() {
            return Ok(None);
        }
        let new = self.0.cuda.build(self.len(), |_| Ok(()))?;
        Ok(Some(std::mem::replace(self, new)))
    }

    pub(crate) fn slice(&self) -> &Slice {
        self.0.slice.as_ref().expect("it is there until it is dropped")
    }

    /// The elements for writing; copied first if somebody shares them.
    pub(crate) fn make_mut(&mut self) -> Result<&mut Slice> {
        if Arc::get_mut(&mut self.0).is_none() {
            let cuda = &self.0.cuda;
            let copy = cuda.build(self.len(), |out| {
                cuda.checked("copying on it", cuda.0.handle.dtod_copy(self.slice(), out))
            })?;
            *self = copy;
        }
        let block = Arc::get_mut(&mut self.0).expect("nobody else has seen it yet");
        Ok(block.slice.as_mut().expect("it is there until it is dropped"))
    }
}

impl Cuda {
    /// A buffer whose every element `write` sets. What the elements are before is unspecified: some earlier
    /// buffer's.
    pub(crate) fn build(
        &self,
        len: usize,
        write: impl FnOnce(&mut Slice) -> Result<()>,
    ) -> Result<CudaBuffer> {
        if len > MAX_LEN {
            return Err(self.error(format!("a buffer of {len} elements won't do: at most {MAX_LEN} will")));
        }
        let slice =
            self.0.pool.take(len.max(1), &self.0.handle).map_err(|error| {
                self.error(describe_dfdx(&format!("allocating {} bytes", 4 * len), &error))
            })?;
        let mut buffer = CudaBuffer(Arc::new(Block { slice: Some(slice), len, cuda: self.clone() }));
        write(buffer.make_mut()?)?;
        Ok(buffer)
    }
}
