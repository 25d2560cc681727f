//! Training in a few integers. A replica is a digest of everything that made it, so that two replicas are equal only
//! if the same samples went into them in the same order, just as with floating-point weights.

use std::rc::Rc;

use lockstep_core::{Generation, LedgerRow, Metrics, Position, Split};

use crate::case::Case;
use crate::random::mix;

/// Model and optimizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Replica {
    pub(crate) weights: u64,
    optimizer: u64,
}

/// What a shard makes of a step.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ShardAccount {
    pub(crate) shard: u32,
    gradient: u64,
    metrics: Metrics,
    samples: Vec<u32>,
}

/// What has been done of the epoch under way.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct EpochState {
    pub(crate) train: Metrics,
    /// By sample.
    visits: Vec<u8>,
    chain: u64,
}

/// All that a position means: what a member holds, sends to a newcomer, and saves as a checkpoint.
#[derive(Debug, Clone)]
pub(crate) struct State {
    pub(crate) position: Position,
    pub(crate) replica: Replica,
    pub(crate) epoch: EpochState,
    /// Who made each step, by step. No part of the bits: only the checks know of it.
    pub(crate) makers: Rc<Vec<Generation>>,
}

impl State {
    pub(crate) fn initial(case: &Case) -> Self {
        Self {
            position: Position::default(),
            replica: Replica::initial(case),
            epoch: EpochState::new(case),
            makers: Rc::default(),
        }
    }

    /// The same bits, whoever made them.
    pub(crate) fn is_identical(&self, other: &Self) -> bool {
        (self.position, self.replica) == (other.position, other.replica) && self.epoch == other.epoch
    }
}

impl Replica {
    pub(crate) fn initial(case: &Case) -> Self {
        Self { weights: mix(case.seed, 1), optimizer: mix(case.seed, 2) }
    }

    pub(crate) fn shard(&self, case: &Case, position: Position, shard: u32) -> ShardAccount {
        let samples: Vec<u32> = case.shard_samples(position, shard).collect();
        let mut gradient = mix(self.weights, u64::from(position.epoch.0));
        let mut metrics = Metrics::default();
        for sample in &samples {
            gradient = mix(gradient, u64::from(*sample));
            metrics.add(&Metrics { loss_sum: real(gradient), correct: gradient % 2, count: 1 });
        }
        ShardAccount { shard, gradient, metrics, samples }
    }

    /// An update by all shards' gradients, in the order given.
    pub(crate) fn update<'a>(&mut self, accounts: impl IntoIterator<Item = &'a ShardAccount>) {
        let gradient = accounts.into_iter().fold(0, |sum, account| mix(sum, account.gradient));
        self.optimizer = mix(self.optimizer, gradient);
        self.weights = mix(self.weights, self.optimizer);
    }

    /// Takes the model of a checkpoint; the optimizer keeps its state.
    pub(crate) fn restore(&mut self, from: &Self) {
        self.weights = from.weights;
    }

    /// One block of `count` samples. Losses are such that their sum depends on the order of adding.
    pub(crate) fn evaluate(&self, split: Split, block: u32, count: u64) -> Metrics {
        let digest = mix(mix(self.weights, split as u64), u64::from(block));
        Metrics { loss_sum: real(digest), correct: digest % (count + 1), count }
    }

    pub(crate) fn digest(&self) -> String {
        format!("{:016x}", self.weights)
    }
}

impl EpochState {
    pub(crate) fn new(case: &Case) -> Self {
        Self { train: Metrics::default(), visits: vec![0; case.samples() as usize], chain: 0 }
    }

    pub(crate) fn record<'a>(&mut self, accounts: impl IntoIterator<Item = &'a ShardAccount>) {
        for account in accounts {
            self.train.add(&account.metrics);
            for sample in &account.samples {
                self.visits[*sample as usize] += 1;
                self.chain = mix(self.chain, u64::from(*sample));
            }
        }
    }

    pub(crate) fn ledger(&self) -> LedgerRow {
        let count = |of: fn(u8) -> u8| self.visits.iter().map(|visits| u64::from(of(*visits))).sum();
        LedgerRow {
            expected: self.visits.len() as u64,
            seen: count(|visits| visits.min(1)),
            lost: count(|visits| u8::from(visits == 0)),
            repeated: count(|visits| visits.saturating_sub(1)),
            dropped: 0,
            digest: format!("{:016x}", self.chain),
        }
    }
}

/// A positive number with all bits of its fraction in use.
fn real(digest: u64) -> f64 {
    (digest >> 11) as f64 / (1_u64 << 50) as f64
}
