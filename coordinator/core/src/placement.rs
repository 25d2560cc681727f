//! Which shards a member holds.

use std::collections::BTreeMap;

/// Beyond so many possibilities the larger blocks simply come first.
const POSSIBILITIES_MAX: u64 = 1 << 18;

/// Contiguous blocks `(first, one after the last)` by rank, covering `0..shards`, sizes differing by at most one. With
/// more members than shards the last ones hold none.
///
/// Which members get the larger blocks is chosen so that the blocks fit the run's tree of sums as well as they can: a
/// member adds whole sub-trees by itself, and the fewer of them make up its block, the fewer sums it sends.
pub fn shard_blocks(world_size: u32, shards: u32) -> Vec<(u32, u32)> {
    let (share, extra) = (shards / world_size, shards % world_size);
    let possibilities = u64::from(world_size) * u64::from(extra);
    let larger = if share == 0 || possibilities > POSSIBILITIES_MAX {
        (0..world_size).map(|rank| rank < extra).collect()
    } else {
        fitting(world_size, shards)
    };
    let mut start = 0;
    larger
        .into_iter()
        .map(|larger| {
            let end = start + share + u32::from(larger);
            let block = (start, end);
            start = end;
            block
        })
        .collect()
}

/// Who gets one shard more, so that the blocks consist of as few sub-trees as possible; of equal choices the one with
/// the larger blocks first.
fn fitting(world_size: u32, shards: u32) -> Vec<bool> {
    let (share, extra) = (shards / world_size, shards % world_size);
    // By the larger blocks dealt so far: the sub-trees of the ranks from here on, and whether this rank's is larger.
    let mut choices: Vec<BTreeMap<u32, (u32, bool)>> = Vec::new();
    let mut after: BTreeMap<u32, (u32, bool)> = BTreeMap::from([(extra, (0, false))]);
    for rank in (0..world_size).rev() {
        let mut here = BTreeMap::new();
        for dealt in 0..=extra.min(rank) {
            let start = rank * share + dealt;
            let choose = |larger: bool| {
                let (rest, _) = after.get(&(dealt + u32::from(larger)))?;
                let end = start + share + u32::from(larger);
                Some((rest + sub_trees(start, end, 0, shards), larger))
            };
            let best = [choose(true), choose(false)].into_iter().flatten().min_by_key(|(count, _)| *count);
            here.extend(best.map(|best| (dealt, best)));
        }
        choices.push(std::mem::replace(&mut after, here));
    }
    let mut dealt = 0;
    let mut next = Some(after);
    let mut larger = Vec::new();
    while let Some((_, choice)) = next.as_ref().and_then(|here| here.get(&dealt)).copied()
        && larger.len() < world_size as usize
    {
        larger.push(choice);
        dealt += u32::from(choice);
        next = choices.pop();
    }
    larger
}

/// How many whole sub-trees of the tree over `low..high` make up `start..end`. A node splits at the largest power of two
/// below its size.
fn sub_trees(start: u32, end: u32, low: u32, high: u32) -> u32 {
    if start >= end {
        return 0;
    }
    if start <= low && high <= end {
        return 1;
    }
    let size = high - low;
    let middle = low + (size.next_power_of_two() / 2);
    sub_trees(start, end.min(middle), low, middle) + sub_trees(start.max(middle), end, middle, high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cover_the_shards_in_order_and_differ_by_at_most_one() {
        for world_size in 1..9 {
            for shards in 0..20 {
                let blocks = shard_blocks(world_size, shards);
                assert_eq!(blocks.len(), world_size as usize);
                assert_eq!(blocks[0].0, 0);
                assert_eq!(blocks.last().unwrap().1, shards);
                assert!(blocks.windows(2).all(|pair| pair[0].1 == pair[1].0));
                let sizes = blocks.iter().map(|(start, end)| end - start);
                assert!(sizes.clone().max().unwrap() - sizes.min().unwrap() <= 1);
            }
        }
    }

    /// All ways to deal the larger blocks, by hand.
    fn fewest(world_size: u32, shards: u32) -> u32 {
        let (share, extra) = (shards / world_size, shards % world_size);
        let ways = (0..1_u32 << world_size).filter(|way| way.count_ones() == extra);
        let count = |way: u32| {
            let mut start = 0;
            let sums = (0..world_size).map(|rank| {
                let end = start + share + (way >> rank & 1);
                let sums = sub_trees(start, end, 0, shards);
                start = end;
                sums
            });
            sums.sum()
        };
        ways.map(count).min().unwrap()
    }

    #[test]
    fn blocks_are_aligned_to_the_tree_where_that_costs_no_balance() {
        for world_size in 1..8 {
            for shards in world_size..24 {
                let blocks = shard_blocks(world_size, shards);
                let sums: u32 = blocks.iter().map(|(start, end)| sub_trees(*start, *end, 0, shards)).sum();
                assert_eq!(sums, fewest(world_size, shards), "{shards} on {world_size}: {blocks:?}");
            }
        }
        assert_eq!(shard_blocks(3, 4), [(0, 2), (2, 3), (3, 4)]);
        assert_eq!(shard_blocks(3, 5), [(0, 2), (2, 4), (4, 5)]);
    }

    #[test]
    fn many_members_are_dealt_with_at_once() {
        assert_eq!(shard_blocks(10_000, 15_000).last(), Some(&(14_999, 15_000)));
        assert_eq!(shard_blocks(10_000, 9).iter().filter(|(start, end)| start < end).count(), 9);
    }
}
