//! What a device is, how much of its memory is in use, and how fast it copies.

use std::ffi::{CStr, c_char, c_int};

use cudarc::driver::{CudaDevice, DriverError, sys};

use super::{Cuda, CudaBuffer};
use crate::Result;

/// A device's memory, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// What is in use, by whomever: the pool of this program, which keeps what it ever needed, cuBLAS, the driver, and
    /// other programs.
    pub used: usize,
    /// All of it.
    pub total: usize,
}

/// The device's name as its maker has it.
pub(super) fn product(device: &CudaDevice) -> std::result::Result<String, DriverError> {
    let mut name = [0 as c_char; 256];
    // SAFETY: the buffer has as many bytes as it is said to have, and the driver ends what it writes with a zero
    unsafe {
        sys::cuDeviceGetName(name.as_mut_ptr(), name.len() as c_int, *device.cu_device()).result()?;
        Ok(CStr::from_ptr(name.as_ptr()).to_string_lossy().trim().to_owned())
    }
}

impl Cuda {
    /// How much of the device's memory is in use. The pool gives nothing back while the device has room, so after a piece
    /// of work this is the most that it used at once.
    ///
    /// # Errors
    /// [`TensorError::Device`](crate::TensorError::Device) when the device is lost.
    pub fn memory(&self) -> Result<Memory> {
        self.checked("choosing the device", self.0.handle.bind_to_thread())?;
        let found = cudarc::driver::result::mem_get_info();
        let (free, total) = self.checked("asking for its memory", found)?;
        Ok(Memory { used: total - free, total })
    }

    /// A copy of a buffer, made on the device.
    ///
    /// # Errors
    /// [`TensorError::Device`](crate::TensorError::Device) when its memory is full, or it is lost.
    pub fn copy(&self, source: &CudaBuffer) -> Result<CudaBuffer> {
        self.build(source.len(), |out| {
            self.checked("copying on it", self.0.handle.dtod_copy(source.slice(), out))
        })
    }
}
