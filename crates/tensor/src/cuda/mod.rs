//! The CUDA backend (feature `cuda`): `f32` on one of NVIDIA's cards.
//!
//! Buffers are dfdx's storage on its cudarc device, matrix products are cuBLAS's, in full single precision,
//! and all else is kernels of this crate, each beside its operation (`kernels.cu`). Work is queued on the
//! device's default stream, so operations return before they are done, and only a value that is asked for on
//! the host is waited for.
//!
//! Nothing is added up in an order that may vary (there are no atomic additions; blocks count themselves, so that the last one knows
//! that it is, and it adds up in a fixed order): the same computation on the same card gives the same bits.
//!
//! Kernels are compiled when a device is opened, by nvrtc, and not when the crate is: one binary then fits
//! every card, the driver finishing the work for the one that is there, and a build needs nothing beyond what
//! dfdx asks for, which is a CUDA toolkit. `docs/cuda.md` says how to get one, how to check types and lints without,
//! and what has to be there at run time.
//!
//! A kernel's sizes have 32 bits, so a buffer has less than 2³¹ elements; more are refused.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;

use cudarc::cublas::CudaBlas;
use cudarc::driver::sys::CUdevice_attribute;
use cudarc::driver::{CudaDevice, CudaFunction, DriverError, LaunchAsync, LaunchConfig};
use dfdx::tensor::CudaError;

use crate::{Result, Storage, TensorError};

mod buffer;
mod card;
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod libraries;
mod module;
mod parts;
mod strided;

pub use buffer::CudaBuffer;
pub(crate) use buffer::Slice;
pub use card::Memory;
pub(crate) use module::{elements, grid, groups, over};
pub(crate) use parts::Parts;
pub(crate) use strided::Strided;

use buffer::Pool;

/// Times as much work as a core takes at once: what a launch costs is paid once for all of it. A batch of 8000 short
/// episodes is then one part, which at the published widths takes some 12 GB under the hebbian rule, 26 under gradient.
const BREADTH: usize = 16;

/// A CUDA device, computing with `f32`. Cloning shares it; it may be used by several threads.
#[derive(Clone)]
pub struct Cuda(Arc<Device>);

struct Device {
    ordinal: usize,
    name: String,
    handle: Arc<CudaDevice>,
    blas: Arc<CudaBlas>,
    kernels: HashMap<&'static str, CudaFunction>,
    /// The major part of its compute capability.
    major: i32,
    pool: Pool,
}

impl Cuda {
    /// Opens the device of that number, as CUDA counts them, from 0 (`nvidia-smi` does with `CUDA_DEVICE_ORDER=PCI_BUS_ID`).
    ///
    /// Each call opens it anew, with a pool of memory of its own: clone the handle to share it.
    ///
    /// # Errors
    /// [`TensorError::Device`] when there is no driver, no such device, no memory left on it, or the kernels
    /// cannot be compiled for it.
    pub fn new(ordinal: usize) -> Result<Self> {
        let failed = |message| TensorError::Device { device: format!("cuda:{ordinal}"), message };
        let by_driver = |error: DriverError| failed(describe("opening the device", error.0));
        let absent = |error: DriverError| {
            failed(match format!("{:?}", error.0) {
                code if code == "CUDA_ERROR_NO_DEVICE" => {
                    "there is no CUDA device in this machine, or none that this process may use \
                     (CUDA_VISIBLE_DEVICES); compute on the CPU"
                        .to_owned()
                }
                code => format!(
                    "the CUDA driver could not be started ({code}); install NVIDIA's driver for the card, or \
                     compute on the CPU"
                ),
            })
        };
        #[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
        libraries::load().map_err(failed)?;
        // dfdx and cudarc panic where there is no driver or no such device, so both are asked for first
        cudarc::driver::result::init().map_err(absent)?;
        let count = cudarc::driver::result::device::get_count().map_err(absent)?;
        if usize::try_from(count).is_ok_and(|count| ordinal >= count) {
            return Err(failed(format!("there is no such device; this machine has {count}, counted from 0")));
        }
        let (pool, handle) =
            Pool::open(ordinal).map_err(|error| failed(describe_dfdx("opening it", &error)))?;
        let blas = CudaBlas::new(Arc::clone(&handle))
            .map_err(|error| failed(describe("starting cuBLAS", error.0)))?;
        let capability = |attribute| handle.attribute(attribute).map_err(by_driver);
        let (major, minor) = (
            capability(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            capability(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        );
        let product = card::product(&handle).map_err(by_driver)?;
        let kernels = module::load(&handle, major).map_err(failed)?;
        let name = format!("cuda:{ordinal} (sm_{major}{minor}, f32, {product})");
        Ok(Self(Arc::new(Device { ordinal, name, handle, blas: Arc::new(blas), kernels, major, pool })))
    }

    /// The device's number.
    pub fn ordinal(&self) -> usize {
        self.0.ordinal
    }

    /// Whether it has matrix units that take single precision.
    pub(crate) fn has_matrix_units(&self) -> bool {
        self.0.major >= module::MATRIX_UNITS
    }

    /// Waits until all work that was queued is done, as a measurement of time must.
    ///
    /// # Errors
    /// [`TensorError::Device`] when the device is lost.
    pub fn synchronize(&self) -> Result<()> {
        self.checked("waiting for the device", self.0.handle.synchronize())
    }

    /// Queues a kernel; an empty grid is no work.
    ///
    /// # Safety
    /// The arguments must be, in number, order and type, the kernel's parameters, and under `config` the
    /// kernel must stay inside of the buffers that it is given. Buffers may be dropped before it runs.
    pub(crate) unsafe fn launch<A>(
        &self,
        kernel: &'static str,
        config: LaunchConfig,
        arguments: A,
    ) -> Result<()>
    where
        CudaFunction: LaunchAsync<A>,
    {
        if config.grid_dim.0 * config.grid_dim.1 == 0 {
            return Ok(());
        }
        let Some(function) = self.0.kernels.get(kernel) else {
            return Err(self.error(format!("its module has no kernel {kernel}")));
        };
        // SAFETY: the caller vouches for the arguments. What is dropped goes back to a pool, whose next user
        // queues work behind this kernel, on the same stream.
        self.checked(kernel, unsafe { function.clone().launch(config, arguments) })
    }

    /// cuBLAS, with the device made current on this thread.
    pub(crate) fn blas(&self) -> Result<&CudaBlas> {
        self.checked("choosing the device", self.0.handle.bind_to_thread())?;
        Ok(&self.0.blas)
    }

    pub(crate) fn checked<T>(&self, doing: &str, result: Result<T, impl Status>) -> Result<T> {
        result.map_err(|error| self.error(error.describe(doing)))
    }

    pub(crate) fn error(&self, message: String) -> TensorError {
        TensorError::Device { device: self.0.name.clone(), message }
    }
}

impl Debug for Cuda {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cuda({})", self.0.name)
    }
}

impl Storage for Cuda {
    type Elem = f32;
    type Buffer = CudaBuffer;

