//! Some pictures of a file, for those who show or judge them outside of a run.

use std::path::Path;

use tch::{Device, Kind, Tensor};

use super::augment::Augmenter;
use super::file::{CanonicalFile, DataError};
use super::pictures::Pictures;
use super::transform::{Look, Transform, channels_last};

/// Which tensors of a safetensors file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensors {
    /// U8 `[N, 3, H, W]`.
    pub images: String,
    /// I64 `[N]`, below `classes`.
    pub labels: Option<String>,
    pub classes: u32,
}

/// Its pictures, and their labels where there are some, ready on a device.
#[derive(Debug)]
pub struct PictureFile {
    pictures: Pictures,
    labels: Option<Tensor>,
    transform: Transform,
}

impl PictureFile {
    /// Opens the safetensors file at `path`.
    ///
    /// # Errors
    /// [`DataError`] when it cannot be read or the tensors are not what they should be.
    pub fn open(path: &Path, tensors: &Tensors, look: &Look, device: Device) -> Result<Self, DataError> {
        let transform = Transform::new(look, device)?;
        let file = CanonicalFile::read(path, None)?;
        let stored = file.pictures(&tensors.images)?;
        let labels = match &tensors.labels {
            None => None,
            Some(name) => {
                let labels = file.labels(name, &stored, tensors.classes)?;
                Some(Tensor::f_from_slice(&labels)?.f_to_device(device)?)
            }
        };
        Ok(Self { pictures: Pictures::new(&tensors.images, &stored, device)?, labels, transform })
    }

    /// The number of pictures.
    #[must_use]
    pub fn count(&self) -> u32 {
        u32::try_from(self.pictures.count()).unwrap_or(u32::MAX)
    }

    /// The rows `ids`, in that order: normalised images, f32 `[N, 3, S, S]` with channels-last strides, and labels, i64
    /// `[N]`.
    ///
    /// # Errors
    /// [`DataError::Sample`] for an id beyond the file's; [`DataError::Tensor`].
    pub fn batch(&self, ids: &[u32]) -> Result<(Tensor, Option<Tensor>), DataError> {
        let rows = self.pictures.rows(ids)?;
        let mut images = self.transform.fit(self.pictures.select(&rows)?)?;
        self.transform.normalise(&mut images)?;
        let labels = self.labels.as_ref().map(|labels| labels.f_index_select(0, &rows)).transpose()?;
        Ok((channels_last(&images)?, labels))
    }

    /// The rows `ids` as a slice of a step of `epoch` sees them: u8 `[N, 3, S, S]`, contiguous, on the CPU.
    ///
    /// Made for a [`Look`] with mean 0 and std 1; what erasing sets to the mean is then black. Other looks give values
    /// that bytes do not hold, and those are cut.
    ///
    /// # Errors
    /// As [`Self::batch`].
    pub fn augmented(&self, augmenter: &Augmenter, epoch: u32, ids: &[u32]) -> Result<Tensor, DataError> {
        let bytes = self.pictures.select(&self.pictures.rows(ids)?)?;
        let pictures = augmenter.apply(epoch, ids, bytes, &self.transform)?.pictures;
        let bytes = pictures.f_mul_scalar(255.0)?.f_round_()?.f_clamp_(0.0, 255.0)?.f_to_kind(Kind::Uint8)?;
        Ok(channels_last(&bytes)?.f_contiguous()?.f_to_device(Device::Cpu)?)
    }
}
