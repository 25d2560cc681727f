//! From stored bytes to what the network sees: floats from 0 to 1, the network's size, normalised.
//!
//! Pictures lie as `[N, H, W, 3]` all the way and are handed out under the shape `[N, 3, H, W]`, so with channels-last
//! strides, which is what the convolutions want, without a copy for the sake of layout. The arithmetic is that of
//! torchvision's `ToTensor` and `Normalize`: `(x / 255 - mean) / std`, in f32.

use tch::{Device, Kind, Tensor};

use super::{DataError, resize};

/// What all pictures of a run go through.
#[derive(Clone, Debug, PartialEq)]
pub struct Look {
    /// Pixels per side.
    pub size: u32,
    /// Per channel, of pixels in 0 to 1.
    pub mean: Vec<f32>,
    pub std: Vec<f32>,
}

/// A checked [`Look`] on a device.
#[derive(Debug)]
pub(super) struct Transform {
    pub(super) size: i64,
    /// 255 as a tensor on the device: by a number, CUDA multiplies with the reciprocal, which rounds otherwise.
    full: Tensor,
    /// `[3]` each.
    mean: Tensor,
    std: Tensor,
}

impl Transform {
    pub(super) fn new(look: &Look, device: Device) -> Result<Self, DataError> {
        let valid = |values: &[f32]| values.len() == 3 && values.iter().all(|value| value.is_finite());
        if !valid(&look.mean) || !valid(&look.std) || look.std.iter().any(|std| *std <= 0.0) {
            return Err(DataError::Normalisation);
        }
        if look.size == 0 {
            return Err(DataError::Size);
        }
        let channels = |values: &[f32]| Tensor::f_from_slice(values)?.f_to_device(device);
        Ok(Self {
            size: i64::from(look.size),
            full: channels(&[255.0])?,
            mean: channels(&look.mean)?,
            std: channels(&look.std)?,
        })
    }

    /// Whether bytes `[N, H, W, 3]` have the network's size already.
    pub(super) fn fits(&self, bytes: &Tensor) -> bool {
        bytes.size()[1..3] == [self.size; 2]
    }

    /// Values from 0 to 255, bytes or floats, as floats from 0 to 1. Floats may be changed in place.
    pub(super) fn to_unit(&self, pictures: Tensor) -> Result<Tensor, DataError> {
        Ok(pictures.f_to_kind(Kind::Float)?.f_div_(&self.full)?)
    }

    /// Bytes `[N, H, W, 3]` as floats from 0 to 1, `[N, size, size, 3]`.
    pub(super) fn fit(&self, bytes: Tensor) -> Result<Tensor, DataError> {
        let fits = self.fits(&bytes);
        let pictures = self.to_unit(bytes)?;
        if fits { Ok(pictures) } else { resize::fit(&pictures, self.size) }
    }

    /// In place, channels last.
    pub(super) fn normalise(&self, pictures: &mut Tensor) -> Result<(), DataError> {
        let _ = pictures.f_sub_(&self.mean)?.f_div_(&self.std)?;
        Ok(())
    }
}

/// `[N, H, W, 3]` under the shape `[N, 3, H, W]`.
pub(super) fn channels_last(pictures: &Tensor) -> Result<Tensor, DataError> {
    Ok(pictures.f_permute([0, 3, 1, 2])?)
}
