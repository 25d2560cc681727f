//! Torchvision's `ColorJitter`: brightness, contrast, saturation and hue, in another random order for each sample.
//!
//! Each of the four works on the samples whose turn it is, so a batch costs as much as with a fixed order. Formulas are
//! torchvision's for tensors (`_functional_tensor.py`), on floats from 0 to 1.

use tch::{Kind, Tensor};

use super::Augment;
use super::draws::{Keys, Stream, order_of_four};
use crate::data::DataError;
use crate::data::keyed::between;

/// ITU-R 601-2 luma, with torchvision's digits.
const LUMA: [f64; 3] = [0.2989, 0.587, 0.114];
/// Grey values are summed in whole steps of 2^-24: a sum of integers is the same in any order, so a picture's mean does not
/// depend on how libtorch cuts the batch up. f32 between 0.5 and 1 has steps of that size.
const STEPS: f64 = (1 << 24) as f64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Adjustment {
    Brightness,
    Contrast,
    Saturation,
    Hue,
}

/// Torchvision's numbers for them, which the random order permutes.
const ADJUSTMENTS: [Adjustment; 4] =
    [Adjustment::Brightness, Adjustment::Contrast, Adjustment::Saturation, Adjustment::Hue];

/// What happens to each sample's colours.
#[derive(Debug)]
pub(super) struct Jitter {
    /// By sample: what is on, in its order.
    pub(super) orders: Vec<Vec<Adjustment>>,
    /// By adjustment and sample.
    pub(super) factors: [Vec<f32>; 4],
}

impl Jitter {
    /// None where all four are off.
    pub(super) fn draw(settings: &Augment, keys: Keys<'_>) -> Option<Self> {
        let factor = |adjustment: Adjustment| {
            let around_one = |stream, range: f64| (stream, (1.0 - range).max(0.0), 1.0 + range);
            let (stream, low, high) = match adjustment {
                Adjustment::Brightness => around_one(Stream::Brightness, settings.brightness),
                Adjustment::Contrast => around_one(Stream::Contrast, settings.contrast),
                Adjustment::Saturation => around_one(Stream::Saturation, settings.saturation),
                Adjustment::Hue => (Stream::Hue, -settings.hue, settings.hue),
            };
            if low == high { Vec::new() } else { keys.draw(stream, |rng| between(rng, low, high) as f32) }
        };
        let factors = ADJUSTMENTS.map(factor);
        if factors.iter().all(Vec::is_empty) {
            return None;
        }
        let is_on = |adjustment: &Adjustment| !factors[*adjustment as usize].is_empty();
        let order = |rng: &mut _| order_of_four(rng).map(|number| ADJUSTMENTS[number]);
        let orders = keys.draw(Stream::ColourOrder, |rng| order(rng).into_iter().filter(is_on).collect());
        Some(Self { orders, factors })
    }

    /// Floats from 0 to 1, `[N, S, S, 3]`, before and after.
    pub(super) fn apply(&self, mut pictures: Tensor) -> Result<Tensor, DataError> {
        let turns = self.orders.first().map_or(0, Vec::len);
        for turn in 0..turns {
            for adjustment in ADJUSTMENTS {
                let due = |sample: &usize| self.orders[*sample][turn] == adjustment;
                let samples: Vec<usize> = (0..self.orders.len()).filter(due).collect();
                if !samples.is_empty() {
                    pictures = self.adjust(adjustment, &samples, pictures)?;
                }
            }
        }
        Ok(pictures)
    }

    fn adjust(&self, what: Adjustment, samples: &[usize], mut pictures: Tensor) -> Result<Tensor, DataError> {
        let device = pictures.device();
        let factors: Vec<f32> = samples.iter().map(|sample| self.factors[what as usize][*sample]).collect();
        let factors = Tensor::f_from_slice(&factors)?.f_to_device(device)?.f_view([-1, 1, 1, 1])?;
        if samples.len() == self.orders.len() {
            return adjusted(what, &pictures, &factors);
        }
        let rows: Vec<i64> = samples.iter().map(|sample| *sample as i64).collect();
        let rows = Tensor::f_from_slice(&rows)?.f_to_device(device)?;
        let part = adjusted(what, &pictures.f_index_select(0, &rows)?, &factors)?;
        let _ = pictures.f_index_copy_(0, &rows, &part)?;
        Ok(pictures)
    }
}

