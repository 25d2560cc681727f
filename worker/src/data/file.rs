//! The canonical data set file: safetensors with images as they were decoded, labels, and what they are called.
//!
//! `train.images` and `test.images` are U8 `[N, 3, H, W]`, `train.labels` and `test.labels` I64 `[N]`; the metadata
//! key `lockstep` holds JSON with `name` and `classes` (how many, or their names). Everything is checked before
//! the first step: a wrong label would otherwise show as an index error in the middle of a run.

use std::path::{Path, PathBuf};
use std::{fs, io};

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensorError, SafeTensors};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::transform::Look;

/// What is wrong with a data set.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    #[error("cannot read the data set {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("the data set {} is damaged: its sha256 is {found}, not {expected}", path.display())]
    Digest { path: PathBuf, expected: String, found: String },
    #[error("the data set is not a whole safetensors file")]
    Format(#[from] SafeTensorError),
    #[error("the data set does not describe itself: no valid \"lockstep\" entry in its metadata")]
    Description(#[source] Option<serde_json::Error>),
    #[error("{tensor} is {found}, not {expected}")]
    Layout { tensor: String, expected: &'static str, found: String },
    #[error("the data set has no tensor {tensor:?}")]
    Missing { tensor: String },
    #[error("{tensor} has {labels} labels for {images} images")]
    Uneven { tensor: String, images: usize, labels: usize },
    #[error("{part} has {found} samples, the run needs {needed}")]
    TooFew { part: &'static str, needed: u32, found: usize },
    #[error("the data set has {found} classes, the run needs {needed}")]
    Classes { needed: u32, found: usize },
    #[error("sample {row} of {part} has label {label}, which is none of {classes} classes")]
    Label { part: String, row: usize, label: i64, classes: u32 },
    #[error("mean and std need one finite number per channel, std above zero")]
    Normalisation,
    #[error("pictures need at least one pixel per side")]
    Size,
    #[error("augment.{name} is {value}, but must be {expected}")]
    Augmentation { name: &'static str, value: f64, expected: &'static str },
    #[error("sample {id} is beyond the {samples} of {part}")]
    Sample { part: String, id: u32, samples: i64 },
    #[error("libtorch refused the data set's tensors")]
    Tensor(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What a run asks of its data set.
#[derive(Clone, Debug, PartialEq)]
pub struct Needs {
    /// The first so many rows of the training part are used, validation included.
    pub train_samples: u32,
    pub test_samples: u32,
    pub classes: u32,
    pub look: Look,
}

/// The metadata entry.
#[derive(Debug, Deserialize)]
struct Description {
    name: String,
    classes: Classes,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Classes {
    Count(usize),
    Names(Vec<String>),
}

/// A whole and checked file in memory.
#[derive(Debug)]
pub(super) struct CanonicalFile {
    bytes: Vec<u8>,
}

/// What of it the run uses.
#[derive(Debug)]
pub(super) struct Contents<'a> {
    pub(super) name: String,
    pub(super) train: Part<'a>,
    pub(super) test: Part<'a>,
}

/// One part, cut to what the run uses.
#[derive(Debug)]
pub(super) struct Part<'a> {
    pub(super) pictures: Stored<'a>,
    pub(super) labels: Vec<i64>,
}

/// Pictures as they lie in the file.
#[derive(Debug)]
pub(super) struct Stored<'a> {
    /// u8 `[N, 3, H, W]`.
    pub(super) images: &'a [u8],
    pub(super) shape: [usize; 4],
}

impl Stored<'_> {
    /// The first `count`, which there are.
    fn cut(&mut self, count: usize) {
        self.shape[0] = count;
        self.images = &self.images[..self.shape.iter().product()];
    }
}

impl CanonicalFile {
    /// Reads the file and verifies its sha256 (hex) when it is known.
    pub(super) fn read(path: &Path, expected_digest: Option<&str>) -> Result<Self, DataError> {
        let bytes = fs::read(path).map_err(|source| DataError::Read { path: path.to_owned(), source })?;
        if let Some(expected) = expected_digest {
            let found = hex::encode(Sha256::digest(&bytes));
            if !found.eq_ignore_ascii_case(expected) {
                let (path, expected) = (path.to_owned(), expected.to_owned());
                return Err(DataError::Digest { path, expected, found });
            }
        }
        Ok(Self { bytes })
    }

    /// The name and both parts, checked against what the run needs.
    pub(super) fn contents(&self, needs: &Needs) -> Result<Contents<'_>, DataError> {
        let (_, header) = SafeTensors::read_metadata(&self.bytes)?;
        let entry = header.metadata().as_ref().and_then(|entries| entries.get("lockstep"));
        let entry = entry.ok_or(DataError::Description(None))?;
        let description: Description =
            serde_json::from_str(entry).map_err(|error| DataError::Description(Some(error)))?;
        let found = match description.classes {
            Classes::Count(count) => count,
            Classes::Names(names) => names.len(),
        };
        if found != needs.classes as usize {
            return Err(DataError::Classes { needed: needs.classes, found });
        }
        let tensors = SafeTensors::deserialize(&self.bytes)?;
        Ok(Contents {
            name: description.name,
            train: part(&tensors, "train", needs.train_samples, needs.classes)?,
            test: part(&tensors, "test", needs.test_samples, needs.classes)?,
        })
    }

    /// All pictures of one tensor, whatever the file is.
    pub(super) fn pictures(&self, name: &str) -> Result<Stored<'_>, DataError> {
        pictures(&SafeTensors::deserialize(&self.bytes)?, name)
    }

    /// The labels of `pictures`, each one of `classes`.
    pub(super) fn labels(
        &self,
        name: &str,
        pictures: &Stored<'_>,
        classes: u32,
    ) -> Result<Vec<i64>, DataError> {
        let labels = labels(&SafeTensors::deserialize(&self.bytes)?, name, pictures)?;
        check_labels(name, &labels, classes)?;
        Ok(labels)
    }
}

