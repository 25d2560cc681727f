//! One worker's session with a run: joins, passes the coordinator's orders to the trainer and its reports back, and
//! ends when either side is done.
//!
//! A session outlives its connections. While the coordinator is away the trainer goes on; the worker comes back as the same
//! process, says what it has to say once more, and whatever it hears twice it follows once. Only when nobody is there for
//! `patience` does it give up. A run that goes on by other settings than this worker was welcomed with needs another
//! worker: a trainer holds its plan for life, so this one ends and says so.
//!
//! Where the coordinator has a pool, a worker waits there for a run ([`pool`]), and again once that is over: as a new
//! process, so that no run ever meets what another has left in this one. Whoever has waited there once also comes back after
//! a failure. [`Outcome`] says when that is due.

mod address;
mod blobs;
mod conversation;
mod courier;
mod error;
mod followed;
mod joiner;
mod link;
mod pool;
mod presence;
mod readiness;
mod reports;
mod speaker;
#[cfg(test)]
mod tests;
mod thread;
mod uploads;

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::mpsc;
use tracing::{Instrument, info, info_span};

pub use self::address::{Advertised, NotAnAddress};
pub use self::blobs::BlobError;
use self::conversation::Conversation;
pub use self::error::SessionError;
pub(crate) use self::joiner::host_name;
use self::joiner::{Joiner, Welcomed};
use self::pool::Placed;
use self::presence::Backoff;
use self::thread::Body;
use crate::client::{Access, FinishOrder};
use crate::device::DeviceName;
use crate::logs::LogTail;
use crate::trainer;

/// How a worker joins, and when it ends by itself.
#[derive(Debug, Clone)]
pub struct Settings {
    pub coordinator: Access,
    /// Unique among the run's workers.
    pub name: String,
    pub device: DeviceName,
    /// Where data sets and weights are kept.
    pub cache: PathBuf,
    /// host:port to listen on for other members; port 0 takes a free one. None: wherever they may come from.
    pub listen: Option<String>,
    /// Where they reach it; none: the address listened on.
    pub advertise: Option<Advertised>,
    /// How long to go on without a coordinator.
    pub patience: Duration,
    /// How long to wait to be let go after a signal.
    pub drain_timeout: Duration,
    /// What this worker logs.
    pub logs: LogTail,
    /// This worker has waited in a pool before, as a former process.
    pub stands_by: bool,
}

/// The signals that end a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopSignal {
    Interrupt,
    Terminate,
}

/// How a session ended that the coordinator has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    Done,
    /// Begin again as a new process, for the run that comes next.
    StandBy,
}

impl Over {
    fn by(finish: &FinishOrder) -> Self {
        if finish.stand_by { Self::StandBy } else { Self::Done }
    }
}

/// How a session ended.
#[derive(Debug)]
pub struct Outcome {
    /// The coordinator has been told of an error, if it could be; so has the log. [`SessionError::Stopped`] after a signal.
    pub result: Result<Over, SessionError>,
    /// The coordinator has a pool: this worker is to come back there also after an error.
    pub stands_by: bool,
}

/// Takes part in a run until its coordinator says that it is over. The first of `signals` asks to leave at the next step
/// boundary, a second one ends at once; while no run has this worker, the first one does.
pub async fn run(settings: &Settings, signals: &mut mpsc::Receiver<StopSignal>) -> Outcome {
    take_part(settings, signals, Box::new(trainer::run)).await
}

/// Waits before a worker begins again that has failed so many times in a row. A signal ends that.
pub async fn rest(failures: u32, signals: &mut mpsc::Receiver<StopSignal>) -> Option<StopSignal> {
    let mut backoff = Backoff::after_failures(failures);
    tokio::select! {
        _ = backoff.wait_before(None) => None,
        Some(signal) = signals.recv() => Some(signal),
    }
}

async fn take_part(settings: &Settings, signals: &mut mpsc::Receiver<StopSignal>, body: Body) -> Outcome {
    let mut joiner = Joiner::new(settings);
    let placed = tokio::select! {
        placed = pool::place(&mut joiner) => placed.map_err(SessionError::from).inspect_err(SessionError::log),
        // Nobody counts on it yet.
        Some(signal) = signals.recv() => Err(SessionError::Stopped(signal)),
    };
    let stands_by = joiner.stands_by;
    let result = match placed {
        Ok(Placed::InRun(welcomed)) => {
            let span = info_span!("session", run = welcomed.welcome.plan.run, worker = settings.name);
            return converse(settings, joiner, *welcomed, signals, body).instrument(span).await;
        }
        Ok(Placed::Dismissed(finish)) => {
            info!(reason = finish.reason, "sent home");
            Ok(Over::by(&finish))
        }
        Err(error) => Err(error),
    };
    Outcome { result, stands_by }
}

async fn converse(
    settings: &Settings,
    joiner: Joiner,
    welcomed: Welcomed,
    signals: &mut mpsc::Receiver<StopSignal>,
    body: Body,
) -> Outcome {
    let mut stands_by = joiner.stands_by;
    info!(device = %settings.device, term = welcomed.welcome.term, "joined");
    let mut conversation = match Conversation::new(settings, joiner, welcomed, signals, body) {
        Ok(conversation) => conversation,
        Err(error) => {
            error.log();
            return Outcome { result: Err(error), stands_by };
        }
    };
    let result = conversation.run().await;
    // Both tell of a pool.
    stands_by |= matches!(result, Ok(Over::StandBy) | Err(SessionError::LetGo { .. }));
    if stands_by && !matches!(result, Err(SessionError::Stopped(_))) {
        conversation.rest().await;
    }
    Outcome { result, stands_by }
}
