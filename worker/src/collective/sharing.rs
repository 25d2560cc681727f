//! Whether two members can share memory: both run on one host, and each can open the other's.
//!
//! A member tells where its memory is in its introduction. Each of a pair tries to map the other's and tells how that
//! went; only when both could, sums go that way, else over the connection, as between hosts. A container of its own
//! (another process namespace) counts as a host of its own: process numbers mean nothing across them.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

use rand_core::{OsRng, TryRngCore};
use sha2::{Digest, Sha256};
use tracing::debug;

use super::memory::{MARK_BYTES, Region};

pub(crate) const OFFER_BYTES: usize = HOST_BYTES + 4 + 4 + MARK_BYTES;
const HOST_BYTES: usize = 32;

/// Where a member's memory can be opened. All zeros when it shares none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    /// A digest of the running system and its process namespace.
    pub(crate) host: [u8; HOST_BYTES],
    pub(crate) pid: u32,
    pub(crate) handle: RawFd,
    pub(crate) mark: [u8; MARK_BYTES],
}

impl Offer {
    pub(crate) const NONE: Self = Self { host: [0; HOST_BYTES], pid: 0, handle: 0, mark: [0; MARK_BYTES] };

    pub(crate) fn to_bytes(self) -> [u8; OFFER_BYTES] {
        let mut bytes = [0; OFFER_BYTES];
        let fields: [&[u8]; 4] =
            [&self.host, &self.pid.to_le_bytes(), &self.handle.to_le_bytes(), &self.mark];
        let mut at = 0;
        for field in fields {
            bytes[at..at + field.len()].copy_from_slice(field);
            at += field.len();
        }
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8; OFFER_BYTES]) -> Self {
        let mut offer = Self::NONE;
        let (mut pid, mut handle) = ([0; 4], [0; 4]);
        let mut at = 0;
        for field in [offer.host.as_mut_slice(), &mut pid, &mut handle, &mut offer.mark] {
            field.copy_from_slice(&bytes[at..at + field.len()]);
            at += field.len();
        }
        (offer.pid, offer.handle) = (u32::from_le_bytes(pid), i32::from_le_bytes(handle));
        offer
    }
}

/// A member's own memory, and how its peers find it.
#[derive(Clone, Debug)]
pub(crate) struct Sharing {
    pub(crate) region: Option<Arc<Region>>,
    pub(crate) offer: Offer,
}

impl Sharing {
    /// With those on this host; with nobody where the system refuses it.
    pub(crate) fn offered() -> Self {
        Self::new().unwrap_or_else(|error| {
            debug!(%error, "no memory to share with members on this host");
            Self::none()
        })
    }

    pub(crate) fn none() -> Self {
        Self { region: None, offer: Offer::NONE }
    }

    fn new() -> io::Result<Self> {
        let mut mark = [0; MARK_BYTES];
        OsRng.try_fill_bytes(&mut mark).map_err(|error| io::Error::other(error.to_string()))?;
        let region = Region::shared(mark)?;
        let handle = region.handle().ok_or(ErrorKind::Unsupported)?;
        let offer = Offer { host: host()?, pid: std::process::id(), handle, mark };
        Ok(Self { region: Some(Arc::new(region)), offer })
    }

    /// Maps a peer's memory, if it is on this host.
    pub(crate) fn open(&self, peer: &Offer) -> io::Result<Region> {
        if self.region.is_none() || self.offer.host != peer.host {
            return Err(io::Error::new(ErrorKind::Unsupported, "not on one host, or nothing to share"));
        }
        Region::of_peer(peer.pid, peer.handle, peer.mark)
    }
}

/// A peer that is connected, and its memory, if it could be mapped. Until [`Self::settle`] that is one side's word.
#[derive(Debug)]
pub(crate) struct Met {
    pub(crate) stream: Arc<TcpStream>,
    pub(crate) region: Option<Region>,
}

impl Met {
    /// Tries to map the memory of a peer that has introduced itself, and tells it how that went.
    pub(crate) fn new(stream: Arc<TcpStream>, sharing: &Sharing, offer: &Offer) -> io::Result<Self> {
        let region = sharing.open(offer);
        let region = region.inspect_err(|error| debug!(%error, "the memory of a member is not shared")).ok();
        // A byte never waits in a connection that is new.
        (&mut &*stream).write_all(&[u8::from(region.is_some())])?;
        Ok(Self { stream, region })
    }

    /// Learns from the peer, which tells it as soon as both are connected, whether it could map this member's memory.
    pub(crate) fn settle(&mut self, rank: usize, timeout: Duration) -> io::Result<()> {
        // None at all would be refused.
        self.stream.set_read_timeout(Some(timeout.max(Duration::from_millis(1))))?;
        let mut both = [0];
        (&mut &*self.stream).read_exact(&mut both)?;
        self.stream.set_read_timeout(None)?;
        self.region.take_if(|_| both != [1]);
        debug!(rank, shared_memory = self.region.is_some(), "connected");
        Ok(())
    }
}

/// The same for two processes exactly if a process number means the same to both.
fn host() -> io::Result<[u8; HOST_BYTES]> {
    let mut digest = Sha256::new_with_prefix(fs::read("/proc/sys/kernel/random/boot_id")?);
    digest.update(fs::read_link("/proc/self/ns/pid")?.as_os_str().as_encoded_bytes());
    Ok(digest.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offers_survive_the_wire() {
        let offer = Sharing::new().unwrap().offer;
        assert_eq!(Offer::from_bytes(&offer.to_bytes()), offer);
        assert_eq!(Offer::NONE.to_bytes(), [0; OFFER_BYTES]);
    }

    #[test]
    fn an_offer_is_taken_on_its_own_host_by_whoever_shares_too() {
        let (one, other) = (Sharing::new().unwrap(), Sharing::new().unwrap());
        assert!(one.open(&other.offer).is_ok());
        assert!(Sharing::none().open(&other.offer).is_err());
        assert!(one.open(&Offer { host: [1; HOST_BYTES], ..other.offer }).is_err());
        assert!(one.open(&Offer { mark: one.offer.mark, ..other.offer }).is_err());
        assert!(one.open(&Offer::NONE).is_err());
    }
}
