//! How members find each other: every pair gets one TCP connection, the higher rank dials the lower.
//!
//! Members come here at different times, and connections of a former generation may still be knocking, so the
//! acceptor refuses what does not fit and keeps waiting, and the dialer tries again until its time is up.

mod caller;

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::cancel::{Cancel, close};
use super::error::CollectiveError;
use super::exchange::Group;
use super::handshake::{HELLO_BYTES, Hello};
use super::mesh::TcpMesh;
use super::sharing::{Met, Sharing};
use caller::{Caller, Heard};

/// How often a waiting acceptor looks for callers and for a cancel: often at first, as members are told to meet at the same
/// moment, and the whole run waits for them.
const POLL_FIRST: Duration = Duration::from_micros(50);
const POLL_MOST: Duration = Duration::from_millis(2);
/// Between two attempts to reach a member that is not there yet, or still in a former generation.
const REDIAL_FIRST: Duration = Duration::from_millis(1);
const REDIAL_MOST: Duration = Duration::from_millis(20);
/// The longest single attempt to dial, since it cannot be interrupted by a cancel.
const DIAL: Duration = Duration::from_millis(500);
/// Callers that are being heard at once. More are strangers; the oldest then has to go.
const CALLERS_MAX: usize = 64;

/// Who takes part in a generation, as told by the coordinator.
#[derive(Clone, Debug)]
pub struct Membership {
    pub run: String,
    pub generation: u64,
    /// 16 bytes, known to the members only.
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
        let meeting = Meeting {
            hello: Hello::new(membership, sharing.offer)?,
            sharing,
            rank: membership.rank,
            deadline: Instant::now() + timeout,
            timeout,
            cancel: cancel.clone(),
            last: Mutex::new(None),
        };
        let met = meeting.hold(listener, &membership.peers).and_then(|met| meeting.settle(met));
        // Whatever failed, a cancel is the reason if there was one: it closes the sockets first.
        if cancel.is_cancelled() {
            return Err(CollectiveError::Cancelled);
        }
        Ok(Self::new(membership.group.clone(), met?, meeting.sharing.region, cancel.clone()))
    }
}

/// The forming of one mesh. Everybody is dialed and heard at the same time, so that it takes no longer with many, and
/// nobody is said to be missing who was only not asked yet.
struct Meeting {
    hello: Hello,
    sharing: Sharing,
    rank: usize,
    deadline: Instant,
    timeout: Duration,
    cancel: Cancel,
    /// What went wrong last.
    last: Mutex<Option<io::Error>>,
}

/// By rank, as they are met.
type Everybody = Vec<Option<Met>>;

impl Meeting {
    fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    fn is_over(&self) -> bool {
        self.cancel.is_cancelled() || self.remaining().is_zero()
    }

    fn note(&self, error: io::Error) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    fn missing(&self, met: &Everybody) -> CollectiveError {
        let absent = |rank: &usize| *rank != self.rank && met[*rank].is_none();
        CollectiveError::ConnectTimeout {
            missing: (0..met.len()).filter(absent).collect(),
            timeout_ms: u64::try_from(self.timeout.as_millis()).unwrap_or(u64::MAX),
            last: self.last.lock().unwrap_or_else(PoisonError::into_inner).take(),
        }
    }

    fn hold(&self, listener: &Listener, peers: &[String]) -> Result<Everybody, CollectiveError> {
        let mut met = Vec::from_iter(peers.iter().map(|_| None));
        let (sender, dialed) = channel();
        thread::scope(|scope| {
            for (peer, address) in peers.iter().enumerate().take(self.rank) {
                let sender = sender.clone();
                let dial = move || {
                    if let Some(met) = self.reach(peer, address) {
                        // The meeting may have ended without it.
                        let _ = sender.send((peer, met));
                    }
                };
                let thread = thread::Builder::new().name(format!("dial-rank-{peer}"));
                let spawned = thread.spawn_scoped(scope, dial);
                spawned.map_err(|source| CollectiveError::System { what: "a dialing thread", source })?;
            }
            self.receive(listener, &mut met, &dialed)
        })?;
        Ok(met)
    }

