//! The data set on the device: bytes until they are needed, so that 50,000 small images take 150 MB, not 600.
//!
//! Images lie as `[N, H, W, 3]`. A batch is then selected, turned into floats and handed out under the shape
//! `[N, 3, H, W]` with channels-last strides, which is what the convolutions want, without a copy for the sake of
//! layout. The arithmetic is that of torchvision's `ToTensor` and `Normalize`: `(x / 255 - mean) / std`, in f32.

use std::path::Path;

use tch::{Device, Kind, Tensor};

use super::file::{CanonicalFile, DataError, Needs, Part};
use crate::plan::Split;

/// A run's samples, ready on its device.
#[derive(Debug)]
pub struct Dataset {
    name: String,
    train: Samples,
    test: Samples,
    /// 255 as a tensor on the device: by a number, CUDA multiplies with the reciprocal, which rounds otherwise.
    full: Tensor,
    /// `[3]` each.
    mean: Tensor,
    std: Tensor,
}

#[derive(Debug)]
struct Samples {
    part: &'static str,
    /// u8 `[N, H, W, 3]`.
    images: Tensor,
    /// i64 `[N]`.
    labels: Tensor,
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
        let valid = |values: &[f32]| values.len() == 3 && values.iter().all(|value| value.is_finite());
        if !valid(&needs.mean) || !valid(&needs.std) || needs.std.iter().any(|std| *std <= 0.0) {
            return Err(DataError::Normalisation);
        }
        let file = CanonicalFile::read(path, expected_digest)?;
        let contents = file.contents(needs)?;
        let channels = |values: &[f32]| Tensor::f_from_slice(values)?.f_to_device(device);
        Ok(Self {
            train: Samples::new("train", &contents.train, device)?,
            test: Samples::new("test", &contents.test, device)?,
            name: contents.name,
            full: channels(&[255.0])?,
            mean: channels(&needs.mean)?,
            std: channels(&needs.std)?,
        })
    }

    /// As the file calls itself, e.g. "cifar10".
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// (height, width) of the images.
    #[must_use]
    pub fn image_size(&self) -> (i64, i64) {
        let size = self.train.images.size();
        (size[1], size[2])
    }

    /// The samples `ids` of a split, in that order: normalised images, f32 `[N, 3, H, W]` with channels-last
    /// strides, and labels, i64 `[N]`. Ids are rows of the file's part; train and validation share one.
    ///
    /// # Errors
    /// [`DataError::Sample`] for an id beyond what the run uses; [`DataError::Tensor`].
    pub fn batch(&self, split: Split, ids: &[u32]) -> Result<(Tensor, Tensor), DataError> {
        let samples = match split {
            Split::Train | Split::Validation => &self.train,
            Split::Test => &self.test,
        };
        let rows = samples.labels.size()[0];
        // Checked here, because on CUDA a bad index takes the whole context down.
        if let Some(&id) = ids.iter().find(|id| i64::from(**id) >= rows) {
            return Err(DataError::Sample { part: samples.part, id, samples: rows });
        }
        let ids: Vec<i64> = ids.iter().map(|id| i64::from(*id)).collect();
        let ids = Tensor::f_from_slice(&ids)?.f_to_device(samples.labels.device())?;
        let mut images = samples.images.f_index_select(0, &ids)?.f_to_kind(Kind::Float)?;
        let _ = images.f_div_(&self.full)?.f_sub_(&self.mean)?.f_div_(&self.std)?;
        Ok((images.f_permute([0, 3, 1, 2])?, samples.labels.f_index_select(0, &ids)?))
    }
}

impl From<tch::TchError> for DataError {
    fn from(error: tch::TchError) -> Self {
        Self::Tensor(Box::new(error))
    }
}

