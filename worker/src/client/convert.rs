//! From the wire's types to this crate's and back. What is missing or out of range is refused here, once.

mod plan;

use std::time::Duration;

use lockstep_proto::v1;

use self::plan::plan;
use super::order::{
    Answer, BeginOrder, EvaluateOrder, FinishOrder, Order, Pooled, StartFrom, VerdictOrder, Welcome,
};
use super::outgoing::Heartbeat;
use super::{Introduction, PROTOCOL_VERSION};
use crate::plan::{Position, Split};
use crate::trainer::{
    BlockMetrics, EpochReport, EvalReport, FailureKind, Ledger, Metrics, Peer, PrefixTold, Progress, Started,
    pulse,
};

/// A message that says too little or the impossible.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the coordinator's message is malformed: {0}")]
pub struct Malformed(&'static str);

fn need<T>(field: Option<T>, what: &'static str) -> Result<T, Malformed> {
    field.ok_or(Malformed(what))
}

pub(super) fn answer(response: v1::SessionResponse) -> Result<Answer, Malformed> {
    use v1::session_response::Message;
    Ok(match need(response.message, "it is of an unknown kind")? {
        Message::Welcome(welcome) => Answer::Welcome(Box::new(self::welcome(welcome)?)),
        Message::Pooled(v1::Pooled { keep_logs, stand_by }) => Answer::Pooled(Pooled { keep_logs, stand_by }),
        Message::Finish(finish) => Answer::Finish(self::finish(finish)),
        _ => return Err(Malformed("an order before the welcome")),
    })
}

fn welcome(welcome: v1::Welcome) -> Result<Welcome, Malformed> {
    let v1::Welcome { run, plan: settings, term, lease_ms, keep_logs } = welcome;
    let plan = plan(need(settings, "a welcome without a plan")?)?;
    if run != plan.run {
        return Err(Malformed("a welcome to one run with the plan of another"));
    }
    if term == 0 || lease_ms == 0 {
        return Err(Malformed("a welcome without a term or a lease"));
    }
    Ok(Welcome { plan, term, lease: Duration::from_millis(lease_ms), keep_logs })
}

pub(super) fn order(response: v1::SessionResponse) -> Result<Order, Malformed> {
    use v1::session_response::Message;
    Ok(match need(response.message, "it is of an unknown kind")? {
        Message::Welcome(_) => return Err(Malformed("a second welcome")),
        Message::Pooled(_) => return Err(Malformed("into the pool while a run has it")),
        Message::Prepare(v1::Prepare { generation, now }) => Order::Prepare { generation, now },
        Message::Begin(begin) => Order::Begin(self::begin(begin)?),
        Message::Verdict(v1::Verdict { generation, epoch, restore_step, save, hold, keep }) => {
            Order::Verdict(VerdictOrder { generation, epoch, restore_step, save, keep, hold })
        }
        Message::Evaluate(evaluate) => Order::Evaluate(EvaluateOrder {
            generation: evaluate.generation,
            split: split(evaluate.split())?,
            weights_step: evaluate.weights_step,
        }),
        Message::Stored(v1::Stored { step }) => Order::Stored { step },
        Message::Finish(finish) => Order::Finish(self::finish(finish)),
    })
}

fn finish(v1::Finish { reason, stand_by }: v1::Finish) -> FinishOrder {
    FinishOrder { reason, stand_by }
}

fn begin(begin: v1::Begin) -> Result<BeginOrder, Malformed> {
    let peers = begin.peers.into_iter().map(peer).collect::<Result<Vec<_>, _>>()?;
    let rank = begin.rank as usize;
    if rank >= peers.len() {
        return Err(Malformed("the rank is not below the world size"));
    }
    let from = match begin.start {
        None => StartFrom::Initial,
        Some(v1::begin::Start::CheckpointStep(step)) => StartFrom::Checkpoint(step),
        Some(v1::begin::Start::SourceRank(source)) => match source as usize {
            source if source < peers.len() => StartFrom::Peer(source),
            _ => return Err(Malformed("the source's rank is not below the world size")),
        },
    };
    Ok(BeginOrder {
        generation: begin.generation,
        rank,
        peers,
        token: begin.token,
        position: position(need(begin.position, "a begin without a position")?),
        from,
        judged: begin.judged,
        save: begin.save,
        hold: begin.hold,
    })
}

fn peer(peer: v1::Peer) -> Result<Peer, Malformed> {
    let v1::Peer { name, address, shards, has_state } = peer;
    let v1::ShardRange { start, end } = need(shards, "a peer without shards")?;
    Ok(Peer { name, address, shards: start..end, has_state })
}

fn position(position: v1::Position) -> Position {
    Position { epoch: position.epoch, step: position.step }
}

fn split(split: v1::Split) -> Result<Split, Malformed> {
    match split {
        v1::Split::Train => Ok(Split::Train),
        v1::Split::Validation => Ok(Split::Validation),
        v1::Split::Test => Ok(Split::Test),
        v1::Split::Unspecified => Err(Malformed("an unknown split")),
    }
}

pub(super) fn join(introduction: Introduction) -> v1::Join {
    let Introduction { name, device, memory_bytes, host, pid, libtorch_version, incarnation, term, run } =
        introduction;
    v1::Join {
        protocol_version: PROTOCOL_VERSION,
        name,
        device,
        host,
        pid,
        libtorch_version,
        incarnation,
        term,
        run: run.unwrap_or_default(),
        memory_bytes,
    }
}

pub(super) fn heartbeat(heartbeat: Heartbeat) -> v1::Heartbeat {
    use pulse::Activity;
    let Heartbeat { sequence, address, state, waiting_on, leaving } = heartbeat;
    let pulse::State { generation, prepared, position, activity, since, broken } = state;
    let activity = match activity {
        Activity::Idle => v1::Activity::Unspecified,
        Activity::Forming => v1::Activity::Forming,
        Activity::Computing => v1::Activity::Computing,
        Activity::Exchanging { .. } => v1::Activity::Exchanging,
        Activity::Evaluating => v1::Activity::Evaluating,
        Activity::AwaitingVerdict => v1::Activity::AwaitingVerdict,
        Activity::Holding => v1::Activity::Holding,
        Activity::Caching => v1::Activity::Caching,
    };
    v1::Heartbeat {
        sequence,
        address,
        generation,
        prepared,
        position: position.map(wire_position),
        activity: activity.into(),
        waiting_on,
        since_ms: u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX),
        leaving,
        broken: broken.map(|pulse::Broken { blames, reason }| v1::Broken { blames, reason }),
    }
}

