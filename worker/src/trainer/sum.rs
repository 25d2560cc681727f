//! A sum over shards, by the way that the generation's members have agreed on: from device to device, or through the host.

use std::ops::Range;

use tch::Tensor;

use super::error::{TrainerError, named};
use super::exchange::{Peers, ShardSum};
use crate::collective::device::DeviceSum;

/// Of one flat f32 tensor, in parts. The bits are the same either way, unless the recipe does without that.
#[derive(Debug)]
pub(super) enum Sum {
    Host(ShardSum),
    Device(DeviceSum),
}

impl Sum {
    /// For those `ranges` of tensors shaped like `like`; all else is zero in the sum. With `exact` the bits are the tree's,
    /// also on devices.
    pub(super) fn new(
        like: &Tensor,
        ranges: Vec<Range<usize>>,
        exact: bool,
        peers: &mut Peers,
    ) -> Result<Self, TrainerError> {
        if !peers.is_linked() {
            return Ok(Self::Host(ShardSum::new(like, ranges, peers)?));
        }
        let sum = DeviceSum::new(like, ranges, &peers.group, exact);
        Ok(Self::Device(sum.map_err(|error| named(error, &[]))?))
    }

    /// See [`ShardSum::place`].
    pub(super) fn place(&self) -> Option<Tensor> {
        match self {
            Self::Host(sum) => sum.place(),
            Self::Device(_) => None,
        }
    }

    pub(super) fn parts(&self) -> usize {
        match self {
            Self::Host(sum) => sum.parts(),
            Self::Device(sum) => sum.parts(),
        }
    }

    /// Takes part `index` of a shard's values. What can be exchanged by then is; the values are not to change before
    /// [`Self::finish`].
    pub(super) fn add(
        &mut self,
        index: usize,
        shard: u32,
        values: &Tensor,
        peers: &mut Peers,
    ) -> Result<(), TrainerError> {
        match self {
            Self::Host(sum) => sum.add(index, shard, values, peers),
            Self::Device(sum) => peers.on_devices(|link, check| sum.add(index, shard, values, link, check)),
        }
    }

    /// The whole sum, which may be changed in place; the next one overwrites it.
    pub(super) fn finish(&mut self, peers: &mut Peers) -> Result<&mut Tensor, TrainerError> {
        match self {
            Self::Host(sum) => sum.finish(peers),
            Self::Device(sum) => peers.on_devices(|link, check| sum.finish(link, check)),
        }
    }
}