pub(super) fn adjusted(what: Adjustment, pictures: &Tensor, factors: &Tensor) -> Result<Tensor, DataError> {
    match what {
        Adjustment::Brightness => Ok(pictures.f_mul(factors)?.f_clamp_(0.0, 1.0)?),
        Adjustment::Contrast => blend(pictures, &mean(&grey(pictures)?)?, factors),
        Adjustment::Saturation => blend(pictures, &grey(pictures)?, factors),
        Adjustment::Hue => turn_hue(pictures, factors),
    }
}

/// `factor * picture + (1 - factor) * other`, kept within 0 to 1.
fn blend(pictures: &Tensor, other: &Tensor, factors: &Tensor) -> Result<Tensor, DataError> {
    let rest = factors.f_rsub_scalar(1.0)?.f_mul(other)?;
    Ok(pictures.f_mul(factors)?.f_add_(&rest)?.f_clamp_(0.0, 1.0)?)
}

/// `[N, S, S, 3]` to `[N, S, S, 1]`.
fn grey(pictures: &Tensor) -> Result<Tensor, DataError> {
    let weighed = |channel: usize| pictures.f_narrow(-1, channel as i64, 1)?.f_mul_scalar(LUMA[channel]);
    Ok(weighed(0)?.f_add_(&weighed(1)?)?.f_add_(&weighed(2)?)?)
}

/// `[N, S, S, 1]` to `[N, 1, 1, 1]`.
fn mean(grey: &Tensor) -> Result<Tensor, DataError> {
    let shape = grey.size();
    let steps = grey.f_to_kind(Kind::Double)?.f_mul_scalar(STEPS)?.f_round_()?.f_to_kind(Kind::Int64)?;
    let sum = steps.f_sum_dim_intlist([1_i64, 2].as_slice(), true, Kind::Int64)?.f_to_kind(Kind::Double)?;
    Ok(sum.f_mul_scalar(1.0 / (STEPS * (shape[1] * shape[2]) as f64))?.f_to_kind(Kind::Float)?)
}

/// `_rgb2hsv` and `_hsv2rgb` in one: hue moves by `turns`, value and the span between largest and smallest stay. The way
/// back is the closed form of torchvision's six cases, `value - span * clamp(min(k, 4 - k), 0, 1)` with
/// `k = (n + 6 * hue) mod 6` and n = 5, 3, 1 for red, green, blue: a third of the kernels, equal up to rounding.
fn turn_hue(pictures: &Tensor, turns: &Tensor) -> Result<Tensor, DataError> {
    let channel = |number| pictures.f_narrow(-1, number, 1);
    let (red, green, blue) = (channel(0)?, channel(1)?, channel(2)?);
    let value = red.f_maximum(&green)?.f_maximum(&blue)?;
    let span = value.f_sub(&red.f_minimum(&green)?.f_minimum(&blue)?)?;
    // A grey pixel has no hue; any divisor does, as its span is nothing.
    let divisor = span.f_masked_fill(&span.f_eq(0.0)?, 1.0)?;
    // Hue in sixths of a turn, by which channel is the largest: red first, then green.
    let sixths = |a: &Tensor, b: &Tensor, from: f64| a.f_sub(b)?.f_div_(&divisor)?.f_add_scalar_(from);
    let (is_red, is_green) = (value.f_eq_tensor(&red)?, value.f_eq_tensor(&green)?);
    let blue_or_green = sixths(&blue, &red, 2.0)?.f_where_self(&is_green, &sixths(&red, &green, 4.0)?)?;
    let mut hue = sixths(&green, &blue, 0.0)?.f_where_self(&is_red, &blue_or_green)?;
    let _ = hue.f_add_(&turns.f_mul_scalar(6.0)?)?;
    let back = |n: f64| {
        let k = hue.f_add_scalar(n)?.f_remainder(6.0)?;
        let mut share = k.f_minimum(&k.f_rsub_scalar(4.0)?)?.f_clamp_(0.0, 1.0)?;
        value.f_sub(&share.f_mul_(&span)?)
    };
    Ok(Tensor::f_cat(&[back(5.0)?, back(3.0)?, back(1.0)?], -1)?)
}
