//! CUDA's libraries, looked for when a device is opened and not when the program starts: one program runs with and
//! without them, and what is missing is an error like any other.
//!
//! The functions that cudarc declares are defined here, each as a jump to where its library has it. A linker that finds
//! them defined records no library that would have to be there; of a function that is missing from the list below it
//! would record one again.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, Ordering};

/// Finds the libraries and their functions. Nothing of cudarc or dfdx may be called before.
///
/// # Errors
/// What is missing, and what can be done.
pub(super) fn load() -> Result<(), String> {
    static LOADED: OnceLock<Result<(), String>> = OnceLock::new();
    LOADED.get_or_init(|| LIBRARIES.iter().try_for_each(Library::load)).clone()
}

struct Library {
    /// Names of the file, the one looked for first to begin with.
    files: &'static [&'static CStr],
    /// What can be done where there is none.
    advice: &'static str,
    functions: &'static [Function],
}

struct Function {
    name: &'static CStr,
    place: &'static AtomicPtr<c_void>,
}

const DRIVER: &str = "install NVIDIA's driver for the card, or compute on the CPU";
const TOOLKIT: &str = "install the CUDA toolkit's libraries, or name their folder in LD_LIBRARY_PATH";

unsafe extern "C" {
    fn dlopen(file: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
    fn dlerror() -> *const c_char;
}

/// What functions are there must be known at once: `RTLD_NOW`.
const AT_ONCE: c_int = 2;

impl Library {
    fn load(&self) -> Result<(), String> {
        let library = self.open()?;
        for Function { name, place } in self.functions {
            // SAFETY: the library stays open for good, and the name ends with a zero
            let found = unsafe { dlsym(library, name.as_ptr()) };
            if found.is_null() {
                let (file, name) = (self.files[0].to_string_lossy(), name.to_string_lossy());
                return Err(format!("{file} is too old: it has no {name}; {}", self.advice));
            }
            place.store(found, Ordering::Release);
        }
        Ok(())
    }

    fn open(&self) -> Result<*mut c_void, String> {
        let mut reason = None;
        for file in self.files {
            // SAFETY: the name ends with a zero; the library is CUDA's, whose initialisers ask nothing of the process
            let library = unsafe { dlopen(file.as_ptr(), AT_ONCE) };
            if !library.is_null() {
                return Ok(library);
            }
            // SAFETY: after a failure there is a text, which stays until this thread's next call
            reason.get_or_insert_with(|| unsafe { CStr::from_ptr(dlerror()) }.to_string_lossy().into_owned());
        }
        Err(format!("{}; {}", reason.unwrap_or_default(), self.advice))
    }
}

macro_rules! functions {
    ($($name:ident)*) => {{
        $(
            mod $name {
                use super::*;

                /// Where the function is, once its library is open.
                pub(super) static PLACE: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());

                #[cfg(target_arch = "x86_64")]
                std::arch::global_asm!(
                    ".text",
                    concat!(".globl ", stringify!($name)),
                    concat!(".type ", stringify!($name), ", @function"),
                    concat!(stringify!($name), ":"),
                    "jmp qword ptr [rip + {place}]",
                    place = sym PLACE,
                );
                #[cfg(target_arch = "aarch64")]
                std::arch::global_asm!(
                    ".text",
                    concat!(".globl ", stringify!($name)),
                    concat!(".type ", stringify!($name), ", %function"),
                    concat!(stringify!($name), ":"),
                    "adrp x16, {place}",
                    "ldr x16, [x16, :lo12:{place}]",
                    "br x16",
                    place = sym PLACE,
                );
            }
        )*
        &[$(Function { name: name(concat!(stringify!($name), "\0")), place: &$name::PLACE }),*]
    }};
}

const fn name(text: &'static str) -> &'static CStr {
    match CStr::from_bytes_with_nul(text.as_bytes()) {
        Ok(name) => name,
        Err(_) => panic!("a name ends with a zero, and has no other"),
    }
}

#[allow(non_snake_case)]
static LIBRARIES: [Library; 3] = [
    Library {
        files: &[c"libcuda.so.1"],
        advice: DRIVER,
        functions: functions! {
            cuCtxSetCurrent cuDeviceGet cuDeviceGetAttribute cuDeviceGetCount cuDeviceGetName
            cuDevicePrimaryCtxRelease_v2 cuDevicePrimaryCtxRetain cuEventCreate cuEventDestroy_v2 cuEventRecord
            cuFuncSetAttribute cuGetErrorName cuGetErrorString cuInit cuLaunchKernel cuMemAllocAsync cuMemAlloc_v2
            cuMemFreeAsync cuMemFree_v2 cuMemGetInfo_v2 cuMemcpyDtoDAsync_v2 cuMemcpyDtoD_v2 cuMemcpyDtoHAsync_v2
            cuMemcpyDtoH_v2 cuMemcpyHtoDAsync_v2 cuMemcpyHtoD_v2 cuMemsetD8Async cuMemsetD8_v2 cuModuleGetFunction
            cuModuleLoad cuModuleLoadData cuModuleUnload cuStreamCreate cuStreamDestroy_v2 cuStreamSynchronize
            cuStreamWaitEvent
        },
    },
    Library {
        files: &[c"libnvrtc.so.13", c"libnvrtc.so.12", c"libnvrtc.so"],
        advice: TOOLKIT,
        functions: functions! {
            nvrtcCompileProgram nvrtcCreateProgram nvrtcDestroyProgram nvrtcGetPTX nvrtcGetPTXSize nvrtcGetProgramLog
            nvrtcGetProgramLogSize
        },
    },
    Library {
        files: &[c"libcublas.so.13", c"libcublas.so.12", c"libcublas.so"],
        advice: TOOLKIT,
        functions: functions! {
            cublasCreate_v2 cublasDestroy_v2 cublasSetMathMode cublasSetStream_v2 cublasSetWorkspace_v2
            cublasSgemmStridedBatched cublasSgemm_v2
        },
    },
];
