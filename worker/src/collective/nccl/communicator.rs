//! One member's NCCL communicator, which never blocks: calls return at once, and [`Patience`] looks when they are done.
#![allow(unsafe_code)]

use std::ffi::{c_char, c_int, c_void};
use std::mem::size_of;
use std::time::{Duration, Instant};

use super::super::device::Check;
use super::super::error::CollectiveError;
use super::api::{Api, Config, Float32, Handle, RawId, Status, said};
use super::failed;
use super::patience::Patience;
use super::stream::Stream;

const SUCCESS: Status = 0;
const IN_PROGRESS: Status = 7;
/// `ncclFloat32` and `ncclSum`.
const FLOAT32: c_int = 7;
const SUM: c_int = 0;
/// Of `NCCL_CONFIG_INITIALIZER`: says that the struct was filled in on purpose.
const MAGIC: u32 = 0xcafe_beef;
/// The version whose struct [`Config`] is.
const CONFIG_VERSION: u32 = 21_400;

/// What all members of a group know it by, made by rank 0.
pub(super) struct UniqueId(RawId);

impl UniqueId {
    pub(super) fn new(api: &Api) -> Result<Self, CollectiveError> {
        let mut id = RawId([0; 128]);
        // SAFETY: it writes 128 bytes to where it is told.
        let status = unsafe { (api.nccl.unique_id)(&raw mut id) };
        told(api, std::ptr::null_mut(), status, "an identity for the group")?;
        Ok(Self(id))
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        self.0.0.iter().map(|byte| byte.cast_unsigned()).collect()
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: [u8; 128] = bytes.try_into().ok()?;
        Some(Self(RawId(bytes.map(|byte| byte as c_char))))
    }
}

/// A member of one group. After an abort it is of no use.
#[derive(Debug)]
pub(super) struct Communicator {
    api: Api,
    /// Null once aborted.
    handle: Handle,
}

// SAFETY: NCCL lets any thread use a communicator, one at a time; this handle's only owner is borrowed for each call.
unsafe impl Send for Communicator {}

impl Communicator {
    /// Meets the other members, on the thread's device.
    pub(super) fn open(
        api: &Api,
        id: &UniqueId,
        rank: usize,
        world_size: usize,
        timeout: Duration,
        check: Check<'_>,
    ) -> Result<Self, CollectiveError> {
        let number = |value: usize| c_int::try_from(value).unwrap_or(c_int::MAX);
        let mut config =
            Config { size: size_of::<Config>(), magic: MAGIC, version: CONFIG_VERSION, blocking: 0 };
        let mut communicator = Self { api: *api, handle: std::ptr::null_mut() };
        // SAFETY: both pointers are to values that live for the call, which copies the configuration.
        let status = unsafe {
            let (handle, config) = (&raw mut communicator.handle, &raw mut config);
            (api.nccl.init)(handle, number(world_size), id.0, number(rank), config)
        };
        if status != IN_PROGRESS {
            told(api, communicator.handle, status, "meeting")?;
        }
        let deadline = Instant::now() + timeout;
        communicator.settle("meeting", &mut || {
            if Instant::now() > deadline {
                let reason = format!("the members did not meet within {} s", timeout.as_secs());
                return Err(failed("meeting", reason));
            }
            check()
        })?;
        Ok(communicator)
    }

