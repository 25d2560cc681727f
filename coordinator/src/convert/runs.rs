//! What people ask of a cluster, and what it tells them, between the wire's types and the cluster's.

use lockstep_core::{DeviceKind, FailureKind, Requirements};
use lockstep_proto::v1 as pb;
use tonic::{Code, Status};

use crate::cluster::{PoolWorker, Refusal, RunState, RunSummary, WorkerState};

/// A refusal as a gRPC status; what can be done about it is its last line.
pub(crate) fn refusal(refusal: &Refusal) -> Status {
    let code = match refusal {
        Refusal::Invalid { .. } => Code::InvalidArgument,
        Refusal::Exists { .. } | Refusal::NameTaken { .. } => Code::AlreadyExists,
        Refusal::QueueFull { .. } | Refusal::Crowded { .. } => Code::ResourceExhausted,
        Refusal::UnknownRun { .. } | Refusal::UnknownWorker { .. } => Code::NotFound,
        Refusal::NoQueue { .. } | Refusal::NotOver { .. } | Refusal::NothingLeft { .. } => {
            Code::FailedPrecondition
        }
        Refusal::NotNow(_) => Code::Unavailable,
        Refusal::Failed(_) => Code::Internal,
    };
    let message = match refusal.hint() {
        Some(hint) => format!("{refusal}\nhint: {hint}"),
        None => refusal.to_string(),
    };
    Status::new(code, message)
}

/// What a run asks of its workers; nothing said: nothing asked.
pub(crate) fn requirements(asked: Option<pb::Requirements>) -> Result<Requirements, Refusal> {
    let pb::Requirements { min_workers, max_workers, device_kind, memory_bytes } = asked.unwrap_or_default();
    let device = match device_kind.as_str() {
        "" => None,
        "cpu" => Some(DeviceKind::Cpu),
        "cuda" => Some(DeviceKind::Cuda),
        other => {
            return Err(Refusal::Invalid {
                message: format!("`{other}` is no kind of device"),
                hint: Some("there are cpu and cuda".to_owned()),
            });
        }
    };
    Ok(Requirements { min_workers, max_workers, device, memory_bytes })
}

fn requirements_pb(requirements: &Requirements) -> pb::Requirements {
    let Requirements { min_workers, max_workers, device, memory_bytes } = *requirements;
    let device_kind = device.map_or("", DeviceKind::as_str).to_owned();
    pb::Requirements { min_workers, max_workers, device_kind, memory_bytes }
}

pub(crate) fn run_state(state: pb::RunState) -> Option<RunState> {
    Some(match state {
        pb::RunState::Unspecified => return None,
        pb::RunState::Queued => RunState::Queued,
        pb::RunState::Preparing => RunState::Preparing,
        pb::RunState::Running => RunState::Running,
        pb::RunState::Stopping => RunState::Stopping,
        pb::RunState::Done => RunState::Done,
        pb::RunState::Stopped => RunState::Stopped,
        pb::RunState::Failed => RunState::Failed,
    })
}

fn run_state_pb(state: RunState) -> pb::RunState {
    match state {
        RunState::Queued => pb::RunState::Queued,
        RunState::Preparing => pb::RunState::Preparing,
        RunState::Running => pb::RunState::Running,
        RunState::Stopping => pb::RunState::Stopping,
        RunState::Done => pb::RunState::Done,
        RunState::Stopped => pb::RunState::Stopped,
        RunState::Failed => pb::RunState::Failed,
    }
}

pub(crate) fn run_summary(summary: RunSummary) -> pb::RunSummary {
    let failure_kind = summary.kind.map_or(pb::FailureKind::Unspecified, |kind| match kind {
        FailureKind::Run => pb::FailureKind::Unspecified,
        FailureKind::Data => pb::FailureKind::Data,
        FailureKind::Cluster => pb::FailureKind::Cluster,
        FailureKind::Worker => pb::FailureKind::Worker,
    });
    let waits_for = summary.waits_for();
    pb::RunSummary {
        name: summary.run.0,
        state: run_state_pb(summary.state).into(),
        reason: summary.reason,
        waits_for,
        priority: summary.priority,
        requirements: Some(requirements_pb(&summary.requirements)),
        submitter: summary.submitter,
        workers: summary.workers.into_iter().map(|worker| worker.0).collect(),
        position: Some(super::position_pb(summary.position)),
        epochs: summary.epochs,
        steps_total: summary.steps_total,
        best_accuracy: summary.best_accuracy,
        left_ms: summary.left_ms,
        submitted_at_ms: summary.submitted_at_ms.0,
        started_at_ms: summary.started_at_ms.0,
        ended_at_ms: summary.ended_at_ms.0,
        phase: summary.phase,
        queue_position: summary.queue_position,
        failure_kind: failure_kind.into(),
    }
}

pub(crate) fn pool_worker(worker: PoolWorker) -> pb::PoolWorker {
    let state = match worker.state {
        WorkerState::Free => pb::WorkerState::Free,
        WorkerState::Busy => pb::WorkerState::Busy,
        WorkerState::Returning => pb::WorkerState::Returning,
        WorkerState::Draining => pb::WorkerState::Draining,
        WorkerState::Away => pb::WorkerState::Away,
    };
    pb::PoolWorker {
        name: worker.worker.0,
        state: state.into(),
        run: worker.run.map(|run| run.0).unwrap_or_default(),
        device: worker.device,
        memory_bytes: worker.resources.memory_bytes,
        host: worker.host,
        joined_at_ms: worker.joined_at_ms.0,
        libtorch_version: worker.libtorch_version,
    }
}
