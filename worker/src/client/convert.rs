//! From the wire's types to this crate's and back. What is missing or out of range is refused here, once.

mod plan;

use lockstep_proto::v1;

use self::plan::plan;
use super::order::{BeginOrder, Order, Welcome};
use crate::plan::{Position, Split};
use crate::trainer::{BlockMetrics, EpochReport, EvalReport, FailureKind, Ledger, Metrics, Peer, Progress};

/// A message that says too little or the impossible.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the coordinator's message is malformed: {0}")]
pub struct Malformed(&'static str);

fn need<T>(field: Option<T>, what: &'static str) -> Result<T, Malformed> {
    field.ok_or(Malformed(what))
}

pub(super) fn order(response: v1::SessionResponse) -> Result<Order, Malformed> {
    use v1::session_response::Message;
    Ok(match need(response.message, "it is of an unknown kind")? {
        Message::Welcome(_) => return Err(Malformed("a second welcome")),
        Message::Prepare(v1::Prepare { generation }) => Order::Prepare { generation },
        Message::Begin(begin) => Order::Begin(self::begin(begin)?),
        Message::Verdict(v1::Verdict { generation, epoch, restore_step, save, hold }) => {
            Order::Verdict { generation, epoch, restore_step, save, hold }
        }
        Message::Evaluate(evaluate) => Order::Evaluate {
            generation: evaluate.generation,
            split: split(evaluate.split())?,
            weights_step: evaluate.weights_step,
        },
        Message::Halt(v1::Halt { generation }) => Order::Halt { generation },
        Message::Finish(v1::Finish { reason }) => Order::Finish { reason },
    })
}

fn begin(begin: v1::Begin) -> Result<BeginOrder, Malformed> {
    let peers = begin.peers.into_iter().map(peer).collect::<Result<Vec<_>, _>>()?;
    let rank = begin.rank as usize;
    if rank >= peers.len() {
        return Err(Malformed("the rank is not below the world size"));
    }
    Ok(BeginOrder {
        generation: begin.generation,
        rank,
        peers,
        token: begin.token,
        position: position(need(begin.position, "a begin without a position")?),
        checkpoint_step: begin.checkpoint_step,
        hold: begin.hold,
    })
}

fn peer(peer: v1::Peer) -> Result<Peer, Malformed> {
    let v1::ShardRange { start, end } = need(peer.shards, "a peer without shards")?;
    Ok(Peer { name: peer.name, address: peer.address, shards: start..end })
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

pub(super) fn welcome(welcome: v1::Welcome) -> Result<Welcome, Malformed> {
    Ok(Welcome { run: welcome.run, plan: plan(need(welcome.plan, "a welcome without a plan")?)? })
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
}
