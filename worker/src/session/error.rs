//! Why a session ends without the coordinator's word, and who has to act on it.

use std::io;
use std::time::Duration;

use tracing::error;

use super::StopSignal;
use super::blobs::BlobError;
use crate::client::ClientError;
use crate::trainer::FailureKind;

/// Why a worker ends.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(
        "no way back to {run} for {} s: {last}. `lockstep resume {run}` goes on from its newest checkpoint, with new \
         workers; --patience SECONDS makes this one wait longer", .away.as_secs()
    )]
    NoWayBack { run: String, away: Duration, last: ClientError },
    #[error(
        "the coordinator has come back with another run, {now}, instead of {before}: start this worker again"
    )]
    OtherRun { before: String, now: String },
    /// A trainer holds its plan for life.
    #[error(
        "the coordinator has come back with other settings of {run}: start this worker again to train by them"
    )]
    OtherPlan { run: String },
    /// Its place is another's, or nobody's.
    #[error("the coordinator has come back without a place for this worker in {run}")]
    LetGo { run: String },
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
    #[error("the coordinator sends orders faster than they are followed")]
    Flooded,
    #[error("stopped by {0:?}")]
    Stopped(StopSignal),
}

impl SessionError {
    /// For people. A signal is no error.
    pub(super) fn log(&self) {
        if !matches!(self, Self::Stopped(_)) {
            error!("{self}");
        }
    }

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
            Self::Client(_)
            | Self::NoWayBack { .. }
            | Self::OtherRun { .. }
            | Self::OtherPlan { .. }
            | Self::LetGo { .. }
            | Self::Listen { .. }
            | Self::Flooded => FailureKind::Cluster,
            Self::Thread(_) | Self::Stopped(_) => FailureKind::Worker,
        }
    }

    /// Whether the coordinator can and should hear of it.
    pub(super) fn is_for_the_coordinator(&self) -> bool {
        !matches!(self, Self::Client(_) | Self::NoWayBack { .. } | Self::LetGo { .. } | Self::Stopped(_))
    }
}
