//! One step: this member's shards forward and backward, the exchange, the update, and the members' accounts of it.

use std::sync::atomic::{AtomicBool, Ordering};

use tch::Tensor;

use super::error::TrainerError;
use super::exchange::{Peers, ShardSum, narrow};
use super::parts::{self, PartSums};
use super::replica::Replica;
use super::samples::{Samples, StepSamples};
use super::trailer::{self, ShardAccount, Trailer};
use super::{clip, loss};
use crate::model::Tape;
use crate::plan::{Plan, Position, TrainPlan};

/// The buffers that steps reuse, for as long as the same parameters are trained.
#[derive(Debug)]
pub(super) struct Stepper {
    label_smoothing: f64,
    accumulate: u32,
    clip_norm: Option<f64>,
    /// One shard's, on the device.
    gradient: Tensor,
    /// Of a shard that is computed in parts.
    part_sums: Option<PartSums>,
    gradients: ShardSum,
    statistics: ShardSum,
}

/// What a step gave.
#[derive(Debug)]
pub(super) struct Outcome {
    /// What all members' shards saw in it.
    pub(super) account: Trailer,
    /// The gradient's, before clipping, where it is clipped.
    pub(super) norm: Option<f64>,
}

impl Stepper {
    pub(super) fn new(plan: &Plan, replica: &Replica, peers: &Peers) -> Self {
        let TrainPlan { label_smoothing, accumulate, clip_norm, .. } = plan.train;
        let model = &replica.model;
        let gradient = model.new_gradient();
        let all = 0..model.statistics().numel();
        let part_sums = (accumulate.get() > 1).then(|| PartSums::new(&gradient, model.statistics()));
        Self {
            label_smoothing,
            accumulate: accumulate.get(),
            clip_norm,
            part_sums,
            gradients: ShardSum::new(&gradient, model.buckets(), &peers.group),
            statistics: ShardSum::new(model.statistics(), vec![all], &peers.group),
            gradient,
        }
    }

    /// Makes the update at `position`, the same on every member. When any member's `halt` is raised, all of them learn
    /// it from the same step.
    pub(super) fn step(
        &mut self,
        replica: &mut Replica,
        samples: &Samples,
        step: &StepSamples<'_>,
        position: Position,
        peers: &mut Peers,
        halt: &AtomicBool,
    ) -> Result<Outcome, TrainerError> {
        let mut own = Trailer::default();
        for shard in peers.group.block() {
            own.shards.push(self.shard(replica, samples, step, (position, shard), peers)?);
        }
        let gradient = self.gradients.finish(peers)?;
        let norm = self.clip_norm.map(|max_norm| clip::clip(gradient, max_norm));
        let shards = f64::from(peers.group.shards());
        let mean_statistics = self.statistics.finish(peers)?.g_div_scalar(shards);
        replica.update(gradient, &mean_statistics, position);

        own.halt = halt.load(Ordering::Relaxed);
        let payloads = peers.all_gather(&own.encode())?;
        Ok(Outcome { account: trailer::merge(&payloads, peers.group.shards())?, norm })
    }

    /// One shard: its gradient and statistics are added to the sums, its account is returned.
    fn shard(
        &mut self,
        replica: &Replica,
        samples: &Samples,
        step: &StepSamples<'_>,
        (position, shard): (Position, u32),
        peers: &mut Peers,
    ) -> Result<ShardAccount, TrainerError> {
        let ids = step.shard(shard);
        let mut account = ShardAccount { shard, loss_sum: 0.0, correct: 0, samples: ids.to_vec() };
        let parts = parts::cut(ids.len(), self.accumulate);
        for (index, part) in parts.iter().enumerate() {
            peers.check_cancelled()?;
            let batch = samples.train_batch(position.epoch, &ids[part.clone()])?;
            let (logits, tape) = replica.model.forward_train(&batch.images);
            let loss_sum = loss::training(&logits, &batch, self.label_smoothing);
            // Every shard divides by the samples of the whole step, so that the plain sum over shards is the mean.
            let loss = loss_sum.g_div_scalar(step.count() as f64);
            if index + 1 < parts.len() {
                self.add_part(replica, index, tape, &loss);
            } else {
                self.hand_over(replica, parts.len(), (tape, &loss), shard, peers)?;
            }
            account.loss_sum += loss_sum.double_value(&[]);
            account.correct += loss::correct(&logits, &batch.labels);
        }
        Ok(account)
    }

    /// Adds a part that others follow to the sums.
    fn add_part(&mut self, replica: &Replica, index: usize, tape: Tape, loss: &Tensor) {
        let PartSums { gradient: sum, statistics } =
            self.part_sums.as_mut().expect("a shard in several parts has sums");
        let seen = replica.model.shard_statistics();
        if index == 0 {
            replica.model.backward(tape, loss, sum, |_| {});
            statistics.copy_(seen);
            return;
        }
        replica.model.backward(tape, loss, &self.gradient, |_| {});
        let _ = sum.g_add_(&self.gradient);
        let _ = statistics.g_add_(seen);
    }

    /// The last of `parts` parts: what the shard comes to is handed to the exchange, its gradient while backward runs.
    fn hand_over(
        &mut self,
        replica: &Replica,
        parts: usize,
        (tape, loss): (Tape, &Tensor),
        shard: u32,
        peers: &mut Peers,
    ) -> Result<(), TrainerError> {
        let model = &replica.model;
        let Self { gradient, gradients, statistics, part_sums, .. } = self;
        let mut sums = part_sums.as_mut().filter(|_| parts > 1);
        let buckets = model.buckets();
        let mut exchanged = Ok(());
        model.backward(tape, loss, gradient, |bucket| {
            if let Some(sums) = &sums {
                let part = |flat: &Tensor| narrow(flat, &buckets[bucket]);
                let _ = part(gradient).g_add_(&part(&sums.gradient));
            }
            if exchanged.is_ok() {
                exchanged = gradients.add(bucket, shard, gradient, peers);
            }
        });
        exchanged?;
        let seen = model.shard_statistics();
        match &mut sums {
            None => statistics.add(0, shard, seen, peers),
            // Each part normalises by itself, as a shard of its own would.
            Some(sums) => {
                let _ = sums.statistics.g_add_(seen).g_div_scalar_(parts as f64);
                statistics.add(0, shard, &sums.statistics, peers)
            }
        }
    }
}
