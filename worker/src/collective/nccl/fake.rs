//! A stand-in for NCCL and CUDA, for tests: members are threads, their "devices" this process's memory. It keeps NCCL's
//! manners: nothing blocks, meeting and exchanging are in progress for a while, the last error has a text.
#![allow(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::ffi::{c_char, c_int, c_uint, c_void};
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};

use super::api::{Api, Config, CudaTable, Handle, NcclTable, RawId, Status, TorchTable};

const SUCCESS: Status = 0;
/// `ncclRemoteError` and `ncclInProgress`.
pub(super) const REMOTE_ERROR: Status = 6;
const IN_PROGRESS: Status = 7;

/// What this thread's member meets with.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Fate {
    /// What asking for the state gives, from the next time on.
    pub(super) status: Status,
    pub(super) last_error: Option<&'static std::ffi::CStr>,
    /// The device is never done.
    pub(super) is_stuck: bool,
}

/// What this thread's member did.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Deeds {
    pub(super) aborts: u32,
    pub(super) guards: u32,
    pub(super) streams: u32,
    pub(super) events: u32,
}

thread_local! {
    pub(super) static FATE: Cell<Fate> = Cell::default();
    pub(super) static ALIVE: Cell<Deeds> = Cell::default();
    static PENDING: RefCell<Vec<Receive>> = const { RefCell::new(Vec::new()) };
}

static GROUPS: AtomicI64 = AtomicI64::new(1);

type Wire = (i64, c_int, c_int);
static WIRES: Mutex<Option<HashMap<Wire, VecDeque<Vec<f32>>>>> = Mutex::new(None);

struct Member {
    group: i64,
    rank: c_int,
    world_size: c_int,
    /// Asked so often, it has not met the others yet.
    meeting: u32,
}

struct Receive {
    wire: Wire,
    to: *mut f32,
    len: usize,
    adds: bool,
}

impl Receive {
    /// Whether it is done.
    fn progress(&self) -> bool {
        let arrived = with_wires(|wires| wires.get_mut(&self.wire).and_then(VecDeque::pop_front));
        let Some(values) = arrived else { return false };
        // SAFETY: what NCCL's callers promise.
        let to = unsafe { std::slice::from_raw_parts_mut(self.to, self.len) };
        for (to, value) in to.iter_mut().zip(values) {
            *to = if self.adds { *to + value } else { value };
        }
        true
    }
}

fn with_wires<R>(act: impl FnOnce(&mut HashMap<Wire, VecDeque<Vec<f32>>>) -> R) -> R {
    act(WIRES.lock().unwrap().get_or_insert_default())
}

fn note(change: impl FnOnce(&mut Deeds)) {
    let mut deeds = ALIVE.get();
    change(&mut deeds);
    ALIVE.set(deeds);
}

pub(super) fn api() -> Api {
    Api {
        nccl: NcclTable {
            unique_id,
            init,
            async_error,
            abort,
            group_start: nothing,
            group_end,
            send,
            receive,
            all_reduce,
            last_error,
            error_text,
        },
        cuda: CudaTable {
            set_device,
            stream_new,
            stream_free,
            stream_query,
            stream_wait,
            event_new,
            event_free,
            event_record,
            event_query,
            error_text,
        },
        torch: TorchTable { current_stream, guard_new, guard_free },
    }
}

unsafe extern "C" fn nothing() -> Status {
    SUCCESS
}

unsafe extern "C" fn unique_id(id: *mut RawId) -> Status {
    let mut bytes = [0; 128];
    let number = GROUPS.fetch_add(1, Ordering::SeqCst).to_le_bytes();
    for (byte, number) in bytes.iter_mut().zip(number) {
        *byte = number as c_char;
    }
    // SAFETY: the caller's promise.
    unsafe { *id = RawId(bytes) };
    SUCCESS
}

unsafe extern "C" fn init(
    handle: *mut Handle,
    world_size: c_int,
    id: RawId,
    rank: c_int,
    config: *mut Config,
) -> Status {
    // SAFETY: the caller's promise.
    let config = unsafe { &*config };
    assert_eq!((config.magic, config.blocking), (0xcafe_beef, 0), "a group that does not block");
    assert_eq!((config.size, config.version), (24, 21_400), "the struct of 2.14");
    let group = i64::from_le_bytes(std::array::from_fn(|at| id.0[at] as u8));
    let member = Box::new(Member { group, rank, world_size, meeting: 3 });
    // SAFETY: as above.
    unsafe { *handle = Box::into_raw(member).cast() };
    IN_PROGRESS
}

unsafe extern "C" fn async_error(handle: Handle, status: *mut Status) -> Status {
    // SAFETY: made by `init`, not aborted yet.
    let member = unsafe { &mut *handle.cast::<Member>() };
    let found = match FATE.get().status {
        SUCCESS if member.meeting > 0 => {
            member.meeting -= 1;
            IN_PROGRESS
        }
        SUCCESS => PENDING.with_borrow_mut(|pending| {
            // In order: a later message of the same wire must not overtake.
            let stuck = pending.iter().position(|receive| !receive.progress()).unwrap_or(pending.len());
            pending.drain(..stuck);
            if pending.is_empty() { SUCCESS } else { IN_PROGRESS }
        }),
        error => error,
    };
    // SAFETY: the caller's promise.
    unsafe { *status = found };
    SUCCESS
}

