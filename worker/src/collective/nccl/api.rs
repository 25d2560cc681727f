//! The functions of NCCL, of the CUDA runtime, and of libtorch's C interface to its streams: found at run time.
//!
//! They are taken by name from what the process has loaded already: libtorch_cuda brings its own NCCL and CUDA runtime
//! along, and the copies that it uses are the right ones, whatever their versions. Where libtorch has NCCL linked in
//! out of sight, `libnccl.so.2` is looked for as any library is.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

/// The library's name, as NVIDIA's packages have it.
const LIBRARY: &str = "libnccl.so.2";
/// 2.14 brought communicators that do not block; from 2.18 on they can be aborted while they meet.
const OLDEST: Version = Version(21_800);
/// Their communicators crash when they are aborted and made anew, which is what a change of membership is here.
const CRASHING: [Version; 2] = [Version(22_803), Version(22_808)];

pub(super) type Status = c_int;
pub(super) type Handle = *mut c_void;

/// `ncclUniqueId`: passed by value.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct RawId(pub(super) [c_char; 128]);

/// The part of `ncclConfig_t` that version 2.14 knew; later ones fill in the rest, going by `size` and `version`.
#[repr(C)]
#[derive(Debug)]
pub(super) struct Config {
    pub(super) size: usize,
    pub(super) magic: c_uint,
    pub(super) version: c_uint,
    pub(super) blocking: c_int,
}

/// Numbers on the device: address and count.
#[derive(Debug, Clone, Copy)]
pub(super) struct Float32 {
    pub(super) data: Handle,
    pub(super) len: usize,
}

/// NCCL's own number: 2.28.9 is 22809.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(c_int);

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.0 / 10_000, self.0 / 100 % 100, self.0 % 100)
    }
}

/// Why GPUs cannot be linked.
#[derive(Debug, thiserror::Error)]
pub enum NcclError {
    #[error(
        "NCCL cannot be loaded ({reason}); hint: pip install nvidia-nccl-cu13, and put the folder of {LIBRARY} in LD_LIBRARY_PATH"
    )]
    Missing { reason: String },
    #[error(
        "NCCL {0} is too old, {OLDEST} is needed; hint: install a newer nvidia-nccl, or set LD_PRELOAD to its {LIBRARY}"
    )]
    TooOld(Version),
    #[error(
        "NCCL {0} crashes when a group is made anew; hint: install 2.28.9 or newer, or set LD_PRELOAD to its {LIBRARY}"
    )]
    Crashes(Version),
    #[error("{library} has no {symbol}, so it is another version than this program knows")]
    Symbol { library: &'static str, symbol: &'static str },
}

