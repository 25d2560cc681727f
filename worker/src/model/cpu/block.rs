//! A residual block, forward and backward, with as few buffers as it takes.
//!
//! Forward keeps each convolution's result z and each unit's activation y. Backward writes z's gradient over z, and the
//! gradient of a unit's input over that input, which nobody needs any more; where the block has no projection, the
//! gradient that comes down the identity is added to by the last product itself.

use tch::Tensor;

use super::buffer::Buffer;
use super::conv::{Conv, Target, Trace};
use super::map::Map;
use super::norm::{Added, Norm, Normed, apply, mask};
use crate::model::net::Mode;

/// A convolution and its BatchNorm.
#[derive(Debug)]
pub(super) struct Unit {
    pub(super) conv: Conv,
    pub(super) norm: Norm,
    z: Buffer,
    y: Buffer,
}

/// What backward needs of a unit's forward.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) z: Map,
    pub(super) normed: Normed,
    pub(super) trace: Trace,
}

#[derive(Debug)]
pub(super) struct Block {
    units: Vec<Unit>,
    projection: Option<Unit>,
    /// The gradient of the input, where it does not fit into that of the result.
    handed_down: Buffer,
    kept: Option<KeptBlock>,
}

#[derive(Debug)]
struct KeptBlock {
    input: Map,
    /// By unit, with its activations; the last one's are the block's.
    units: Vec<(Kept, Map)>,
    projection: Option<Kept>,
}

impl Unit {
    pub(super) fn new(conv: Conv, norm: Norm, kind: tch::Kind) -> Self {
        Self { conv, norm, z: Buffer::new(kind), y: Buffer::new(kind) }
    }

    /// The convolution and its statistics. `keep` takes the unit's own buffers.
    pub(super) fn convolve(&mut self, x: &Map, mode: Mode, keep: bool) -> Kept {
        let (z, trace) = self.conv.forward(x, keep.then_some(&mut self.z), keep);
        let normed = self.norm.measure(&z, mode);
        Kept { z, normed, trace }
    }

    /// What comes after it.
    pub(super) fn activate(&mut self, kept: &Kept, added: Added<'_>, keep: bool) -> Map {
        let shape = kept.z.values.size();
        let mut values = match keep {
            true => self.y.tensor(&shape),
            false => Tensor::empty(&shape, (kept.z.values.kind(), kept.z.values.device())),
        };
        apply(&kept.z, &kept.normed, added, &mut values);
        Map { values, grid: kept.z.grid }
    }

    /// From the gradient of the activations, ReLU still to be gone through if `rectified`, to that of the input.
    pub(super) fn backward(
        &self,
        kept: Kept,
        (gradient, rectified): (&Map, bool),
        flat: &Tensor,
        target: Option<Target<'_>>,
    ) -> Option<Map> {
        let Kept { mut z, normed, trace } = kept;
        self.norm.backward(&normed, &mut z, (gradient, rectified), flat);
        self.conv.backward(trace, &z, flat, target)
    }
}

impl Block {
    pub(super) fn new(units: Vec<Unit>, projection: Option<Unit>, kind: tch::Kind) -> Self {
        Self { units, projection, handed_down: Buffer::new(kind), kept: None }
    }

    /// `keep` tells whether [`Self::backward`] will come.
    pub(super) fn forward(&mut self, x: &Map, mode: Mode, keep: bool) -> Map {
        let (last, inner) = self.units.split_last_mut().expect("a block has units");
        let mut units = Vec::new();
        let mut y = x.alias();
        for unit in inner {
            let kept = unit.convolve(&y, mode, keep);
            y = unit.activate(&kept, Added::Nothing, keep);
            if keep {
                units.push((kept, y.alias()));
            }
        }
        let kept = last.convolve(&y, mode, keep);
        let projection = self.projection.as_mut().map(|unit| unit.convolve(x, mode, keep));
        let added = match &projection {
            Some(kept) => Added::Projected(&kept.z, &kept.normed),
            None => Added::Identity(x),
        };
        let y = last.activate(&kept, added, keep);
        self.kept = keep.then(|| {
            units.push((kept, y.alias()));
            KeptBlock { input: x.alias(), units, projection }
        });
        y
    }

    /// `gradient` is that of the block's result, and is overwritten. Returns the input's, if it is wanted.
    ///
    /// # Panics
    /// Without a forward that kept what is needed.
    pub(super) fn backward(&mut self, mut gradient: Map, flat: &Tensor, wanted: bool) -> Option<Map> {
        let KeptBlock { input, units, projection } = self.kept.take().expect("forward comes first");
        let mut units = units.into_iter().zip(&self.units).rev().peekable();
        let ((last, y), unit) = units.next().expect("a block has units");
        mask(&mut gradient, &y);
        let (mut kept, mut owner, mut rectified) = (last, unit, false);
        let mut above: Option<Map> = None;
        // From the last unit to the second: each one's input is the activations of the one before.
        for ((before, activations), unit) in units {
            let from = above.as_ref().unwrap_or(&gradient);
            above = owner.backward(kept, (from, rectified), flat, Some(Target::Replace(&activations)));
            (kept, owner, rectified) = (before, unit, true);
        }
        let from = above.as_ref().unwrap_or(&gradient);
        match (&self.projection, projection) {
            (Some(unit), Some(projected)) => {
                let own = wanted.then(|| self.handed_down.tensor(&input.values.size()));
                let own = own.map(|values| Map { values, grid: input.grid });
                let down = owner.backward(kept, (from, rectified), flat, own.as_ref().map(Target::Replace));
                unit.backward(projected, (&gradient, false), flat, down.as_ref().map(Target::Add))
            }
            _ => owner.backward(kept, (from, rectified), flat, wanted.then_some(Target::Add(&gradient))),
        }
    }
}
