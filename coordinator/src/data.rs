//! Data sets: resolved once, by the coordinator, into one canonical file that workers fetch by digest.
//!
//! Whatever a data set looked like (batches of CIFAR in a folder or an archive, pictures by class, a generator), what
//! leaves here is a safetensors file named by its own sha256. So every worker trains on the same bytes, a
//! resumed run can tell whether its data is still the data it began with, and only this crate knows formats.
//!
//! Everything here blocks (files, sockets, hashing): async callers hand it to a blocking thread.

mod archive;
mod blob_cache;
mod canonical;
mod cifar;
mod cifar10;
mod cifar100;
mod error;
#[cfg(test)]
mod fixtures;
mod folder;
mod official;
mod pickle;
pub mod pictures;
mod progress;
mod shapes;
mod stored;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use crate::download::{self, Source};

pub use blob_cache::{BlobCache, BlobError};
pub use error::DataError;
pub use folder::{Broken, decode_all};
pub use pickle::PickleError;
pub use progress::DataProgress;

use canonical::{Contents, Records};
use folder::FolderRequest;

/// Which data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DataName {
    /// The 60,000 photographs of CIFAR-10, or a subset in the same layout.
    Cifar10,
    /// The 60,000 photographs of CIFAR-100, or a subset in the same layout.
    Cifar100,
    /// A person's own pictures, a folder of them for each class.
    Folder,
    /// Drawn shapes, generated here: for first steps and tests without a download.
    Shapes,
}

impl DataName {
    /// All of them, for messages and completions.
    pub const ALL: [Self; 4] = [Self::Cifar10, Self::Cifar100, Self::Folder, Self::Shapes];

    /// The spelling that recipes use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cifar10 => "cifar10",
            Self::Cifar100 => "cifar100",
            Self::Folder => "folder",
            Self::Shapes => "shapes",
        }
    }
}

impl fmt::Display for DataName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One of the two splits that a data set comes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SplitName {
    Train,
    Test,
}

impl fmt::Display for SplitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Train => "train",
            Self::Test => "test",
        })
    }
}

/// What a recipe's `[data]` asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct DataRequest {
    pub name: DataName,
    /// CIFAR: a folder or `.tar.gz`; `None` downloads it. A folder of pictures: that folder. Shapes have none to look
    /// at.
    pub path: Option<PathBuf>,
    /// Pixels a side that a folder's pictures are stored with; the other sets are stored as they are.
    pub image_size: u32,
    /// Use only the first so many training samples.
    pub train: Option<usize>,
    /// Use only the first so many test samples.
    pub test: Option<usize>,
    /// The share of each class that becomes the test split of a folder that has none.
    pub test_fraction: f64,
    /// Leave broken pictures of a folder out, instead of giving up.
    pub skip_broken: bool,
    /// What shapes are drawn from, and what a folder without a test split is split by.
    pub seed: u64,
}

/// A data set that is ready to be fetched by workers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedData {
    /// sha256 of `file`, in lower-case hexadecimal digits.
    pub digest: String,
    /// The canonical file, in the cache.
    pub file: PathBuf,
    pub name: DataName,
    /// Class names by label.
    pub classes: Vec<String>,
    /// Pixels a side, as stored.
    pub image_size: u32,
    /// How many training samples to use, from the front; the file may hold more.
    pub train: usize,
    /// How many test samples to use, from the front; the file may hold more.
    pub test: usize,
    /// What a person should know of how it was made: a sentence each. Empty when it was read from the cache.
    pub notes: Vec<String>,
}

/// Finds, checks and stores the data set, downloading it when there is no other way.
///
/// # Errors
///
/// [`DataError`]: data that is missing, damaged, or less than asked for.
pub fn resolve(
    request: &DataRequest,
    cache: &BlobCache,
    progress: &dyn DataProgress,
) -> Result<ResolvedData, DataError> {
    let source = match request.name {
        DataName::Cifar100 => official::cifar100(),
        DataName::Cifar10 | DataName::Folder | DataName::Shapes => official::cifar10(),
    };
    resolve_from(request, &source, cache, progress)
}

/// `resolve` with the place to download from given, so that tests can bring their own server.
///
/// # Errors
///
/// As `resolve`.
pub fn resolve_from(
    request: &DataRequest,
    source: &Source,
    cache: &BlobCache,
    progress: &dyn DataProgress,
) -> Result<ResolvedData, DataError> {
    let place = || match &request.path {
        Some(path) => Ok(path.clone()),
        None => download::fetch(source, cache.dir(), progress)
            .map_err(|error| DataError::Download { name: request.name, error }),
    };
    let (digest, notes) = match request.name {
        DataName::Cifar10 => store(request, &cifar10::load(&place()?)?, cache)?,
        DataName::Cifar100 => store(request, &cifar100::load(&place()?)?, cache)?,
        DataName::Shapes => {
            store(request, &shapes::generate(request.seed, request.train, request.test)?, cache)?
        }
        DataName::Folder => {
            let path = request.path.as_ref().ok_or(DataError::NoPath)?;
            folder::store(&FolderRequest::of(request, path), cache, progress)?
        }
    };
    Ok(ResolvedData { notes, ..ResolvedData::open(&digest, cache, request.train, request.test)? })
}

/// What is stored does not depend on how much of it is used, unless it is drawn for the purpose.
fn store(
    request: &DataRequest,
    records: &Records,
    cache: &BlobCache,
) -> Result<(String, Vec<String>), DataError> {
    Ok((Contents::of(request.name, records).store(cache)?, Vec::new()))
}

/// The count to use. Asking for more than there is gets an error and not what there is: a run whose size
/// differs from its recipe would be found out only after training.
fn limited(split: SplitName, asked: Option<usize>, available: usize) -> Result<usize, DataError> {
    match asked {
        None => Ok(available),
        Some(asked) if (1..=available).contains(&asked) => Ok(asked),
        Some(asked) => Err(DataError::Limit { split, asked, available }),
    }
}