/// Declares a table of functions and how it is filled from a library.
macro_rules! table {
    ($(#[$about:meta])* $table:ident { $($name:ident = $symbol:literal: ($($argument:ty),*) -> $result:ty;)* }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy)]
        pub(super) struct $table {
            $(pub(super) $name: unsafe extern "C" fn($($argument),*) -> $result,)*
        }

        impl $table {
            fn take(library: &Library, name: &'static str) -> Result<Self, NcclError> {
                Ok(Self { $($name: {
                    // SAFETY: the type is the one that the library's header declares under this name; the library stays
                    // loaded for the life of the process, so the pointer may be copied out of its guard.
                    let found = unsafe { library.get(concat!($symbol, "\0").as_bytes()) };
                    *found.map_err(|_| NcclError::Symbol { library: name, symbol: $symbol })?
                },)* })
            }
        }
    };
}

table! {
    /// `nccl.h`.
    NcclTable {
        unique_id = "ncclGetUniqueId": (*mut RawId) -> Status;
        init = "ncclCommInitRankConfig": (*mut Handle, c_int, RawId, c_int, *mut Config) -> Status;
        async_error = "ncclCommGetAsyncError": (Handle, *mut Status) -> Status;
        abort = "ncclCommAbort": (Handle) -> Status;
        group_start = "ncclGroupStart": () -> Status;
        group_end = "ncclGroupEnd": () -> Status;
        send = "ncclSend": (*const c_void, usize, c_int, c_int, Handle, Handle) -> Status;
        receive = "ncclRecv": (*mut c_void, usize, c_int, c_int, Handle, Handle) -> Status;
        all_reduce = "ncclAllReduce":
            (*const c_void, *mut c_void, usize, c_int, c_int, Handle, Handle) -> Status;
        last_error = "ncclGetLastError": (Handle) -> *const c_char;
        error_text = "ncclGetErrorString": (Status) -> *const c_char;
    }
}

table! {
    /// `cuda_runtime_api.h`.
    CudaTable {
        set_device = "cudaSetDevice": (c_int) -> Status;
        stream_new = "cudaStreamCreateWithPriority": (*mut Handle, c_uint, c_int) -> Status;
        stream_free = "cudaStreamDestroy": (Handle) -> Status;
        stream_query = "cudaStreamQuery": (Handle) -> Status;
        stream_wait = "cudaStreamWaitEvent": (Handle, Handle, c_uint) -> Status;
        event_new = "cudaEventCreateWithFlags": (*mut Handle, c_uint) -> Status;
        event_free = "cudaEventDestroy": (Handle) -> Status;
        event_record = "cudaEventRecord": (Handle, Handle) -> Status;
        event_query = "cudaEventQuery": (Handle) -> Status;
        error_text = "cudaGetErrorString": (Status) -> *const c_char;
    }
}

table! {
    /// libtorch's `aoti_torch/c/shim.h`: C functions that it keeps stable.
    TorchTable {
        current_stream = "aoti_torch_get_current_cuda_stream": (i32, *mut Handle) -> i32;
        guard_new = "aoti_torch_create_cuda_stream_guard": (Handle, i32, *mut Handle) -> i32;
        guard_free = "aoti_torch_delete_cuda_stream_guard": (Handle) -> i32;
    }
}

/// Everything that links need.
#[derive(Debug, Clone, Copy)]
pub(super) struct Api {
    pub(super) nccl: NcclTable,
    pub(super) cuda: CudaTable,
    pub(super) torch: TorchTable,
}

impl Api {
    pub(super) fn load() -> Result<Self, NcclError> {
        let process = Library::this();
        let nccl = load_nccl(LIBRARY)?;
        version_of(&nccl)?.check()?;
        let table = NcclTable::take(&nccl, LIBRARY)?;
        // What the tables point to must stay.
        std::mem::forget(nccl);
        Ok(Self {
            nccl: table,
            cuda: CudaTable::take(&process, "the CUDA runtime")?,
            torch: TorchTable::take(&process, "libtorch_cuda")?,
        })
    }
}

/// The copy that libtorch uses, else the one that the system finds.
fn load_nccl(name: &str) -> Result<Library, NcclError> {
    let process = Library::this();
    // SAFETY: the symbol is only looked for.
    if unsafe { process.get::<Handle>(b"ncclGetVersion\0") }.is_ok() {
        return Ok(process);
    }
    // SAFETY: NCCL's initialisers ask nothing of their caller.
    let opened = unsafe { Library::open(Some(name), RTLD_NOW | RTLD_GLOBAL) };
    opened.map_err(|error| {
        let text = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
        NcclError::Missing { reason: text.lines().next().unwrap_or_default().to_owned() }
    })
}

fn version_of(nccl: &Library) -> Result<Version, NcclError> {
    let symbol = "ncclGetVersion";
    let missing = |_| NcclError::Symbol { library: LIBRARY, symbol };
    // SAFETY: declared so in every version's header.
    let get = unsafe { nccl.get::<unsafe extern "C" fn(*mut c_int) -> Status>(symbol.as_bytes()) };
    let mut number = 0;
    // SAFETY: it writes one number to where it is told.
    unsafe { get.map_err(missing)?(&raw mut number) };
    Ok(Version(number))
}

impl Version {
    fn check(self) -> Result<(), NcclError> {
        match self {
            old if old < OLDEST => Err(NcclError::TooOld(old)),
            crashing if CRASHING[0] <= crashing && crashing <= CRASHING[1] => {
                Err(NcclError::Crashes(crashing))
            }
            _ => Ok(()),
        }
    }
}

/// What a library says, copied.
///
/// # Safety
/// `text` is null or a C string that lives for the call.
pub(super) unsafe fn said(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_that_cannot_serve_are_told_with_a_hint() {
        assert!(Version(22_809).check().is_ok() && Version(23_203).check().is_ok());
        let old = Version(21_703).check().unwrap_err().to_string();
        assert!(old.starts_with("NCCL 2.17.3 is too old, 2.18.0 is needed; hint: "), "{old}");
        let crashing = Version(22_805).check().unwrap_err().to_string();
        assert!(crashing.contains("2.28.5 crashes") && crashing.contains("2.28.9"), "{crashing}");
    }

    #[test]
    fn a_missing_library_is_told_with_a_hint() {
        let error = load_nccl("libnccl-of-nobody.so.2").unwrap_err().to_string();
        let [reason, hint] =
            ["NCCL cannot be loaded (libnccl-of-nobody.so.2: ", "hint: pip install nvidia-nccl"];
        assert!(error.starts_with(reason) && error.contains(hint), "{error}");
    }

    table! {
        Nobodys { nothing = "nobodys_function": () -> Status; }
    }

    #[test]
    fn a_missing_function_is_named() {
        let taken = Nobodys::take(&Library::this(), "this library");
        let error = taken.map(|table| table.nothing).unwrap_err().to_string();
        let expected =
            "this library has no nobodys_function, so it is another version than this program knows";
        assert_eq!(error, expected);
    }
}
