//! Memory for sums that other processes on this host may see: where a member's tops lie, and where its peers put the
//! parts of the sum that they finish.
//!
//! The one file here with `unsafe`: mappings are raw memory. A [`Region`] is reserved large and whole, as address space
//! only: all that may fail does so before the first sum, and no page is taken before it is touched. It is an unnamed file
//! in memory, gone with the last process that has it open or mapped, however those end; its size is sealed, so that
//! nobody's mapping can lose its ground.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, ErrorKind};
use std::marker::PhantomData;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::ptr::{self, NonNull};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, ftruncate, memfd_create};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous, munmap};

/// Far beyond the gradients of any model here, of all the shards that a member adds up.
const CAPACITY_BYTES: usize = 64 << 30;
/// Areas begin at multiples of it, and the first page is the header.
const PAGE_BYTES: usize = 4096;
pub(super) const PAGE_FLOATS: usize = PAGE_BYTES / size_of::<f32>();
pub(crate) const MARK_BYTES: usize = 16;

/// One mapping: a member's own memory, or a peer's.
#[derive(Debug)]
pub(crate) struct Region {
    start: NonNull<u8>,
    bytes: usize,
    /// None when nobody else is to see it.
    file: Option<OwnedFd>,
    /// Bytes in use, in order. Nothing is given out of a peer's.
    areas: Mutex<Vec<Range<usize>>>,
}

// SAFETY: the mapping stays where it is until it is dropped, no part of it belongs to a thread, and `areas` has a lock.
// What lies in it is reached through `Area` and `Span` only, which say who may write when.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    /// Memory that peers can map; `mark` is how they know it from another's.
    pub(super) fn shared(mark: [u8; MARK_BYTES]) -> io::Result<Self> {
        let file = memfd_create("lockstep-sums", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        ftruncate(&file, CAPACITY_BYTES as u64)?;
        fcntl_add_seals(&file, seals())?;
        let mut region = Self::map(&file)?;
        region.file = Some(file);
        // SAFETY: the first page exists and is in nobody's hands yet.
        unsafe { ptr::copy_nonoverlapping(mark.as_ptr(), region.start.as_ptr(), MARK_BYTES) };
        Ok(region)
    }

    /// The memory of a peer that has told its process and handle; refused unless it is what the peer made.
    pub(super) fn of_peer(pid: u32, handle: RawFd, mark: [u8; MARK_BYTES]) -> io::Result<Self> {
        let other = |what| io::Error::new(ErrorKind::InvalidData, what);
        let file = File::options().read(true).write(true).open(format!("/proc/{pid}/fd/{handle}"))?;
        if fcntl_get_seals(&file)? != seals() || file.metadata()?.len() != CAPACITY_BYTES as u64 {
            return Err(other("it is not memory for sums"));
        }
        let region = Self::map(&file)?;
        let mut found = [0; MARK_BYTES];
        // SAFETY: sealed at its size, the file has a first page; whoever made it wrote there before telling of it.
        unsafe { ptr::copy_nonoverlapping(region.start.as_ptr(), found.as_mut_ptr(), MARK_BYTES) };
        if found == mark { Ok(region) } else { Err(other("it is another member's memory")) }
    }

    /// Memory that nobody else sees, with room for `floats`.
    pub(super) fn private(floats: usize) -> io::Result<Self> {
        let bytes = PAGE_BYTES + (floats * size_of::<f32>()).next_multiple_of(PAGE_BYTES);
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
        let start = unsafe { mmap_anonymous(ptr::null_mut(), bytes, protection, MapFlags::PRIVATE)? };
        Self::new(start.cast(), bytes)
    }

    fn map(file: impl AsFd) -> io::Result<Self> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: as in `private`.
        let start = unsafe { mmap(ptr::null_mut(), CAPACITY_BYTES, protection, MapFlags::SHARED, file, 0)? };
        // A dump would carry the whole address space; without the advice that is all.
        // SAFETY: the range was mapped just now.
        let _ = unsafe { madvise(start, CAPACITY_BYTES, Advice::LinuxDontDump) };
        Self::new(start.cast(), CAPACITY_BYTES)
    }

    fn new(start: *mut u8, bytes: usize) -> io::Result<Self> {
        let start = NonNull::new(start).ok_or(ErrorKind::AddrNotAvailable)?;
        Ok(Self { start, bytes, file: None, areas: Mutex::default() })
    }

    /// What peers open it by, in this process.
    pub(super) fn handle(&self) -> Option<RawFd> {
        self.file.as_ref().map(AsRawFd::as_raw_fd)
    }

    /// An unused part; what is in it is whatever was there before, at first zeros.
    pub(super) fn area(self: &Arc<Self>, floats: usize) -> io::Result<Area> {
        // At least a page, so that no two begin at one place.
        let bytes = (floats.max(1) * size_of::<f32>()).next_multiple_of(PAGE_BYTES);
        let mut areas = self.areas.lock().unwrap_or_else(PoisonError::into_inner);
        let mut start = PAGE_BYTES;
        let after = areas.iter().position(|used| {
            let fits = start + bytes <= used.start;
            if !fits {
                start = used.end;
            }
            fits
        });
        if bytes > self.bytes - start {
            return Err(ErrorKind::OutOfMemory.into());
        }
        let index = after.unwrap_or(areas.len());
        areas.insert(index, start..start + bytes);
        Ok(Area { region: Arc::clone(self), start, floats })
    }

    /// `floats` numbers from byte `start` on; none when they do not lie wholly in it, behind the header.
    pub(super) fn span(&self, start: u64, floats: usize) -> Option<Span<'_>> {
        let start = usize::try_from(start).ok()?;
        let end = start.checked_add(floats.checked_mul(size_of::<f32>())?)?;
        let inside = start >= PAGE_BYTES && start.is_multiple_of(size_of::<f32>()) && end <= self.bytes;
        // SAFETY: the offset is inside the mapping.
        let start = inside.then(|| unsafe { self.start.add(start) })?;
        Some(Span { start: start.cast(), floats, region: PhantomData })
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: mapped in `new`'s callers with this size, and all areas and spans have ended before.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