    fn name(&self) -> String {
        self.0.name.clone()
    }

    fn upload(&self, values: Vec<f32>) -> Result<CudaBuffer> {
        self.build(values.len(), |out| match &values[..] {
            [] => Ok(()),
            values => self.checked("copying to it", self.0.handle.htod_sync_copy_into(values, out)),
        })
    }

    fn download(&self, buffer: &CudaBuffer) -> Result<Vec<f32>> {
        let mut values = vec![0.0; buffer.len()];
        if !values.is_empty() {
            let copied = self.0.handle.dtoh_sync_copy_into(buffer.slice(), &mut values);
            self.checked("copying from it", copied)?;
        }
        Ok(values)
    }

    fn full(&self, len: usize, value: f32) -> Result<CudaBuffer> {
        self.build(len, |out| {
            // SAFETY: fill(out, value, len) writes `len` elements, as many as `out` has
            unsafe { self.launch("fill", elements(len), (out, value, len as u32)) }
        })
    }

    fn synchronize(&self) -> Result<()> {
        Cuda::synchronize(self)
    }

    fn breadth(&self) -> usize {
        BREADTH
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // dfdx and cudarc panic when a device won't take back what is freed, as one that is lost; nothing of
        // a lost device can be used again, so then it is left to the process's end
        if self.handle.synchronize().is_err() {
            std::mem::forget((Arc::clone(&self.handle), Arc::clone(&self.blas)));
            self.pool.abandon();
        }
    }
}

/// An error code of one of CUDA's libraries.
pub(crate) trait Status {
    /// A message: what happened while doing what, and what can be done.
    fn describe(&self, doing: &str) -> String;
}

impl Status for DriverError {
    fn describe(&self, doing: &str) -> String {
        describe(doing, self.0)
    }
}

impl Status for cudarc::cublas::result::CublasError {
    fn describe(&self, doing: &str) -> String {
        describe(doing, self.0)
    }
}

/// The error types' own messages ask the driver for a text, and panic without one; the codes have names.
fn describe(doing: &str, code: impl Debug) -> String {
    let code = format!("{code:?}");
    let advice = match &code[..] {
        "CUDA_ERROR_OUT_OF_MEMORY" | "CUBLAS_STATUS_ALLOC_FAILED" => {
            "its memory is full; make the batch smaller, or end what else uses the device"
        }
        _ => "see nvidia-smi for the device's state; if it is in order, start the program again",
    };
    format!("{doing} failed with {code}: {advice}")
}

fn describe_dfdx(doing: &str, error: &CudaError) -> String {
    match error {
        CudaError::Driver(error) => describe(doing, error.0),
        CudaError::Blas(error) => describe(doing, error.0),
        other => describe(doing, other),
    }
}
