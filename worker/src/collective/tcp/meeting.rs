//! The forming of one mesh. Everybody is dialed and heard at the same time, so that it takes no longer with many, and
//! nobody is said to be missing who was only not asked yet.

use std::io::{self, ErrorKind, Write};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::callers::{Callers, Claimed};
use super::{Listener, Membership};
use crate::collective::cancel::{Cancel, close};
use crate::collective::error::CollectiveError;
use crate::collective::handshake::{Admitted, Credential};
use crate::collective::memory::Region;
use crate::collective::sharing::{Met, Sharing};

/// How often a waiting acceptor looks for callers and for a cancel: often at first, as members are told to meet at the same
/// moment, and the whole run waits for them.
const POLL_FIRST: Duration = Duration::from_micros(50);
const POLL_MOST: Duration = Duration::from_millis(2);

pub(super) struct Meeting {
    pub(super) credential: Credential,
    pub(super) sharing: Sharing,
    rank: usize,
    pub(super) deadline: Instant,
    timeout: Duration,
    pub(super) cancel: Cancel,
    /// What went wrong last.
    last: Mutex<Option<io::Error>>,
}

/// By rank, as they are met.
type Everybody = Vec<Option<Met>>;

impl Meeting {
    pub(super) fn new(
        membership: &Membership,
        sharing: Sharing,
        timeout: Duration,
        cancel: &Cancel,
    ) -> Result<Self, CollectiveError> {
        Ok(Self {
            credential: Credential::new(membership, sharing.offer)?,
            sharing,
            rank: membership.rank,
            deadline: Instant::now() + timeout,
            timeout,
            cancel: cancel.clone(),
            last: Mutex::new(None),
        })
    }

    /// The memory that was offered.
    pub(super) fn into_region(self) -> Option<Arc<Region>> {
        self.sharing.region
    }

    pub(super) fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    pub(super) fn is_over(&self) -> bool {
        self.cancel.is_cancelled() || self.remaining().is_zero()
    }

    pub(super) fn note(&self, error: io::Error) {
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

    pub(super) fn hold(&self, listener: &Listener, peers: &[String]) -> Result<Everybody, CollectiveError> {
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
    pub(super) fn settle(&self, mut met: Everybody) -> Result<Everybody, CollectiveError> {
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
        let (mut callers, mut pause) = (Callers::default(), POLL_FIRST);
        while met.iter().enumerate().any(|(rank, met)| rank != self.rank && met.is_none()) {
            if self.is_over() {
                return Err(self.missing(met));
            }
            match listener.inner.accept() {
                Ok((stream, from)) => {
                    callers.add(stream, from.ip());
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
            for claimed in callers.hear() {
                if let Err(error) = self.welcome(&claimed, met) {
                    self.note(error);
                }
            }
        }
        Ok(())
    }

    /// Answers a caller that has made its claim, if it is a member that dials this one.
    fn welcome(&self, claimed: &Claimed, met: &mut Everybody) -> io::Result<()> {
        let Claimed { stream, challenge, claim } = claimed;
        let Some(Admitted { rank, offer, answer }) = self.credential.admit(*challenge, claim) else {
            close(stream);
            return Err(io::Error::new(ErrorKind::ConnectionRefused, "a stranger called"));
        };
        stream.set_nonblocking(false)?;
        self.cancel.register(stream);
        (&mut &**stream).write_all(&answer)?;
        // A member that calls again has given up its former connection.
        met[rank] = Some(Met::new(Arc::clone(stream), &self.sharing, &offer)?);
        Ok(())
    }
}
