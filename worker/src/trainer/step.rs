//! One step: this member's shards forward and backward, the exchanges, then the update.
//!
//! The update is local and comes last: whatever breaks an exchange, and wherever, the replica stands at the boundary
//! before the step or at the one after it, never between.

use tch::Tensor;

use super::error::TrainerError;
use super::exchange::{Peers, narrow};
use super::inputs::Inputs;
use super::parts::{self, PartSums};
use super::replica::Replica;
use super::samples::StepSamples;
use super::sum::Sum;
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
    /// One shard's, on the device, where the sum has no place for it.
    gradient: Tensor,
    /// Of a shard that is computed in parts.
    part_sums: Option<PartSums>,
    gradients: Sum,
    statistics: Sum,
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
    pub(super) fn new(plan: &Plan, replica: &Replica, peers: &mut Peers) -> Result<Self, TrainerError> {
        let TrainPlan { label_smoothing, accumulate, clip_norm, .. } = plan.train;
        let model = &replica.model;
        let gradient = model.new_gradient();
        let part_sums = (accumulate.get() > 1).then(|| PartSums::new(&gradient, model.statistics()));
        let gradients = Sum::new(&gradient, model.buckets(), plan.exact, peers)?;
        Ok(Self {
            label_smoothing,
            accumulate: accumulate.get(),
            clip_norm,
            part_sums,
            gradient,
            gradients,
            statistics: Sum::new(model.statistics(), model.moving_statistics(), plan.exact, peers)?,
        })
    }

    /// Makes the update at `position`, the same on every member. When any member is asked to pause, all of them learn it
    /// from the same step.
    ///
    /// # Errors
    /// [`TrainerError`]; the replica is as before.
    pub(super) fn step(
        &mut self,
        replica: &mut Replica,
        inputs: Inputs<'_>,
        step: &StepSamples<'_>,
        position: Position,
        peers: &mut Peers,
    ) -> Result<Outcome, TrainerError> {
        let mut own = Trailer::default();
        for shard in peers.group.block() {
            own.shards.push(self.shard(replica, inputs, step, (position, shard), peers)?);
        }
        let gradient = self.gradients.finish(peers)?;
        let statistics_move = self.statistics.parts() > 0;
        let statistics = self.statistics.finish(peers)?;
        own.pause = peers.is_pause_asked();
        let payloads = peers.all_gather(&own.encode())?;
        let account = trailer::merge(&payloads, peers.group.shards())?;

        let norm = self.clip_norm.map(|max_norm| clip::clip(gradient, max_norm));
        if statistics_move {
            let _ = statistics.g_div_scalar_(f64::from(peers.group.shards()));
        }
        replica.update(gradient, statistics, position);
        Ok(Outcome { account, norm })
    }

    /// One shard: its gradient and statistics are added to the sums, its account is returned.
    fn shard(
        &mut self,
        replica: &Replica,
        inputs: Inputs<'_>,
        step: &StepSamples<'_>,
        (position, shard): (Position, u32),
        peers: &mut Peers,
    ) -> Result<ShardAccount, TrainerError> {
        let ids = step.shard(shard);
        let mut account = ShardAccount { shard, loss_sum: 0.0, correct: 0, samples: ids.to_vec() };
        let parts = parts::cut(ids.len(), self.accumulate);
        for (index, part) in parts.iter().enumerate() {
            let given = inputs.train_batch(position.epoch, &ids[part.clone()])?;
            let (logits, tape) =
                replica.model.try_forward_train(given.input(), || peers.check_cancelled())?;
            let loss_sum = loss::training(&logits, &given.batch, self.label_smoothing);
            // Every shard divides by the samples of the whole step, so that the plain sum over shards is the mean.
            let loss = loss_sum.g_div_scalar(step.count() as f64);
            if index + 1 < parts.len() {
                self.add_part(replica, index, (tape, &loss), peers)?;
            } else {
                self.hand_over(replica, parts.len(), (tape, &loss), shard, peers)?;
            }
            account.loss_sum += loss_sum.double_value(&[]);
            account.correct += loss::correct(&logits, &given.batch.labels);
        }
        Ok(account)
    }

    /// Adds a part that others follow to the sums.
    fn add_part(
        &mut self,
        replica: &Replica,
        index: usize,
        (tape, loss): (Tape, &Tensor),
        peers: &Peers,
    ) -> Result<(), TrainerError> {
        let PartSums { gradient: sum, statistics } =
            self.part_sums.as_mut().expect("a shard in several parts has sums");
        let seen = replica.model.shard_statistics();
        if index == 0 {
            replica.model.backward(tape, loss, sum, |_| peers.check_cancelled())?;
            statistics.copy_(seen);
            return Ok(());
        }
        replica.model.backward(tape, loss, &self.gradient, |_| peers.check_cancelled())?;
        let _ = sum.g_add_(&self.gradient);
        let _ = statistics.g_add_(seen);
        Ok(())
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
        let place = gradients.place();
        let gradient = place.as_ref().unwrap_or(gradient);
        model.backward(tape, loss, gradient, |bucket| {
            if let Some(sums) = &sums {
                let part = |flat: &Tensor| narrow(flat, &buckets[bucket]);
                let _ = part(gradient).g_add_(&part(&sums.gradient));
            }
            gradients.add(bucket, shard, gradient, peers)?;
            peers.check_cancelled()
        })?;
        let mut seen = model.shard_statistics();
        if let Some(sums) = &mut sums {
            // Each part normalises by itself, as a shard of its own would.
            let _ = sums.statistics.g_add_(seen).g_div_scalar_(parts as f64);
            seen = &sums.statistics;
        }
        // Those that stand still are not exchanged.
        (0..statistics.parts()).try_for_each(|part| statistics.add(part, shard, seen, peers))
    }
}
