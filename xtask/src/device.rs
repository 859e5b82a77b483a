//! Where to compute: `--device`, and the one place that makes a backend of it.

use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr;

use clap::Args;
use plastica_tensor::Cpu;

use crate::failure::Outcome;

/// Arguments of every task that computes.
#[derive(Args, Debug, Clone, Copy)]
pub struct On {
    /// Where to compute: cpu, cuda (the first CUDA device) or cuda:N, counted from 0. CUDA has to be built in: docs/cuda.md.
    #[arg(long, default_value = "cpu", value_name = "D")]
    pub device: Device,
}

/// A device by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Device {
    /// The processor.
    Cpu,
    /// The CUDA device of this number.
    Cuda(usize),
}

impl FromStr for Device {
    type Err = &'static str;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let number = |number: &str| number.parse().map(Device::Cuda).ok();
        let found = match name {
            "cpu" => Some(Device::Cpu),
            "cuda" => Some(Device::Cuda(0)),
            _ => name.strip_prefix("cuda:").and_then(number),
        };
        found.ok_or("expected cpu, cuda, or cuda and a device's number, such as cuda:1")
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Cpu => f.write_str("cpu"),
            Device::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

/// A device that is ready.
pub enum Opened {
    /// The processor.
    Cpu(Cpu<f32>),
    /// A CUDA device.
    #[cfg(feature = "cuda")]
    Cuda(plastica_tensor::Cuda),
}

impl Device {
    /// How many runs are best under way at once; `None` for one a thread.
    pub fn jobs(self) -> Option<NonZeroUsize> {
        match self {
            Device::Cpu => None,
            // runs that queue work on one device wait for each other: several are no faster, and long ones are slower
            Device::Cuda(_) => Some(NonZeroUsize::MIN),
        }
    }

    /// Opens it.
    ///
    /// # Errors
    /// A usage error where this program was built without it; a failure where there is no driver, library or device.
    pub fn open(self) -> Outcome<Opened> {
        match self {
            Device::Cpu => Ok(Opened::Cpu(Cpu::new())),
            #[cfg(feature = "cuda")]
            Device::Cuda(number) => Ok(Opened::Cuda(plastica_tensor::Cuda::new(number)?)),
            #[cfg(not(feature = "cuda"))]
            Device::Cuda(_) => Err(crate::failure::Failure::usage(anyhow::anyhow!(
                "--device {self}: this program was built without CUDA; with a CUDA toolkit installed, \
                 `cargo xtask-cuda` builds and runs it with CUDA (docs/cuda.md)"
            ))),
        }
    }
}

/// Evaluates `$body`, which may be of any backend, with `$backend` bound to that of a device.
macro_rules! on_device {
    ($device:expr, |$backend:ident| $body:expr) => {
        match $crate::device::Device::open($device)? {
            $crate::device::Opened::Cpu($backend) => $body,
            #[cfg(feature = "cuda")]
            $crate::device::Opened::Cuda($backend) => $body,
        }
    };
}
pub(crate) use on_device;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let check = |name: &str, device: Option<Device>| assert_eq!(name.parse().ok(), device, "{name}");
        check("cpu", Some(Device::Cpu));
        check("cuda", Some(Device::Cuda(0)));
        check("cuda:3", Some(Device::Cuda(3)));
        for wrong in ["", "CUDA", "gpu", "cuda:", "cuda:-1", "cuda:1x", "cuda1", "cpu:0"] {
            check(wrong, None);
        }
        for device in [Device::Cpu, Device::Cuda(0), Device::Cuda(12)] {
            check(&device.to_string(), Some(device));
        }
    }
}
