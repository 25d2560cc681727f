//! From the members' reports to one row: they must agree, and their blocks must make the whole split.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::{BlockMetrics, EpochReport, Metrics, Split, Step, WorkerName};

/// Reports that cannot all be true. A run that meets one fails rather than go on with doubtful weights.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Disagreement {
    #[error("{worker} and {reference} differ in {what} after epoch {epoch}")]
    Replicas { worker: WorkerName, reference: WorkerName, what: &'static str, epoch: u32 },
    #[error("the members ended epoch {found} at step {step} while epoch {expected} was under way")]
    Epoch { found: u32, expected: u32, step: Step },
    #[error("block {block} of the {} split was evaluated {times} times", split.as_str())]
    Blocks { split: Split, block: u32, times: u32 },
    #[error("{found} of {expected} samples of the {} split were evaluated", split.as_str())]
    Samples { split: Split, found: u64, expected: u64 },
    #[error("epoch {epoch} lost {lost} samples and repeated {repeated}")]
    Ledger { epoch: u32, lost: u64, repeated: u64 },
    #[error("the {} loss of epoch {epoch} is not a finite number; a lower learning rate may help", split.as_str())]
    NotFinite { split: Split, epoch: u32 },
}

/// Combines blocks in block order, whoever evaluated them, so that the sum's bits never depend on the members.
pub fn combine_blocks<'a>(
    split: Split,
    samples: u64,
    block_samples: u32,
    blocks: impl IntoIterator<Item = &'a BlockMetrics>,
) -> Result<Metrics, Disagreement> {
    let mut by_block: BTreeMap<u32, (u32, Metrics)> = BTreeMap::new();
    for BlockMetrics { block, metrics } in blocks {
        by_block.entry(*block).or_insert((0, *metrics)).0 += 1;
    }
    let mut sum = Metrics::default();
    for block in 0..samples.div_ceil(u64::from(block_samples)) as u32 {
        let (times, metrics) = by_block.get(&block).copied().unwrap_or_default();
        if times != 1 {
            return Err(Disagreement::Blocks { split, block, times });
        }
        sum.add(&metrics);
    }
    if sum.count != samples {
        return Err(Disagreement::Samples { split, found: sum.count, expected: samples });
    }
    Ok(sum)
}

/// Checks that all members tell the same of what they hold in common.
pub(crate) fn check_agreement(reports: &BTreeMap<WorkerName, EpochReport>) -> Result<(), Disagreement> {
    let Some((reference, first)) = reports.first_key_value() else { return Ok(()) };
    let epoch = first.epoch.0;
    for (worker, report) in reports {
        let what = if (report.epoch, report.position) != (first.epoch, first.position) {
            "position"
        } else if !report.train.is_identical(&first.train) {
            "training metrics"
        } else if report.ledger != first.ledger {
            "samples visited"
        } else if report.weights_digest != first.weights_digest {
            "weights"
        } else {
            continue;
        };
        return Err(Disagreement::Replicas {
            worker: worker.clone(),
            reference: reference.clone(),
            what,
            epoch,
        });
    }
    let ledger = &first.ledger;
    if !ledger.is_exact() {
        return Err(Disagreement::Ledger { epoch, lost: ledger.lost, repeated: ledger.repeated });
    }
    if !first.train.loss_sum.is_finite() {
        return Err(Disagreement::NotFinite { split: Split::Train, epoch });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(block: u32, loss_sum: f64, count: u64) -> BlockMetrics {
        BlockMetrics { block, metrics: Metrics { loss_sum, correct: 1, count } }
    }

    #[test]
    fn blocks_add_up_in_block_order_whoever_sent_them() {
        let blocks = [block(0, 0.1, 10), block(1, 0.2, 10), block(2, 0.3, 5)];
        let forward = combine_blocks(Split::Val, 25, 10, &blocks).unwrap();
        let backward = combine_blocks(Split::Val, 25, 10, blocks.iter().rev()).unwrap();
        assert_eq!(forward, backward);
        assert_eq!((forward.correct, forward.count), (3, 25));
    }

    #[test]
    fn a_missing_or_doubled_block_or_sample_is_refused() {
        let missing = combine_blocks(Split::Test, 25, 10, &[block(0, 0.0, 10), block(2, 0.0, 5)]);
        assert_eq!(missing, Err(Disagreement::Blocks { split: Split::Test, block: 1, times: 0 }));
        let doubled = combine_blocks(Split::Test, 10, 10, &[block(0, 0.0, 10), block(0, 0.0, 10)]);
        assert_eq!(doubled, Err(Disagreement::Blocks { split: Split::Test, block: 0, times: 2 }));
        let short = combine_blocks(Split::Test, 10, 10, &[block(0, 0.0, 9)]);
        assert_eq!(short, Err(Disagreement::Samples { split: Split::Test, found: 9, expected: 10 }));
    }
}
