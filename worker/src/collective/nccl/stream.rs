//! A stream beside the one that libtorch computes on, and the events that order the two.
#![allow(unsafe_code)]

use std::ffi::c_int;

use super::super::error::CollectiveError;
use super::api::{Api, Handle, Status, said};
use super::failed;

const SUCCESS: Status = 0;
/// `cudaErrorNotReady`.
const NOT_READY: Status = 600;
/// `cudaStreamNonBlocking`: libtorch's stream is the default one, and others would wait for it at every turn.
const NON_BLOCKING: u32 = 1;
/// The device runs what moves gradients before what computes more of them; values are cut to what it has.
const PRIORITY: c_int = -5;
/// `cudaEventDisableTiming`: cheaper.
const NO_TIMING: u32 = 2;

/// The thread's device, which NCCL goes by.
pub(super) fn use_device(api: &Api, index: i32) -> Result<(), CollectiveError> {
    // SAFETY: a number is all it takes.
    told(api, unsafe { (api.cuda.set_device)(index) })
}

#[derive(Debug)]
pub(super) struct Stream {
    api: Api,
    handle: Handle,
}

// SAFETY: CUDA's streams belong to no thread, and this handle's only owner is borrowed for each call.
unsafe impl Send for Stream {}

impl Stream {
    /// On the thread's device.
    pub(super) fn new(api: &Api) -> Result<Self, CollectiveError> {
        let mut handle = std::ptr::null_mut();
        // SAFETY: it writes a handle to where it is told.
        told(api, unsafe { (api.cuda.stream_new)(&raw mut handle, NON_BLOCKING, PRIORITY) })?;
        Ok(Self { api: *api, handle })
    }

    pub(super) fn handle(&self) -> Handle {
        self.handle
    }

    /// What is queued here later runs after what came before `event`.
    pub(super) fn wait_for(&self, api: &Api, event: &Event) -> Result<(), CollectiveError> {
        // SAFETY: both handles are alive.
        told(api, unsafe { (api.cuda.stream_wait)(self.handle, event.handle, 0) })
    }

    /// Whether nothing is left to do, or never will be: a broken device does nothing any more.
    pub(super) fn is_idle(&self, api: &Api) -> bool {
        // SAFETY: the handle is alive.
        unsafe { (api.cuda.stream_query)(self.handle) != NOT_READY }
    }

    /// libtorch's operations of this thread go here until the guard is dropped.
    pub(super) fn make_current(&self, api: &Api, device: i32) -> Result<Guard, CollectiveError> {
        let mut handle = std::ptr::null_mut();
        // SAFETY: the stream outlives the guard, which the one caller drops before it; a handle is written.
        match unsafe { (api.torch.guard_new)(self.handle, device, &raw mut handle) } {
            0 => Ok(Guard { api: *api, handle }),
            code => Err(failed("a change of stream", format!("libtorch refused it with code {code}"))),
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // SAFETY: the handle is alive and not used again; CUDA finishes what is queued first.
        unsafe { (self.api.cuda.stream_free)(self.handle) };
    }
}

/// While it lives libtorch has another current stream.
#[derive(Debug)]
pub(super) struct Guard {
    api: Api,
    handle: Handle,
}

impl Drop for Guard {
    fn drop(&mut self) {
        // SAFETY: the guard is alive, and freed once, by the thread that made it: it is not `Send`.
        unsafe { (self.api.torch.guard_free)(self.handle) };
    }
}

/// A point in a stream's work.
#[derive(Debug)]
pub(super) struct Event {
    api: Api,
    handle: Handle,
}

// SAFETY: as for `Stream`.
unsafe impl Send for Event {}

impl Event {
    pub(super) fn new(api: &Api) -> Result<Self, CollectiveError> {
        let mut handle = std::ptr::null_mut();
        // SAFETY: it writes a handle to where it is told.
        told(api, unsafe { (api.cuda.event_new)(&raw mut handle, NO_TIMING) })?;
        Ok(Self { api: *api, handle })
    }

    /// Marks what is in `stream` by now.
    pub(super) fn record(&self, api: &Api, stream: &Stream) -> Result<(), CollectiveError> {
        // SAFETY: both handles are alive.
        told(api, unsafe { (api.cuda.event_record)(self.handle, stream.handle) })
    }

    /// Marks what libtorch has asked `device` for by now.
    pub(super) fn record_current(&self, api: &Api, device: i32) -> Result<(), CollectiveError> {
        let mut stream = std::ptr::null_mut();
        // SAFETY: it writes a handle, which libtorch keeps alive for good.
        if unsafe { (api.torch.current_stream)(device, &raw mut stream) } != 0 {
            return Err(failed("an exchange", "libtorch does not tell its stream".to_owned()));
        }
        // SAFETY: both handles are alive.
        told(api, unsafe { (api.cuda.event_record)(self.handle, stream) })
    }

    /// Whether the device has got there; an event that was never recorded counts as reached.
    pub(super) fn is_reached(&self, api: &Api) -> Result<bool, CollectiveError> {
        // SAFETY: the handle is alive.
        match unsafe { (api.cuda.event_query)(self.handle) } {
            NOT_READY => Ok(false),
            status => told(api, status).map(|()| true),
        }
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: the handle is alive and not used again.
        unsafe { (self.api.cuda.event_free)(self.handle) };
    }
}

fn told(api: &Api, status: Status) -> Result<(), CollectiveError> {
    if status == SUCCESS {
        return Ok(());
    }
    // SAFETY: CUDA's texts are constants.
    let text = unsafe { said((api.cuda.error_text)(status)) };
    Err(failed("the GPU", format!("CUDA: {text}")))
}
