//! Mixup and cutmix: each sample of a slice gets a share of the one before it, the first one of the last.
//!
//! Pairs are torchvision's (v2, `roll(1)`); unlike there, where a batch has one share, each sample draws its own. Whom a
//! sample meets follows from its slice of the step, which the recipe fixes, so this too is the same for any number of
//! workers.

use rand_chacha::ChaCha8Rng;
use tch::Tensor;

use super::Augment;
use super::draws::{self, Keys, Stream};
use crate::data::DataError;
use crate::data::keyed::below;
use crate::data::rectangle::Rectangle;

/// What a slice's samples get of their neighbours.
#[derive(Debug, PartialEq)]
pub(super) enum Mix {
    /// Each sample's own share.
    Mixup(Vec<f32>),
    /// What comes from the neighbour.
    Cutmix(Vec<Rectangle>),
}

impl Mix {
    /// None where both are off. With both on, a coin of the slice's first sample says which it is for all of them.
    pub(super) fn draw(settings: &Augment, keys: Keys<'_>, size: u32) -> Option<Self> {
        let is_mixup = match (settings.mixup > 0.0, settings.cutmix > 0.0) {
            (false, false) => return None,
            (true, true) => keys.draw_once(Stream::MixupOrCutmix, |rng| draws::chance(rng, 0.5))?,
            (mixup, _) => mixup,
        };
        Some(if is_mixup {
            Self::Mixup(keys.draw(Stream::Mixup, |rng| draws::beta(rng, settings.mixup) as f32))
        } else {
            Self::Cutmix(keys.draw(Stream::Cutmix, |rng| cut(rng, settings.cutmix, size)))
        })
    }

    /// Mixes normalised pictures `[N, S, S, 3]`; each sample's own share, f32 `[N]`.
    pub(super) fn apply(&self, pictures: Tensor) -> Result<(Tensor, Tensor), DataError> {
        let (size, device) = (pictures.size()[1], pictures.device());
        let neighbours = neighbours(&pictures)?;
        match self {
            Self::Mixup(shares) => {
                let share = Tensor::f_from_slice(shares)?.f_to_device(device)?;
                let own = share.f_view([-1, 1, 1, 1])?;
                // Product by product: how a fused multiplication rounds is the device's affair.
                let theirs = neighbours.f_mul(&own.f_rsub_scalar(1.0)?)?;
                Ok((pictures.f_mul(&own)?.f_add_(&theirs)?, share))
            }
            Self::Cutmix(rectangles) => {
                let whole = (size * size) as f64;
                let kept = |cut: &Rectangle| (1.0 - cut.area() as f64 / whole) as f32;
                let share: Vec<f32> = rectangles.iter().map(kept).collect();
                let mask = Rectangle::mask(rectangles, size, device)?;
                let share = Tensor::f_from_slice(&share)?.f_to_device(device)?;
                Ok((neighbours.f_where_self(&mask, &pictures)?, share))
            }
        }
    }
}

/// Along the first dimension: each one's neighbour, the one before it.
pub(crate) fn neighbours(batch: &Tensor) -> Result<Tensor, DataError> {
    Ok(batch.f_roll([1], [0])?)
}

/// Torchvision's box: its area is the neighbour's share, its centre is anywhere, so the picture's edge may cut it.
fn cut(rng: &mut ChaCha8Rng, alpha: f64, size: u32) -> Rectangle {
    let own = draws::beta(rng, alpha);
    let half = (0.5 * (1.0 - own).sqrt() * f64::from(size)) as u32;
    let mut span = || {
        let centre = below(rng, size);
        let start = centre.saturating_sub(half);
        (start, (centre + half).min(size) - start)
    };
    let ((left, width), (top, height)) = (span(), span());
    Rectangle { top, left, height, width }
}
