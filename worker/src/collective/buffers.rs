//! Where a member's sub-tree sums lie, and then the sum of all: in memory that its peers on this host can see.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::error::CollectiveError;
use super::memory::{Area, PAGE_FLOATS, Region, Span};

/// Buffers of one length, for as many sums as wanted. The first few hold the member's tops, in order, when a sum begins;
/// the first one holds the sum when it ends.
#[derive(Debug)]
pub struct SumBuffers {
    area: Area,
    tops: usize,
    length: usize,
    /// Floats from one buffer to the next: whole pages.
    stride: usize,
}

impl SumBuffers {
    /// At least one, enough for `tops`, and `count`; in `region`, or in memory of their own.
    pub(super) fn new(
        region: Option<&Arc<Region>>,
        (tops, count): (usize, usize),
        length: usize,
    ) -> Result<Self, CollectiveError> {
        let refused = |source| CollectiveError::System { what: "the memory for sums", source };
        let too_large = || refused(io::ErrorKind::OutOfMemory.into());
        let stride = length.max(1).checked_next_multiple_of(PAGE_FLOATS).ok_or_else(too_large)?;
        let floats =
            stride.checked_mul(count.max(tops).max(1)).filter(|floats| *floats < isize::MAX as usize / 8);
        let floats = floats.ok_or_else(too_large)?;
        let region = match region {
            Some(region) => Arc::clone(region),
            None => Arc::new(Region::private(floats).map_err(refused)?),
        };
        Ok(Self { area: region.area(floats).map_err(refused)?, tops, length, stride })
    }

    /// How many of them hold this member's tops when a sum begins.
    #[must_use]
    pub fn tops(&self) -> usize {
        self.tops
    }

    /// Elements of each.
    #[must_use]
    pub fn length(&self) -> usize {
        self.length
    }

    /// The elements `range` of each buffer, to be filled from the first one on.
    ///
    /// # Panics
    /// If they have fewer.
    pub fn parts_mut(&mut self, range: Range<usize>) -> Vec<&mut [f32]> {
        self.area.get_mut().chunks_exact_mut(self.stride).map(|buffer| &mut buffer[range.clone()]).collect()
    }

    /// All of them, from the first one on.
    pub fn all_mut(&mut self) -> Vec<&mut [f32]> {
        self.parts_mut(0..self.length)
    }

    /// What the first buffer holds: a top, or the sum.
    #[must_use]
    pub fn sum(&self) -> &[f32] {
        &self.area.get()[..self.length]
    }

    /// The same, to be changed in place.
    pub fn sum_mut(&mut self) -> &mut [f32] {
        &mut self.area.get_mut()[..self.length]
    }

    /// Whether peers that see `region` find them there.
    pub(super) fn are_in(&self, region: Option<&Arc<Region>>) -> bool {
        region.is_none_or(|region| self.area.is_in(region))
    }

    /// The elements `range` of the buffer with this index, for the time of a sum.
    pub(super) fn span(&self, index: usize, range: &Range<usize>) -> Span<'_> {
        let start = index * self.stride;
        self.area.span(start + range.start..start + range.end)
    }

    /// Where element `at` of the first buffer lies for peers.
    pub(super) fn place(&self, at: usize) -> Place {
        let floats = |floats: usize| (floats * size_of::<f32>()) as u64;
        Place { start: self.area.start() as u64 + floats(at), stride: floats(self.stride) }
    }
}

/// Where a member's buffers lie in its region, told to its peers with every sum. In bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    start: u64,
    stride: u64,
}

impl Place {
    pub(super) const BYTES: usize = 16;

    pub(super) fn to_bytes(self) -> [u8; Self::BYTES] {
        (u128::from(self.start) | u128::from(self.stride) << 64).to_le_bytes()
    }

    pub(super) fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        let both = u128::from_le_bytes(bytes);
        Self { start: both as u64, stride: (both >> 64) as u64 }
    }

    /// The buffer with this index, if it lies in the peer's region.
    pub(super) fn span(self, region: &Region, index: usize, floats: usize) -> Option<Span<'_>> {
        let offset = self.stride.checked_mul(index as u64)?;
        region.span(self.start.checked_add(offset)?, floats)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_buffer_has_its_place() {
        let mut buffers = SumBuffers::new(None, (1, 3), 5000).unwrap();
        for (index, part) in buffers.parts_mut(10..12).into_iter().enumerate() {
            part.fill(index as f32 + 1.0);
        }
        for index in 0..3 {
            assert_eq!(
                buffers.span(index, &(9..13)).get(),
                [0.0, index as f32 + 1.0, index as f32 + 1.0, 0.0]
            );
        }
        assert_eq!(buffers.sum()[11], 1.0);
        assert_eq!((buffers.sum().len(), buffers.sum_mut().len(), buffers.length()), (5000, 5000, 5000));
        assert!(SumBuffers::new(None, (0, 0), 0).unwrap().sum().is_empty());
        assert!(SumBuffers::new(None, (2, 0), usize::MAX / 2).is_err());
    }

    #[test]
    fn a_place_is_where_a_peer_finds_the_buffers() {
        let region = Arc::new(Region::shared([1; 16]).unwrap());
        let _other = region.area(77).unwrap();
        let mut buffers = SumBuffers::new(Some(&region), (2, 0), 5000).unwrap();
        buffers.parts_mut(0..5000)[1][4000] = 3.0;
        let place = Place::from_bytes(buffers.place(4000).to_bytes());
        assert_eq!(place, buffers.place(4000));
        assert_eq!(place.span(&region, 1, 1000).unwrap().get()[0], 3.0);
        let astray = Place { start: 4096, stride: u64::MAX };
        assert!(astray.span(&region, 1, 1).is_none() && astray.span(&region, 2, 1).is_none());
    }
}