    /// Queues what `calls` asks for on its streams, as one: no member waits for another in the middle of it.
    pub(super) fn group(
        &mut self,
        check: Check<'_>,
        calls: impl FnOnce(&Group<'_>) -> Result<(), CollectiveError>,
    ) -> Result<(), CollectiveError> {
        // SAFETY: no arguments; the end follows on this thread, whatever the calls come to.
        let started = unsafe { (self.api.nccl.group_start)() };
        told(&self.api, self.handle, started, "an exchange")?;
        let called = calls(&Group { communicator: self });
        // SAFETY: as above.
        let ended = unsafe { (self.api.nccl.group_end)() };
        called?;
        if ended != IN_PROGRESS {
            told(&self.api, self.handle, ended, "an exchange")?;
        }
        // Nothing may be queued on the stream before it is settled.
        self.settle("an exchange", check)
    }

    /// Waits until NCCL is done with what was asked last, on the host's side.
    fn settle(&mut self, what: &'static str, check: Check<'_>) -> Result<(), CollectiveError> {
        let mut patience = Patience::new();
        while self.status(what)? == IN_PROGRESS {
            patience.pause(&mut *check)?;
        }
        Ok(())
    }

    /// Whether it is well, as when a peer's end is noticed by its connections.
    pub(super) fn check(&self) -> Result<(), CollectiveError> {
        self.status("an exchange").map(|_| ())
    }

    /// Success or in progress.
    fn status(&self, what: &'static str) -> Result<Status, CollectiveError> {
        let mut status = SUCCESS;
        // SAFETY: the handle is this communicator's, alive until it is aborted; one number is written.
        let asked = unsafe { (self.api.nccl.async_error)(self.handle, &raw mut status) };
        told(&self.api, self.handle, asked, what)?;
        if status != IN_PROGRESS {
            told(&self.api, self.handle, status, what)?;
        }
        Ok(status)
    }

    /// Ends it, and with it whatever of it is still on the device. Destroying it would wait for the other members.
    pub(super) fn abort(&mut self) {
        let handle = std::mem::replace(&mut self.handle, std::ptr::null_mut());
        if !handle.is_null() {
            // SAFETY: the handle is alive, no thread is in a call with it, and it is not used again. There is nothing to do
            // about a failure.
            unsafe { (self.api.nccl.abort)(handle) };
        }
    }
}

impl Drop for Communicator {
    fn drop(&mut self) {
        self.abort();
    }
}

/// Inside [`Communicator::group`].
pub(super) struct Group<'a> {
    communicator: &'a Communicator,
}

impl Group<'_> {
    pub(super) fn send(&self, from: Float32, to: usize, stream: &Stream) -> Result<(), CollectiveError> {
        let Communicator { api, handle } = self.communicator;
        let peer = c_int::try_from(to).unwrap_or(c_int::MAX);
        // SAFETY: the link keeps the tensor until the stream is done with it.
        let status = unsafe {
            (api.nccl.send)(from.data.cast_const(), from.len, FLOAT32, peer, *handle, stream.handle())
        };
        self.queued(status)
    }

    pub(super) fn receive(&self, to: Float32, from: usize, stream: &Stream) -> Result<(), CollectiveError> {
        let Communicator { api, handle } = self.communicator;
        let peer = c_int::try_from(from).unwrap_or(c_int::MAX);
        // SAFETY: as for `send`; nothing else on the device touches what it writes until it is done.
        let status = unsafe { (api.nccl.receive)(to.data, to.len, FLOAT32, peer, *handle, stream.handle()) };
        self.queued(status)
    }

    pub(super) fn all_reduce(&self, tensor: Float32, stream: &Stream) -> Result<(), CollectiveError> {
        let Communicator { api, handle } = self.communicator;
        let (data, len): (*mut c_void, usize) = (tensor.data, tensor.len);
        // SAFETY: as for `receive`; NCCL sums in place where both addresses are one.
        let status = unsafe {
            (api.nccl.all_reduce)(data.cast_const(), data, len, FLOAT32, SUM, *handle, stream.handle())
        };
        self.queued(status)
    }

    fn queued(&self, status: Status) -> Result<(), CollectiveError> {
        if status == IN_PROGRESS {
            return Ok(());
        }
        told(&self.communicator.api, self.communicator.handle, status, "an exchange")
    }
}

/// An error in NCCL's words.
fn told(api: &Api, handle: Handle, status: Status, what: &'static str) -> Result<(), CollectiveError> {
    if status == SUCCESS {
        return Ok(());
    }
    // SAFETY: both give a C string that lives at least until the next call; the handle is alive or null.
    let (kind, detail) =
        unsafe { (said((api.nccl.error_text)(status)), said((api.nccl.last_error)(handle))) };
    let mut reason = format!("NCCL: {kind}");
    if !detail.is_empty() {
        reason = format!("{reason}: {}", detail.lines().next_back().unwrap_or_default());
    }
    if detail.contains("Duplicate GPU") {
        reason += "; hint: several workers share a GPU, which NCCL refuses unless each has an NCCL_HOSTID of its own";
    }
    Err(failed(what, reason))
}
