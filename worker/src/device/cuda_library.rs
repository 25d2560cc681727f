//! Loads libtorch_cuda into the process, which registers its kernels and device hooks with libtorch, and asks the driver
//! below it what libtorch does not tell.
//!
//! One of the files with `unsafe`: loading a library runs its initialisers.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_uint};
use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

const NAME: &str = "libtorch_cuda.so";

/// Why libtorch_cuda is not there to be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CudaLibraryError {
    #[error("{NAME} is not beside libtorch in {}", dir.display())]
    Missing { dir: PathBuf },
    #[error("{NAME} cannot be loaded: {reason}")]
    Refused { reason: String },
}

/// Loads it once for the process; it is never unloaded.
pub(super) fn load() -> Result<(), CudaLibraryError> {
    static LOADED: OnceLock<Result<(), CudaLibraryError>> = OnceLock::new();
    LOADED.get_or_init(load_once).clone()
}

fn load_once() -> Result<(), CudaLibraryError> {
    let dir = libtorch_dir();
    // The one of the same build as the libtorch in this process; a bare name could find another.
    let path = dir.as_ref().map_or_else(|| PathBuf::from(NAME), |dir| dir.join(NAME));
    if let Some(dir) = dir.filter(|_| !path.is_file()) {
        return Err(CudaLibraryError::Missing { dir });
    }
    // SAFETY: libtorch_cuda's initialisers register kernels and hooks with the libtorch that is loaded already, as
    // they do in every program linked to it; they ask nothing of their caller. No symbol is taken from here.
    let library = unsafe { Library::open(Some(&path), RTLD_NOW | RTLD_GLOBAL) };
    // Kernels stay registered for the life of the process, so the library must stay too.
    library.map(std::mem::forget).map_err(|error| CudaLibraryError::Refused { reason: first_line(&error) })
}

/// The whole memory of a GPU. The driver tells it without a context on the device, which would take half a gigabyte of it:
/// a worker may wait for its next run for days.
pub(super) fn total_memory_bytes(index: usize) -> Option<u64> {
    let ordinal = c_int::try_from(index).ok()?;
    // SAFETY: the driver's initialisers ask nothing of their caller; with libtorch_cuda it is in use already.
    let driver = unsafe { Library::open(Some("libcuda.so.1"), RTLD_NOW) }.ok()?;
    let (mut device, mut bytes) = (0, 0);
    // SAFETY: the types are those of `cuda.h`, where a status of 0 is success and `CUdevice` an int. Each writes one value
    // to where it is told, and to begin is allowed more than once.
    let statuses = unsafe {
        let begin = driver.get::<unsafe extern "C" fn(c_uint) -> c_int>(b"cuInit\0").ok()?;
        let device_at =
            driver.get::<unsafe extern "C" fn(*mut c_int, c_int) -> c_int>(b"cuDeviceGet\0").ok()?;
        let total =
            driver.get::<unsafe extern "C" fn(*mut usize, c_int) -> c_int>(b"cuDeviceTotalMem_v2\0").ok()?;
        [begin(0), device_at(&raw mut device, ordinal), total(&raw mut bytes, device)]
    };
    // It is in use for the life of the process.
    std::mem::forget(driver);
    (statuses == [0; 3]).then_some(bytes as u64)
}

fn first_line(error: &libloading::Error) -> String {
    let text = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
    text.lines().next().unwrap_or_default().to_owned()
}

/// The folder of the libtorch_cpu that this process has mapped.
fn libtorch_dir() -> Option<PathBuf> {
    // Makes sure that it is mapped: nothing else of libtorch may have been used yet.
    let _ = tch::get_num_threads();
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    let line = maps.lines().find(|line| line.ends_with("/libtorch_cpu.so"))?;
    let path = PathBuf::from(&line[line.find('/')?..]);
    Some(path.parent()?.to_owned())
}
