//! Why a data set could not be made ready. All of it ends a command with exit code 3: data missing or damaged.

use std::io;
use std::path::{Path, PathBuf};

use super::blob_cache::BlobError;
use super::pickle::PickleError;
use super::{CLASSES, IMAGE_BYTES, SplitName};

/// Every way in which resolving a data set fails.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    #[error("there is no CIFAR-10 at {}", path.display())]
    NotFound { path: PathBuf },

    #[error("{place} has no `{file}`")]
    MissingBatch { place: String, file: String },

    #[error(
        "{file} is {length_bytes} bytes long, expected a positive multiple of {} (a label and {} pixels per record)",
        IMAGE_BYTES + 1,
        IMAGE_BYTES
    )]
    BatchLength { file: String, length_bytes: usize },

    #[error("{file}: record {record} has label {label}, expected 0 to {}", CLASSES - 1)]
    Label { file: String, record: usize, label: i64 },

    #[error("{file} has {labels} labels for {images} pictures")]
    LabelCount { file: String, labels: usize, images: usize },

    #[error("{file} holds an array of shape {shape:?}, expected [N, {IMAGE_BYTES}] with N at least 1")]
    BatchShape { file: String, shape: Vec<i64> },

    #[error("{file} names {found} classes, expected {CLASSES}")]
    ClassNames { file: String, found: usize },

    #[error("{file} cannot be read as a pickled batch: {source}")]
    Pickle { file: String, source: PickleError },

    #[error("{file} is larger than {limit_bytes} bytes, which no batch is")]
    TooLarge { file: String, limit_bytes: u64 },

    #[error("{} cannot be read as a .tar.gz archive: {source}", path.display())]
    Archive { path: PathBuf, source: io::Error },

    #[error("data.{split} asks for {asked} samples, expected 1 to {available}")]
    Limit { split: SplitName, asked: usize, available: usize },

    #[error("{url} could not be downloaded: {reason}")]
    Download { url: String, reason: String },

    #[error("what {url} sent has md5 {actual}, expected {expected}")]
    Md5 { url: String, expected: String, actual: String },

    #[error("cannot {action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },

    #[error("the canonical data set file cannot be written: {0}")]
    Canonical(#[from] safetensors::SafeTensorError),

    #[error(transparent)]
    Cache(#[from] BlobError),
}

impl DataError {
    /// For `map_err`: what was being done to which file.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    /// What a person can do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NotFound { .. } | Self::MissingBatch { .. } => {
                "data.path is a folder with data_batch_1..5 and test_batch (binary or Python edition), the folder \
                 around it, or the edition's .tar.gz"
            }
            Self::BatchLength { .. }
            | Self::Label { .. }
            | Self::LabelCount { .. }
            | Self::BatchShape { .. }
            | Self::ClassNames { .. }
            | Self::TooLarge { .. } => "the file is damaged or not CIFAR-10; unpack the archive again",
            Self::Pickle { .. } => {
                "the Python edition holds {data: uint8 array, labels: list of ints}, pickled with protocol 2 to 4; \
                 the binary edition works too"
            }
            Self::Archive { .. } => "the archive is damaged or cut short; download it again",
            Self::Limit { .. } => "leave the key out to use all samples",
            Self::Download { .. } => {
                "data.path can point to a folder or .tar.gz of CIFAR-10 that is already here, and data.name = \
                 \"shapes\" needs no download; running again continues the download"
            }
            Self::Md5 { .. } => {
                "the file at the other end is not the expected one; data.path can point to a folder or .tar.gz of \
                 CIFAR-10 that is already here"
            }
            Self::Io { .. } | Self::Canonical(_) | Self::Cache(_) => return None,
        };
        Some(hint.to_owned())
    }
}
