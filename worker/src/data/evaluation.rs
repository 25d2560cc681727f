//! Evaluation in fixed blocks of samples, so that its sums are the same for any world size.
//!
//! A block is evaluated by one member as a whole. Losses and counts are combined in block order by whoever has
//! them all, so neither padding nor duplicates are needed.

use std::ops::Range;

/// The blocks of a split's `ids`, `eval_block` samples each, the last one with what is left.
#[must_use]
pub fn blocks(ids: &[u32], eval_block: u32) -> Vec<&[u32]> {
    ids.chunks(eval_block.max(1) as usize).collect()
}

/// The number of [`blocks`] of `samples`.
#[must_use]
pub fn block_count(samples: u32, eval_block: u32) -> u32 {
    samples.div_ceil(eval_block.max(1))
}

/// The indices of the blocks that member `rank` evaluates: contiguous, sizes differing by at most one. Empty for
/// a rank beyond the world.
#[must_use]
pub fn blocks_of(rank: usize, world_size: usize, n_blocks: u32) -> Range<u32> {
    let bound = |rank: usize| {
        let bound = rank as u128 * u128::from(n_blocks) / (world_size.max(1) as u128);
        u32::try_from(bound).map_or(n_blocks, |bound| bound.min(n_blocks))
    };
    bound(rank)..bound(rank.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_block_is_dealt_once() {
        for n_blocks in [0, 1, 2, 3, 7, 40] {
            for world_size in 1..6 {
                let mut at = 0;
                for rank in 0..world_size {
                    let dealt = blocks_of(rank, world_size, n_blocks);
                    assert_eq!(dealt.start, at);
                    assert!(dealt.len() <= n_blocks.div_ceil(world_size as u32) as usize);
                    at = dealt.end;
                }
                assert_eq!(at, n_blocks);
                assert!(blocks_of(world_size, world_size, n_blocks).is_empty());
            }
        }
    }

    #[test]
    fn blocks_hold_every_sample_once() {
        let ids: Vec<u32> = (0..1003).rev().collect();
        let blocks = blocks(&ids, 250);
        assert_eq!(blocks.len(), block_count(1003, 250) as usize);
        assert_eq!(blocks.iter().map(|block| block.len()).collect::<Vec<_>>(), [250, 250, 250, 250, 3]);
        assert_eq!(blocks.concat(), ids);
        assert_eq!(block_count(0, 250), 0);
    }
}
