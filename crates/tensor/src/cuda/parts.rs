//! Several buffers as one argument of a kernel.

use cudarc::driver::DeviceRepr;

use super::CudaBuffer;

/// Up to 64 buffers by their addresses. The same struct is in `common.cu`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Parts {
    at: [u64; Self::MOST],
}

// SAFETY: it is laid out as in C, has no padding and holds addresses only
unsafe impl DeviceRepr for Parts {}

impl Parts {
    /// Most buffers of one argument.
    pub(crate) const MOST: usize = 64;

    /// The given ones, at most [`MOST`](Self::MOST), which must not be dropped before the kernel is queued.
    pub(crate) fn of(buffers: &[&CudaBuffer]) -> Self {
        let mut parts = Self { at: [0; Self::MOST] };
        for (at, buffer) in parts.at.iter_mut().zip(buffers) {
            *at = buffer.address();
        }
        parts
    }
}
