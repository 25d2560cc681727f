//! One step: this member's shards forward and backward, the exchange, the update, and the members' accounts of it.

use std::sync::atomic::{AtomicBool, Ordering};

use tch::{Kind, Reduction, Tensor};

use super::error::TrainerError;
use super::exchange::{Peers, ShardSum};
use super::replica::Replica;
use super::samples::{Samples, StepSamples};
use super::trailer::{self, ShardAccount, Trailer};
use crate::plan::Split;

/// PyTorch's default for `ignore_index`; no label is negative here.
const IGNORE_NOTHING: i64 = -100;

/// The buffers that steps reuse.
#[derive(Debug)]
pub(super) struct Stepper {
    /// One shard's, on the device.
    gradient: Tensor,
    gradients: ShardSum,
    statistics: ShardSum,
}

impl Stepper {
    pub(super) fn new(replica: &Replica, peers: &Peers) -> Self {
        let model = &replica.model;
        let gradient = model.new_gradient();
        let all = 0..model.statistics().numel();
        Self {
            gradients: ShardSum::new(&gradient, model.buckets(), &peers.group),
            statistics: ShardSum::new(model.statistics(), vec![all], &peers.group),
            gradient,
        }
    }

    /// Makes one update, the same on every member, and returns what all members' shards saw in it. When any member's
    /// `halt` is raised, all of them learn it from the same step.
    pub(super) fn step(
        &mut self,
        replica: &mut Replica,
        samples: &Samples,
        step: &StepSamples<'_>,
        peers: &mut Peers,
        learning_rate: f64,
        halt: &AtomicBool,
    ) -> Result<Trailer, TrainerError> {
        let mut own = Trailer::default();
        for shard in peers.group.block() {
            peers.check_cancelled()?;
            own.shards.push(self.shard(replica, samples, step, shard, peers)?);
        }
        let gradient = self.gradients.finish(peers)?;
        let shards = f64::from(peers.group.shards());
        let mean_statistics = self.statistics.finish(peers)?.g_div_scalar(shards);
        replica.update(gradient, &mean_statistics, learning_rate);

        own.halt = halt.load(Ordering::Relaxed);
        let payloads = peers.all_gather(&own.encode())?;
        Ok(trailer::merge(&payloads, peers.group.shards())?)
    }

    /// One shard: its gradient and statistics are added to the sums, its account is returned.
    fn shard(
        &mut self,
        replica: &Replica,
        samples: &Samples,
        step: &StepSamples<'_>,
        shard: u32,
        peers: &mut Peers,
    ) -> Result<ShardAccount, TrainerError> {
        let ids = step.shard(shard);
        let (images, labels) = samples.batch(Split::Train, ids)?;
        let (logits, tape) = replica.model.forward_train(&images);
        let loss_sum =
            logits.cross_entropy_loss::<Tensor>(&labels, None, Reduction::Sum, IGNORE_NOTHING, 0.0);
        // Every shard divides by the samples of the whole step, so that the plain sum over shards is the mean.
        let loss = loss_sum.g_div_scalar(step.count() as f64);

        let Self { gradient, gradients, statistics } = self;
        let mut exchanged = Ok(());
        replica.model.backward(tape, &loss, gradient, |bucket| {
            if exchanged.is_ok() {
                exchanged = gradients.add(bucket, shard, gradient, peers);
            }
        });
        exchanged?;
        statistics.add(0, shard, replica.model.shard_statistics(), peers)?;
        Ok(ShardAccount {
            shard,
            loss_sum: loss_sum.double_value(&[]),
            correct: correct(&logits, &labels),
            samples: ids.to_vec(),
        })
    }
}

/// Samples whose highest logit is their label's.
pub(super) fn correct(logits: &Tensor, labels: &Tensor) -> u64 {
    let hits = logits.argmax(-1, false).eq_tensor(labels).sum(Kind::Int64).int64_value(&[]);
    u64::try_from(hits).expect("a count is not negative")
}

/// Each sample's loss, f32 [N].
pub(super) fn losses(logits: &Tensor, labels: &Tensor) -> Tensor {
    logits.cross_entropy_loss::<Tensor>(labels, None, Reduction::None, IGNORE_NOTHING, 0.0)
}
