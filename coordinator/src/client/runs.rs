//! Runs as a coordinator tells of them. Field names are those of the JSON, which scripts rely on.

use lockstep_proto::v1 as pb;
use serde::Serialize;

/// Where a run is between its submission and its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    Queued,
    Preparing,
    Running,
    Stopping,
    Done,
    Stopped,
    Failed,
    /// One that this release does not know.
    Unknown,
}

impl RunState {
    /// Those of runs that are not over.
    pub const LIVE: [Self; 4] = [Self::Queued, Self::Preparing, Self::Running, Self::Stopping];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Preparing => "preparing",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Done => "done",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }

    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::Stopped | Self::Failed)
    }
}

/// What kind of thing a run failed of; decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    Run,
    Data,
    Cluster,
    Worker,
}

/// What a run asks of its workers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Requirements {
    pub min_workers: u32,
    pub max_workers: u32,
    /// `cpu` or `cuda`; none: any, but all of one kind.
    pub device_kind: Option<String>,
    /// Of each device; none: any.
    pub memory_bytes: Option<u64>,
}

/// A run, as it is at a moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunSummary {
    pub name: String,
    pub state: RunState,
    /// Why it is over; empty while it is not, and when it is done.
    pub reason: String,
    /// What a run waits for that waits; else empty.
    pub waits_for: String,
    /// Of a running one: `training`, `forming a generation`, …; else empty.
    pub phase: String,
    /// 1 is the next; none unless it is queued.
    pub queue_position: Option<u32>,
    pub priority: i32,
    pub requirements: Requirements,
    /// Empty: nobody asked.
    pub submitter: String,
    /// Those that it has.
    pub workers: Vec<String>,
    /// 0-based.
    pub epoch: u32,
    pub step: u64,
    pub epochs: u32,
    pub steps_total: u64,
    /// 0 to 1.
    pub best_accuracy: Option<f64>,
    /// As its pace suggests.
    pub left_ms: Option<u64>,
    /// Since 1970, UTC, as all times.
    pub submitted_at_ms: u64,
    pub started_at_ms: Option<u64>,
    pub ended_at_ms: Option<u64>,
    /// None unless it failed.
    pub failure_kind: Option<FailureKind>,
}

/// Runs, as far as they were asked for.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Listing {
    pub runs: Vec<RunSummary>,
    /// So many more there are.
    pub left_out: u32,
}

/// What is put into the queue.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Submission {
    /// TOML.
    pub recipe: String,
    /// None: the coordinator chooses one.
    pub name: Option<String>,
    pub priority: i32,
    pub requirements: Requirements,
}

/// A run that is in the queue now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Submitted {
    pub run: String,
    pub warnings: Vec<String>,
    /// Empty: nothing.
    pub waits_for: String,
}

impl RunSummary {
    /// How much of it is done, 0 to 1; none before that is known.
    #[must_use]
    pub fn progress(&self) -> Option<f64> {
        match self.state {
            RunState::Done => Some(1.0),
            _ if self.steps_total == 0 => None,
            _ => Some((self.step as f64 / self.steps_total as f64).min(1.0)),
        }
    }
}

impl From<pb::RunSummary> for RunSummary {
    fn from(run: pb::RunSummary) -> Self {
        let state = RunState::from(run.state());
        let failure_kind = (state == RunState::Failed).then(|| run.failure_kind().into());
        let position = run.position.unwrap_or_default();
        Self {
            name: run.name,
            state,
            reason: run.reason,
            waits_for: run.waits_for,
            phase: run.phase,
            queue_position: some(run.queue_position),
            priority: run.priority,
            requirements: run.requirements.unwrap_or_default().into(),
            submitter: run.submitter,
            workers: run.workers,
            epoch: position.epoch,
            step: position.step,
            epochs: run.epochs,
            steps_total: run.steps_total,
            best_accuracy: run.best_accuracy,
            left_ms: run.left_ms,
            submitted_at_ms: run.submitted_at_ms,
            started_at_ms: some(run.started_at_ms),
            ended_at_ms: some(run.ended_at_ms),
            failure_kind,
        }
    }
}

impl From<pb::ListRunsResponse> for Listing {
    fn from(listing: pb::ListRunsResponse) -> Self {
        let runs = listing.runs.into_iter().map(RunSummary::from).collect();
        Self { runs, left_out: listing.left_out }
    }
}

impl From<Submission> for pb::SubmitRequest {
    fn from(submission: Submission) -> Self {
        Self {
            recipe: submission.recipe,
            name: submission.name.unwrap_or_default(),
            priority: submission.priority,
            requirements: Some(submission.requirements.into()),
        }
    }
}

impl From<pb::SubmitResponse> for Submitted {
    fn from(pb::SubmitResponse { run, warnings, waits_for }: pb::SubmitResponse) -> Self {
        Self { run, warnings, waits_for }
    }
}

impl From<pb::Requirements> for Requirements {
    fn from(requirements: pb::Requirements) -> Self {
        Self {
            min_workers: requirements.min_workers,
            max_workers: requirements.max_workers,
            device_kind: Some(requirements.device_kind).filter(|kind| !kind.is_empty()),
            memory_bytes: some(requirements.memory_bytes),
        }
    }
}

impl From<Requirements> for pb::Requirements {
    fn from(requirements: Requirements) -> Self {
        Self {
            min_workers: requirements.min_workers,
            max_workers: requirements.max_workers,
            device_kind: requirements.device_kind.unwrap_or_default(),
            memory_bytes: requirements.memory_bytes.unwrap_or_default(),
        }
    }
}

impl From<pb::RunState> for RunState {
    fn from(state: pb::RunState) -> Self {
        match state {
            pb::RunState::Unspecified => Self::Unknown,
            pb::RunState::Queued => Self::Queued,
            pb::RunState::Preparing => Self::Preparing,
            pb::RunState::Running => Self::Running,
            pb::RunState::Stopping => Self::Stopping,
            pb::RunState::Done => Self::Done,
            pb::RunState::Stopped => Self::Stopped,
            pb::RunState::Failed => Self::Failed,
        }
    }
}

impl From<RunState> for pb::RunState {
    fn from(state: RunState) -> Self {
        match state {
            RunState::Unknown => Self::Unspecified,
            RunState::Queued => Self::Queued,
            RunState::Preparing => Self::Preparing,
            RunState::Running => Self::Running,
            RunState::Stopping => Self::Stopping,
            RunState::Done => Self::Done,
            RunState::Stopped => Self::Stopped,
            RunState::Failed => Self::Failed,
        }
    }
}

impl From<pb::FailureKind> for FailureKind {
    fn from(kind: pb::FailureKind) -> Self {
        match kind {
            pb::FailureKind::Unspecified => Self::Run,
            pb::FailureKind::Data => Self::Data,
            pb::FailureKind::Cluster => Self::Cluster,
            pb::FailureKind::Worker => Self::Worker,
        }
    }
}

/// The wire says none by its default.
fn some<T: Default + PartialEq>(value: T) -> Option<T> {
    Some(value).filter(|value| *value != T::default())
}
