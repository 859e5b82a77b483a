//! The kernels' module: their source, compiled once a process and loaded once a device, and the shapes of the
//! grids they run in.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use cudarc::driver::{CudaDevice, CudaFunction, LaunchConfig};
use cudarc::nvrtc::{CompileError, CompileOptions, Ptx, compile_ptx_with_opts};

use super::describe;
use crate::{ops, optim};

/// The module's name on a device.
const NAME: &str = "plastica";

/// Threads of a block, but for groups that have more.
const THREADS: usize = 256;

const SOURCE: &str = concat!(
    include_str!("common.cu"),
    include_str!("../ops/attention/kernels.cu"),
    include_str!("../ops/conv_block/kernels.cu"),
    include_str!("../ops/convolution/kernels.cu"),
    include_str!("../ops/fast/kernels.cu"),
    include_str!("../ops/fast/changes.cu"),
    include_str!("../ops/fast/sweeps.cu"),
    include_str!("../ops/history/kernels.cu"),
    include_str!("../ops/indexing/kernels.cu"),
    include_str!("../ops/layer_norm/kernels.cu"),
    include_str!("../ops/layout/kernels.cu"),
    include_str!("../ops/linear/kernels.cu"),
    include_str!("../ops/map/kernels.cu"),
    include_str!("../ops/normalize/kernels.cu"),
    include_str!("../ops/outer/kernels.cu"),
    include_str!("../ops/pooling/kernels.cu"),
    include_str!("../ops/rank_one/kernels.cu"),
    include_str!("../ops/rate/kernels.cu"),
    include_str!("../ops/reduce/kernels.cu"),
    include_str!("../ops/softmax/kernels.cu"),
    include_str!("../ops/steps/kernels.cu"),
    include_str!("../ops/zip/kernels.cu"),
    include_str!("../optim/kernels.cu"),
);

/// The kernels that are looked up by name, each file's listed beside their launches.
fn kernels() -> Vec<&'static str> {
    [
        &["fill"][..],
        ops::attention::cuda::KERNELS,
        ops::conv_block::cuda::KERNELS,
        ops::convolution::cuda::KERNELS,
        ops::fast::cuda::KERNELS,
        ops::fast::cuda_changes::KERNELS,
        ops::history::cuda::KERNELS,
        ops::indexing::cuda::KERNELS,
        ops::layer_norm::cuda::KERNELS,
        ops::layout::cuda::KERNELS,
        ops::linear::cuda::KERNELS,
        ops::map::cuda::KERNELS,
        ops::normalize::cuda::KERNELS,
        ops::outer::cuda::KERNELS,
        ops::pooling::cuda::KERNELS,
        ops::rank_one::cuda::KERNELS,
        ops::rate::cuda::KERNELS,
        ops::reduce::cuda::KERNELS,
        ops::softmax::cuda::KERNELS,
        ops::steps::cuda::KERNELS,
        ops::zip::cuda::KERNELS,
        optim::cuda::KERNELS,
    ]
    .concat()
}

/// Architectures that the kernels are compiled for: the oldest that has all they must have, and the oldest that has the matrix
/// units. Every later card's driver can finish either for its own.
const ARCHITECTURES: [&str; 2] = ["compute_75", "compute_80"];

/// The major capability from which on a card has matrix units that take single precision.
pub(super) const MATRIX_UNITS: i32 = 8;

/// Loads the kernels onto a device of a major capability, by name; an error is its message.
pub(super) fn load(
    device: &Arc<CudaDevice>,
    major: i32,
) -> Result<HashMap<&'static str, CudaFunction>, String> {
    static COMPILED: [OnceLock<Result<Ptx, CompileError>>; 2] = [const { OnceLock::new() }; 2];
    let chosen = usize::from(major >= MATRIX_UNITS);
    let options = || CompileOptions { arch: Some(ARCHITECTURES[chosen]), ..CompileOptions::default() };
    let ptx = COMPILED[chosen].get_or_init(|| compile_ptx_with_opts(SOURCE, options()));
    let ptx = ptx.clone().map_err(|error| match error {
        CompileError::CompileError { log, .. } => {
            format!("nvrtc could not compile the kernels: {}", log.to_string_lossy())
        }
        error => describe("starting nvrtc", error),
    })?;
    let names = kernels();
    device.load_ptx(ptx, NAME, &names).map_err(|error| match error.0 {
        code @ cudarc::driver::sys::CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION => {
            format!(
                "the driver is older than the nvrtc library that compiled the kernels ({code:?}); update it"
            )
        }
        code => describe("loading the kernels", code),
    })?;
    Ok(names.into_iter().filter_map(|name| Some((name, device.get_func(NAME, name)?))).collect())
}

/// A grid of a thread for each of `len` elements.
pub(crate) fn elements(len: usize) -> LaunchConfig {
    grid(len.div_ceil(THREADS), THREADS, 1)
}

/// The same for each of `parts` parts of `len` elements, blockIdx.y being the part.
pub(crate) fn over(len: usize, parts: usize) -> LaunchConfig {
    let mut config = elements(len);
    config.grid_dim.1 = parts as u32;
    config
}

/// A grid of a group of threads for each of `count` groups of `size` elements.
pub(crate) fn groups(count: usize, size: usize) -> LaunchConfig {
    let threads = match size {
        0..=1024 => size.next_power_of_two().min(32),
        1025..=8192 => THREADS,
        _ => 1024,
    };
    let together = (THREADS / threads).max(1);
    grid(count.div_ceil(together), threads, together)
}

/// `blocks` blocks of `x` by `y` threads. No buffer has so many elements that its blocks were too many.
pub(crate) fn grid(blocks: usize, x: usize, y: usize) -> LaunchConfig {
    LaunchConfig { grid_dim: (blocks as u32, 1, 1), block_dim: (x as u32, y as u32, 1), shared_mem_bytes: 0 }
}