fn seals() -> SealFlags {
    SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL
}

/// A part of a region that is in use. Its owner has it alone, but for the time of a sum: from where a member announces
/// it until all members have announced their finished chunks, each member writes in its own chunk, here too, and
/// nobody else reads there.
#[derive(Debug)]
pub(super) struct Area {
    region: Arc<Region>,
    start: usize,
    floats: usize,
}

impl Area {
    /// In bytes, from the region's start.
    pub(super) fn start(&self) -> usize {
        self.start
    }

    pub(super) fn is_in(&self, region: &Arc<Region>) -> bool {
        Arc::ptr_eq(&self.region, region)
    }

    pub(super) fn span(&self, range: Range<usize>) -> Span<'_> {
        assert!(range.start <= range.end && range.end <= self.floats, "a span beyond its area");
        // SAFETY: `area` has put all of it inside the mapping.
        let start = unsafe { self.region.start.add(self.start).cast::<f32>().add(range.start) };
        Span { start, floats: range.len(), region: PhantomData }
    }

    pub(super) fn get(&self) -> &[f32] {
        self.span(0..self.floats).get()
    }

    pub(super) fn get_mut(&mut self) -> &mut [f32] {
        // SAFETY: no two areas of a region overlap, `&mut` keeps this one to the caller, and no sum is under way: that
        // borrows the area as well.
        unsafe { std::slice::from_raw_parts_mut(self.start_mut(), self.floats) }
    }

    fn start_mut(&mut self) -> *mut f32 {
        self.span(0..self.floats).start.as_ptr()
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        let mut areas = self.region.areas.lock().unwrap_or_else(PoisonError::into_inner);
        areas.retain(|used| used.start != self.start);
    }
}

/// Numbers in a region during a sum. Whoever holds one keeps to what [`Area`] says: until the chunk's owner has it, the
/// numbers are read only; the owner alone writes, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span<'a> {
    start: NonNull<f32>,
    floats: usize,
    region: PhantomData<&'a Region>,
}

// SAFETY: a pointer into a mapping that outlives it; the sum's order says who writes.
unsafe impl Send for Span<'_> {}
// SAFETY: as above.
unsafe impl Sync for Span<'_> {}