pub(super) fn wire_position(position: Position) -> v1::Position {
    v1::Position { epoch: position.epoch, step: position.step }
}

fn wire_metrics(metrics: Metrics) -> v1::Metrics {
    v1::Metrics { loss_sum: metrics.loss_sum, correct: metrics.correct, count: metrics.count }
}

fn wire_split(split: Split) -> v1::Split {
    match split {
        Split::Train => v1::Split::Train,
        Split::Validation => v1::Split::Validation,
        Split::Test => v1::Split::Test,
    }
}

fn wire_blocks(blocks: Vec<BlockMetrics>) -> Vec<v1::BlockMetrics> {
    let block = |b: BlockMetrics| v1::BlockMetrics { block: b.block, metrics: Some(wire_metrics(b.metrics)) };
    blocks.into_iter().map(block).collect()
}

fn wire_ledger(ledger: Ledger) -> v1::Ledger {
    v1::Ledger {
        expected: ledger.expected,
        seen: ledger.seen,
        lost: ledger.lost,
        repeated: ledger.repeated,
        dropped: ledger.dropped,
        digest: ledger.digest.to_vec(),
    }
}

pub(super) fn progress(progress: Progress) -> v1::Progress {
    v1::Progress {
        generation: progress.generation,
        position: Some(wire_position(progress.position)),
        train: Some(wire_metrics(progress.train)),
        step_ms: progress.step_ms,
        exchange_ms: progress.exchange_ms,
    }
}

pub(super) fn started(started: Started) -> v1::Started {
    let Started { generation, connect_ms, state_ms, first_step_ms } = started;
    v1::Started { generation, connect_ms, state_ms, first_step_ms }
}

pub(super) fn prefix(PrefixTold { generation, line }: PrefixTold) -> v1::Prefix {
    v1::Prefix { generation, line }
}

pub(super) fn epoch_report(report: EpochReport) -> v1::EpochReport {
    v1::EpochReport {
        generation: report.generation,
        epoch: report.epoch,
        position: Some(wire_position(report.position)),
        learning_rate: report.learning_rate,
        train: Some(wire_metrics(report.train)),
        ledger: Some(wire_ledger(report.ledger)),
        split: wire_split(report.split).into(),
        blocks: wire_blocks(report.blocks),
        ema_blocks: wire_blocks(report.ema_blocks),
        weights_digest: report.weights_digest.to_vec(),
        train_ms: report.train_ms,
        eval_ms: report.eval_ms,
        peak_memory_bytes: report.peak_memory_bytes,
    }
}

pub(super) fn eval_report(report: EvalReport) -> v1::EvalReport {
    v1::EvalReport {
        generation: report.generation,
        split: wire_split(report.split).into(),
        blocks: wire_blocks(report.blocks),
        eval_ms: report.eval_ms,
    }
}

pub(super) fn failure_kind(kind: FailureKind) -> v1::FailureKind {
    match kind {
        FailureKind::Run => v1::FailureKind::Unspecified,
        FailureKind::Data => v1::FailureKind::Data,
        FailureKind::Cluster => v1::FailureKind::Cluster,
        FailureKind::Worker => v1::FailureKind::Worker,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_that_says_the_impossible_is_refused() {
        let begin = v1::Begin { rank: 1, position: Some(v1::Position::default()), ..Default::default() };
        let message = Some(v1::session_response::Message::Begin(begin));
        assert!(order(v1::SessionResponse { message }).is_err(), "rank 1 of none");
        assert!(order(v1::SessionResponse { message: None }).is_err());
    }

    #[test]
    fn only_a_place_or_the_end_answers_a_join() {
        use v1::session_response::Message;
        let answer = |message| answer(v1::SessionResponse { message: Some(message) });
        let pooled = answer(Message::Pooled(v1::Pooled { keep_logs: true, stand_by: false }));
        assert_eq!(pooled, Ok(Answer::Pooled(Pooled { keep_logs: true, stand_by: false })));
        let finish = v1::Finish { reason: "drained".to_owned(), stand_by: false };
        let expected = FinishOrder { reason: "drained".to_owned(), stand_by: false };
        assert_eq!(answer(Message::Finish(finish)), Ok(Answer::Finish(expected)));
        assert!(answer(Message::Prepare(v1::Prepare::default())).is_err());
        assert!(answer(Message::Welcome(v1::Welcome::default())).is_err(), "without a plan");
    }
}
