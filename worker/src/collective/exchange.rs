//! What a member sees of the others: who holds which shards, and the operations that the trainer needs.

use std::fmt::{self, Debug};
use std::ops::Range;

use super::buffers::SumBuffers;
use super::error::CollectiveError;
use super::tree::tops;

/// The most that a member may contribute to an [`Collective::all_gather`]. Flags, digests and metrics are far
/// smaller; a corrupted length must not be able to ask for all memory.
pub const MAX_PAYLOAD_BYTES: usize = 16 << 20;

/// One member's view of a generation: its rank, and the block of shards that every member holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    rank: usize,
    shards: u32,
    blocks: Vec<Range<u32>>,
}

impl Group {
    /// `blocks` by rank: contiguous, in order, covering `0..shards`; a member may hold none.
    ///
    /// # Errors
    /// [`CollectiveError::InvalidGroup`] when they do not, or when `rank` has no block.
    pub fn new(rank: usize, shards: u32, blocks: Vec<Range<u32>>) -> Result<Self, CollectiveError> {
        if shards == 0 {
            return Err(CollectiveError::InvalidGroup("there are no shards"));
        }
        if rank >= blocks.len() {
            return Err(CollectiveError::InvalidGroup("the rank is not below the world size"));
        }
        let mut at = 0;
        for block in &blocks {
            if block.start != at || block.end < block.start {
                return Err(CollectiveError::InvalidGroup("the blocks are not contiguous"));
            }
            at = block.end;
        }
        if at != shards {
            return Err(CollectiveError::InvalidGroup("the blocks do not cover the shards"));
        }
        Ok(Self { rank, shards, blocks })
    }

    /// 0-based, dense within a generation.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.rank
    }

    #[must_use]
    pub fn world_size(&self) -> usize {
        self.blocks.len()
    }

    /// Shards of the whole run.
    #[must_use]
    pub fn shards(&self) -> u32 {
        self.shards
    }

    /// The blocks of shards, by rank.
    #[must_use]
    pub fn blocks(&self) -> &[Range<u32>] {
        &self.blocks
    }

    /// The shards that this member holds.
    #[must_use]
    pub fn block(&self) -> Range<u32> {
        self.blocks[self.rank].clone()
    }

    /// Every member's tops, by rank.
    pub(crate) fn tops_by_rank(&self) -> Vec<Vec<Range<u32>>> {
        self.blocks.iter().map(|block| tops(block.clone(), self.shards)).collect()
    }

    /// The part of a buffer of `length` elements that member `rank` finishes and hands to all.
    pub(crate) fn chunk(&self, rank: usize, length: usize) -> Range<usize> {
        let (each, longer) = (length / self.world_size(), length % self.world_size());
        let start = |rank: usize| each * rank + rank.min(longer);
        start(rank)..start(rank + 1)
    }
}

/// Told whom this member waits for, again and again while it does. It must be quick: large sums call it per piece.
pub struct Observer(Box<dyn Fn(usize) + Send + Sync>);

impl Observer {
    pub fn new(waits_for: impl Fn(usize) + Send + Sync + 'static) -> Self {
        Self(Box::new(waits_for))
    }

    pub(crate) fn waits_for(&self, rank: usize) {
        (self.0)(rank);
    }
}

impl Default for Observer {
    /// Nobody is told.
    fn default() -> Self {
        Self::new(|_| {})
    }
}

impl Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer")
    }
}

/// Operations that all members enter in the same order. Sums and gathers return only once every member has entered
/// them, so they are barriers too. After an error the members are no longer in step: drop it and form a new generation.
pub trait Collective: Send + Debug {
    fn rank(&self) -> usize;

    fn world_size(&self) -> usize;

    /// Buffers for sums of up to `length` elements, for as long as this generation lasts: at least `count` of them, as
    /// many as [`super::TreeSum::depth`] asks for. They lie where the sum moves the fewest bytes.
    ///
    /// # Errors
    /// [`CollectiveError::System`] when there is no memory for them.
    fn buffers(&mut self, count: usize, length: usize) -> Result<SumBuffers, CollectiveError>;

    /// Sums over all shards along the run's tree, in place.
    ///
    /// The elements `range` of the first buffers are this member's sub-tree sums in the order of [`super::tops`] (none when
    /// it holds no shard); the first one then holds the whole sum: the same bits on every member, for any placement.
    /// The range is the same on all members.
    ///
    /// # Errors
    /// [`CollectiveError`]; the range then holds nothing of use.
    fn all_reduce_in(&mut self, buffers: &mut SumBuffers, range: Range<usize>)
    -> Result<(), CollectiveError>;

    /// [`Self::all_reduce_in`] with copies: for what is small, or lies elsewhere.
    ///
    /// `tops` are this member's, each as long as `out`, which receives the whole sum.
    ///
    /// # Errors
    /// [`CollectiveError`]; `out` then holds nothing of use.
    fn all_reduce(&mut self, tops: &[&[f32]], out: &mut [f32]) -> Result<(), CollectiveError> {
        let length = out.len();
        let mut buffers = self.buffers(0, length)?;
        check_tops(buffers.tops(), tops, length)?;
        for (buffer, top) in buffers.parts_mut(0..length).into_iter().zip(tops) {
            buffer.copy_from_slice(top);
        }
        self.all_reduce_in(&mut buffers, 0..length)?;
        out.copy_from_slice(buffers.sum());
        Ok(())
    }

