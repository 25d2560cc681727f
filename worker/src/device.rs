//! The devices that libtorch can use here.
//!
//! The linker drops libtorch_cuda, as no symbol of it is referenced; without it libtorch knows no GPU. So it is loaded at
//! run time, and only when somebody asks for a GPU: it takes a second and a gigabyte.

mod cuda_library;
mod kernels;
mod memory;

use std::fmt;
use std::str::FromStr;

pub use self::kernels::choose_kernels;
pub use self::memory::memory_bytes;

/// The libtorch whose interface the bindings were generated for; they refuse to be built against another.
pub const LIBTORCH_VERSION: &str = "2.11.0";

/// A device as people write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceName {
    Cpu,
    Cuda(usize),
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

impl FromStr for DeviceName {
    type Err = DeviceError;

    fn from_str(name: &str) -> Result<Self, DeviceError> {
        let index = match name {
            "cpu" => return Ok(Self::Cpu),
            "cuda" => Some(0),
            _ => name.strip_prefix("cuda:").and_then(|index| index.parse().ok()),
        };
        index.map(Self::Cuda).ok_or_else(|| DeviceError::UnknownName(name.to_owned()))
    }
}

/// Why a device cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    #[error("unknown device {0:?}; known are cpu and cuda:N")]
    UnknownName(String),
    #[error("this libtorch cannot use GPUs: {0}")]
    NoCuda(#[from] cuda_library::CudaLibraryError),
    #[error("libtorch finds no NVIDIA driver or no GPU on this machine")]
    NoGpu,
    #[error("there is no cuda:{index}; the devices are cuda:0 to cuda:{}", count - 1)]
    NoSuchGpu { index: usize, count: usize },
    #[error(
        "libtorch has no {symbol}, so it cannot be told to compute the same bits every time; hint: use libtorch \
         {LIBTORCH_VERSION}, or set `exact = false` in the recipe"
    )]
    Inexact { symbol: &'static str },
}

/// Makes a device ready for libtorch.
///
/// # Errors
/// When a GPU is asked for that libtorch cannot use.
pub fn open(name: DeviceName) -> Result<tch::Device, DeviceError> {
    let DeviceName::Cuda(index) = name else { return Ok(tch::Device::Cpu) };
    match cuda_count()? {
        0 => Err(DeviceError::NoGpu),
        count if index >= count => Err(DeviceError::NoSuchGpu { index, count }),
        _ => Ok(tch::Device::Cuda(index)),
    }
}

/// What this process needs in its environment before it starts to use the device, and lacks.
pub fn missing_environment(
    device: DeviceName,
    is_set: impl Fn(&str) -> bool,
) -> Option<(&'static str, &'static str)> {
    let wanted = matches!(device, DeviceName::Cuda(_)).then_some(kernels::WORKSPACE);
    wanted.filter(|(name, _)| !is_set(name))
}

/// All devices, and why there is no GPU among them.
#[must_use]
pub fn list() -> (Vec<DeviceName>, Option<DeviceError>) {
    let (count, error) = match cuda_count() {
        Ok(0) => (0, Some(DeviceError::NoGpu)),
        Ok(count) => (count, None),
        Err(error) => (0, Some(error)),
    };
    (std::iter::once(DeviceName::Cpu).chain((0..count).map(DeviceName::Cuda)).collect(), error)
}

fn cuda_count() -> Result<usize, DeviceError> {
    cuda_library::load()?;
    Ok(usize::try_from(tch::Cuda::device_count()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpus_alone_need_an_environment_and_what_is_set_stays() {
        let gpu = DeviceName::Cuda(1);
        assert_eq!(missing_environment(gpu, |_| false), Some(("CUBLAS_WORKSPACE_CONFIG", ":4096:8")));
        assert_eq!(missing_environment(gpu, |_| true), None);
        assert_eq!(missing_environment(DeviceName::Cpu, |_| false), None);
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        for name in ["cpu", "cuda:0", "cuda:13"] {
            assert_eq!(name.parse::<DeviceName>().unwrap().to_string(), name);
        }
        assert_eq!("cuda".parse::<DeviceName>().unwrap(), DeviceName::Cuda(0));
        for name in ["", "gpu", "cuda:", "cuda:-1", "cuda:x"] {
            assert!(name.parse::<DeviceName>().is_err(), "{name}");
        }
    }
}
