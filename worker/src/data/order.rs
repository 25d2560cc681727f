//! The order in which samples are visited, and how it is cut into steps and shards.
//!
//! The shuffle is written out here, over ChaCha8's documented stream, because a run's weights depend on it: a
//! library that shuffles otherwise in its next version would silently change what a recipe means.

use std::ops::Range;

use rand_chacha::ChaCha8Rng;

use super::keyed::{below, stream};

/// What random numbers are for; each purpose has a stream of its own.
const EPOCH_ORDER: &[u8; 16] = b"epoch order     ";
const VALIDATION: &[u8; 16] = b"validation split";

/// Fisher–Yates from the end.
fn shuffle(mut rng: ChaCha8Rng, ids: &mut [u32]) {
    // Ids are rows, counted in 32 bits, so there are never more than that.
    for last in (1..u32::try_from(ids.len()).unwrap_or(u32::MAX)).rev() {
        ids.swap(last as usize, below(&mut rng, last + 1) as usize);
    }
}

/// `ids` in the order in which epoch `epoch` (0-based) visits them.
#[must_use]
pub fn permutation(seed: u64, epoch: u32, ids: &[u32]) -> Vec<u32> {
    let mut order = ids.to_vec();
    shuffle(stream(seed, EPOCH_ORDER, epoch, 0), &mut order);
    order
}

/// Divides the samples `0..train_samples` into (trained on, held out for validation), both ascending.
///
/// At most `train_samples` are held out.
#[must_use]
pub fn split(seed: u64, train_samples: u32, validation_samples: u32) -> (Vec<u32>, Vec<u32>) {
    let mut ids: Vec<u32> = (0..train_samples).collect();
    if validation_samples == 0 {
        return (ids, Vec::new());
    }
    shuffle(stream(seed, VALIDATION, 0, 0), &mut ids);
    let mut train = ids.split_off(validation_samples.min(train_samples) as usize);
    train.sort_unstable();
    ids.sort_unstable();
    (train, ids)
}

/// An epoch cut into steps, and these into shards: positions in the epoch's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepSlices {
    batch: u32,
    shards: u32,
    samples: u32,
}

/// The cut of an epoch over `samples` into steps of `batch` samples over all `shards`.
#[must_use]
pub fn step_slices(batch: u32, shards: u32, samples: u32) -> StepSlices {
    StepSlices { batch, shards, samples }
}

/// Steps of one epoch: all full batches, and a last short one if every shard gets at least two of its samples
/// (batch normalisation cannot work with one).
#[must_use]
pub fn steps_per_epoch(samples: u32, batch: u32, shards: u32) -> u64 {
    if batch == 0 || shards == 0 {
        return 0;
    }
    let short = samples % batch;
    let used = short > 0 && u64::from(short) >= 2 * u64::from(shards);
    u64::from(samples / batch) + u64::from(used)
}

impl StepSlices {
    /// The number of steps.
    #[must_use]
    pub fn steps(&self) -> u64 {
        steps_per_epoch(self.samples, self.batch, self.shards)
    }

    /// Samples that the epoch's steps visit, the first so many of its order.
    #[must_use]
    pub fn visited(&self) -> u32 {
        let full = u64::from(self.batch) * self.steps();
        u32::try_from(full).map_or(self.samples, |full| full.min(self.samples))
    }

    /// Samples of a last short batch that was too small.
    #[must_use]
    pub fn dropped(&self) -> u32 {
        self.samples - self.visited()
    }

