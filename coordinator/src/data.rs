//! Data sets: resolved once, by the coordinator, into one canonical file that workers fetch by digest.
//!
//! Whatever a data set looked like (a folder, an archive, either edition of CIFAR-10, a generator), what
//! leaves here is a safetensors file named by its own sha256. So every worker trains on the same bytes, a
//! resumed run can tell whether its data is still the data it began with, and only this crate knows formats.
//!
//! Everything here blocks (files, sockets, hashing): async callers hand it to a blocking thread.

mod archive;
mod blob_cache;
mod canonical;
mod cifar10;
mod download;
mod error;
#[cfg(test)]
mod fixtures;
mod pickle;
mod preview;
mod shapes;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

pub use blob_cache::{BlobCache, BlobError};
pub use download::{DownloadProgress, NoProgress, Source};
pub use error::DataError;
pub use pickle::PickleError;

use canonical::Records;

/// Every data set here has pictures of this many pixels a side.
pub const IMAGE_SIZE: u32 = 32;

/// One picture as it lies in the canonical file: planes R, G, B, each of 32 rows of 32 bytes.
const IMAGE_BYTES: usize = 3 * (IMAGE_SIZE * IMAGE_SIZE) as usize;

/// Every data set here has this many classes.
const CLASSES: usize = 10;

/// Which data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DataName {
    /// The 60,000 photographs of CIFAR-10, or a subset in the same layout.
    Cifar10,
    /// Drawn shapes, generated here: for first steps and tests without a download.
    Shapes,
}

impl DataName {
    /// All of them, for messages and completions.
    pub const ALL: [Self; 2] = [Self::Cifar10, Self::Shapes];

    /// The spelling that recipes use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cifar10 => "cifar10",
            Self::Shapes => "shapes",
        }
    }
}

impl fmt::Display for DataName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A name that is no data set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no data set `{0}`, expected `cifar10` or `shapes`")]
pub struct UnknownDataName(pub String);

impl FromStr for DataName {
    type Err = UnknownDataName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|name| name.as_str() == text)
            .ok_or_else(|| UnknownDataName(text.to_owned()))
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataRequest {
    pub name: DataName,
    /// CIFAR-10: a folder or `.tar.gz` of either edition; `None` downloads it. Shapes have none to look at.
    pub path: Option<PathBuf>,
    /// Use only the first so many training samples.
    pub train: Option<usize>,
    /// Use only the first so many test samples.
    pub test: Option<usize>,
    /// What shapes are drawn from.
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
}

/// Finds, checks and stores the data set, downloading it when there is no other way.
pub fn resolve(
    request: &DataRequest,
    cache: &BlobCache,
    progress: &dyn DownloadProgress,
) -> Result<ResolvedData, DataError> {
    resolve_from(request, &Source::from_env(), cache, progress)
}

/// `resolve` with the place to download from given, so that tests can bring their own server.
pub fn resolve_from(
    request: &DataRequest,
    source: &Source,
    cache: &BlobCache,
    progress: &dyn DownloadProgress,
) -> Result<ResolvedData, DataError> {
    let records = match request.name {
        DataName::Cifar10 => match &request.path {
            Some(path) => cifar10::load(path)?,
            None => cifar10::load(&download::fetch(source, cache.dir(), progress)?)?,
        },
        DataName::Shapes => shapes::generate(request.seed, request.train, request.test)?,
    };
    let train = limited(SplitName::Train, request.train, records.train.len())?;
    let test = limited(SplitName::Test, request.test, records.test.len())?;
    let digest = canonical::store(request.name, &records, cache)?;
    let Records { classes, .. } = records;
    Ok(ResolvedData {
        file: cache.path(&digest),
        digest,
        name: request.name,
        classes,
        image_size: IMAGE_SIZE,
        train,
        test,
    })
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
