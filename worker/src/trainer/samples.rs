//! The run's samples: the data set, its splits, and who takes what of it when.

use std::ops::Range;
use std::path::Path;

use tch::{Device, Tensor};
use tracing::info;

use super::epoch::EpochState;
use super::error::TrainerError;
use crate::data::dataset::Dataset;
use crate::data::order::{self, StepSlices};
use crate::data::{Augmenter, Batch, Look, Needs, evaluation};
use crate::plan::{Plan, Split};

/// The same on every member, but for the device that it lies on.
#[derive(Debug)]
pub(super) struct Samples {
    dataset: Dataset,
    augmenter: Augmenter,
    seed: u64,
    cut: StepSlices,
    train: Vec<u32>,
    validation: Vec<u32>,
    test: Vec<u32>,
    eval_block: u32,
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

impl Samples {
    /// Opens the data set at `path`, whose digest has been checked, and makes sure that it fits the plan.
    pub(super) fn open(plan: &Plan, path: &Path, device: Device) -> Result<Self, TrainerError> {
        let data = &plan.data;
        let needs = Needs {
            train_samples: data.train_samples,
            test_samples: data.test_samples,
            classes: data.classes,
            look: Look { size: data.image_size.get(), mean: data.mean.clone(), std: data.std.clone() },
        };
        let augmenter = Augmenter::new(plan.augment, plan.seed, data.image_size.get())?;
        let dataset = Dataset::open(path, None, &needs, device)?;
        let (train, validation) = order::split(plan.seed, data.train_samples, data.validation_samples);
        let count = u32::try_from(train.len()).expect("a part of a u32 of samples");
        let cut = order::step_slices(plan.batch.get(), plan.shards.get(), count);
        if cut.steps() != plan.steps_per_epoch {
            return Err(TrainerError::StepsPerEpoch { planned: plan.steps_per_epoch, found: cut.steps() });
        }
        let (height, width) = dataset.image_size();
        info!(
            name = dataset.name(),
            train = count,
            validation = validation.len(),
            height,
            width,
            image_size = data.image_size,
            "data set opened"
        );
        Ok(Self {
            dataset,
            augmenter,
            seed: plan.seed,
            cut,
            train,
            validation,
            test: (0..data.test_samples).collect(),
            eval_block: plan.eval_block.get(),
        })
    }

    /// The samples in the order in which `epoch` visits them.
    pub(super) fn order(&self, epoch: u32) -> Vec<u32> {
        order::permutation(self.seed, epoch, &self.train)
    }

    /// An epoch of which nothing has been done.
    pub(super) fn new_epoch(&self, epoch: u32) -> EpochState {
        EpochState::new(&self.order(epoch)[..self.cut.visited() as usize], self.cut.dropped())
    }

    /// What step `step` of an epoch (0-based) visits of its `order`.
    ///
    /// # Panics
    /// Beyond the epoch's last step.
    pub(super) fn step<'a>(&self, order: &'a [u32], step: u64) -> StepSamples<'a> {
        let slices = self.cut.slices(step).expect("the trainer's steps end with the epoch's");
        StepSamples { order, slices }
    }

    /// The training samples `ids`, a shard's slice of a step of `epoch` or a part of it, augmented, on the device.
    pub(super) fn train_batch(&self, epoch: u32, ids: &[u32]) -> Result<Batch, TrainerError> {
        Ok(self.dataset.train_batch(&self.augmenter, epoch, ids)?)
    }

    /// Images [N, 3, S, S] as they are, at the network's size, and labels [N], on the device.
    pub(super) fn batch(&self, split: Split, ids: &[u32]) -> Result<(Tensor, Tensor), TrainerError> {
        Ok(self.dataset.batch(split, ids)?)
    }

    /// All samples of a split, in the order in which it is evaluated.
    pub(super) fn ids(&self, split: Split) -> &[u32] {
        match split {
            Split::Train => &self.train,
            Split::Validation => &self.validation,
            Split::Test => &self.test,
        }
    }

    /// The images of [`Self::batch`], in a mirror if `mirrored`.
    pub(super) fn view(&self, split: Split, ids: &[u32], mirrored: bool) -> Result<Tensor, TrainerError> {
        Ok(self.dataset.view(split, ids, mirrored)?)
    }

    /// The labels of [`Self::batch`].
    pub(super) fn labels(&self, split: Split, ids: &[u32]) -> Result<Tensor, TrainerError> {
        Ok(self.dataset.labels(split, ids)?)
    }

    /// Which of the training samples `ids` `epoch` sees in a mirror.
    pub(super) fn mirrored(&self, epoch: u32, ids: &[u32]) -> Vec<bool> {
        self.augmenter.mirrored(epoch, ids)
    }

    /// Where a block of an evaluated split lies in its [`Self::ids`].
    pub(super) fn block(&self, block: u32, samples: usize) -> Range<usize> {
        let start = block as usize * self.eval_block as usize;
        start..start + samples
    }

    /// The evaluation blocks of `split` that fall to a member, with their samples.
    pub(super) fn blocks_of(
        &self,
        split: Split,
        rank: usize,
        world_size: usize,
    ) -> impl Iterator<Item = (u32, &[u32])> {
        let blocks = evaluation::blocks(self.ids(split), self.eval_block);
        let count = u32::try_from(blocks.len()).expect("not more blocks than samples");
        evaluation::blocks_of(rank, world_size, count).map(move |block| (block, blocks[block as usize]))
    }
}