unsafe extern "C" fn abort(handle: Handle) -> Status {
    PENDING.with_borrow_mut(Vec::clear);
    note(|deeds| deeds.aborts += 1);
    // SAFETY: made by `init`; the caller does not use it again.
    drop(unsafe { Box::from_raw(handle.cast::<Member>()) });
    SUCCESS
}

unsafe extern "C" fn group_end() -> Status {
    IN_PROGRESS
}

unsafe extern "C" fn send(
    data: *const c_void,
    len: usize,
    kind: c_int,
    to: c_int,
    handle: Handle,
    _: Handle,
) -> Status {
    assert_eq!(kind, 7, "ncclFloat32");
    // SAFETY: the callers' promises.
    let (member, values) =
        unsafe { (&*handle.cast::<Member>(), std::slice::from_raw_parts(data.cast::<f32>(), len)) };
    let wire = (member.group, member.rank, to);
    with_wires(|wires| wires.entry(wire).or_default().push_back(values.to_vec()));
    IN_PROGRESS
}

unsafe extern "C" fn receive(
    data: *mut c_void,
    len: usize,
    _: c_int,
    from: c_int,
    handle: Handle,
    _: Handle,
) -> Status {
    // SAFETY: the caller's promise.
    let member = unsafe { &*handle.cast::<Member>() };
    let wire = (member.group, from, member.rank);
    PENDING.with_borrow_mut(|pending| pending.push(Receive { wire, to: data.cast(), len, adds: false }));
    IN_PROGRESS
}

unsafe extern "C" fn all_reduce(
    from: *const c_void,
    data: *mut c_void,
    len: usize,
    kind: c_int,
    operation: c_int,
    handle: Handle,
    stream: Handle,
) -> Status {
    assert_eq!((from, operation), (data.cast_const(), 0), "a sum in place");
    // SAFETY: the caller's promise.
    let member = unsafe { &*handle.cast::<Member>() };
    for peer in (0..member.world_size).filter(|peer| *peer != member.rank) {
        // SAFETY: as above.
        unsafe { send(data, len, kind, peer, handle, stream) };
        let wire = (member.group, peer, member.rank);
        PENDING.with_borrow_mut(|pending| pending.push(Receive { wire, to: data.cast(), len, adds: true }));
    }
    IN_PROGRESS
}

unsafe extern "C" fn last_error(_: Handle) -> *const c_char {
    FATE.get().last_error.map_or(std::ptr::null(), std::ffi::CStr::as_ptr)
}

unsafe extern "C" fn error_text(_: Status) -> *const c_char {
    c"an error as planned".as_ptr()
}

unsafe extern "C" fn set_device(_: c_int) -> Status {
    SUCCESS
}

unsafe extern "C" fn stream_new(handle: *mut Handle, flags: c_uint, _: c_int) -> Status {
    assert_eq!(flags, 1, "cudaStreamNonBlocking");
    note(|deeds| deeds.streams += 1);
    // SAFETY: the caller's promise.
    unsafe { *handle = std::ptr::dangling_mut::<u8>().cast() };
    SUCCESS
}

unsafe extern "C" fn stream_free(_: Handle) -> Status {
    note(|deeds| deeds.streams -= 1);
    SUCCESS
}

unsafe extern "C" fn stream_query(_: Handle) -> Status {
    SUCCESS
}

unsafe extern "C" fn stream_wait(_: Handle, _: Handle, _: c_uint) -> Status {
    SUCCESS
}

unsafe extern "C" fn event_new(handle: *mut Handle, _: c_uint) -> Status {
    note(|deeds| deeds.events += 1);
    // SAFETY: the caller's promise.
    unsafe { *handle = std::ptr::dangling_mut::<u8>().cast() };
    SUCCESS
}

unsafe extern "C" fn event_free(_: Handle) -> Status {
    note(|deeds| deeds.events -= 1);
    SUCCESS
}

unsafe extern "C" fn event_record(_: Handle, _: Handle) -> Status {
    SUCCESS
}

unsafe extern "C" fn event_query(_: Handle) -> Status {
    if FATE.get().is_stuck { 600 } else { SUCCESS }
}

unsafe extern "C" fn current_stream(_: i32, handle: *mut Handle) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { *handle = std::ptr::null_mut() };
    0
}

unsafe extern "C" fn guard_new(_: Handle, _: i32, handle: *mut Handle) -> i32 {
    note(|deeds| deeds.guards += 1);
    // SAFETY: the caller's promise.
    unsafe { *handle = std::ptr::dangling_mut::<u8>().cast() };
    0
}

unsafe extern "C" fn guard_free(_: Handle) -> i32 {
    note(|deeds| deeds.guards -= 1);
    0
}
