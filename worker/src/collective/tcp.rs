//! How members find each other: every pair gets one TCP connection, the higher rank dials the lower.
//!
//! Members come here at different times, and connections of a former generation may still be knocking, so the
//! acceptor refuses what does not fit and keeps waiting, and the dialer tries again until its time is up.

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

/// How often a waiting acceptor looks for callers and for a cancel: often at first, as members are told to meet at the same
/// moment, and the whole run waits for them.
const POLL_FIRST: Duration = Duration::from_micros(50);
const POLL_MOST: Duration = Duration::from_millis(2);
/// Between two attempts to reach a member that is not there yet, or still in a former generation.
const REDIAL_FIRST: Duration = Duration::from_millis(1);
const REDIAL_MOST: Duration = Duration::from_millis(20);
/// The longest single attempt to dial, since it cannot be interrupted by a cancel.
const DIAL: Duration = Duration::from_millis(500);
/// A caller that has not introduced itself by then is sent away: no member needs more than a moment.
const INTRODUCTION: Duration = Duration::from_secs(5);
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
    /// Connects with all members of a generation; returns once every pair with this member is connected.
    ///
    /// # Errors
    /// [`CollectiveError::ConnectTimeout`] names who is missing; [`CollectiveError::Cancelled`].
    pub fn connect(
        listener: &Listener,
        membership: &Membership,
        timeout: Duration,
        cancel: &Cancel,
    ) -> Result<Self, CollectiveError> {
        let meeting = Meeting {
            hello: Hello::new(membership)?,
            rank: membership.rank,
            deadline: Instant::now() + timeout,
            timeout,
            cancel: cancel.clone(),
            last: Mutex::new(None),
        };
        let met = meeting.hold(listener, &membership.peers);
        // Whatever failed, a cancel is the reason if there was one: it closes the sockets first.
        if cancel.is_cancelled() {
            return Err(CollectiveError::Cancelled);
        }
        Ok(Self::new(membership.group.clone(), met?, cancel.clone()))
    }
}

/// The forming of one mesh. Everybody is dialed and heard at the same time, so that it takes no longer with many, and
/// nobody is said to be missing who was only not asked yet.
struct Meeting {
    hello: Hello,
    rank: usize,
    deadline: Instant,
    timeout: Duration,
    cancel: Cancel,
    /// What went wrong last.
    last: Mutex<Option<io::Error>>,
}

