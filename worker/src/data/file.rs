//! The canonical data set file: safetensors with images as they were decoded, labels, and what they are called.
//!
//! `train.images` and `test.images` are U8 `[N, 3, H, W]`, `train.labels` and `test.labels` I64 `[N]`; the metadata
//! key `lockstep` holds JSON with `name` and `classes` (how many, or their names). Everything is checked before
//! the first step: a wrong label would otherwise show as an index error in the middle of a run.

use std::path::{Path, PathBuf};
use std::{fs, io};

use safetensors::{Dtype, SafeTensorError, SafeTensors};
use serde::Deserialize;
use sha2::{Digest, Sha256};

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
    #[error("{part} has {images} images and {labels} labels")]
    Uneven { part: &'static str, images: usize, labels: usize },
    #[error("{part} has {found} samples, the run needs {needed}")]
    TooFew { part: &'static str, needed: u32, found: usize },
    #[error("the data set has {found} classes, the run needs {needed}")]
    Classes { needed: u32, found: usize },
    #[error("sample {row} of {part} has label {label}, which is none of {classes} classes")]
    Label { part: &'static str, row: usize, label: i64, classes: u32 },
    #[error("mean and std need one finite number per channel, std above zero")]
    Normalisation,
    #[error("sample {id} is beyond the {samples} of {part}")]
    Sample { part: &'static str, id: u32, samples: i64 },
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
    /// Per channel, of pixels in 0..1.
    pub mean: Vec<f32>,
    pub std: Vec<f32>,
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
    /// u8 `[N, 3, H, W]`.
    pub(super) images: &'a [u8],
    pub(super) shape: [usize; 4],
    pub(super) labels: Vec<i64>,
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
}

fn part<'a>(
    tensors: &SafeTensors<'a>,
    part: &'static str,
    needed: u32,
    classes: u32,
) -> Result<Part<'a>, DataError> {
    let wrong = |tensor: String, expected, dtype: Dtype, shape: &[usize]| DataError::Layout {
        tensor,
        expected,
        found: format!("{dtype:?} {shape:?}"),
    };
    let name = format!("{part}.images");
    let images = tensors.tensor(&name)?;
    let &[samples, 3, height, width] = images.shape() else {
        return Err(wrong(name, "U8 [N, 3, H, W]", images.dtype(), images.shape()));
    };
    if images.dtype() != Dtype::U8 || height == 0 || width == 0 {
        return Err(wrong(name, "U8 [N, 3, H, W]", images.dtype(), images.shape()));
    }
    let name = format!("{part}.labels");
    let labels = tensors.tensor(&name)?;
    if labels.dtype() != Dtype::I64 || labels.shape().len() != 1 {
        return Err(wrong(name, "I64 [N]", labels.dtype(), labels.shape()));
    }
    if labels.shape() != [samples] {
        return Err(DataError::Uneven { part, images: samples, labels: labels.shape()[0] });
    }
    let used = needed as usize;
    if used > samples {
        return Err(DataError::TooFew { part, needed, found: samples });
    }
    // The header has been checked against the data's length, so the slices below exist.
    let (fields, _) = labels.data().as_chunks::<8>();
    let labels: Vec<i64> = fields.iter().take(used).map(|field| i64::from_le_bytes(*field)).collect();
    if let Some((row, &label)) =
        labels.iter().enumerate().find(|(_, label)| !(0..i64::from(classes)).contains(*label))
    {
        return Err(DataError::Label { part, row, label, classes });
    }
    let images = &images.data()[..used * 3 * height * width];
    Ok(Part { images, shape: [used, 3, height, width], labels })
}