    /// Learns from all peers which of them share memory with this member.
    fn settle(&self, mut met: Everybody) -> Result<Everybody, CollectiveError> {
        for (rank, met) in met.iter_mut().enumerate() {
            let Some(met) = met else { continue };
            met.settle(rank, self.remaining())
                .map_err(|source| CollectiveError::PeerLost { rank, source })?;
        }
        Ok(met)
    }

    /// Collects the lower ranks that were reached and the higher ones that call.
    fn receive(
        &self,
        listener: &Listener,
        met: &mut Everybody,
        dialed: &Receiver<(usize, Met)>,
    ) -> Result<(), CollectiveError> {
        let (mut callers, mut pause) = (Vec::new(), POLL_FIRST);
        while met.iter().enumerate().any(|(rank, met)| rank != self.rank && met.is_none()) {
            if self.is_over() {
                return Err(self.missing(met));
            }
            match listener.inner.accept() {
                Ok((stream, _)) => {
                    if callers.len() == CALLERS_MAX {
                        callers.remove(0);
                    }
                    callers.extend(Caller::new(stream));
                    pause = POLL_FIRST;
                }
                Err(error) => {
                    if error.kind() != ErrorKind::WouldBlock {
                        self.note(error);
                    }
                    if let Ok((peer, reached)) = dialed.recv_timeout(pause) {
                        met[peer] = Some(reached);
                    }
                    pause = POLL_MOST.min(pause * 2);
                }
            }
            callers.retain_mut(|caller| match caller.listen() {
                Heard::Nothing => true,
                Heard::Leave => false,
                Heard::Hello => {
                    if let Err(error) = self.welcome(caller, met) {
                        self.note(error);
                    }
                    false
                }
            });
        }
        Ok(())
    }

    /// Dials a member until it answers; none when the time is up.
    fn reach(&self, peer: usize, address: &str) -> Option<Met> {
        let mut pause = REDIAL_FIRST;
        while !self.is_over() {
            match self.dial(peer, address, self.remaining()) {
                Ok(met) => return Some(met),
                Err(error) => self.note(error),
            }
            thread::sleep(pause.min(self.remaining()));
            pause = REDIAL_MOST.min(pause * 2);
        }
        None
    }

    /// One attempt. The acceptor may answer late, as it comes here in its own time; it is waited for.
    fn dial(&self, peer: usize, address: &str, remaining: Duration) -> io::Result<Met> {
        let mut stream = Err(io::Error::new(ErrorKind::NotFound, "the address has no host"));
        for address in address.to_socket_addrs()? {
            stream = TcpStream::connect_timeout(&address, DIAL.min(remaining));
            if stream.is_ok() {
                break;
            }
        }
        let stream = Arc::new(stream?);
        self.cancel.register(&stream);
        match self.hello.read(&self.introduce(&stream, remaining)?) {
            Some((rank, offer)) if rank == peer => Met::new(stream, &self.sharing, &offer),
            _ => Err(io::Error::new(ErrorKind::ConnectionRefused, "somebody else answered")),
        }
    }

    fn introduce(&self, stream: &TcpStream, remaining: Duration) -> io::Result<[u8; HELLO_BYTES]> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(remaining))?;
        (&mut &*stream).write_all(&self.hello.to_bytes())?;
        let mut answer = [0; HELLO_BYTES];
        (&mut &*stream).read_exact(&mut answer)?;
        stream.set_read_timeout(None)?;
        Ok(answer)
    }

    /// Answers a caller that introduced itself, if it is a member that dials this one.
    fn welcome(&self, caller: &Caller, met: &mut Everybody) -> io::Result<()> {
        let stream = &caller.stream;
        let caller = self.hello.read(&caller.hello);
        let Some((rank, offer)) = caller.filter(|(rank, _)| (self.rank + 1..met.len()).contains(rank)) else {
            close(stream);
            return Err(io::Error::new(ErrorKind::ConnectionRefused, "a stranger called"));
        };
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)?;
        self.cancel.register(stream);
        (&mut &**stream).write_all(&self.hello.to_bytes())?;
        // A member that calls again has given up its former connection.
        met[rank] = Some(Met::new(Arc::clone(stream), &self.sharing, &offer)?);
        Ok(())
    }
}
