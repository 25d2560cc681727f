//! A generation's connections, one TCP stream to every other member, and the operations over them. Members on one host
//! sum through shared memory, and their streams carry no more than the word that something lies there; that way a
//! death, a cancel and a member that is late show alike everywhere.
//!
//! The calling thread receives; what is large is sent by one scoped thread per peer, so that two members sending
//! to each other at once cannot lock each other out. Scoped threads borrow the caller's buffers instead of
//! copying them, and starting them costs far less than a step. Whatever fails closes all connections: it wakes
//! the other threads here, and tells the other members.

mod alive;
mod reduce;
mod state;

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::ops::Range;
use std::panic;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, Scope, ScopedJoinHandle};

use super::buffers::SumBuffers;
use super::cancel::{Cancel, close};
use super::error::CollectiveError;
use super::exchange::{Collective, Group, MAX_PAYLOAD_BYTES, Observer, check_payload, check_range};
use super::frame::{HEADER_BYTES, Header, Kind};
use super::memory::Region;
use super::sharing::Met;
use super::tree::Completion;

/// Payloads up to this size are written without a thread: any socket buffer holds a few of them, so that the
/// write does not wait for the peer to read.
const SMALL_BYTES: usize = 4 << 10;

/// A generation's members, each connected with each.
#[derive(Debug)]
pub struct TcpMesh {
    group: Group,
    peers: Vec<Peer>,
    completion: Completion,
    own_tops: usize,
    /// Where this member's sums lie, when any peer sees them there.
    region: Option<Arc<Region>>,
    cancel: Cancel,
    sequence: u64,
    closed: bool,
    scratch: reduce::Scratch,
    observer: Observer,
}

#[derive(Debug)]
struct Peer {
    rank: usize,
    tops: usize,
    stream: Arc<TcpStream>,
    /// The peer's memory, when each sees the other's.
    region: Option<Region>,
}

impl TcpMesh {
    /// `met` by rank, none for the own one; `region` is what this member has offered them.
    pub(crate) fn new(
        group: Group,
        met: Vec<Option<Met>>,
        region: Option<Arc<Region>>,
        cancel: Cancel,
    ) -> Self {
        let tops = group.tops_by_rank();
        let peer = |(rank, met): (usize, Option<Met>)| {
            let Met { stream, region } = met?;
            Some(Peer { rank, tops: tops[rank].len(), stream, region })
        };
        let peers: Vec<Peer> = met.into_iter().enumerate().filter_map(peer).collect();
        Self {
            region: region.filter(|_| peers.iter().any(|peer| peer.region.is_some())),
            peers,
            completion: Completion::new(&tops.concat(), group.shards()),
            own_tops: tops[group.rank()].len(),
            group,
            cancel,
            sequence: 0,
            closed: false,
            scratch: reduce::Scratch::default(),
            observer: Observer::default(),
        }
    }

    /// The ranks with which sums go through shared memory.
    #[must_use]
    pub fn shares_memory_with(&self) -> Vec<usize> {
        self.peers.iter().filter(|peer| peer.region.is_some()).map(|peer| peer.rank).collect()
    }

    /// Runs one operation in `body`. A failure there has closed the connections, so that the others notice too.
    fn operation<T>(
        &mut self,
        body: impl FnOnce(&mut Self, u64, &Failure) -> Result<T, Reported>,
    ) -> Result<T, CollectiveError> {
        if self.cancel.is_cancelled() {
            return Err(CollectiveError::Cancelled);
        }
        if self.closed {
            return Err(CollectiveError::Closed);
        }
        self.sequence += 1;
        let streams = self.peers.iter().map(|peer| Arc::clone(&peer.stream)).collect();
        let failure = Failure { first: Mutex::new(None), streams };
        let result = body(self, self.sequence, &failure);
        let first = failure.first.into_inner().unwrap_or_else(PoisonError::into_inner);
        match (result, first) {
            (Ok(value), None) => Ok(value),
            (_, first) => {
                self.closed = true;
                // A cancel closes the sockets, which then looks like lost peers.
                let cancelled = self.cancel.is_cancelled();
                Err(first.filter(|_| !cancelled).unwrap_or(CollectiveError::Cancelled))
            }
        }
    }
}

impl Drop for TcpMesh {
    fn drop(&mut self) {
        self.peers.iter().for_each(|peer| close(&peer.stream));
    }
}

impl Collective for TcpMesh {
    fn rank(&self) -> usize {
        self.group.rank()
    }

    fn world_size(&self) -> usize {
        self.group.world_size()
    }

    fn buffers(&mut self, count: usize, length: usize) -> Result<SumBuffers, CollectiveError> {
        SumBuffers::new(self.region.as_ref(), (self.own_tops, count), length)
    }

    fn all_reduce_in(
        &mut self,
        buffers: &mut SumBuffers,
        range: Range<usize>,
    ) -> Result<(), CollectiveError> {
        check_range(buffers, &range)?;
        if buffers.tops() != self.own_tops || !buffers.are_in(self.region.as_ref()) {
            return Err(CollectiveError::InvalidGroup("the buffers are another group's"));
        }
        self.operation(|mesh, sequence, failure| mesh.reduce(sequence, failure, buffers, &range))
    }

