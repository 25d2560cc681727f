//! What has been done of the epoch under way: what a checkpoint in the middle of it must carry, so that the epoch's
//! metrics and ledger come out the same to the bit, however often it is interrupted.

use crate::data::ledger::EpochLedger;

use super::message::Ledger;
use super::metrics::Metrics;
use super::trailer::ShardAccount;

/// The same on every member, as it follows from all members' accounts.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct EpochState {
    pub(super) train: Metrics,
    pub(super) ledger: EpochLedger,
}

impl EpochState {
    /// At the start of an epoch that is to visit `expected`, and `dropped` samples fewer than there are.
    pub(super) fn new(expected: &[u32], dropped: u32) -> Self {
        Self { train: Metrics::default(), ledger: EpochLedger::new(expected, dropped) }
    }

    /// Enters a finished step, given by shard, and returns its own sums.
    pub(super) fn record(&mut self, shards: &[ShardAccount]) -> Metrics {
        let mut step = Metrics::default();
        let mut ids = Vec::new();
        for account in shards {
            let metrics = account.metrics();
            step.add(&metrics);
            // One addition per shard, in shard order: however shards are placed, the sum has the same bits.
            self.train.add(&metrics);
            ids.extend_from_slice(&account.samples);
        }
        self.ledger.record(&ids);
        step
    }

    pub(super) fn summary(&self) -> Ledger {
        let summary = self.ledger.summary();
        Ledger {
            expected: summary.expected,
            seen: summary.seen,
            lost: summary.lost,
            repeated: summary.repeated,
            dropped: summary.dropped,
            digest: summary.digest,
        }
    }
}
