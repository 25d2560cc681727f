//! From the wire's types to this crate's and back. What is missing or out of range is refused here, once.

use std::num::{NonZeroU32, NonZeroU64};

use lockstep_proto::v1;

use super::order::{BeginOrder, Order, Welcome};
use crate::plan::{
    AugmentPlan, Curve, DataPlan, GroupPlan, ModelPlan, OptimizerKind, OptimizerPlan, PhasePlan, Plan, Position,
    SchedulePlan, Split, TrainPlan,
};
use crate::trainer::{BlockMetrics, EpochReport, EvalReport, FailureKind, Ledger, Metrics, Peer, Progress};

/// A message that says too little or the impossible.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the coordinator's message is malformed: {0}")]
pub struct Malformed(&'static str);

fn need<T>(field: Option<T>, what: &'static str) -> Result<T, Malformed> {
    field.ok_or(Malformed(what))
}

fn positive(value: u32, what: &'static str) -> Result<NonZeroU32, Malformed> {
    need(NonZeroU32::new(value), what)
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

fn plan(plan: v1::Plan) -> Result<Plan, Malformed> {
    let eval_split = split(plan.eval_split())?;
    if plan.steps_per_epoch == 0 {
        return Err(Malformed("an epoch without steps"));
    }
    Ok(Plan {
        run: plan.run,
        seed: plan.seed,
        batch: positive(plan.batch, "a batch of no samples")?,
        shards: positive(plan.shards, "no shards")?,
        epochs: plan.epochs,
        steps_per_epoch: plan.steps_per_epoch,
        threads: positive(plan.threads, "no threads")?,
        checkpoint_every_steps: NonZeroU64::new(plan.checkpoint_every_steps),
        data: data(need(plan.data, "a plan without data")?)?,
        augment: plan.augment.map_or_else(AugmentPlan::default, augment),
        model: model(need(plan.model, "a plan without a model")?)?,
        train: train(need(plan.train, "a plan without training settings")?)?,
        optimizer: optimizer(need(plan.optimizer, "a plan without an optimizer")?)?,
        schedule: schedule(need(plan.schedule, "a plan without a schedule")?)?,
        eval_split,
        eval_block: positive(plan.eval_block, "evaluation blocks of no samples")?,
    })
}

fn data(data: v1::DataPlan) -> Result<DataPlan, Malformed> {
    Ok(DataPlan {
        digest: digest(data.digest)?,
        train_samples: data.train_samples,
        test_samples: data.test_samples,
        validation_samples: data.validation_samples,
        classes: data.classes,
        image_size: positive(data.image_size, "pictures of no pixels")?,
        mean: data.mean,
        std: data.std,
    })
}

fn augment(augment: v1::AugmentPlan) -> AugmentPlan {
    AugmentPlan {
        crop_padding: augment.crop_padding,
        resized_crop: (augment.resized_crop > 0.0).then_some(augment.resized_crop),
        flip: augment.flip,
        brightness: augment.brightness,
        contrast: augment.contrast,
        saturation: augment.saturation,
        hue: augment.hue,
        erasing: augment.erasing,
        mixup: augment.mixup,
        cutmix: augment.cutmix,
    }
}

fn model(model: v1::ModelPlan) -> Result<ModelPlan, Malformed> {
    let weights_digest = match model.weights_digest {
        empty if empty.is_empty() => None,
        weights => Some(digest(weights)?),
    };
    Ok(ModelPlan { name: model.name, weights_digest })
}

fn train(train: v1::TrainPlan) -> Result<TrainPlan, Malformed> {
    let frozen_batch_norm_trains = match train.frozen_batch_norm() {
        v1::FrozenBatchNorm::Train => true,
        v1::FrozenBatchNorm::Eval => false,
        v1::FrozenBatchNorm::Unspecified => {
            return Err(Malformed("an unknown treatment of frozen BatchNorm"));
        }
    };
    let phases: Vec<PhasePlan> = train.phases.into_iter().map(phase).collect();
    if phases.first().is_none_or(|first| first.epoch != 0) || !phases.is_sorted_by(|a, b| a.epoch < b.epoch) {
        return Err(Malformed("phases of training that do not rise from epoch 0"));
    }
    Ok(TrainPlan {
        phases,
        frozen_batch_norm_trains,
        label_smoothing: train.label_smoothing,
        accumulate: positive(train.accumulate, "shards in no parts")?,
        clip_norm: (train.clip_norm > 0.0).then_some(train.clip_norm),
        ema_decay: (train.ema_decay > 0.0).then_some(train.ema_decay),
    })
}

fn phase(phase: v1::Phase) -> PhasePlan {
    let group = |v1::ParameterGroup { parameters, lr, weight_decay }| GroupPlan { parameters, lr, weight_decay };
    PhasePlan { epoch: phase.epoch, groups: phase.groups.into_iter().map(group).collect() }
}

/// Digests become file names, so anything else must not pass.
fn digest(digest: String) -> Result<String, Malformed> {
    let hex = digest.len() == 64 && digest.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if hex { Ok(digest) } else { Err(Malformed("a digest that is not a sha256 in hex")) }
}

fn optimizer(optimizer: v1::OptimizerPlan) -> Result<OptimizerPlan, Malformed> {
    use v1::optimizer_plan::Kind;
    let kind = match need(optimizer.kind, "an unknown optimizer")? {
        Kind::Sgd(v1::Sgd { momentum, nesterov }) => OptimizerKind::Sgd { momentum, nesterov },
        Kind::Adamw(v1::AdamW { beta1, beta2, eps }) => OptimizerKind::AdamW { beta1, beta2, eps },
    };
    Ok(OptimizerPlan { lr: optimizer.lr, kind })
}

fn schedule(schedule: v1::SchedulePlan) -> Result<SchedulePlan, Malformed> {
    use v1::schedule_plan::Curve as Wire;
    let curve = match need(schedule.curve, "an unknown schedule")? {
        Wire::Constant(v1::Constant {}) => Curve::Constant,
        Wire::Cosine(v1::Cosine { t_max }) => {
            Curve::Cosine { t_max: positive(t_max, "a schedule with a period of 0")? }
        }
        Wire::CosineToZero(v1::CosineToZero {}) => Curve::CosineToZero,
        Wire::Step(v1::StepDecay { size, gamma }) => {
            Curve::Step { size: positive(size, "a schedule with steps of 0 epochs")?, gamma }
        }
        Wire::OneCycle(v1::OneCycle { pct_start, div_factor, final_div_factor }) => {
            Curve::OneCycle { pct_start, div_factor, final_div_factor }
        }
    };
    let v1::SchedulePlan { per_step, warmup_epochs, warmup_start, .. } = schedule;
    Ok(SchedulePlan { curve, per_step, warmup_epochs, warmup_start })
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

    #[test]
    fn a_digest_that_could_be_a_path_is_refused() {
        assert!(digest("../../etc/passwd".to_owned()).is_err());
        assert!(digest("A".repeat(64)).is_err());
        assert!(digest("a0".repeat(32)).is_ok());
    }
}
