//! One worker's session with a run: joins, passes the coordinator's orders to the trainer and its reports back, and
//! ends when either side is done.
//!
//! A session outlives its connections. While the coordinator is away the trainer goes on; the worker comes back as the same
//! process, says what it has to say once more, and whatever it hears twice it follows once. Only when nobody is there for
//! `patience` does it give up. A run that goes on by other settings than this worker was welcomed with needs another
//! worker: a trainer holds its plan for life, so this one ends and says so.

mod address;
mod blobs;
mod conversation;
mod courier;
mod error;
mod followed;
mod link;
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
use self::link::Joiner;
pub(crate) use self::link::host_name;
use self::thread::Body;
use crate::device::DeviceName;
use crate::trainer;

/// How a worker joins, and when it ends by itself.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The coordinator's, `http://host:port`.
    pub url: String,
    /// Unique among the run's workers.
    pub name: String,
    pub device: DeviceName,
    /// Where data sets and weights are kept.
    pub cache: PathBuf,
    /// host:port to listen on for other members; port 0 takes a free one.
    pub listen: String,
    /// Where they reach it; none: the address listened on.
    pub advertise: Option<Advertised>,
    /// How long to go on without a coordinator.
    pub patience: Duration,
    /// How long to wait to be let go after a signal.
    pub grace: Duration,
}

/// The signals that end a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopSignal {
    Interrupt,
    Terminate,
}

/// Takes part in a run until its coordinator says that it is over. The first of `signals` asks to leave at the next step
/// boundary, a second one ends at once.
///
/// # Errors
/// [`SessionError`]; the coordinator has been told, if it could be. [`SessionError::Stopped`] after a signal.
pub async fn run(settings: &Settings, signals: mpsc::Receiver<StopSignal>) -> Result<(), SessionError> {
    take_part(settings, signals, Box::new(trainer::run)).await
}

async fn take_part(
    settings: &Settings,
    mut signals: mpsc::Receiver<StopSignal>,
    body: Body,
) -> Result<(), SessionError> {
    let mut joiner = Joiner::new(settings);
    let joined = tokio::select! {
        joined = joiner.first() => joined?,
        // Nobody counts on it yet.
        Some(signal) = signals.recv() => return Err(SessionError::Stopped(signal)),
    };
    let span = info_span!("session", run = joined.0.plan.run, worker = settings.name);
    async {
        info!(device = %settings.device, term = joined.0.term, "joined");
        Conversation::new(settings, (joiner, joined), signals, body)?.run().await
    }
    .instrument(span)
    .await
}