/// By rank, as they are met.
type Streams = Vec<Option<Arc<TcpStream>>>;

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

    fn missing(&self, streams: &Streams) -> CollectiveError {
        let absent = |rank: &usize| *rank != self.rank && streams[*rank].is_none();
        CollectiveError::ConnectTimeout {
            missing: (0..streams.len()).filter(absent).collect(),
            timeout_ms: u64::try_from(self.timeout.as_millis()).unwrap_or(u64::MAX),
            last: self.last.lock().unwrap_or_else(PoisonError::into_inner).take(),
        }
    }

    fn hold(&self, listener: &Listener, peers: &[String]) -> Result<Streams, CollectiveError> {
        let mut streams = vec![None; peers.len()];
        let (sender, dialed) = channel();
        thread::scope(|scope| {
            for (peer, address) in peers.iter().enumerate().take(self.rank) {
                let sender = sender.clone();
                let dial = move || {
                    if let Some(stream) = self.reach(peer, address) {
                        // The meeting may have ended without it.
                        let _ = sender.send((peer, stream));
                    }
                };
                let thread = thread::Builder::new().name(format!("dial-rank-{peer}"));
                let spawned = thread.spawn_scoped(scope, dial);
                spawned.map_err(|source| CollectiveError::System { what: "a dialing thread", source })?;
            }
            self.receive(listener, &mut streams, &dialed)
        })?;
        Ok(streams)
    }

    /// Collects the lower ranks that were reached and the higher ones that call.
    fn receive(
        &self,
        listener: &Listener,
        streams: &mut Streams,
        dialed: &Receiver<(usize, Arc<TcpStream>)>,
    ) -> Result<(), CollectiveError> {
        let (mut callers, mut pause) = (Vec::new(), POLL_FIRST);
        while streams.iter().enumerate().any(|(rank, stream)| rank != self.rank && stream.is_none()) {
            if self.is_over() {
                return Err(self.missing(streams));
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
                    if let Ok((peer, stream)) = dialed.recv_timeout(pause) {
                        streams[peer] = Some(stream);
                    }
                    pause = POLL_MOST.min(pause * 2);
                }
            }
            callers.retain_mut(|caller| match caller.listen() {
                Heard::Nothing => true,
                Heard::Leave => false,
                Heard::Hello => {
                    if let Err(error) = self.welcome(caller, streams) {
                        self.note(error);
                    }
                    false
                }
            });
        }
        Ok(())
    }

    /// Dials a member until it answers; none when the time is up.
    fn reach(&self, peer: usize, address: &str) -> Option<Arc<TcpStream>> {
        let mut pause = REDIAL_FIRST;
        while !self.is_over() {
            match self.dial(peer, address, self.remaining()) {
                Ok(stream) => return Some(stream),
                Err(error) => self.note(error),
            }
            thread::sleep(pause.min(self.remaining()));
            pause = REDIAL_MOST.min(pause * 2);
        }
        None
    }

    /// One attempt. The acceptor may answer late, as it comes here in its own time; it is waited for.
    fn dial(&self, peer: usize, address: &str, remaining: Duration) -> io::Result<Arc<TcpStream>> {
        let mut stream = Err(io::Error::new(ErrorKind::NotFound, "the address has no host"));
        for address in address.to_socket_addrs()? {
            stream = TcpStream::connect_timeout(&address, DIAL.min(remaining));
            if stream.is_ok() {
                break;
            }
        }
        let stream = Arc::new(stream?);
        self.cancel.register(&stream);
        let answer = self.introduce(&stream, remaining);
        match answer {
            Ok(answer) if self.hello.rank_of(&answer) == Some(peer) => Ok(stream),
            Ok(_) => Err(io::Error::new(ErrorKind::ConnectionRefused, "somebody else answered")),
            Err(error) => Err(error),
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
    fn welcome(&self, caller: &Caller, streams: &mut Streams) -> io::Result<()> {
        let stream = &caller.stream;
        let rank = self.hello.rank_of(&caller.hello);
        let Some(rank) = rank.filter(|rank| (self.rank + 1..streams.len()).contains(rank)) else {
            close(stream);
            return Err(io::Error::new(ErrorKind::ConnectionRefused, "a stranger called"));
        };
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)?;
        self.cancel.register(stream);
        (&mut &**stream).write_all(&self.hello.to_bytes())?;
        // A member that calls again has given up its former connection.
        streams[rank] = Some(Arc::clone(stream));
        Ok(())
    }
}

/// Somebody who has dialed and not yet shown all of its introduction.
struct Caller {
    stream: Arc<TcpStream>,
    hello: [u8; HELLO_BYTES],
    heard: usize,
    until: Instant,
}

enum Heard {
    Nothing,
    Hello,
    Leave,
}

impl Caller {
    /// None when the connection has ended already.
    fn new(stream: TcpStream) -> Option<Self> {
        stream.set_nonblocking(true).ok()?;
        let until = Instant::now() + INTRODUCTION;
        Some(Self { stream: Arc::new(stream), hello: [0; HELLO_BYTES], heard: 0, until })
    }

    /// Reads what has come, without waiting for more.
    fn listen(&mut self) -> Heard {
        loop {
            match (&mut &*self.stream).read(&mut self.hello[self.heard..]) {
                Ok(0) => return Heard::Leave,
                Ok(bytes) => self.heard += bytes,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return if Instant::now() < self.until { Heard::Nothing } else { Heard::Leave };
                }
                Err(_) => return Heard::Leave,
            }
            if self.heard == HELLO_BYTES {
                return Heard::Hello;
            }
        }
    }
}
