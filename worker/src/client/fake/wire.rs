//! The fake's words on the wire: the reverse of what the client reads.

use lockstep_proto::v1;
use lockstep_proto::v1::session_response::Message;
use sha2::{Digest, Sha256};

use crate::client::convert::wire_position;
use crate::client::{BeginOrder, FinishOrder, Order, StartFrom};
use crate::plan::Split;
use crate::trainer::Peer;

pub(super) const RUN: &str = "run";
/// The bytes of the data set, of which no test makes anything.
pub(super) const BLOB: &[u8] = b"samples";

pub(crate) fn digest() -> String {
    hex::encode(Sha256::digest(BLOB))
}

pub(super) fn plan(epochs: u32) -> v1::Plan {
    let optimizer = v1::optimizer_plan::Kind::Sgd(v1::Sgd { momentum: 0.9, nesterov: false });
    let curve = v1::schedule_plan::Curve::Constant(v1::Constant {});
    v1::Plan {
        run: RUN.to_owned(),
        batch: 4,
        shards: 2,
        epochs,
        steps_per_epoch: 2,
        threads: 1,
        precision: v1::Precision::Fp32.into(),
        exact: true,
        prefix_cache: v1::PrefixCache::Auto.into(),
        data: Some(v1::DataPlan { digest: digest(), image_size: 8, ..Default::default() }),
        model: Some(v1::ModelPlan { name: "resnet18".to_owned(), ..Default::default() }),
        train: Some(v1::TrainPlan {
            phases: vec![v1::Phase::default()],
            frozen_batch_norm: v1::FrozenBatchNorm::Eval.into(),
            accumulate: 1,
            ..Default::default()
        }),
        optimizer: Some(v1::OptimizerPlan { lr: 0.1, kind: Some(optimizer) }),
        schedule: Some(v1::SchedulePlan { curve: Some(curve), ..Default::default() }),
        eval_split: v1::Split::Validation.into(),
        eval_block: 1,
        ..Default::default()
    }
}

pub(super) fn order(order: Order) -> Message {
    match order {
        Order::Prepare { generation, now } => Message::Prepare(v1::Prepare { generation, now }),
        Order::Begin(order) => Message::Begin(begin(order)),
        Order::Verdict(order) => Message::Verdict(v1::Verdict {
            generation: order.generation,
            epoch: order.epoch,
            restore_step: order.restore_step,
            save: order.save,
            hold: order.hold,
            keep: order.keep,
        }),
        Order::Evaluate(order) => Message::Evaluate(v1::Evaluate {
            generation: order.generation,
            split: split(order.split).into(),
            weights_step: order.weights_step,
        }),
        Order::Stored { step } => Message::Stored(v1::Stored { step }),
        Order::Finish(FinishOrder { reason, stand_by }) => Message::Finish(v1::Finish { reason, stand_by }),
    }
}

fn begin(order: BeginOrder) -> v1::Begin {
    v1::Begin {
        generation: order.generation,
        rank: order.rank as u32,
        peers: order.peers.into_iter().map(peer).collect(),
        token: order.token,
        position: Some(wire_position(order.position)),
        start: match order.from {
            StartFrom::Initial => None,
            StartFrom::Checkpoint(step) => Some(v1::begin::Start::CheckpointStep(step)),
            StartFrom::Peer(rank) => Some(v1::begin::Start::SourceRank(rank as u32)),
        },
        hold: order.hold,
        judged: order.judged,
        save: order.save,
    }
}

fn peer(peer: Peer) -> v1::Peer {
    let Peer { name, address, shards, has_state } = peer;
    let shards = Some(v1::ShardRange { start: shards.start, end: shards.end });
    v1::Peer { name, address, shards, has_state }
}

fn split(split: Split) -> v1::Split {
    match split {
        Split::Train => v1::Split::Train,
        Split::Validation => v1::Split::Validation,
        Split::Test => v1::Split::Test,
    }
}
