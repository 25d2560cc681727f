//! What is trained: a run's settings, drawn from a seed, small enough to be over soon and odd enough to be telling.

use lockstep_core::{Position, Restore, RunSpec, SelectSpec, Split, WorkerBounds};

use crate::random::{Random, mix};

/// How long the first workers may take to join and get ready, in virtual time. Delays are far below it.
const JOIN_TIMEOUT_MS: u64 = 60_000;

/// More are never at work.
pub(crate) const WORKERS_MAX: u32 = 16;

/// How many workers a run is drawn for at the most: many have few, so that a schedule costs little on the average.
const SIZES: [u32; 6] = [3, 5, 8, 12, WORKERS_MAX, WORKERS_MAX];

/// What a step and an evaluation take at the most, in virtual milliseconds. It differs between worlds, so that delays on
/// the way are long in some and short in others.
const STEP_MAX_MS: [u64; 4] = [2, 10, 40, 120];

/// A run's settings: those that the coordinator decides by, and those that only workers need.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) spec: RunSpec,
    pub(crate) seed: u64,
    /// Samples per step.
    pub(crate) batch: u32,
    /// 0: at epochs' ends only.
    pub(crate) checkpoint_every: u64,
    pub(crate) step_max_ms: u64,
    /// Where a pause falls together with an epoch's end, members pause before they evaluate rather than after.
    pub(crate) pauses_unevaluated: bool,
}

impl Case {
    pub(crate) fn draw(random: &mut Random) -> Self {
        let restore = [Restore::Never, Restore::End, Restore::Epoch];
        let splits = [Split::Val, Split::Val, Split::Test];
        let most = *random.pick(&SIZES).unwrap_or(&WORKERS_MAX);
        let shards = random.between(1, most);
        let start = random.between(1, most);
        let spec = RunSpec {
            workers: WorkerBounds {
                min: if random.percent(20) { random.between(1, start) } else { 1 },
                start,
                max: random.between(start, WORKERS_MAX),
            },
            shards,
            epochs: random.between(1, 6),
            steps_per_epoch: u64::from(random.between(1, 8)),
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
            lease_ms: if random.percent(50) { 3000 } else { 1000 },
        };
        let batch = shards + random.between(0, 2 * shards);
        Self {
            spec,
            seed: random.below(u64::MAX),
            batch,
            checkpoint_every: u64::from(random.between(0, 5)),
            step_max_ms: *random.pick(&STEP_MAX_MS).unwrap_or(&1),
            pauses_unevaluated: random.percent(50),
        }
    }

    /// Samples of an epoch.
    pub(crate) fn samples(&self) -> u32 {
        self.batch * self.spec.steps_per_epoch as u32
    }

    /// The samples that `shard` takes of a step: a slice of the epoch's order, which is a rotation here.
    pub(crate) fn shard_samples(&self, position: Position, shard: u32) -> impl Iterator<Item = u32> {
        let samples = self.samples();
        let rotation = (mix(self.seed, u64::from(position.epoch.0)) % u64::from(samples)) as u32;
        let first = (position.step.0 % self.spec.steps_per_epoch) as u32 * self.batch;
        let (batch, shards) = (self.batch, self.spec.shards);
        let bound = move |shard: u32| first + shard * batch / shards;
        (bound(shard)..bound(shard + 1)).map(move |entry| (entry + rotation) % samples)
    }

    /// Samples of a split, and of the blocks that it is cut into.
    pub(crate) fn blocks(&self, split: Split) -> Vec<u64> {
        let (samples, block) = (self.split_samples(split), u64::from(self.spec.eval_block));
        (0..samples.div_ceil(block)).map(|index| (samples - index * block).min(block)).collect()
    }

    fn split_samples(&self, split: Split) -> u64 {
        if split == self.spec.select.split { self.spec.eval_samples } else { self.spec.test_samples }
    }

    pub(crate) fn learning_rate(&self, epoch: u32) -> f64 {
        0.1 / f64::from(epoch + 1)
    }

    /// The epoch's steps are done, and the verdict on it has yet to be followed.
    pub(crate) fn is_unjudged(&self, position: Position) -> bool {
        position.step.0 == u64::from(position.epoch.0 + 1) * self.spec.steps_per_epoch
    }

    pub(crate) fn is_checkpoint_due(&self, position: Position) -> bool {
        self.checkpoint_every > 0
            && position.step.0.is_multiple_of(self.checkpoint_every)
            && !self.is_unjudged(position)
    }
}
