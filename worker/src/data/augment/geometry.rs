//! What moves pixels: random resized crop, random crop with padding, horizontal flip.

use rand_chacha::ChaCha8Rng;
use tch::{Kind, Tensor};

use super::Augment;
use super::draws::{self, Keys, Stream};
use crate::data::DataError;
use crate::data::keyed::{below, between};
use crate::data::rectangle::Rectangle;

/// Width to height, and back: torchvision's default.
const RATIO: f64 = 4.0 / 3.0;
/// After so many rectangles that do not fit the picture, torchvision takes its middle.
const TRIES: usize = 10;

/// Torchvision's `RandomResizedCrop.get_params` for pictures of `height` x `width` pixels.
pub(super) fn resized_crop(rng: &mut ChaCha8Rng, least: f64, height: u32, width: u32) -> Rectangle {
    let area = f64::from(height) * f64::from(width);
    for _ in 0..TRIES {
        let kept = area * between(rng, least, 1.0);
        let (w, h) = draws::sides(kept, draws::log_between(rng, 1.0 / RATIO, RATIO));
        if (1.0..=f64::from(width)).contains(&w) && (1.0..=f64::from(height)).contains(&h) {
            let (h, w) = (h as u32, w as u32);
            let (top, left) = (below(rng, height - h + 1), below(rng, width - w + 1));
            return Rectangle { top, left, height: h, width: w };
        }
    }
    middle(height, width)
}

/// The middle of a picture, whole unless it is more oblong than crops may be.
fn middle(height: u32, width: u32) -> Rectangle {
    let (h, w) = (f64::from(height), f64::from(width));
    let longest = |short: f64| (short * RATIO).round_ties_even() as u32;
    let (h, w) = if w * RATIO < h {
        (longest(w), width)
    } else if w > h * RATIO {
        (height, longest(h))
    } else {
        (height, width)
    };
    Rectangle { top: (height - h) / 2, left: (width - w) / 2, height: h, width: w }
}

/// Whether each sample is seen in a mirror.
pub(super) fn mirrored(settings: &Augment, keys: Keys<'_>) -> Vec<bool> {
    keys.draw(Stream::Flip, |rng| draws::chance(rng, settings.flip))
}

/// Where each sample's window lies in its padded picture, and whether it is seen in a mirror.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Windows {
    padding: u32,
    /// 0 to twice the padding, from the padded picture's corner: (down, right).
    pub(super) corners: Vec<(u32, u32)>,
    pub(super) mirrored: Vec<bool>,
}

impl Windows {
    /// None where both are off.
    pub(super) fn draw(settings: &Augment, keys: Keys<'_>) -> Option<Self> {
        let (padding, flip) = (settings.crop_padding, settings.flip);
        if padding == 0 && flip <= 0.0 {
            return None;
        }
        let places = 2 * padding + 1;
        let corners = keys.draw(Stream::PaddedCrop, |rng| (below(rng, places), below(rng, places)));
        Some(Self { padding, corners, mirrored: mirrored(settings, keys) })
    }

    /// Crops `[N, S, S, 3]`, bytes or floats, to what the windows show: the very same values, zeros outside.
    ///
    /// One gather of whole pixels for both, as each costs as much as the two together.
    pub(super) fn crop(&self, pictures: &Tensor) -> Result<Tensor, DataError> {
        let shape = pictures.size();
        let (count, size, device) = (shape[0], shape[1], pictures.device());
        let column = |values: Vec<i64>| Tensor::f_from_slice(&values)?.f_to_device(device)?.f_unsqueeze(-1);
        let from = |offset: u32| i64::from(offset) - i64::from(self.padding);
        let pixels = Tensor::f_arange(size, (Kind::Int64, device))?;
        let rows = pixels.f_add(&column(self.corners.iter().map(|(down, _)| from(*down)).collect())?)?;
        // A mirror runs from the last column backwards: x * -1 + (size - 1).
        let step = column(self.mirrored.iter().map(|mirrored| if *mirrored { -1 } else { 1 }).collect())?;
        let first =
            |(corner, mirrored): (&(u32, u32), &bool)| from(corner.1) + i64::from(*mirrored) * (size - 1);
        let first = column(self.corners.iter().zip(&self.mirrored).map(first).collect())?;
        let columns = pixels.f_mul(&step)?.f_add(&first)?;

        let picture = Tensor::f_arange(count, (Kind::Int64, device))?.f_mul_scalar(size)?.f_unsqueeze(-1)?;
        let row = rows.f_clamp(0, size - 1)?.f_add(&picture)?.f_mul_scalar(size)?.f_unsqueeze(-1)?;
        let pixel = row.f_add(&columns.f_clamp(0, size - 1)?.f_unsqueeze(1)?)?;
        let flat = pictures.f_reshape([-1, 3])?;
        let mut cropped = flat.f_index_select(0, &pixel.f_view(-1)?)?.f_view([count, size, size, 3])?;
        if self.padding > 0 {
            // By a product: filling under a mask costs three times as much.
            let inside = |at: &Tensor| at.f_ge(0)?.f_logical_and(&at.f_lt(size)?);
            let (rows, columns) = (inside(&rows)?.f_unsqueeze(-1)?, inside(&columns)?.f_unsqueeze(1)?);
            let _ = cropped.f_mul_(&rows.f_logical_and(&columns)?.f_unsqueeze(-1)?)?;
        }
        Ok(cropped)
    }
}
