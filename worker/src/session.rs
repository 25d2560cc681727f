//! One worker's session with a run: joins, passes the coordinator's orders to the trainer and its reports back, and
//! ends when either side is done.
//!
//! The loop itself never waits for anything long. Downloads are the [`courier`]'s, uploads a task of their own, the
//! numbers the trainer thread's.

mod blobs;
mod courier;
mod thread;

use std::fs;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tracing::{Instrument, info, info_span, warn};

pub use self::blobs::BlobError;
use self::blobs::Blobs;
use self::courier::{Courier, Parcel};
use self::thread::{Controls, TrainerThread};
use crate::client::{Client, ClientError, Incoming, Introduction, Order, Outgoing, Welcome};
use crate::device::{DeviceName, LIBTORCH_VERSION};
use crate::plan::Plan;
use crate::trainer::{FailureKind, Setup, Snapshot};

/// How long to keep trying to join: the coordinator may be starting at this moment.
const JOIN_PATIENCE: Duration = Duration::from_secs(10);
const JOIN_RETRY_FIRST: Duration = Duration::from_millis(100);
const JOIN_RETRY_MOST: Duration = Duration::from_secs(1);
/// Orders on their way to the trainer. Each is answered before the next is due.
const PARCELS: usize = 8;
/// When a peer is lost, the coordinator most likely knows better why, and ends the session for that reason.
const FIRST_WORD: Duration = Duration::from_secs(1);
/// How long to wait for the coordinator to take the last word in.
const LAST_WORD: Duration = Duration::from_secs(5);

/// How a worker joins.
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
    /// The host under which they reach it; none: the one listened on.
    pub advertise: Option<String>,
}

/// Why a session ended without the coordinator's word.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("cannot listen on {address}: {source}")]
    Listen { address: String, source: io::Error },
    #[error(transparent)]
    Blob(#[from] BlobError),
    #[error("cannot fetch {file} of the checkpoint of step {step}: {source}")]
    Checkpoint { step: u64, file: &'static str, source: ClientError },
    #[error("{reason}")]
    Trainer { reason: String, kind: FailureKind },
    #[error("cannot start the trainer's thread: {0}")]
    Thread(#[source] io::Error),
    #[error("the coordinator began a generation without preparing it")]
    Unprepared,
    #[error("the coordinator sends orders faster than they are followed")]
    Flooded,
    #[error("stopped by {0:?}")]
    Stopped(StopSignal),
}

/// The signals that end a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopSignal {
    Interrupt,
    Terminate,
}

impl SessionError {
    /// Who has to act on it.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::Trainer { kind, .. } => *kind,
            Self::Blob(BlobError::Fetch { source, .. }) | Self::Checkpoint { source, .. }
                if !source.is_missing() =>
            {
                FailureKind::Cluster
            }
            Self::Blob(_) | Self::Checkpoint { .. } => FailureKind::Data,
            Self::Client(_) | Self::Listen { .. } | Self::Unprepared | Self::Flooded => FailureKind::Cluster,
            Self::Thread(_) | Self::Stopped(_) => FailureKind::Run,
        }
    }
}

/// Takes part in a run until its coordinator says that it is over.
///
/// # Errors
/// [`SessionError`]; the coordinator has been told, if it could be. [`SessionError::Stopped`] when `stop` completes first.
pub async fn run(settings: &Settings, stop: impl Future<Output = StopSignal>) -> Result<(), SessionError> {
    tokio::select! {
        result = take_part(settings) => result,
        signal = stop => Err(SessionError::Stopped(signal)),
    }
}

async fn take_part(settings: &Settings) -> Result<(), SessionError> {
    let (client, (Welcome { run, plan }, outgoing, mut incoming)) = join(settings).await?;
    let span = info_span!("session", run, worker = settings.name);
    async {
        info!(device = %settings.device, "joined");
        let blobs = Blobs::new(&settings.cache);
        let (snapshots, taken) = mpsc::channel(1);
        // Aborted with the session.
        let mut tasks = JoinSet::new();
        let uploads = upload_all(client.clone(), run.clone(), settings.name.clone(), taken);
        tasks.spawn(uploads.in_current_span());
        let mut trainer = TrainerThread::spawn(setup(settings, &plan, &blobs), outgoing.clone(), snapshots)?;
        let (commands, listener) = (trainer.commands(), None);
        let courier =
            Courier { settings, plan: &plan, client, outgoing: outgoing.clone(), blobs, commands, listener };
        match converse(&mut incoming, courier, &mut trainer).await {
            Err(error) if !matches!(error, SessionError::Client(ClientError::Lost)) => {
                last_word(error, &outgoing, &mut incoming).await
            }
            result => result,
        }
    }
    .instrument(span)
    .await
}

