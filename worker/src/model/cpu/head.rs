//! The mean over positions and fc, which stays in f32 whatever the activations are.

use tch::{Kind, Tensor};

use super::kernels;
use super::map::Map;
use super::norm::with_element;
use crate::model::buffers::Buffers;
use crate::model::host_view::{with_slice, with_slice_mut};
use crate::model::layout::{Slot, signed};

#[derive(Debug)]
pub(super) struct Head {
    weight: Tensor,
    bias: Tensor,
    /// Elements of the flat gradient, where they are trained.
    trained: [Option<(i64, i64)>; 2],
}

impl Head {
    pub(super) fn new(slots: [&Slot; 2], buffers: &Buffers) -> Self {
        let [weight, bias] = slots.map(|slot| slot.view(buffers.flat(slot.trainable)));
        let place = |slot: &Slot| slot.trainable.then(|| (signed(slot.start), signed(slot.len)));
        Self { weight, bias, trained: slots.map(place) }
    }

    /// Logits `[N, classes]` of features `[N, C]`.
    pub(super) fn forward(&self, features: &Tensor) -> Tensor {
        features.linear(&self.weight, Some(&self.bias))
    }

    /// Writes the gradients of weight and bias to their places in `flat`; returns the features', if it is wanted.
    pub(super) fn backward(
        &self,
        features: &Tensor,
        logits: &Tensor,
        flat: &Tensor,
        wanted: bool,
    ) -> Option<Tensor> {
        let place = |trained: Option<(i64, i64)>| trained.map(|(start, len)| flat.narrow(0, start, len));
        if let Some(place) = place(self.trained[0]) {
            let _ = logits.tr().mm_out(&place.view_as(&self.weight), features);
        }
        if let Some(place) = place(self.trained[1]) {
            let _ = logits.sum_intlist_out(&place, [0i64].as_slice(), false, Kind::Float);
        }
        wanted.then(|| logits.mm(&self.weight))
    }
}

/// Each sample's mean over its positions, f32 `[N, C]`.
pub(super) fn pool(y: &Map) -> Tensor {
    let (positions, channels) = (y.grid.positions() as usize, y.channels() as usize);
    let mut means = Tensor::empty([y.samples(), y.channels()], (Kind::Float, y.values.device()));
    with_element!(y.values.kind(), E => with_slice(&y.values, |y: &[E]| {
        with_slice_mut(&mut means, |means| kernels::pool(y, positions, channels, means));
    }));
    means
}

/// The way back: the gradient of what was pooled, which has the form of `y`.
pub(super) fn spread(means: &Tensor, y: &Map) -> Map {
    let (positions, channels) = (y.grid.positions() as usize, y.channels() as usize);
    let mut gradient = Map { values: y.values.empty_like(), grid: y.grid };
    with_element!(y.values.kind(), E => with_slice(means, |means| {
        with_slice_mut(&mut gradient.values, |gradient: &mut [E]| {
            kernels::spread(means, positions, channels, gradient);
        });
    }));
    gradient
}
