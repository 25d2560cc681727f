//! Where each value lives in the flat buffers, which depends on what is trained.
//!
//! One flat tensor for what is trained lets the optimizer, the exchange and the digests work on a few long
//! vectors instead of 161 small ones: fewer kernels on a GPU, contiguous buckets for the exchange.

use std::collections::BTreeSet;
use std::ops::Range;

use tch::Tensor;

use super::architecture::{Architecture, Stage};
use super::{Freezing, FrozenBatchNorm, ModelError, ModelSpec, Trainable};

/// One parameter's place in the flat tensor `trainable` or `frozen`.
#[derive(Debug, Clone)]
pub(crate) struct Slot {
    pub(crate) name: String,
    /// Torchvision's shape; a convolution's is [O, I, kh, kw].
    pub(crate) shape: Vec<i64>,
    pub(crate) stage: Stage,
    /// Number of the part that it belongs to.
    pub(crate) part: usize,
    pub(crate) trainable: bool,
    /// In elements of its flat tensor.
    pub(crate) start: usize,
    pub(crate) len: usize,
}

impl Slot {
    /// The parameter as a view of its flat tensor. Convolutions are stored as [O, kh, kw, I], so that the view has
    /// channels-last strides and no kernel has to reorder it.
    pub(crate) fn view(&self, flat: &Tensor) -> Tensor {
        let part = flat.narrow(0, signed(self.start), signed(self.len));
        match self.shape[..] {
            [outputs, inputs, height, width] => {
                part.view([outputs, height, width, inputs]).permute([0, 3, 1, 2])
            }
            _ => part.view(&self.shape[..]),
        }
    }

    /// A tensor of the parameter's shape, such as its gradient, brought to the order of the flat tensor: 1-D,
    /// a view where the strides allow it.
    pub(crate) fn flatten(&self, tensor: &Tensor) -> Tensor {
        if self.shape.len() == 4 { tensor.permute([0, 2, 3, 1]).reshape([-1]) } else { tensor.reshape([-1]) }
    }

    pub(crate) fn is_head(&self) -> bool {
        self.name.starts_with("fc.")
    }
}

/// One BatchNorm layer's place in the flat statistics: its mean, then its variance.
#[derive(Debug, Clone)]
pub(crate) struct NormSlot {
    pub(crate) name: String,
    pub(crate) channels: usize,
    pub(crate) start: usize,
    /// Uses and moves the batch's statistics in training.
    pub(crate) training: bool,
}

impl NormSlot {
    pub(crate) fn mean(&self, flat: &Tensor) -> Tensor {
        flat.narrow(0, signed(self.start), signed(self.channels))
    }

    pub(crate) fn variance(&self, flat: &Tensor) -> Tensor {
        flat.narrow(0, signed(self.start + self.channels), signed(self.channels))
    }
}

/// All places of a model.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    /// In forward order.
    pub(crate) slots: Vec<Slot>,
    /// In forward order; number n belongs to the n-th convolution.
    pub(crate) norms: Vec<NormSlot>,
    pub(crate) trainable_len: usize,
    pub(crate) frozen_len: usize,
    pub(crate) statistics_len: usize,
    /// How many leading parts no training changes: nothing in them is trained, and every BatchNorm in them normalises by
    /// its running statistics, which stay. fc is never one of them.
    pub(crate) boundary: usize,
}

impl Layout {
    pub(crate) fn new(
        spec: ModelSpec,
        architecture: &Architecture,
        freezing: &Freezing,
    ) -> Result<Self, ModelError> {
        let parameters = architecture.parameters();
        let names: Vec<&str> = parameters.iter().map(|p| p.name.as_str()).collect();
        let chosen = choose(&names, spec, &freezing.trainable)?;

        let mut norms = Vec::new();
        let mut statistics_len = 0;
        // The last part is fc.
        let mut boundary = architecture.parts() - 1;
        for (part, unit) in architecture.units() {
            let channels = unsigned(unit.outputs);
            let training = freezing.frozen_batch_norm == FrozenBatchNorm::Train;
            norms.push(NormSlot { name: unit.norm.clone(), channels, start: statistics_len, training });
            statistics_len += 2 * channels;
            if training {
                boundary = boundary.min(part);
            }
        }

        let (mut trainable_len, mut frozen_len) = (0, 0);
        let mut slots = Vec::with_capacity(parameters.len());
        for (parameter, trainable) in parameters.into_iter().zip(chosen) {
            if let Some(norm) = parameter.norm {
                norms[norm].training |= trainable;
            }
            if trainable {
                boundary = boundary.min(parameter.part);
            }
            let len = unsigned(parameter.shape.iter().product());
            let end = if trainable { &mut trainable_len } else { &mut frozen_len };
            let start = *end;
            *end += len;
            let (name, shape, stage) = (parameter.name, parameter.shape, parameter.stage);
            slots.push(Slot { name, shape, stage, part: parameter.part, trainable, start, len });
        }
        Ok(Self { slots, norms, trainable_len, frozen_len, statistics_len, boundary })
    }

    /// The trained parameters of a stage, in forward order.
    pub(crate) fn trained(&self, stage: Stage) -> impl Iterator<Item = &Slot> {
        self.slots.iter().filter(move |slot| slot.trainable && slot.stage == stage)
    }

    /// Whether backward has to go below this stage.
    pub(crate) fn trains_below(&self, stage: Stage) -> bool {
        self.slots.iter().any(|slot| slot.trainable && slot.stage < stage)
    }

    /// A stage's part of the flat tensor `trainable`. Contiguous, since that is in forward order.
    pub(crate) fn bucket(&self, stage: Stage) -> Range<usize> {
        let len_of = |wanted: &dyn Fn(Stage) -> bool| -> usize {
            self.slots.iter().filter(|slot| slot.trainable && wanted(slot.stage)).map(|slot| slot.len).sum()
        };
        let start = len_of(&|other| other < stage);
        start..start + len_of(&|other| other == stage)
    }

    /// The parts of the flat statistics that move in training; neighbours joined, so that it is mostly one.
    pub(crate) fn moving_statistics(&self) -> Vec<Range<usize>> {
        let mut ranges: Vec<Range<usize>> = Vec::new();
        for norm in self.norms.iter().filter(|norm| norm.training) {
            let end = norm.start + 2 * norm.channels;
            match ranges.last_mut() {
                Some(last) if last.end == norm.start => last.end = end,
                _ => ranges.push(norm.start..end),
            }
        }
        ranges
    }
}

/// For each name whether it is trained.
fn choose(names: &[&str], spec: ModelSpec, trainable: &Trainable) -> Result<Vec<bool>, ModelError> {
    let Trainable::Named(wanted) = trainable else { return Ok(vec![true; names.len()]) };
    let wanted: BTreeSet<&str> = wanted.iter().map(String::as_str).collect();
    if let Some(name) = wanted.iter().find(|name| !names.contains(name)) {
        let (name, model) = ((*name).to_owned(), spec.name.to_string());
        return Err(ModelError::UnknownParameter { name, model });
    }
    Ok(names.iter().map(|name| wanted.contains(name)).collect())
}

/// Sizes are far below 2^63; libtorch counts in i64, slices in usize.
pub(crate) fn signed(size: usize) -> i64 {
    i64::try_from(size).expect("a buffer's size fits i64")
}

fn unsigned(size: i64) -> usize {
    usize::try_from(size).expect("an architecture's sizes are positive")
}
