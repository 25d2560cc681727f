//! The connection beneath a session. It breaks and is made again without the trainer's notice: the session goes on, hears
//! that nobody listens for a while, and then that somebody does.

use std::fs;
use std::time::Duration;

use rand_core::{OsRng, TryRngCore};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{Instrument, debug, info, warn};

use super::presence::Backoff;
use super::{SessionError, Settings};
use crate::client::{Client, ClientError, Incoming, Introduction, Order, Outgoing, Welcome};
use crate::device::LIBTORCH_VERSION;

/// How long to try to join for the first time: workers and coordinator are often started together.
const JOIN_PATIENCE: Duration = Duration::from_secs(10);
/// Orders that wait for the session's loop. More wait in the network.
const EVENTS_WAITING: usize = 16;

/// What a joined session begins with.
pub(super) type Joined = (Welcome, Outgoing, Incoming);

/// What the connection has to tell.
#[derive(Debug)]
pub(super) enum Event {
    Order(Order),
    /// Nobody listens any more.
    Detached,
    /// Somebody does again.
    Attached(Box<Welcome>, Outgoing),
}

/// The connection. Dropping it closes it for good.
#[derive(Debug)]
pub(super) struct Link {
    events: mpsc::Receiver<Result<Event, SessionError>>,
    _keeper: JoinSet<()>,
}

impl Link {
    /// Keeps up what `joiner` has joined.
    pub(super) fn new(joiner: Joiner, run: String, incoming: Incoming) -> Self {
        let (sender, events) = mpsc::channel(EVENTS_WAITING);
        let mut keeper = JoinSet::new();
        keeper.spawn(keep(joiner, run, incoming, sender).in_current_span());
        Self { events, _keeper: keeper }
    }

    /// The next event.
    ///
    /// # Errors
    /// Why there will be no other: the coordinator does not want this worker any more, or was away for too long.
    pub(super) async fn next(&mut self) -> Result<Event, SessionError> {
        // It sends an error before it ends.
        self.events.recv().await.unwrap_or(Err(SessionError::Client(ClientError::Lost)))
    }
}

async fn keep(
    mut joiner: Joiner,
    run: String,
    mut incoming: Incoming,
    events: mpsc::Sender<Result<Event, SessionError>>,
) {
    loop {
        let lost = match listen(incoming, &events).await {
            Some(error) if error.is_passing() => error,
            Some(error) => {
                let _ = events.send(Err(error.into())).await;
                return;
            }
            // The session is over.
            None => return,
        };
        warn!(reason = %lost, "lost the coordinator; training goes on while it is away");
        if events.send(Ok(Event::Detached)).await.is_err() {
            return;
        }
        // From the shortest pause, however soon this connection broke too: a coordinator that is there waits half a second
        // for its workers to come back.
        let mut backoff = Backoff::new();
        let (away, patience) = (Instant::now(), joiner.patience);
        backoff.wait_before(away + patience).await;
        let event = match joiner.persist(away + patience, &mut backoff).await {
            Ok((welcome, outgoing, next)) => {
                info!(term = welcome.term, ms = away.elapsed().as_millis(), "back with the coordinator");
                incoming = next;
                Event::Attached(Box::new(welcome), outgoing)
            }
            Err(last) => {
                let error = if last.is_passing() {
                    SessionError::NoWayBack { run, away: away.elapsed(), last }
                } else {
                    last.into()
                };
                let _ = events.send(Err(error)).await;
                return;
            }
        };
        if events.send(Ok(event)).await.is_err() {
            return;
        }
    }
}

/// Passes orders on until the connection breaks; none when nobody takes them any more.
async fn listen(
    mut incoming: Incoming,
    events: &mpsc::Sender<Result<Event, SessionError>>,
) -> Option<ClientError> {
    loop {
        match incoming.next().await {
            Ok(order) => events.send(Ok(Event::Order(order))).await.ok()?,
            Err(error) => return Some(error),
        }
    }
}

/// Joins, and joins again as the same process.
#[derive(Debug)]
pub(super) struct Joiner {
    url: String,
    introduction: Introduction,
    patience: Duration,
}

impl Joiner {
    pub(super) fn new(settings: &Settings) -> Self {
        let introduction = Introduction {
            name: settings.name.clone(),
            device: settings.device.to_string(),
            host: host_name(),
            pid: std::process::id(),
            libtorch_version: LIBTORCH_VERSION.to_owned(),
            incarnation: incarnation(),
            term: 0,
        };
        Self { url: settings.url.clone(), introduction, patience: settings.patience }
    }

    /// For the first time.
    pub(super) async fn first(&mut self) -> Result<Joined, ClientError> {
        self.persist(Instant::now() + JOIN_PATIENCE, &mut Backoff::new()).await
    }

    /// Tries until it succeeds, it is refused for good, or the deadline has passed.
    async fn persist(&mut self, deadline: Instant, backoff: &mut Backoff) -> Result<Joined, ClientError> {
        loop {
            let error = match self.attempt().await {
                Ok(joined) => return Ok(joined),
                Err(error) => error,
            };
            if !error.is_passing() {
                return Err(error);
            }
            match &error {
                // Worth a person's attention: two of them should not be there.
                ClientError::Overtaken { .. } => warn!(%error, "turned away from an old coordinator"),
                error => debug!(%error, "trying again"),
            }
            if !backoff.wait_before(deadline).await {
                return Err(error);
            }
        }
    }

    async fn attempt(&mut self) -> Result<Joined, ClientError> {
        let client = Client::connect(&self.url).await?;
        let joined = client.join(self.introduction.clone()).await?;
        let (term, newest) = (joined.0.term, self.introduction.term);
        if term < newest {
            return Err(ClientError::Overtaken { term, newest });
        }
        self.introduction.term = term;
        Ok(joined)
    }
}

/// A number that no other process has.
fn incarnation() -> u64 {
    // No randomness: the process and its start tell processes of one machine apart.
    OsRng.try_next_u64().unwrap_or_else(|_| {
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        u64::from(std::process::id()) << 32 ^ u64::try_from(now.as_nanos()).unwrap_or_default()
    })
}

/// This machine's.
pub(crate) fn host_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname");
    name.map_or_else(|_| "unknown".to_owned(), |name| name.trim().to_owned())
}