fn part<'a>(
    tensors: &SafeTensors<'a>,
    part: &'static str,
    needed: u32,
    classes: u32,
) -> Result<Part<'a>, DataError> {
    let mut pictures = pictures(tensors, &format!("{part}.images"))?;
    let mut labels = labels(tensors, &format!("{part}.labels"), &pictures)?;
    let used = needed as usize;
    if used > labels.len() {
        return Err(DataError::TooFew { part, needed, found: labels.len() });
    }
    labels.truncate(used);
    check_labels(part, &labels, classes)?;
    pictures.cut(used);
    Ok(Part { pictures, labels })
}

fn tensor<'a>(tensors: &SafeTensors<'a>, name: &str) -> Result<TensorView<'a>, DataError> {
    tensors.tensor(name).map_err(|error| match error {
        SafeTensorError::TensorNotFound(name) => DataError::Missing { tensor: name },
        error => DataError::Format(error),
    })
}

fn wrong(name: &str, expected: &'static str, found: &TensorView<'_>) -> DataError {
    let found = format!("{:?} {:?}", found.dtype(), found.shape());
    DataError::Layout { tensor: name.to_owned(), expected, found }
}

fn pictures<'a>(tensors: &SafeTensors<'a>, name: &str) -> Result<Stored<'a>, DataError> {
    let images = tensor(tensors, name)?;
    match *images.shape() {
        [samples, 3, height, width] if images.dtype() == Dtype::U8 && height > 0 && width > 0 => {
            Ok(Stored { images: images.data(), shape: [samples, 3, height, width] })
        }
        _ => Err(wrong(name, "U8 [N, 3, H, W]", &images)),
    }
}

/// As many as there are `pictures`.
fn labels(tensors: &SafeTensors<'_>, name: &str, pictures: &Stored<'_>) -> Result<Vec<i64>, DataError> {
    let labels = tensor(tensors, name)?;
    let &[count] = labels.shape() else { return Err(wrong(name, "I64 [N]", &labels)) };
    if labels.dtype() != Dtype::I64 {
        return Err(wrong(name, "I64 [N]", &labels));
    }
    if count != pictures.shape[0] {
        return Err(DataError::Uneven { tensor: name.to_owned(), images: pictures.shape[0], labels: count });
    }
    let (fields, _) = labels.data().as_chunks::<8>();
    Ok(fields.iter().map(|field| i64::from_le_bytes(*field)).collect())
}

fn check_labels(part: &str, labels: &[i64], classes: u32) -> Result<(), DataError> {
    let known = 0..i64::from(classes);
    match labels.iter().enumerate().find(|(_, label)| !known.contains(*label)) {
        Some((row, &label)) => Err(DataError::Label { part: part.to_owned(), row, label, classes }),
        None => Ok(()),
    }
}