impl<'a> Span<'a> {
    pub(super) fn part(self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.floats, "a part beyond its span");
        // SAFETY: within the span.
        Self { start: unsafe { self.start.add(range.start) }, floats: range.len(), ..self }
    }

    /// To be read while nobody writes there.
    pub(super) fn get(self) -> &'a [f32] {
        // SAFETY: inside the mapping, aligned, and floats may have any bits. Nobody writes meanwhile: see `Area`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.floats) }
    }

    /// Writes in place, by whoever owns the chunk.
    pub(super) fn change<R>(self, change: impl FnOnce(&mut [f32]) -> R) -> R {
        // SAFETY: as in `get`; the chunk has one owner, which has no slice of it at hand while this one lives.
        change(unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.floats) })
    }

    /// As [`Self::change`], in two places that are not one.
    pub(super) fn change_both(self, other: Self, change: impl FnOnce(&mut [f32], &mut [f32])) {
        let apart = self.start.addr().get().abs_diff(other.start.addr().get());
        assert!(apart >= self.floats.max(other.floats) * size_of::<f32>(), "two spans overlap");
        self.change(|own| other.change(|other| change(own, other)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARK: [u8; MARK_BYTES] = [7; MARK_BYTES];

    fn pid() -> u32 {
        std::process::id()
    }

    #[test]
    fn a_peer_sees_what_lies_there_and_writes_into_it() {
        let own = Arc::new(Region::shared(MARK).unwrap());
        let mut area = own.area(3000).unwrap();
        area.get_mut()[2999] = 4.0;
        let peer = Region::of_peer(pid(), own.handle().unwrap(), MARK).unwrap();
        let seen = peer.span(area.start() as u64, 3000).unwrap();
        assert_eq!(seen.get()[2999], 4.0);
        seen.part(1..2).change(|values| values[0] = 5.0);
        assert_eq!(area.get()[1], 5.0);
        // It outlives its maker for as long as somebody has it mapped.
        drop(area);
        drop(own);
        assert_eq!(peer.span(PAGE_BYTES as u64, 3000).unwrap().get()[2999], 4.0);
    }

    #[test]
    fn what_is_not_the_peers_memory_is_refused() {
        let own = Region::shared(MARK).unwrap();
        let refused = |handle, mark| Region::of_peer(pid(), handle, mark).unwrap_err().kind();
        assert_eq!(refused(own.handle().unwrap(), [8; MARK_BYTES]), ErrorKind::InvalidData);
        assert_eq!(refused(i32::MAX, MARK), ErrorKind::NotFound);
        // A file without seals, and memory of another size.
        let file = tempfile::tempfile().unwrap();
        assert!(Region::of_peer(pid(), file.as_raw_fd(), MARK).is_err());
        let small = memfd_create("small", MemfdFlags::ALLOW_SEALING).unwrap();
        fcntl_add_seals(&small, seals()).unwrap();
        assert_eq!(refused(small.as_raw_fd(), MARK), ErrorKind::InvalidData);
    }

    #[test]
    fn nobody_can_shrink_it_under_a_mapping() {
        let own = Region::shared(MARK).unwrap();
        let path = format!("/proc/{}/fd/{}", pid(), own.handle().unwrap());
        let file = File::options().write(true).open(path).unwrap();
        assert!(file.set_len(0).is_err());
    }

    #[test]
    fn areas_do_not_overlap_and_their_room_is_used_again() {
        let region = Arc::new(Region::private(3 * PAGE_FLOATS).unwrap());
        let areas = [1, PAGE_FLOATS, 0].map(|floats| region.area(floats).unwrap());
        let starts = areas.each_ref().map(|area| area.start() / PAGE_BYTES);
        assert_eq!(starts, [1, 2, 3]);
        assert!(region.area(1).is_err());
        let [_, second, ..] = areas;
        drop(second);
        assert_eq!(region.area(5).unwrap().start() / PAGE_BYTES, 1);
    }

    #[test]
    fn spans_beyond_the_region_are_none() {
        let region = Region::private(PAGE_FLOATS).unwrap();
        let page = PAGE_BYTES as u64;
        assert!(region.span(page, PAGE_FLOATS).is_some());
        for (start, floats) in
            [(0, 1), (page, PAGE_FLOATS + 1), (page + 2, 1), (u64::MAX, 1), (page, usize::MAX / 2)]
        {
            assert!(region.span(start, floats).is_none(), "{start} {floats}");
        }
    }
}
