//! Augmentations, batched, on the device: what training pictures go through between the file and the network.
//!
//! In the order of torchvision's recipes: random resized crop, random crop with padding, horizontal flip, colour jitter,
//! normalisation, random erasing, mixup or cutmix. All random numbers are drawn on the host, keyed by (seed, epoch, sample)
//! ([`draws`]), and go to the device as small tensors. There every step is a gather or elementwise, so a sample becomes
//! the same bits whatever the batch around it; mixup and cutmix alone look beyond the sample, at its slice of the step.
//!
//! What is off costs nothing and changes no bit.

mod colour;
mod draws;
mod erase;
mod geometry;
mod mix;
mod resample;
#[cfg(test)]
mod tests;

use serde::Deserialize;
use tch::Tensor;

use self::colour::Jitter;
use self::draws::{Keys, Stream};
use self::geometry::Windows;
use self::mix::Mix;
pub(super) use self::mix::neighbours;
use super::DataError;
use super::transform::Transform;

/// Between these a beta distribution can be drawn from without underflow, and makes sense.
const ALPHAS: std::ops::RangeInclusive<f64> = 0.001..=1000.0;

/// What is on, and how much of it. The default is nothing.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Augment {
    /// Pixels of zeros added to each side before a random crop back to the picture's size; 0: none.
    pub crop_padding: u32,
    /// Least share of the stored picture's area that a random resized crop keeps; none or 1: no such crop.
    pub resized_crop: Option<f64>,
    /// Probability of a horizontal flip.
    pub flip: f64,
    /// Torchvision's `ColorJitter`: factors from 1 - x (not below 0) to 1 + x.
    pub brightness: f64,
    pub contrast: f64,
    pub saturation: f64,
    /// Shifts by -x to x turns, at most 0.5.
    pub hue: f64,
    /// Probability of erasing a random rectangle.
    pub erasing: f64,
    /// Alpha of the beta distribution that a pair's share is drawn from; 0: none. With both, each slice takes one.
    pub mixup: f64,
    pub cutmix: f64,
}

/// Checked settings under a run's seed.
#[derive(Clone, Copy, Debug)]
pub struct Augmenter {
    settings: Augment,
    seed: u64,
    /// Pixels per side of the pictures that it makes.
    size: u32,
}

/// Augmented and normalised pictures.
#[derive(Debug)]
pub(super) struct Augmented {
    /// f32 `[N, size, size, 3]`.
    pub(super) pictures: Tensor,
    /// Each sample's own share of its picture, f32 `[N]`, the rest is its neighbour's; none where nothing was mixed.
    pub(super) share: Option<Tensor>,
}

impl Augmenter {
    /// # Errors
    /// [`DataError::Augmentation`] for a setting that makes no sense.
    pub fn new(settings: Augment, seed: u64, size: u32) -> Result<Self, DataError> {
        settings.check(size)?;
        Ok(Self { settings, seed, size })
    }

    /// Which of the samples `ids` `epoch` sees in a mirror.
    #[must_use]
    pub fn mirrored(&self, epoch: u32, ids: &[u32]) -> Vec<bool> {
        geometry::mirrored(&self.settings, Keys { seed: self.seed, epoch, ids })
    }

    /// Augments and normalises the bytes `[N, H, W, 3]` of the samples `ids`, a slice of a step of `epoch`.
    pub(super) fn apply(
        &self,
        epoch: u32,
        ids: &[u32],
        bytes: Tensor,
        transform: &Transform,
    ) -> Result<Augmented, DataError> {
        let keys = Keys { seed: self.seed, epoch, ids };
        let mut pictures = self.move_pixels(keys, bytes, transform)?;
        if let Some(jitter) = Jitter::draw(&self.settings, keys) {
            pictures = jitter.apply(pictures)?;
        }
        transform.normalise(&mut pictures)?;
        if let Some(rectangles) = erase::draw(&self.settings, keys, self.size) {
            erase::apply(&rectangles, &mut pictures)?;
        }
        match Mix::draw(&self.settings, keys, self.size) {
            None => Ok(Augmented { pictures, share: None }),
            Some(mix) => {
                let (pictures, share) = mix.apply(pictures)?;
                Ok(Augmented { pictures, share: Some(share) })
            }
        }
    }

    /// Floats from 0 to 1, `[N, size, size, 3]`. Pixels stay bytes as long as they can:
    /// moving them costs a quarter.
    fn move_pixels(&self, keys: Keys<'_>, bytes: Tensor, transform: &Transform) -> Result<Tensor, DataError> {
        let windows = Windows::draw(&self.settings, keys);
        let crop = |pictures: Tensor| match &windows {
            Some(windows) => windows.crop(&pictures),
            None => Ok(pictures),
        };
        match self.settings.resized_crop.filter(|least| *least < 1.0) {
            Some(least) => {
                let side = |dimension: usize| u32::try_from(bytes.size()[dimension]).unwrap_or(u32::MAX);
                let (height, width) = (side(1), side(2));
                let draw = |rng: &mut _| geometry::resized_crop(rng, least, height, width);
                let crops = keys.draw(Stream::ResizedCrop, draw);
                transform.to_unit(crop(resample::crop(&bytes, &crops, transform.size)?)?)
            }
            None if transform.fits(&bytes) => transform.to_unit(crop(bytes)?),
            None => crop(transform.fit(bytes)?),
        }
    }
}

impl Augment {
    /// What makes another picture of a sample in every epoch, flips apart: those show one of two.
    #[must_use]
    pub fn variation(&self) -> Option<&'static str> {
        let jitter = [self.brightness, self.contrast, self.saturation, self.hue];
        let random = [
            (self.resized_crop.is_some_and(|least| least < 1.0) || self.crop_padding > 0, "random crops"),
            (jitter.iter().any(|by| *by > 0.0), "colour jitter"),
            (self.erasing > 0.0, "random erasing"),
            (self.mixup > 0.0, "mixup"),
            (self.cutmix > 0.0, "cutmix"),
        ];
        random.into_iter().find_map(|(is_on, name)| is_on.then_some(name))
    }

    fn check(&self, size: u32) -> Result<(), DataError> {
        let within = |name, value: f64, expected, fine: bool| match fine {
            true => Ok(()),
            false => Err(DataError::Augmentation { name, value, expected }),
        };
        let share = |name, value| within(name, value, "from 0 to 1", (0.0..=1.0).contains(&value));
        let range = |name, value: f64| within(name, value, "0 or more", value >= 0.0 && value.is_finite());
        let alpha = |name, value| {
            within(name, value, "0, or from 0.001 to 1000", value == 0.0 || ALPHAS.contains(&value))
        };
        let padding = f64::from(self.crop_padding);
        within("crop_padding", padding, "less than the picture's size", self.crop_padding < size)?;
        let least = self.resized_crop.unwrap_or(1.0);
        within("resized_crop", least, "above 0 and at most 1", least > 0.0 && least <= 1.0)?;
        share("flip", self.flip)?;
        range("brightness", self.brightness)?;
        range("contrast", self.contrast)?;
        range("saturation", self.saturation)?;
        within("hue", self.hue, "from 0 to 0.5", (0.0..=0.5).contains(&self.hue))?;
        share("erasing", self.erasing)?;
        alpha("mixup", self.mixup)?;
        alpha("cutmix", self.cutmix)
    }
}
