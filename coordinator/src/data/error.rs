//! Why a data set could not be made ready. All of it ends a command with exit code 3: data missing or damaged.

use std::io;
use std::path::{Path, PathBuf};

use super::blob_cache::BlobError;
use super::cifar::IMAGE_BYTES;
use super::folder::Broken;
use super::pickle::PickleError;
use super::{DataName, SplitName, pictures};
use crate::download::DownloadError;

/// Every way in which resolving a data set fails.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    #[error("there is no {} at {}", title(*name), path.display())]
    NotFound { name: DataName, path: PathBuf },

    #[error("{place} has no `{file}`")]
    MissingBatch { name: DataName, place: String, file: String },

    #[error("{} is the Python edition of CIFAR-100", path.display())]
    PythonEdition { path: PathBuf },

    #[error(
        "{file} is {length_bytes} bytes long, expected a positive multiple of {record_bytes} (the label and pixels of a record)"
    )]
    BatchLength { file: String, length_bytes: usize, record_bytes: usize },

    #[error("{file}: record {record} has label {label}, expected 0 to {}", classes - 1)]
    Label { file: String, record: usize, label: i64, classes: usize },

    #[error("{file} has {labels} labels for {images} pictures")]
    LabelCount { file: String, labels: usize, images: usize },

    #[error("{file} holds an array of shape {shape:?}, expected [N, {IMAGE_BYTES}] with N at least 1")]
    BatchShape { file: String, shape: Vec<i64> },

    #[error("{file} names {found} classes, expected {expected}")]
    ClassNames { file: String, found: usize, expected: usize },

    #[error("{file} cannot be read as a pickled batch: {source}")]
    Pickle { file: String, source: PickleError },

    #[error("{file} is larger than {limit_bytes} bytes, which no batch is")]
    TooLarge { file: String, limit_bytes: u64 },

    #[error("{} cannot be read as a .tar.gz archive: {source}", path.display())]
    Archive { path: PathBuf, source: io::Error },

    #[error("data.name = \"folder\" needs a data.path")]
    NoPath,

    #[error("there is no folder {}", path.display())]
    NoFolder { path: PathBuf },

    #[error("{} has {found} class folders, expected 2 to {}", folder.display(), u16::MAX)]
    ClassFolders { folder: PathBuf, found: usize },

    #[error("the class folder {} has no pictures in it", folder.display())]
    EmptyClass { folder: PathBuf },

    #[error("the class folder {} has broken pictures only ({broken})", folder.display())]
    AllBroken { folder: PathBuf, broken: usize },

    #[error("the class folder {} has no counterpart in {}", folder.display(), other.display())]
    ClassesDiffer { folder: PathBuf, other: PathBuf },

    #[error("the class folder {} has a name that is not UTF-8", folder.display())]
    ClassName { folder: PathBuf },

    #[error("{} is a link that leads back to a folder above it", folder.display())]
    Loop { folder: PathBuf },

    #[error("{} of {total} pictures in {} are broken:{}", broken.len(), folder.display(), Broken::lines(broken))]
    BrokenPictures { folder: PathBuf, total: usize, broken: Vec<Broken> },

    #[error("{} changed while it was being read", path.display())]
    Changed { path: PathBuf },

    #[error("data.{split} asks for {asked} samples, expected 1 to {available}")]
    Limit { split: SplitName, asked: usize, available: usize },

    #[error("{error}")]
    Download { name: DataName, error: DownloadError },

    #[error("cannot {action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },

    #[error("the canonical data set file cannot be written: {0}")]
    Canonical(#[from] safetensors::SafeTensorError),

    #[error("the data set {digest} is not in the cache")]
    NotStored { digest: String },

    #[error("{} is no canonical data set file: {what}", path.display())]
    NotCanonical { path: PathBuf, what: String },

    #[error("there is no row {row} in the {split} split of {available} samples")]
    Row { split: SplitName, row: usize, available: usize },

    #[error(transparent)]
    Cache(#[from] BlobError),
}

/// As its publisher spells it.
fn title(name: DataName) -> &'static str {
    match name {
        DataName::Cifar10 => "CIFAR-10",
        DataName::Cifar100 => "CIFAR-100",
        DataName::Folder => "folder of pictures",
        DataName::Shapes => "shapes",
    }
}