    fn all_gather(&mut self, payload: &[u8]) -> Result<Vec<Vec<u8>>, CollectiveError> {
        check_payload(self.group.rank(), payload.len() as u64)?;
        self.operation(|mesh, sequence, failure| mesh.gather(sequence, failure, payload))
    }

    fn send_state(
        &mut self,
        source: usize,
        receivers: &[usize],
        parts: &[&[u8]],
    ) -> Result<Option<Vec<Vec<u8>>>, CollectiveError> {
        self.operation(|mesh, sequence, failure| mesh.transfer(sequence, failure, source, receivers, parts))
    }

    fn check(&mut self) -> Result<(), CollectiveError> {
        self.look_alive()
    }

    fn observe(&mut self, observer: Observer) {
        self.observer = observer;
    }
}

/// The first thing that went wrong in an operation; what follows from it is of no interest.
struct Failure {
    first: Mutex<Option<CollectiveError>>,
    streams: Vec<Arc<TcpStream>>,
}

/// Proof that an error was reported before the operation's threads are waited for: without that, a thread
/// that is blocked on a peer would be waited for in vain.
struct Reported;

impl Failure {
    /// Keeps the first error, and wakes whoever is blocked on any of the streams.
    fn report(&self, error: CollectiveError) -> Reported {
        self.first.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        self.streams.iter().for_each(|stream| close(stream));
        Reported
    }

    /// Sends to one peer beside the calling thread.
    fn spawn<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        peer: &Peer,
        send: impl FnOnce() -> Result<(), CollectiveError> + Send + 'scope,
    ) -> Result<Sending<'scope>, CollectiveError> {
        let sending = move || {
            if let Err(error) = send() {
                self.report(error);
            }
        };
        let thread = thread::Builder::new().name(format!("to-rank-{}", peer.rank));
        match thread.spawn_scoped(scope, sending) {
            Ok(thread) => Ok(Sending { rank: peer.rank, thread }),
            Err(source) => Err(CollectiveError::System { what: "a sending thread", source }),
        }
    }
}

/// A thread that sends to one peer.
struct Sending<'scope> {
    rank: usize,
    thread: ScopedJoinHandle<'scope, ()>,
}

impl Sending<'_> {
    /// Waits until the peer has taken everything, or the failure of it is reported.
    fn finish(self, observer: &Observer) {
        if !self.thread.is_finished() {
            observer.waits_for(self.rank);
        }
        if let Err(panic) = self.thread.join() {
            panic::resume_unwind(panic);
        }
    }
}

impl Peer {
    fn lost(&self, source: io::Error) -> CollectiveError {
        CollectiveError::PeerLost { rank: self.rank, source }
    }

    fn send(&self, bytes: &[u8]) -> Result<(), CollectiveError> {
        (&*self.stream).write_all(bytes).map_err(|source| self.lost(source))
    }

    fn receive(&self, bytes: &mut [u8]) -> Result<(), CollectiveError> {
        (&*self.stream).read_exact(bytes).map_err(|source| self.lost(source))
    }

    /// The announced length; it is compared when it is known.
    fn receive_header(
        &self,
        kind: Kind,
        sequence: u64,
        length_bytes: Option<u64>,
    ) -> Result<u64, CollectiveError> {
        let mut bytes = [0; HEADER_BYTES];
        self.receive(&mut bytes)?;
        let found = Header::from_bytes(bytes);
        let expected = Header { kind, sequence, length_bytes: length_bytes.unwrap_or(found.length_bytes) };
        if found == expected {
            Ok(found.length_bytes)
        } else {
            Err(CollectiveError::Protocol { peer: self.rank, expected, found })
        }
    }

    fn receive_payload(&self, sequence: u64) -> Result<Vec<u8>, CollectiveError> {
        let length_bytes = self.receive_header(Kind::PAYLOAD, sequence, None)?;
        check_payload(self.rank, length_bytes)?;
        let mut payload = vec![0; usize::try_from(length_bytes).unwrap_or(MAX_PAYLOAD_BYTES)];
        self.receive(&mut payload)?;
        Ok(payload)
    }
}

impl TcpMesh {
    fn gather(&self, sequence: u64, failure: &Failure, payload: &[u8]) -> Result<Vec<Vec<u8>>, Reported> {
        let header = Header { kind: Kind::PAYLOAD, sequence, length_bytes: payload.len() as u64 }.to_bytes();
        thread::scope(|scope| {
            let mut sendings = Vec::new();
            let mut exchange = || {
                if payload.len() <= SMALL_BYTES {
                    let frame = [header.as_slice(), payload].concat();
                    self.peers.iter().try_for_each(|peer| peer.send(&frame))?;
                } else {
                    for peer in &self.peers {
                        let send = move || peer.send(&header).and_then(|()| peer.send(payload));
                        sendings.push(failure.spawn(scope, peer, send)?);
                    }
                }
                let mut payloads = vec![Vec::new(); self.group.world_size()];
                payloads[self.group.rank()] = payload.to_vec();
                for peer in &self.peers {
                    self.observer.waits_for(peer.rank);
                    payloads[peer.rank] = peer.receive_payload(sequence)?;
                }
                Ok(payloads)
            };
            let result = exchange().map_err(|error| failure.report(error));
            sendings.into_iter().for_each(|sending| sending.finish(&self.observer));
            result
        })
    }
}