impl Samples {
    fn new(part: &'static str, samples: &Part<'_>, device: Device) -> Result<Self, DataError> {
        let shape = samples.shape.map(|length| i64::try_from(length).unwrap_or(i64::MAX));
        let images = Tensor::f_from_data_size(samples.images, &shape, Kind::Uint8)?;
        Ok(Self {
            part,
            images: images.f_permute([0, 2, 3, 1])?.f_contiguous()?.f_to_device(device)?,
            labels: Tensor::f_from_slice(&samples.labels)?.f_to_device(device)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::fs;

    use safetensors::Dtype;
    use safetensors::tensor::{TensorView, serialize};
    use sha2::{Digest, Sha256};

    use super::*;

    const HEIGHT: usize = 2;
    const WIDTH: usize = 3;
    const IMAGE: usize = 3 * HEIGHT * WIDTH;

    struct Content {
        description: Option<&'static str>,
        train_labels: Vec<i64>,
        images: usize,
        dtype: Dtype,
    }

    fn content() -> Content {
        Content {
            description: Some(r#"{"name": "tiny", "classes": ["a", "b", "c"]}"#),
            train_labels: vec![0, 1, 2, 1],
            images: 4,
            dtype: Dtype::U8,
        }
    }

    fn pixel(at: usize) -> u8 {
        (at * 37 % 256) as u8
    }

    fn file(content: &Content) -> Vec<u8> {
        let pixels: Vec<u8> = (0..content.images * IMAGE).map(pixel).collect();
        let labels = |labels: &[i64]| labels.iter().flat_map(|label| label.to_le_bytes()).collect::<Vec<_>>();
        let (train_labels, test_labels) = (labels(&content.train_labels), labels(&[2, 0]));
        let shape = |samples| vec![samples, 3, HEIGHT, WIDTH];
        let view = |dtype, shape, data| TensorView::new(dtype, shape, data).unwrap();
        let tensors = [
            ("train.images", view(content.dtype, shape(content.images), &pixels)),
            ("train.labels", view(Dtype::I64, vec![content.train_labels.len()], &train_labels)),
            ("test.images", view(Dtype::U8, shape(2), &pixels[..2 * IMAGE])),
            ("test.labels", view(Dtype::I64, vec![2], &test_labels)),
        ];
        let description = content.description.map(|text| HashMap::from([("lockstep".into(), text.into())]));
        serialize(tensors, description).unwrap()
    }

    fn needs() -> Needs {
        Needs {
            train_samples: 3,
            test_samples: 2,
            classes: 3,
            mean: vec![0.4914, 0.4822, 0.4465],
            std: vec![0.247, 0.2435, 0.2616],
        }
    }

    fn open(bytes: &[u8], digest: Option<&str>, needs: &Needs) -> Result<Dataset, DataError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.safetensors");
        fs::write(&path, bytes).unwrap();
        Dataset::open(&path, digest, needs, Device::Cpu)
    }

    #[test]
    fn batches_are_what_torchvision_makes_of_the_bytes() {
        let dataset = open(&file(&content()), None, &needs()).unwrap();
        assert_eq!((dataset.name(), dataset.image_size()), ("tiny", (2, 3)));
        let (images, labels) = dataset.batch(Split::Train, &[2, 0]).unwrap();
        assert_eq!(Vec::<i64>::try_from(&labels).unwrap(), [2, 0]);
        assert_eq!(images.size(), [2, 3, 2, 3]);
        assert_eq!(images.stride(), [18, 1, 9, 3], "channels last");
        let values = Vec::<f32>::try_from(images.contiguous().view(-1)).unwrap();
        let needs = needs();
        for (at, value) in values.iter().enumerate() {
            let channel = at % IMAGE / (HEIGHT * WIDTH);
            let row = if at < IMAGE { 2 } else { 0 };
            let x = f32::from(pixel(row * IMAGE + at % IMAGE)) / 255.0;
            let expected = (x - needs.mean[channel]) / needs.std[channel];
            assert_eq!(value.to_bits(), expected.to_bits(), "element {at}");
        }
        let (images, labels) = dataset.batch(Split::Test, &[1]).unwrap();
        assert_eq!((images.size()[0], labels.int64_value(&[0])), (1, 0));
        assert_eq!(dataset.batch(Split::Validation, &[]).unwrap().0.size(), [0, 3, 2, 3]);
    }

    #[test]
    fn rows_that_the_run_does_not_use_are_out_of_reach() {
        let dataset = open(&file(&content()), None, &needs()).unwrap();
        let beyond = dataset.batch(Split::Train, &[0, 3]);
        assert!(matches!(beyond, Err(DataError::Sample { id: 3, samples: 3, .. })));
    }

    #[test]
    fn only_the_file_with_the_digest_is_opened() {
        let bytes = file(&content());
        let digest = hex::encode(Sha256::digest(&bytes));
        assert!(open(&bytes, Some(&digest), &needs()).is_ok());
        let mut damaged = bytes;
        *damaged.last_mut().unwrap() ^= 1;
        assert!(matches!(open(&damaged, Some(&digest), &needs()), Err(DataError::Digest { .. })));
    }

    #[test]
    fn what_does_not_fit_the_run_is_refused() {
        let refusal = |content: Content, needs: Needs| open(&file(&content), None, &needs).unwrap_err();
        let more = refusal(content(), Needs { train_samples: 5, ..needs() });
        assert!(matches!(more, DataError::TooFew { needed: 5, found: 4, .. }));
        let classes = refusal(content(), Needs { classes: 10, ..needs() });
        assert!(matches!(classes, DataError::Classes { needed: 10, found: 3 }));
        let std = refusal(content(), Needs { std: vec![1.0, 0.0, 1.0], ..needs() });
        assert!(matches!(std, DataError::Normalisation));
        let label = refusal(Content { train_labels: vec![0, 3, 1, 1], ..content() }, needs());
        assert!(matches!(label, DataError::Label { row: 1, label: 3, .. }));
        let uneven = refusal(Content { train_labels: vec![0, 1, 1], ..content() }, needs());
        assert!(matches!(uneven, DataError::Uneven { images: 4, labels: 3, .. }));
        let signed = refusal(Content { dtype: Dtype::I8, ..content() }, needs());
        assert!(matches!(signed, DataError::Layout { .. }));
        let nameless = refusal(Content { description: None, ..content() }, needs());
        assert!(matches!(nameless, DataError::Description(None)));
        let unclear = refusal(Content { description: Some("{}"), ..content() }, needs());
        assert!(matches!(unclear, DataError::Description(Some(_))));
    }

    #[test]
    fn files_that_are_no_data_sets_are_refused() {
        assert!(matches!(open(b"hello", None, &needs()), Err(DataError::Format(_))));
        let whole = file(&content());
        assert!(matches!(open(&whole[..whole.len() - 1], None, &needs()), Err(DataError::Format(_))));
        let missing = Dataset::open(Path::new("/nonexistent/file"), None, &needs(), Device::Cpu);
        assert!(matches!(missing, Err(DataError::Read { .. })));
    }

    #[test]
    fn the_number_of_classes_may_stand_for_their_names() {
        let content = Content { description: Some(r#"{"name": "tiny", "classes": 3}"#), ..content() };
        assert!(open(&file(&content), None, &needs()).is_ok());
    }
}
