//! The data set on the device, and the batches that training and evaluation take from it.

#[cfg(test)]
mod tests;

use std::path::Path;

use tch::{Device, Tensor};

use super::augment::{self, Augmenter};
use super::file::{CanonicalFile, DataError, Needs, Part};
use super::pictures::Pictures;
use super::transform::{Transform, channels_last};
use crate::plan::Split;

/// A run's samples, ready on its device.
#[derive(Debug)]
pub struct Dataset {
    name: String,
    train: Samples,
    test: Samples,
    transform: Transform,
}

#[derive(Debug)]
struct Samples {
    pictures: Pictures,
    /// i64 `[N]`.
    labels: Tensor,
}

/// Samples to train on.
#[derive(Debug)]
pub struct Batch {
    /// Augmented and normalised, f32 `[N, 3, S, S]` with channels-last strides.
    pub images: Tensor,
    /// i64 `[N]`.
    pub labels: Tensor,
    /// Where each picture is partly its neighbour's.
    pub mixed: Option<Mixed>,
}

/// The other half of mixed pictures. The loss is `share * loss(labels) + (1 - share) * loss(mixed.labels)`.
#[derive(Debug)]
pub struct Mixed {
    /// The neighbours', i64 `[N]`.
    pub labels: Tensor,
    /// The samples' own share, f32 `[N]`.
    pub share: Tensor,
}

impl Dataset {
    /// Opens the canonical file at `path`, whose sha256 in hex is `expected_digest` if known.
    ///
    /// # Errors
    /// [`DataError`] when it cannot be read, is not what it should be, or has less than the run needs.
    pub fn open(
        path: &Path,
        expected_digest: Option<&str>,
        needs: &Needs,
        device: Device,
    ) -> Result<Self, DataError> {
        let transform = Transform::new(&needs.look, device)?;
        let file = CanonicalFile::read(path, expected_digest)?;
        let contents = file.contents(needs)?;
        Ok(Self {
            train: Samples::new("train", &contents.train, device)?,
            test: Samples::new("test", &contents.test, device)?,
            name: contents.name,
            transform,
        })
    }

    /// As the file calls itself, e.g. "cifar10".
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// (height, width) of the stored images.
    #[must_use]
    pub fn image_size(&self) -> (i64, i64) {
        self.train.pictures.size()
    }

    /// The samples `ids` of a split, in that order: normalised images, f32 `[N, 3, S, S]` with channels-last
    /// strides, and labels, i64 `[N]`. Ids are rows of the file's part; train and validation share one.
    ///
    /// # Errors
    /// [`DataError::Sample`] for an id beyond what the run uses; [`DataError::Tensor`].
    pub fn batch(&self, split: Split, ids: &[u32]) -> Result<(Tensor, Tensor), DataError> {
        Ok((self.view(split, ids, false)?, self.labels(split, ids)?))
    }

    /// The images of [`Self::batch`], if `mirrored` in a mirror: what [`Self::train_batch`] makes of samples that nothing
    /// but a flip happens to, to the bit.
    ///
    /// # Errors
    /// As [`Self::batch`].
    pub fn view(&self, split: Split, ids: &[u32], mirrored: bool) -> Result<Tensor, DataError> {
        let samples = self.samples(split);
        let bytes = samples.pictures.select(&samples.pictures.rows(ids)?)?;
        let mut images = self.transform.fit(bytes)?;
        if mirrored {
            images = images.f_flip([2])?;
        }
        self.transform.normalise(&mut images)?;
        channels_last(&images)
    }

    /// The labels of [`Self::batch`].
    ///
    /// # Errors
    /// As [`Self::batch`].
    pub fn labels(&self, split: Split, ids: &[u32]) -> Result<Tensor, DataError> {
        let samples = self.samples(split);
        Ok(samples.labels.f_index_select(0, &samples.pictures.rows(ids)?)?)
    }

    fn samples(&self, split: Split) -> &Samples {
        match split {
            Split::Train | Split::Validation => &self.train,
            Split::Test => &self.test,
        }
    }

    /// The training samples `ids`, a slice of a step of `epoch`, augmented. With everything off, [`Self::batch`] to the
    /// bit.
    ///
    /// # Errors
    /// As [`Self::batch`].
    pub fn train_batch(&self, augmenter: &Augmenter, epoch: u32, ids: &[u32]) -> Result<Batch, DataError> {
        let (bytes, labels) = self.train.select(ids)?;
        let augmented = augmenter.apply(epoch, ids, bytes, &self.transform)?;
        let mixed = match augmented.share {
            None => None,
            Some(share) => Some(Mixed { labels: augment::neighbours(&labels)?, share }),
        };
        Ok(Batch { images: channels_last(&augmented.pictures)?, labels, mixed })
    }
}

impl From<tch::TchError> for DataError {
    fn from(error: tch::TchError) -> Self {
        Self::Tensor(Box::new(error))
    }
}

impl Samples {
    fn new(part: &str, samples: &Part<'_>, device: Device) -> Result<Self, DataError> {
        Ok(Self {
            pictures: Pictures::new(part, &samples.pictures, device)?,
            labels: Tensor::f_from_slice(&samples.labels)?.f_to_device(device)?,
        })
    }

    /// Bytes `[N, H, W, 3]` and labels `[N]`.
    fn select(&self, ids: &[u32]) -> Result<(Tensor, Tensor), DataError> {
        let rows = self.pictures.rows(ids)?;
        Ok((self.pictures.select(&rows)?, self.labels.f_index_select(0, &rows)?))
    }
}