    /// All shards' positions in step `step` of the epoch (0-based); none beyond its end.
    #[must_use]
    pub fn step(&self, step: u64) -> Option<Range<usize>> {
        if step >= self.steps() {
            return None;
        }
        let start = step * u64::from(self.batch);
        let end = (start + u64::from(self.batch)).min(u64::from(self.samples));
        Some(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
    }

    /// The positions in step `step`, by shard: contiguous, sizes differing by at most one, larger ones first.
    #[must_use]
    pub fn slices(&self, step: u64) -> Option<Vec<Range<usize>>> {
        let range = self.step(step)?;
        let shards = self.shards as usize;
        let (each, larger) = (range.len() / shards, range.len() % shards);
        let start = |shard: usize| range.start + shard * each + shard.min(larger);
        Some((0..shards).map(|shard| start(shard)..start(shard + 1)).collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sha2::{Digest, Sha256};

    use super::*;

    fn digest(ids: &[u32]) -> String {
        let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        hex::encode(&Sha256::digest(bytes)[..8])
    }

    // The values below were computed by an independent implementation, in Python.
    #[test]
    fn the_order_of_a_seed_never_changes() {
        let ids: Vec<u32> = (0..10).collect();
        assert_eq!(permutation(7, 0, &ids), [7, 0, 4, 3, 5, 8, 6, 2, 1, 9]);
        assert_eq!(permutation(7, 1, &ids), [9, 5, 3, 1, 8, 2, 6, 7, 0, 4]);
        assert_eq!(permutation(8, 0, &ids), [8, 2, 1, 9, 7, 6, 5, 0, 3, 4]);
        let ids: Vec<u32> = (0..50_000).collect();
        assert_eq!(digest(&permutation(7, 3, &ids)), "658ff910a2f925af");
    }

    #[test]
    fn the_split_of_a_seed_never_changes() {
        assert_eq!(split(7, 10, 3), (vec![0, 1, 3, 5, 7, 8, 9], vec![2, 4, 6]));
        let (train, validation) = split(7, 50_000, 5_000);
        assert_eq!((train.len(), validation.len()), (45_000, 5_000));
        assert_eq!(digest(&validation), "1f29c65a87823684");
    }

    #[test]
    fn a_split_leaves_nothing_out() {
        assert_eq!(split(7, 3, 0), (vec![0, 1, 2], vec![]));
        assert_eq!(split(7, 2, 5), (vec![], vec![0, 1]));
        let (train, validation) = split(1, 100, 10);
        let mut all = [train, validation].concat();
        all.sort_unstable();
        assert_eq!(all, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn every_order_is_equally_likely() {
        let mut seen = std::collections::BTreeMap::new();
        for seed in 0..6000 {
            *seen.entry(permutation(seed, 0, &[0, 1, 2])).or_insert(0_i32) += 1;
        }
        // 1000 each; a standard deviation is 29.
        assert_eq!(seen.len(), 6);
        assert!(seen.values().all(|count| (count - 1000).abs() < 150), "{seen:?}");
    }

    #[test]
    fn a_short_batch_is_used_only_if_every_shard_gets_two() {
        assert_eq!(steps_per_epoch(50_000, 200, 2), 250);
        assert_eq!(steps_per_epoch(103, 10, 2), 10);
        assert_eq!(steps_per_epoch(104, 10, 2), 11);
        assert_eq!(steps_per_epoch(3, 10, 2), 0);
        assert_eq!(steps_per_epoch(0, 10, 2), 0);
        assert_eq!(steps_per_epoch(10, 0, 2), 0);
        assert_eq!(steps_per_epoch(10, 10, 0), 0);
        assert_eq!(step_slices(10, 2, 103).dropped(), 3);
        assert_eq!(step_slices(10, 2, 104).dropped(), 0);
    }

    #[test]
    fn larger_slices_come_first() {
        let cut = step_slices(10, 4, 19);
        assert_eq!(cut.slices(0).unwrap(), [0..3, 3..6, 6..8, 8..10]);
        assert_eq!(cut.slices(1).unwrap(), [10..13, 13..15, 15..17, 17..19]);
        assert_eq!(cut.slices(2), None);
    }

    proptest! {
        #[test]
        fn slices_visit_every_position_once(samples in 0_u32..2000, batch in 1_u32..100, shards in 1_u32..9) {
            let cut = step_slices(batch, shards, samples);
            let mut at = 0;
            for step in 0..cut.steps() {
                let slices = cut.slices(step).unwrap();
                prop_assert_eq!(slices.len(), shards as usize);
                let sizes = || slices.iter().map(ExactSizeIterator::len);
                prop_assert!(sizes().max().unwrap() - sizes().min().unwrap() <= 1);
                for slice in slices.iter() {
                    prop_assert_eq!(slice.start, at);
                    at = slice.end;
                }
            }
            prop_assert_eq!(at, cut.visited() as usize);
            prop_assert!(cut.dropped() < batch);
        }
    }
}
