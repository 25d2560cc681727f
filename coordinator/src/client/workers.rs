//! Workers of the pool as a coordinator tells of them. Field names are those of the JSON.

use lockstep_proto::v1 as pb;
use serde::Serialize;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkerState {
    Free,
    Busy,
    Returning,
    Draining,
    Away,
    /// One that this release does not know.
    Unknown,
}

impl WorkerState {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Busy => "busy",
            Self::Returning => "returning",
            Self::Draining => "draining",
            Self::Away => "away",
            Self::Unknown => "unknown",
        }
    }
}

/// A worker that has joined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PoolWorker {
    pub name: String,
    pub state: WorkerState,
    /// None: it works on none.
    pub run: Option<String>,
    /// `cpu` or `cuda:N`.
    pub device: String,
    pub memory_bytes: u64,
    pub host: String,
    /// Since 1970, UTC.
    pub joined_at_ms: u64,
    pub libtorch_version: String,
}

impl From<pb::PoolWorker> for PoolWorker {
    fn from(worker: pb::PoolWorker) -> Self {
        let state = match worker.state() {
            pb::WorkerState::Unspecified => WorkerState::Unknown,
            pb::WorkerState::Free => WorkerState::Free,
            pb::WorkerState::Busy => WorkerState::Busy,
            pb::WorkerState::Returning => WorkerState::Returning,
            pb::WorkerState::Draining => WorkerState::Draining,
            pb::WorkerState::Away => WorkerState::Away,
        };
        Self {
            name: worker.name,
            state,
            run: Some(worker.run).filter(|run| !run.is_empty()),
            device: worker.device,
            memory_bytes: worker.memory_bytes,
            host: worker.host,
            joined_at_ms: worker.joined_at_ms,
            libtorch_version: worker.libtorch_version,
        }
    }
}
