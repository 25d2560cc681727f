//! What the network is given: pictures, or what the frozen prefix made of them where that is kept.

use tch::Tensor;

use super::error::TrainerError;
use super::prefix::Activations;
use super::samples::Samples;
use crate::data::Batch;
use crate::model::Input;
use crate::plan::Split;

/// Where batches come from. With activations, those of the replica's own prefix.
#[derive(Debug, Clone, Copy)]
pub(super) struct Inputs<'a> {
    pub(super) samples: &'a Samples,
    pub(super) activations: Option<&'a Activations>,
}

/// A batch, and where it enters the network.
#[derive(Debug)]
pub(super) struct Given {
    /// Its images may be activations.
    pub(super) batch: Batch,
    at_boundary: bool,
}

impl Given {
    pub(super) fn input(&self) -> Input<'_> {
        if self.at_boundary { Input::Boundary(&self.batch.images) } else { Input::Images(&self.batch.images) }
    }
}

impl Inputs<'_> {
    /// See [`Samples::train_batch`].
    pub(super) fn train_batch(&self, epoch: u32, ids: &[u32]) -> Result<Given, TrainerError> {
        let Some(activations) = self.activations else {
            return Ok(Given { batch: self.samples.train_batch(epoch, ids)?, at_boundary: false });
        };
        let mirrored = || self.samples.mirrored(epoch, ids);
        let (images, labels) = activations.train_batch(ids, mirrored)?;
        Ok(Given { batch: Batch { images, labels, mixed: None }, at_boundary: true })
    }

    /// A block of an evaluated split.
    pub(super) fn eval_batch(&self, split: Split, block: u32, ids: &[u32]) -> Result<Given, TrainerError> {
        let range = self.samples.block(block, ids.len());
        let kept = self.activations.map(|activations| activations.eval_batch(split, range)).transpose()?;
        let given = |(images, labels): (Tensor, Tensor), at_boundary| Given {
            batch: Batch { images, labels, mixed: None },
            at_boundary,
        };
        match kept.flatten() {
            Some(kept) => Ok(given(kept, true)),
            None => Ok(given(self.samples.batch(split, ids)?, false)),
        }
    }
}
