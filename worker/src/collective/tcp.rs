//! How members find each other: every pair gets one TCP connection, the higher rank dials the lower.
//!
//! Members come here at different times, connections of a former generation may still be knocking, and anybody else may too,
//! so the acceptor refuses what does not fit and keeps waiting, and the dialer tries again until its time is up. Each side
//! proves itself first ([`super::handshake`]).
//!
//! One connection per pair, with the kernel's own buffers, which grow as needed. Fixed ones of 1 or 4 MiB, and two or four
//! connections, were tried with sums of 94 MB between two processes: 150 to 170 ms of processor time instead of 147.

mod callers;
mod dial;
mod meeting;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use self::meeting::Meeting;
use super::cancel::Cancel;
use super::error::CollectiveError;
use super::exchange::Group;
use super::mesh::TcpMesh;
use super::sharing::Sharing;

/// Who takes part in a generation, as told by the coordinator.
#[derive(Clone, Debug)]
pub struct Membership {
    pub run: String,
    pub generation: u64,
    /// At least 16 bytes, known to the members only and never sent.
    pub token: Vec<u8>,
    pub rank: usize,
    /// host:port by rank, this member included.
    pub peers: Vec<String>,
    pub group: Group,
}

/// Where other members reach this one; it outlives generations, so that its address stays the same.
#[derive(Debug)]
pub struct Listener {
    inner: TcpListener,
}

impl Listener {
    /// Listens on `addr`; port 0 takes a free one.
    ///
    /// # Errors
    /// The operating system's.
    pub fn bind(addr: &str) -> io::Result<Self> {
        let inner = TcpListener::bind(addr)?;
        inner.set_nonblocking(true)?;
        Ok(Self { inner })
    }

    /// # Errors
    /// The operating system's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

impl TcpMesh {
    /// Connects with all members of a generation; returns once every pair with this member is connected. Members on one
    /// host sum through memory that they share, where the system lets them.
    ///
    /// # Errors
    /// [`CollectiveError::ConnectTimeout`] names who is missing; [`CollectiveError::Cancelled`].
    pub fn connect(
        listener: &Listener,
        membership: &Membership,
        timeout: Duration,
        cancel: &Cancel,
    ) -> Result<Self, CollectiveError> {
        Self::connect_sharing(listener, membership, timeout, cancel, Sharing::offered())
    }

    /// As [`Self::connect`], as if all other members were on other hosts.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub fn connect_apart(
        listener: &Listener,
        membership: &Membership,
        timeout: Duration,
        cancel: &Cancel,
    ) -> Result<Self, CollectiveError> {
        Self::connect_sharing(listener, membership, timeout, cancel, Sharing::none())
    }

    pub(crate) fn connect_sharing(
        listener: &Listener,
        membership: &Membership,
        timeout: Duration,
        cancel: &Cancel,
        sharing: Sharing,
    ) -> Result<Self, CollectiveError> {
        let meeting = Meeting::new(membership, sharing, timeout, cancel)?;
        let met = meeting.hold(listener, &membership.peers).and_then(|met| meeting.settle(met));
        // Whatever failed, a cancel is the reason if there was one: it closes the sockets first.
        if cancel.is_cancelled() {
            return Err(CollectiveError::Cancelled);
        }
        Ok(Self::new(membership.group.clone(), met?, meeting.into_region(), cancel.clone()))
    }
}
