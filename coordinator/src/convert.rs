//! Between the wire's types and the core's: the only place where they meet.

mod plan;
mod runs;
mod settings;

use lockstep_core as core;
use lockstep_core::{
    Activity, Attached, Epoch, Event, FailureKind, Generation, Message, Position, Reject, Split, Step, Term,
    WorkerName,
};
use lockstep_proto::v1 as pb;
use tonic::{Code, Status};

pub(crate) use plan::{EVAL_BLOCK, plan};
pub use plan::{PlanError, SampleCounts, run_spec};
pub(crate) use runs::{pool_worker, refusal, requirements, run_state, run_summary};

/// This file speaks version 3 of the contract.
pub(crate) const PROTOCOL_VERSION: u32 = 3;

/// A message of a joined worker as an event.
pub(crate) fn event(worker: &WorkerName, message: pb::session_request::Message) -> Result<Event, Status> {
    use pb::session_request::Message as Request;
    let worker = worker.clone();
    Ok(match message {
        Request::Join(_) => return Err(Status::invalid_argument("Join comes once, first")),
        Request::Heartbeat(beat) => Event::Heartbeat { worker, heartbeat: heartbeat(beat) },
        Request::Progress(progress) => Event::Progressed {
            worker,
            generation: Generation(progress.generation),
            progress: core::Progress {
                position: position(progress.position),
                train: metrics(progress.train),
                step_ms: progress.step_ms,
                exchange_ms: progress.exchange_ms,
            },
        },
        Request::EpochReport(report) => Event::EpochReported {
            worker,
            generation: Generation(report.generation),
            report: epoch_report(report)?,
        },
        Request::EvalReport(report) => Event::EvalReported {
            worker,
            generation: Generation(report.generation),
            split: split(report.split())?,
            blocks: blocks(&report.blocks),
        },
        Request::Started(started) => Event::Started {
            worker,
            generation: Generation(started.generation),
            timings: core::StartTimings {
                connect_ms: started.connect_ms,
                state_ms: started.state_ms,
                first_step_ms: started.first_step_ms,
            },
        },
        Request::Prefix(prefix) => {
            Event::PrefixTold { worker, generation: Generation(prefix.generation), line: prefix.line }
        }
        Request::Logged(_) => return Err(Status::invalid_argument("what is logged is no event")),
        Request::Failed(failed) => {
            let kind = match failed.kind() {
                pb::FailureKind::Data => FailureKind::Data,
                pb::FailureKind::Cluster => FailureKind::Cluster,
                pb::FailureKind::Worker => FailureKind::Worker,
                pb::FailureKind::Unspecified => FailureKind::Run,
            };
            Event::WorkerFailed { worker, reason: failed.reason, kind }
        }
    })
}

/// What a worker says of itself.
pub(crate) fn worker_info(join: &pb::Join) -> core::WorkerInfo {
    core::WorkerInfo {
        device: join.device.clone(),
        host: join.host.clone(),
        pid: join.pid,
        libtorch_version: join.libtorch_version.clone(),
        incarnation: join.incarnation,
    }
}

/// What a worker that comes back was told before; none of one that is new.
pub(crate) fn attached(join: &pb::Join) -> Option<Attached> {
    (join.term != 0).then_some(Attached { term: Term(join.term) })
}

/// What every worker of a run is told beside the run's own messages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms<'a> {
    /// Goes with the welcome.
    pub(crate) plan: &'a pb::Plan,
    pub(crate) keep_logs: bool,
    /// When it is let go it waits for the next run.
    pub(crate) stand_by: bool,
}

/// A message to a worker, as it goes out. `token` goes with the start of a generation.
pub(crate) fn response(
    message: Message,
    Terms { plan, keep_logs, stand_by }: Terms<'_>,
    token: impl FnOnce(Generation) -> Vec<u8>,
) -> pb::SessionResponse {
    use pb::session_response::Message as Response;
    let message = match message {
        Message::Welcome { term, lease_ms } => Response::Welcome(pb::Welcome {
            run: plan.run.clone(),
            plan: Some(plan.clone()),
            term: term.0,
            lease_ms,
            keep_logs,
        }),
        Message::Prepare { generation, now } => {
            Response::Prepare(pb::Prepare { generation: generation.0, now })
        }
        Message::Begin(begin) => {
            let token = token(begin.generation);
            Response::Begin(begin_pb(&begin, token))
        }
        Message::Verdict(verdict) => Response::Verdict(pb::Verdict {
            generation: verdict.generation.0,
            epoch: verdict.epoch.0,
            restore_step: verdict.restore.map(|step| step.0),
            save: verdict.save,
            hold: verdict.hold,
            keep: verdict.keep,
        }),
        Message::Evaluate { generation, split, weights_step } => Response::Evaluate(pb::Evaluate {
            generation: generation.0,
            split: split_pb(split).into(),
            weights_step: weights_step.0,
        }),
        Message::Stored { step } => Response::Stored(pb::Stored { step: step.0 }),
        Message::Finish { reason } => return finish(reason, stand_by),
    };
    pb::SessionResponse { message: Some(message) }
}

/// The end of a session; `stand_by`: the worker begins again and waits for another run.
pub(crate) fn finish(reason: String, stand_by: bool) -> pb::SessionResponse {
    let finish = pb::Finish { reason, stand_by };
    pb::SessionResponse { message: Some(pb::session_response::Message::Finish(finish)) }
}