    /// Everybody's payload, by rank. Sizes may differ, up to [`MAX_PAYLOAD_BYTES`].
    ///
    /// # Errors
    /// [`CollectiveError`].
    fn all_gather(&mut self, payload: &[u8]) -> Result<Vec<Vec<u8>>, CollectiveError>;

    /// `parts` of rank `source`, of any size, to those of `receivers`, which get them in as many buffers; the others, who
    /// give none, return at once with none. All name the same source and receivers.
    ///
    /// # Errors
    /// [`CollectiveError`].
    fn send_state(
        &mut self,
        source: usize,
        receivers: &[usize],
        parts: &[&[u8]],
    ) -> Result<Option<Vec<Vec<u8>>>, CollectiveError>;

    /// Looks without waiting whether the generation still stands: whether a member is gone, or the caller cancelled. For
    /// who waits for the others by other means.
    ///
    /// # Errors
    /// [`CollectiveError`].
    fn check(&mut self) -> Result<(), CollectiveError> {
        Ok(())
    }

    /// Has `observer` told of what sums and gathers wait for.
    fn observe(&mut self, observer: Observer);
}

/// Checks a caller's buffers against what the group holds.
pub(crate) fn check_tops(expected: usize, tops: &[&[f32]], length: usize) -> Result<(), CollectiveError> {
    if tops.len() != expected {
        return Err(CollectiveError::Length { what: "number of tops", expected, found: tops.len() });
    }
    match tops.iter().find(|top| top.len() != length) {
        Some(top) => {
            Err(CollectiveError::Length { what: "elements of a top", expected: length, found: top.len() })
        }
        None => Ok(()),
    }
}

pub(crate) fn check_range(buffers: &SumBuffers, range: &Range<usize>) -> Result<(), CollectiveError> {
    if range.start > range.end || range.end > buffers.length() {
        let (expected, found) = (buffers.length(), range.end);
        return Err(CollectiveError::Length { what: "elements of the buffers", expected, found });
    }
    Ok(())
}

pub(crate) fn check_payload(rank: usize, bytes: u64) -> Result<(), CollectiveError> {
    let limit_bytes = MAX_PAYLOAD_BYTES as u64;
    if bytes > limit_bytes {
        return Err(CollectiveError::PayloadTooLarge { rank, bytes, limit_bytes });
    }
    Ok(())
}

/// A world of one: it holds all shards, so its only top is the whole sum already.
#[derive(Clone, Copy, Debug, Default)]
pub struct Solo;

impl Collective for Solo {
    fn rank(&self) -> usize {
        0
    }

    fn world_size(&self) -> usize {
        1
    }

    fn buffers(&mut self, count: usize, length: usize) -> Result<SumBuffers, CollectiveError> {
        SumBuffers::new(None, (1, count), length)
    }

    fn all_reduce_in(
        &mut self,
        buffers: &mut SumBuffers,
        range: Range<usize>,
    ) -> Result<(), CollectiveError> {
        check_range(buffers, &range)
    }

    fn all_gather(&mut self, payload: &[u8]) -> Result<Vec<Vec<u8>>, CollectiveError> {
        check_payload(0, payload.len() as u64)?;
        Ok(vec![payload.to_vec()])
    }

    fn send_state(
        &mut self,
        _: usize,
        _: &[usize],
        _: &[&[u8]],
    ) -> Result<Option<Vec<Vec<u8>>>, CollectiveError> {
        Ok(None)
    }

    fn observe(&mut self, _: Observer) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_that_do_not_cover_the_shards_are_refused() {
        let refused = |rank, shards, blocks: &[(u32, u32)]| {
            Group::new(rank, shards, blocks.iter().map(|&(start, end)| start..end).collect()).is_err()
        };
        assert!(refused(0, 0, &[(0, 0)]));
        assert!(refused(1, 2, &[(0, 2)]));
        assert!(refused(0, 2, &[(0, 1)]));
        assert!(refused(0, 3, &[(0, 1), (2, 3)]));
        assert!(refused(0, 3, &[(0, 2), (1, 3)]));
        assert!(refused(0, 2, &[(0, 3), (3, 2)]));
        assert!(!refused(2, 2, &[(0, 1), (1, 1), (1, 2)]));
    }

    #[test]
    fn chunks_cover_any_length() {
        for world_size in 1..6 {
            let group =
                Group::new(0, 1, (0..world_size).map(|rank| u32::from(rank > 0)..1).collect()).unwrap();
            for length in [0, 1, 4, 5, 17] {
                let mut at = 0;
                for rank in 0..group.world_size() {
                    assert_eq!(group.chunk(rank, length).start, at);
                    at = group.chunk(rank, length).end;
                }
                assert_eq!(at, length);
            }
        }
    }

    #[test]
    fn alone_the_only_top_is_the_sum() {
        let mut out = [0.0; 2];
        Solo.all_reduce(&[&[1.0, 2.0]], &mut out).unwrap();
        assert_eq!(out, [1.0, 2.0]);
        assert!(matches!(Solo.all_reduce(&[], &mut out), Err(CollectiveError::Length { .. })));
        assert!(matches!(Solo.all_reduce(&[&[1.0]], &mut out), Err(CollectiveError::Length { .. })));
        assert_eq!(Solo.all_gather(b"me").unwrap(), [b"me"]);
    }
}