fn setup(settings: &Settings, plan: &Plan, blobs: &Blobs) -> Setup {
    Setup {
        plan: plan.clone(),
        worker: settings.name.clone(),
        device: settings.device,
        dataset: blobs.path(&plan.data.digest),
        weights: plan.model.weights_digest.as_deref().map(|digest| blobs.path(digest)),
    }
}

/// Joins, trying for a while: workers and coordinator are often started together.
async fn join(settings: &Settings) -> Result<(Client, (Welcome, Outgoing, Incoming)), SessionError> {
    let deadline = Instant::now() + JOIN_PATIENCE;
    let mut pause = JOIN_RETRY_FIRST;
    loop {
        match join_once(settings).await {
            Err(error) if error.is_passing() && Instant::now() + pause < deadline => {
                tracing::debug!(%error, "trying again");
                sleep(pause).await;
                pause = JOIN_RETRY_MOST.min(pause * 2);
            }
            result => return Ok(result?),
        }
    }
}

async fn join_once(settings: &Settings) -> Result<(Client, (Welcome, Outgoing, Incoming)), ClientError> {
    let client = Client::connect(&settings.url).await?;
    let introduction = Introduction {
        name: settings.name.clone(),
        device: settings.device.to_string(),
        host: host_name(),
        pid: std::process::id(),
        libtorch_version: LIBTORCH_VERSION.to_owned(),
    };
    let joined = client.join(introduction).await?;
    Ok((client, joined))
}

fn host_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname");
    name.map_or_else(|_| "unknown".to_owned(), |name| name.trim().to_owned())
}

/// The session's loop, to its end.
async fn converse(
    incoming: &mut Incoming,
    courier: Courier<'_>,
    trainer: &mut TrainerThread,
) -> Result<(), SessionError> {
    let (parcels, received) = mpsc::channel(PARCELS);
    let courier = courier.run(received);
    tokio::pin!(courier);
    let mut controls = Controls::default();
    loop {
        tokio::select! {
            order = incoming.next() => match order? {
                Order::Finish { reason } => {
                    info!(reason, "the session is over");
                    return Ok(());
                }
                Order::Halt { generation } => trainer.halt(generation),
                order => {
                    if let Order::Begin(begin) = &order {
                        controls = trainer.begin(begin.generation);
                    }
                    let parcel = Parcel { order, controls: controls.clone() };
                    parcels.try_send(parcel).map_err(|_| SessionError::Flooded)?;
                }
            },
            // It ends by itself only to say what failed.
            delivered = &mut courier => return delivered,
            ended = trainer.ended() => return match ended {
                Ok(()) => Err(SessionError::Trainer {
                    reason: "the trainer ended too early".to_owned(),
                    kind: FailureKind::Run,
                }),
                Err(error) => Err(error),
            },
        }
    }
}

/// Tells the coordinator why this worker ends, unless it says first that all is over.
async fn last_word(
    error: SessionError,
    outgoing: &Outgoing,
    incoming: &mut Incoming,
) -> Result<(), SessionError> {
    let kind = error.kind();
    if kind == FailureKind::Cluster {
        match timeout(FIRST_WORD, dismissal(incoming)).await {
            Ok(Some(reason)) => {
                info!(reason, %error, "the session is over");
                return Ok(());
            }
            Ok(None) => return Err(error),
            Err(_) => {}
        }
    }
    if outgoing.failed(error.to_string(), kind).await.is_ok() {
        // The message is on its way only as long as the session lives; the coordinator's end of it is the receipt.
        let _ = timeout(LAST_WORD, dismissal(incoming)).await;
    }
    Err(error)
}

/// The reason of a Finish; none when the coordinator goes without one.
async fn dismissal(incoming: &mut Incoming) -> Option<String> {
    loop {
        match incoming.next().await {
            Ok(Order::Finish { reason }) => return Some(reason),
            Ok(_) => {}
            Err(_) => return None,
        }
    }
}

/// Uploads one snapshot after another. One waits meanwhile; the trainer waits with the next.
async fn upload_all(client: Client, run: String, worker: String, mut snapshots: mpsc::Receiver<Snapshot>) {
    while let Some(snapshot) = snapshots.recv().await {
        let step = snapshot.position.step;
        let started = Instant::now();
        match client.upload(&run, &worker, snapshot).await {
            Ok(()) => info!(step, ms = started.elapsed().as_millis(), "checkpoint stored"),
            // What follows from it is the coordinator's to decide.
            Err(error) => warn!(step, %error, "the checkpoint was not stored"),
        }
    }
}
