//! The flat tensors that a replica lives in.

use std::cell::Cell;

use tch::{Device, Kind, TchError, Tensor};

use super::layout::{Layout, signed};

/// The flat tensors of a model on its device: f32, and where activations are bfloat16, a copy in that of the weights
/// that convolutions use.
#[derive(Debug)]
pub(crate) struct Buffers {
    pub(crate) trainable: Tensor,
    pub(crate) frozen: Tensor,
    pub(crate) statistics: Tensor,
    pub(crate) shard_statistics: Tensor,
    copies: Option<Copies>,
}

/// What convolutions compute with, of [`Buffers::trainable`] and [`Buffers::frozen`].
#[derive(Debug)]
struct Copies {
    trainable: Tensor,
    frozen: Tensor,
    stale: Cell<bool>,
}

impl Buffers {
    /// Zeros.
    pub(crate) fn new(layout: &Layout, kind: Kind, device: Device) -> Result<Self, TchError> {
        let zeros = |len, kind| Tensor::f_zeros([signed(len)], (kind, device));
        let copies = match kind {
            Kind::Float => None,
            _ => Some(Copies {
                trainable: zeros(layout.trainable_len, kind)?,
                frozen: zeros(layout.frozen_len, kind)?,
                stale: Cell::new(false),
            }),
        };
        Ok(Self {
            trainable: zeros(layout.trainable_len, Kind::Float)?,
            frozen: zeros(layout.frozen_len, Kind::Float)?,
            statistics: zeros(layout.statistics_len, Kind::Float)?,
            shard_statistics: zeros(layout.statistics_len, Kind::Float)?,
            copies,
        })
    }

    /// The activations'.
    pub(crate) fn kind(&self) -> Kind {
        self.copies.as_ref().map_or(Kind::Float, |copies| copies.trainable.kind())
    }

    /// Where a parameter lies.
    pub(crate) fn flat(&self, trainable: bool) -> &Tensor {
        if trainable { &self.trainable } else { &self.frozen }
    }

    /// The same for a convolution's weight, in the activations' kind.
    pub(crate) fn convolution_flat(&self, trainable: bool) -> &Tensor {
        match &self.copies {
            None => self.flat(trainable),
            Some(copies) if trainable => &copies.trainable,
            Some(copies) => &copies.frozen,
        }
    }

    /// To be said with every change of the weights.
    pub(crate) fn changed(&self) {
        if let Some(copies) = &self.copies {
            copies.stale.set(true);
        }
    }

    /// Before the weights are used: brings the copies up to date.
    pub(crate) fn refresh(&self) {
        let Some(copies) = &self.copies else { return };
        if copies.stale.replace(false) {
            tch::no_grad(|| {
                copies.trainable.shallow_clone().copy_(&self.trainable);
                copies.frozen.shallow_clone().copy_(&self.frozen);
            });
        }
    }
}
