//! BatchNorm with the ReLU that follows it, forward and backward, over the passes of [`super::kernels`].

use tch::{Kind, Tensor};

use super::kernels::{self, Affine, Mask, Moments, Residual, Slopes};
use super::map::Map;
use crate::model::buffers::Buffers;
use crate::model::host_view::{with_slice, with_slice_mut};
use crate::model::layout::{NormSlot, Slot, signed};
use crate::model::net::{EPSILON, Mode};

/// Runs `$body` with `$element` standing for the kind of number.
macro_rules! with_element {
    ($kind:expr, $element:ident => $body:expr) => {
        match $kind {
            Kind::BFloat16 => {
                type $element = half::bf16;
                $body
            }
            _ => {
                type $element = f32;
                $body
            }
        }
    };
}
pub(super) use with_element;

/// One layer.
#[derive(Debug)]
pub(super) struct Norm {
    weight: Tensor,
    bias: Tensor,
    running: [Tensor; 2],
    /// Where the batch's mean and unbiased variance are noted.
    shard: [Tensor; 2],
    training: bool,
    /// Elements of the flat gradient, where they are trained.
    trained: [Option<(i64, i64)>; 2],
}

/// What a layer makes of one batch.
#[derive(Debug)]
pub(super) struct Normed {
    pub(super) affine: Affine,
    mean: Vec<f32>,
    inverse_std: Vec<f32>,
    /// Whether mean and deviation are the batch's own.
    batch: bool,
}

impl Norm {
    pub(super) fn new([weight, bias]: [&Slot; 2], slot: &NormSlot, buffers: &Buffers) -> Self {
        let flat = |slot: &Slot| if slot.trainable { &buffers.trainable } else { &buffers.frozen };
        let place = |slot: &Slot| (signed(slot.start), signed(slot.len));
        Self {
            weight: weight.view(flat(weight)),
            bias: bias.view(flat(bias)),
            running: [slot.mean(&buffers.statistics), slot.variance(&buffers.statistics)],
            shard: [slot.mean(&buffers.shard_statistics), slot.variance(&buffers.shard_statistics)],
            training: slot.training,
            trained: [weight, bias].map(|slot| slot.trainable.then(|| place(slot))),
        }
    }

    /// By the batch's statistics, which are noted, or the running ones.
    pub(super) fn measure(&self, z: &Map, mode: Mode) -> Normed {
        let batch = mode == Mode::Train && self.training;
        let Moments { mean, variance } = match batch {
            true => self.moments(z),
            false => Moments { mean: host(&self.running[0]), variance: host(&self.running[1]) },
        };
        let inverse = |variance: &f32| (1.0 / (f64::from(*variance) + EPSILON).sqrt()) as f32;
        let inverse_std: Vec<f32> = variance.iter().map(inverse).collect();
        let (weight, bias) = (host(&self.weight), host(&self.bias));
        let scale: Vec<f32> =
            weight.iter().zip(&inverse_std).map(|(weight, inverse)| weight * inverse).collect();
        let moved = bias.iter().zip(&mean).zip(&scale);
        let shift = moved.map(|((bias, mean), scale)| bias - mean * scale).collect();
        Normed { affine: Affine { scale, shift }, mean, inverse_std, batch }
    }

    fn moments(&self, z: &Map) -> Moments {
        let channels = self.weight.numel();
        let moments = with_element!(z.values.kind(), E => {
            with_slice(&z.values, |z: &[E]| kernels::moments(z, channels))
        });
        let rows = z.values.size()[0] as f64;
        let [mut mean, mut variance] = self.shard.each_ref().map(Tensor::shallow_clone);
        with_slice_mut(&mut mean, |noted| noted.copy_from_slice(&moments.mean));
        with_slice_mut(&mut variance, |noted: &mut [f32]| {
            for (noted, biased) in noted.iter_mut().zip(&moments.variance) {
                *noted = (f64::from(*biased) * (rows / (rows - 1.0))) as f32;
            }
        });
        moments
    }

    /// Overwrites `z`, which [`Self::measure`] has seen, with the gradient with respect to it; `gradient` is that of
    /// what [`apply`] made of it, as far as `rectified` its ReLU is still to be gone through. Writes the gradients of
    /// weight and bias to their places in `flat`.
    pub(super) fn backward(
        &self,
        normed: &Normed,
        z: &mut Map,
        (gradient, rectified): (&Map, bool),
        flat: &Tensor,
    ) {
        let mask = if rectified { Mask::Positive(&normed.affine) } else { Mask::All };
        let channels = normed.mean.len();
        let mut slopes = Slopes { offset: vec![0.0; channels], slope: vec![0.0; channels] };
        let rows = z.values.size()[0] as f64;
        with_element!(z.values.kind(), E => with_slice(&gradient.values, |g: &[E]| {
            with_slice_mut(&mut z.values, |z: &mut [E]| {
                if normed.batch {
                    let sums = kernels::sums(g, z, &normed.mean, mask);
                    for (at, inverse) in normed.inverse_std.iter().enumerate() {
                        slopes.offset[at] = (sums.plain[at] / rows) as f32;
                        slopes.slope[at] = (sums.centred[at] / rows * f64::from(inverse * inverse)) as f32;
                    }
                    let weights = sums.centred.iter().zip(&normed.inverse_std);
                    let weights = weights.map(|(sum, inverse)| (sum * f64::from(*inverse)) as f32);
                    write(flat, self.trained[0], weights);
                    write(flat, self.trained[1], sums.plain.iter().map(|sum| *sum as f32));
                }
                kernels::input_gradient(g, z, &normed.mean, &slopes, &normed.affine.scale, mask);
            });
        }));
    }
}

/// What is added before the ReLU of a block.
#[derive(Debug, Clone, Copy)]
pub(super) enum Added<'a> {
    Nothing,
    Identity(&'a Map),
    Projected(&'a Map, &'a Normed),
}

/// y = relu(normalised z + added), into `y`.
pub(super) fn apply(z: &Map, normed: &Normed, added: Added<'_>, y: &mut Tensor) {
    with_element!(z.values.kind(), E => with_slice(&z.values, |z: &[E]| {
        let mut fill = |residual: Residual<'_, E>| {
            with_slice_mut(y, |y: &mut [E]| kernels::normalise(z, &normed.affine, residual, y));
        };
        match added {
            Added::Nothing => fill(Residual::None),
            Added::Identity(map) => with_slice(&map.values, |other: &[E]| fill(Residual::Identity(other))),
            Added::Projected(map, by) => {
                with_slice(&map.values, |other: &[E]| fill(Residual::Projected(other, &by.affine)));
            }
        }
    }));
}

/// Sets to zero what of `gradient` did not pass the ReLU whose result is `y`.
pub(super) fn mask(gradient: &mut Map, y: &Map) {
    with_element!(y.values.kind(), E => with_slice(&y.values, |y: &[E]| {
        with_slice_mut(&mut gradient.values, |gradient: &mut [E]| kernels::mask(gradient, y));
    }));
}

fn host(values: &Tensor) -> Vec<f32> {
    with_slice(values, |values: &[f32]| values.to_vec())
}

fn write(flat: &Tensor, place: Option<(i64, i64)>, values: impl Iterator<Item = f32>) {
    let Some((start, len)) = place else { return };
    with_slice_mut(&mut flat.narrow(0, start, len), |place: &mut [f32]| {
        place.iter_mut().zip(values).for_each(|(place, value)| *place = value);
    });
}