/// No run needs the worker now.
/// It waits for a run; in a cluster of many there may always be another, and their workers' logs are kept here.
pub(crate) fn pooled(of_many: bool) -> pb::SessionResponse {
    let pooled = pb::Pooled { keep_logs: of_many, stand_by: of_many };
    pb::SessionResponse { message: Some(pb::session_response::Message::Pooled(pooled)) }
}

/// A refusal as a gRPC status. UNAVAILABLE and, for who wants to join, ALREADY_EXISTS pass; the others do not.
pub(crate) fn status(reject: &Reject) -> Status {
    let code = match reject {
        Reject::StaleGeneration { .. } | Reject::Beyond { .. } | Reject::OutOfPlace { .. } => {
            Code::FailedPrecondition
        }
        Reject::UnknownWorker { .. } => Code::NotFound,
        Reject::NameTaken { .. } => Code::AlreadyExists,
        Reject::Fenced { .. } => Code::Aborted,
        Reject::Full { .. } | Reject::RunOver => Code::Unavailable,
    };
    Status::new(code, reject.to_string())
}

/// The run has no use for a worker that comes back, which is no fault of the worker's.
pub(crate) fn is_over_or_full(reject: &Reject) -> bool {
    matches!(reject, Reject::Full { .. } | Reject::RunOver)
}

fn heartbeat(beat: pb::Heartbeat) -> core::Heartbeat {
    let activity = match beat.activity() {
        pb::Activity::Unspecified => Activity::Idle,
        pb::Activity::Forming => Activity::Forming,
        pb::Activity::Computing => Activity::Computing,
        pb::Activity::Exchanging => Activity::Exchanging { waiting_on: WorkerName(beat.waiting_on) },
        pb::Activity::Evaluating => Activity::Evaluating,
        pb::Activity::AwaitingVerdict => Activity::AwaitingVerdict,
        pb::Activity::Holding => Activity::Holding,
        pb::Activity::Caching => Activity::Caching,
    };
    let broken = beat.broken.map(|broken| core::Broken {
        blames: broken.blames.into_iter().map(WorkerName).collect(),
        reason: broken.reason,
    });
    core::Heartbeat {
        sequence: beat.sequence,
        address: beat.address,
        generation: Generation(beat.generation),
        prepared: Generation(beat.prepared),
        position: beat.position.map(|at| position(Some(at))),
        activity,
        since_ms: beat.since_ms,
        leaving: beat.leaving,
        broken,
    }
}

fn begin_pb(begin: &core::Begin, token: Vec<u8>) -> pb::Begin {
    let start = match begin.start {
        core::Start::Initial => None,
        core::Start::Checkpoint(step) => Some(pb::begin::Start::CheckpointStep(step.0)),
        core::Start::Peer { rank } => Some(pb::begin::Start::SourceRank(rank)),
    };
    pb::Begin {
        generation: begin.generation.0,
        rank: begin.rank,
        peers: begin.peers.iter().map(peer).collect(),
        token,
        position: Some(position_pb(begin.position)),
        start,
        hold: begin.hold,
        judged: begin.judged,
        save: begin.save,
    }
}

pub(crate) fn position(position: Option<pb::Position>) -> Position {
    let pb::Position { epoch, step } = position.unwrap_or_default();
    Position { epoch: Epoch(epoch), step: Step(step) }
}

pub(crate) fn split_pb(split: Split) -> pb::Split {
    match split {
        Split::Train => pb::Split::Train,
        Split::Val => pb::Split::Validation,
        Split::Test => pb::Split::Test,
    }
}

fn position_pb(position: Position) -> pb::Position {
    pb::Position { epoch: position.epoch.0, step: position.step.0 }
}

fn split(split: pb::Split) -> Result<Split, Status> {
    match split {
        pb::Split::Train => Ok(Split::Train),
        pb::Split::Validation => Ok(Split::Val),
        pb::Split::Test => Ok(Split::Test),
        pb::Split::Unspecified => Err(Status::invalid_argument("a report without a split")),
    }
}

fn peer(peer: &core::Peer) -> pb::Peer {
    let (start, end) = peer.shards;
    pb::Peer {
        name: peer.worker.0.clone(),
        address: peer.address.clone(),
        shards: Some(pb::ShardRange { start, end }),
        has_state: peer.has_state,
    }
}

fn metrics(metrics: Option<pb::Metrics>) -> core::Metrics {
    let pb::Metrics { loss_sum, correct, count } = metrics.unwrap_or_default();
    core::Metrics { loss_sum, correct, count }
}

fn blocks(blocks: &[pb::BlockMetrics]) -> Vec<core::BlockMetrics> {
    blocks
        .iter()
        .map(|block| core::BlockMetrics { block: block.block, metrics: metrics(block.metrics) })
        .collect()
}

fn epoch_report(report: pb::EpochReport) -> Result<core::EpochReport, Status> {
    let split = split(report.split())?;
    let ledger = report.ledger.unwrap_or_default();
    Ok(core::EpochReport {
        epoch: Epoch(report.epoch),
        position: position(report.position),
        learning_rate: report.learning_rate,
        train: metrics(report.train),
        ledger: core::LedgerRow {
            expected: ledger.expected,
            seen: ledger.seen,
            lost: ledger.lost,
            repeated: ledger.repeated,
            dropped: ledger.dropped,
            digest: hex::encode(ledger.digest),
        },
        split,
        blocks: blocks(&report.blocks),
        ema_blocks: blocks(&report.ema_blocks),
        weights_digest: hex::encode(report.weights_digest),
        train_ms: report.train_ms,
        eval_ms: report.eval_ms,
        peak_memory_bytes: report.peak_memory_bytes,
    })
}

#[cfg(test)]
mod tests;
