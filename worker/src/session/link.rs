//! The connection beneath a session. It breaks and is made again without the trainer's notice: the session goes on, hears
//! that nobody listens for a while, and then that somebody does.

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{Instrument, info, warn};

use super::SessionError;
use super::joiner::{Joined, Joiner, Welcomed};
use super::presence::Backoff;
use crate::client::{ClientError, Incoming, Order, Outgoing, Welcome};

/// Orders that wait for the session's loop. More wait in the network.
const EVENTS_WAITING: usize = 16;

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
        let away = Instant::now();
        let deadline = Some(away + joiner.patience);
        backoff.wait_before(deadline).await;
        let last_word = match joiner.persist(deadline, &mut backoff).await {
            Ok(Joined::Welcomed(welcomed)) => {
                let Welcomed { welcome, outgoing, incoming: next } = *welcomed;
                info!(term = welcome.term, ms = away.elapsed().as_millis(), "back with the coordinator");
                incoming = next;
                if events.send(Ok(Event::Attached(Box::new(welcome), outgoing))).await.is_err() {
                    return;
                }
                continue;
            }
            // It is at the run's bidding no more. What it says in the pool is nobody's, so this session ends.
            Ok(Joined::Pooled(..)) => Err(SessionError::LetGo { run }),
            Ok(Joined::Dismissed(finish)) => Ok(Event::Order(Order::Finish(finish))),
            Err(last) if last.is_passing() => {
                Err(SessionError::NoWayBack { run, away: away.elapsed(), last })
            }
            Err(last) => Err(last.into()),
        };
        let _ = events.send(last_word).await;
        return;
    }
}

/// Passes orders on until the connection breaks; none when the session is over, or nobody takes them any more.
async fn listen(
    mut incoming: Incoming,
    events: &mpsc::Sender<Result<Event, SessionError>>,
) -> Option<ClientError> {
    loop {
        match incoming.next().await {
            Ok(order) => {
                // The coordinator hangs up after it, and is not to be sought again.
                let is_last = matches!(order, Order::Finish(_));
                events.send(Ok(Event::Order(order))).await.ok()?;
                if is_last {
                    return None;
                }
            }
            Err(error) => return Some(error),
        }
    }
}
