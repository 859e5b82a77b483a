//! What a study ran on and with.

use serde::Serialize;
use sysinfo::{CpuRefreshKind, RefreshKind, System};

use crate::VERSION;

/// The machine: what it is, not which one it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// Model name of the processor.
    pub processor: String,
    /// Its instruction set.
    pub architecture: String,
    /// Threads that can run at once.
    pub cores: usize,
    /// Operating system and its version.
    pub system: String,
}

/// What computed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Versions {
    /// This crate.
    pub plastica: String,
    /// The compiler that built it.
    pub rustc: String,
}

impl Machine {
    /// This machine.
    pub fn detect() -> Self {
        let system = System::new_with_specifics(RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing()));
        let brand = system.cpus().first().map(|cpu| cpu.brand().trim().to_owned());
        Self {
            processor: brand.filter(|brand| !brand.is_empty()).unwrap_or_else(|| "unknown".to_owned()),
            architecture: System::cpu_arch(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            system: System::long_os_version().unwrap_or_else(|| std::env::consts::OS.to_owned()),
        }
    }
}

impl Versions {
    /// Those of this build.
    pub fn current() -> Self {
        Self { plastica: VERSION.to_owned(), rustc: env!("PLASTICA_RUSTC").to_owned() }
    }
}
