//! The run's samples: the data set, its splits, and who takes what of it when.

use std::ops::Range;
use std::path::Path;

use tch::{Device, Tensor};

use crate::data::evaluation;
use crate::data::order::{self, StepSlices};
use crate::plan::{Plan, Split};

use super::error::TrainerError;

/// The same on every member, but for the device.
#[derive(Debug)]
pub(super) struct Samples {
    seed: u64,
    cut: StepSlices,
    train: Vec<u32>,
    validation: Vec<u32>,
    test: Vec<u32>,
    eval_block: u32,
    device: Device,
}

/// One step's samples, by shard.
#[derive(Debug)]
pub(super) struct StepSamples<'a> {
    order: &'a [u32],
    slices: Vec<Range<usize>>,
}

impl StepSamples<'_> {
    pub(super) fn shard(&self, shard: u32) -> &[u32] {
        &self.order[self.slices[shard as usize].clone()]
    }

    /// Over all shards.
    pub(super) fn count(&self) -> usize {
        self.slices.iter().map(ExactSizeIterator::len).sum()
    }
}
