//! What is trained: a run's settings, drawn from a seed, small enough to be over soon and odd enough to be telling.

use lockstep_core::{Restore, RunSpec, SelectSpec, Split};

use crate::random::{Random, mix};

/// How long workers may take to join and get ready, in virtual time. Delays are far below it.
pub(crate) const JOIN_TIMEOUT_MS: u64 = 60_000;

/// A run's settings: those that the coordinator decides by, and those that only workers need.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) spec: RunSpec,
    pub(crate) seed: u64,
    /// Samples per step.
    pub(crate) batch: u32,
    /// 0: at epochs' ends only.
    pub(crate) checkpoint_every: u64,
}

impl Case {
    pub(crate) fn draw(random: &mut Random) -> Self {
        let restore = [Restore::Never, Restore::End, Restore::Epoch];
        let splits = [Split::Val, Split::Val, Split::Test];
        let shards = random.between(1, 8);
        let spec = RunSpec {
            workers: random.between(1, 8),
            shards,
            epochs: random.between(1, 5),
            steps_per_epoch: u64::from(random.between(1, 6)),
            // Few samples make equal accuracies likely.
            eval_samples: u64::from(random.between(1, 12)),
            test_samples: u64::from(random.between(0, 12)),
            eval_block: random.between(1, 5),
            select: SelectSpec {
                split: splits[random.below(3) as usize],
                restore: restore[random.below(3) as usize],
                patience: random.between(0, 3),
            },
            ema: random.below(2) == 1,
            keep: random.between(1, 3),
            join_timeout_ms: JOIN_TIMEOUT_MS,
        };
        let batch = shards + random.between(0, 2 * shards);
        Self { spec, seed: random.below(u64::MAX), batch, checkpoint_every: u64::from(random.between(0, 4)) }
    }

    /// Samples of an epoch.
    pub(crate) fn samples(&self) -> u32 {
        self.batch * self.spec.steps_per_epoch as u32
    }

    /// The samples that `shard` takes of a step: a slice of the epoch's order, which is a rotation here.
    pub(crate) fn shard_samples(&self, epoch: u32, step: u64, shard: u32) -> Vec<u32> {
        let rotation = (mix(self.seed, u64::from(epoch)) % u64::from(self.samples())) as u32;
        let first = (step % self.spec.steps_per_epoch) as u32 * self.batch;
        let bound = |shard: u32| first + shard * self.batch / self.spec.shards;
        (bound(shard)..bound(shard + 1)).map(|entry| (entry + rotation) % self.samples()).collect()
    }

    /// Samples of a split, and of the blocks that it is cut into.
    pub(crate) fn blocks(&self, split: Split) -> Vec<u64> {
        let (samples, block) = (self.split_samples(split), u64::from(self.spec.eval_block));
        (0..samples.div_ceil(block)).map(|index| (samples - index * block).min(block)).collect()
    }

    pub(crate) fn split_samples(&self, split: Split) -> u64 {
        if split == self.spec.select.split { self.spec.eval_samples } else { self.spec.test_samples }
    }

    pub(crate) fn learning_rate(&self, epoch: u32) -> f64 {
        0.1 / f64::from(epoch + 1)
    }

    pub(crate) fn is_checkpoint_due(&self, step: u64) -> bool {
        self.checkpoint_every > 0
            && step.is_multiple_of(self.checkpoint_every)
            && !step.is_multiple_of(self.spec.steps_per_epoch)
    }
}
