//! Which of a GPU's kernels libtorch takes: those that give the same bits every time, or the fastest.
//!
//! tch has no way to say it, so libtorch is asked by its own functions, under the names that its compiler gave them:
//! they are those of the one version that the bindings are for.
#![allow(unsafe_code)]

use std::ffi::c_void;

use libloading::os::unix::Library;
use tch::Device;

use super::DeviceError;

/// What cuBLAS reads when it starts, to take the same kernels whatever else goes on. The size is libtorch's own for new
/// GPUs.
pub(super) const WORKSPACE: (&str, &str) = ("CUBLAS_WORKSPACE_CONFIG", ":4096:8");

/// `at::globalContext()`.
const CONTEXT: &str = "_ZN2at13globalContextEv";
/// `at::Context::setDeterministicCuDNN(bool)`.
const CUDNN: &str = "_ZN2at7Context21setDeterministicCuDNNEb";
/// `at::Context::setDeterministicAlgorithms(bool, bool warn_only)`.
const ALGORITHMS: &str = "_ZN2at7Context26setDeterministicAlgorithmsEbb";
/// `at::Context::setDeterministicFillUninitializedMemory(bool)`.
const FILL: &str = "_ZN2at7Context39setDeterministicFillUninitializedMemoryEb";

type Switch = unsafe extern "C" fn(*mut c_void, bool);

/// Makes libtorch compute on `device` so that the same numbers come to the same bits, where `exact`; else as fast as it can
/// find out. A CPU's kernels are exact anyway.
///
/// # Errors
/// [`DeviceError::Inexact`].
pub fn choose_kernels(device: Device, exact: bool) -> Result<(), DeviceError> {
    if device == Device::Cpu {
        return Ok(());
    }
    // Trying out which one is fastest picks another one each time.
    tch::Cuda::cudnn_set_benchmark(!exact);
    set_deterministic(exact)
}

fn set_deterministic(exact: bool) -> Result<(), DeviceError> {
    let process = Library::this();
    // SAFETY: libtorch 2.11 is linked, and these are its functions' types: a member function's first argument is the
    // object, and `globalContext` returns a reference to one that lives for good.
    unsafe {
        let context: unsafe extern "C" fn() -> *mut c_void = find(&process, CONTEXT)?;
        let cudnn: Switch = find(&process, CUDNN)?;
        let algorithms: unsafe extern "C" fn(*mut c_void, bool, bool) = find(&process, ALGORITHMS)?;
        let fill: Switch = find(&process, FILL)?;
        let context = context();
        cudnn(context, exact);
        // A kernel that cannot do it is told on stderr.
        algorithms(context, exact, true);
        // It is for finding mistakes, and costs a pass over everything that is allocated.
        fill(context, false);
    }
    Ok(())
}

/// # Safety
/// `T` is the type of the function of that name.
unsafe fn find<T: Copy>(process: &Library, symbol: &'static str) -> Result<T, DeviceError> {
    // SAFETY: the caller's promise; libtorch is never unloaded.
    let found = unsafe { process.get::<T>(symbol.as_bytes()) };
    found.map(|found| *found).map_err(|_| DeviceError::Inexact { symbol })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_deterministic() -> bool {
        let process = Library::this();
        // SAFETY: as in `set_deterministic`; `at::Context::deterministicCuDNN() const`.
        unsafe {
            let context: unsafe extern "C" fn() -> *mut c_void = find(&process, CONTEXT).unwrap();
            let get = find(&process, "_ZNK2at7Context18deterministicCuDNNEv").unwrap();
            let get: unsafe extern "C" fn(*mut c_void) -> bool = get;
            get(context())
        }
    }

    #[test]
    fn libtorch_does_as_it_is_told() {
        // Nothing of it matters to the CPU's kernels, which other tests use meanwhile.
        for exact in [true, false] {
            set_deterministic(exact).unwrap();
            assert_eq!(is_deterministic(), exact);
        }
    }

    #[test]
    fn a_libtorch_that_cannot_be_asked_is_told_with_a_hint() {
        // SAFETY: there is none.
        let found = unsafe { find::<Switch>(&Library::this(), "no_such_function") };
        let error = found.err().unwrap().to_string();
        assert!(error.contains("no_such_function") && error.contains("hint: "), "{error}");
    }
}
