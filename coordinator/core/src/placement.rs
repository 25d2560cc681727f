//! Which shards a member holds.

/// Contiguous blocks `(first, one after the last)` by rank, covering `0..shards`, sizes differing by at most
/// one, the larger ones first. With more members than shards the last ones hold none.
pub fn shard_blocks(world_size: u32, shards: u32) -> Vec<(u32, u32)> {
    let (share, extra) = (shards / world_size, shards % world_size);
    let mut start = 0;
    (0..world_size)
        .map(|rank| {
            let end = start + share + u32::from(rank < extra);
            let block = (start, end);
            start = end;
            block
        })
        .collect()
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
}