/// What can be given as `data.path`.
fn expected(name: DataName) -> &'static str {
    match name {
        DataName::Cifar10 => {
            "data.path is a folder with data_batch_1..5 and test_batch (binary or Python edition), the folder around \
             it, or the edition's .tar.gz"
        }
        DataName::Cifar100 => {
            "data.path is a folder with train.bin and test.bin (binary edition), the folder around it \
             (cifar-100-binary lies in it), or the edition's .tar.gz"
        }
        DataName::Folder | DataName::Shapes => LAYOUTS,
    }
}

const LAYOUTS: &str = "data.path is a folder with train/CLASS/*.jpg and val/CLASS/*.jpg (or test/), or with CLASS/*.jpg, \
                       of which data.test_fraction becomes the test split";

impl DataError {
    /// For `map_err`: what was being done to which file.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    /// What a person can do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NotFound { name, .. } | Self::MissingBatch { name, .. } => expected(*name),
            Self::PythonEdition { .. } => {
                "take the binary edition (cifar-100-binary.tar.gz), or leave data.path out to download it"
            }
            Self::BatchLength { .. }
            | Self::Label { .. }
            | Self::LabelCount { .. }
            | Self::BatchShape { .. }
            | Self::ClassNames { .. }
            | Self::TooLarge { .. } => {
                "the file is damaged or of another data set than CIFAR; unpack the archive again"
            }
            Self::Pickle { .. } => {
                "the Python edition holds {data: uint8 array, labels: list of ints}, pickled with protocol 2 to 4; \
                 the binary edition works too"
            }
            Self::Archive { .. } => "the archive is damaged or cut short; download it again",
            Self::NoPath | Self::NoFolder { .. } | Self::ClassFolders { .. } => LAYOUTS,
            Self::EmptyClass { .. } => {
                return Some(format!(
                    "put pictures into it or delete it; names of pictures end in {}",
                    pictures::EXTENSIONS.join(", ")
                ));
            }
            Self::AllBroken { .. } => "mend the pictures, or delete the folder in each split",
            Self::ClassesDiffer { .. } => {
                "both splits have the same class folders: rename, add or delete one, or train on fewer classes"
            }
            Self::ClassName { .. } => "rename the folder: its name is the name of the class",
            Self::Loop { .. } => "delete the link: its pictures would be counted without end",
            Self::BrokenPictures { .. } => {
                "mend or delete them, or leave them out with data.skip_broken = true"
            }
            Self::Changed { .. } => "start again when nothing writes to the folder any more",
            Self::Limit { .. } => "leave the key out to use all samples",
            Self::Download { name, error } => return download_hint(*name, error),
            Self::NotStored { .. } | Self::NotCanonical { .. } => {
                "the cache lost or damaged it; `lockstep train` with the run's recipe.toml stores it again"
            }
            Self::Io { .. } | Self::Canonical(_) | Self::Row { .. } | Self::Cache(_) => return None,
        };
        Some(hint.to_owned())
    }
}

fn download_hint(name: DataName, error: &DownloadError) -> Option<String> {
    let beginning = match error {
        DownloadError::Failed { .. } => "running again continues the download; ",
        DownloadError::Checksum { .. } => "the file at the other end is not the expected one; ",
        DownloadError::Io { .. } => return None,
    };
    let end = match error {
        DownloadError::Failed { .. } => ", and data.name = \"shapes\" needs no download",
        _ => "",
    };
    let name = title(name);
    Some(format!("{beginning}data.path can point to a folder or .tar.gz of {name} that is already here{end}"))
}
