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

use serde::Serialize;

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
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

#[cfg(test)]
mod tests {
    use std::fs;

    use md5::{Digest, Md5};

    use super::*;
    use fixtures::{Serve, binary_edition, python_edition, serve, tar_gz, write_folder};

    fn request(name: DataName, path: Option<PathBuf>) -> DataRequest {
        DataRequest { name, path, train: None, test: None, seed: 7 }
    }

    #[test]
    fn one_data_set_has_one_digest_whatever_it_came_from_and_however_much_is_used() {
        let (dir, cache) = fixtures::cache();
        let (binary, python) = (dir.path().join("binary"), dir.path().join("python"));
        write_folder(&binary, &binary_edition());
        write_folder(&python, &python_edition());
        let whole = resolve(&request(DataName::Cifar10, Some(binary)), &cache, &NoProgress).unwrap();
        assert_eq!((whole.train, whole.test, whole.image_size), (11, 3, 32));
        assert_eq!(whole.file, cache.path(&whole.digest));
        assert!(cache.verify(&whole.digest).unwrap());
        let mut part = request(DataName::Cifar10, Some(python));
        (part.train, part.test) = (Some(4), Some(1));
        let part = resolve(&part, &cache, &NoProgress).unwrap();
        assert_eq!((part.train, part.test), (4, 1));
        assert_eq!(part.digest, whole.digest);
    }

    #[test]
    fn asking_for_more_than_there_is_or_for_nothing_is_an_error() {
        let (dir, cache) = fixtures::cache();
        write_folder(dir.path(), &binary_edition());
        let mut request = request(DataName::Cifar10, Some(dir.path().to_owned()));
        request.train = Some(12);
        let error = resolve(&request, &cache, &NoProgress).unwrap_err();
        assert_eq!(error.to_string(), "data.train asks for 12 samples, expected 1 to 11");
        (request.train, request.test) = (None, Some(0));
        let error = resolve(&request, &cache, &NoProgress).unwrap_err();
        assert_eq!(error.to_string(), "data.test asks for 0 samples, expected 1 to 3");
    }

    #[test]
    fn without_a_path_cifar10_is_downloaded_once() {
        let (_dir, cache) = fixtures::cache();
        let archive = tar_gz("cifar-10-batches-bin", &binary_edition());
        let md5 = hex::encode(Md5::digest(&archive));
        let (url, ranges) = serve(archive, &[Serve::Ranges]);
        let source = Source { url, md5 };
        let request = request(DataName::Cifar10, None);
        let first = resolve_from(&request, &source, &cache, &NoProgress).unwrap();
        assert_eq!(first.train, 11);
        // The server is gone by now.
        assert_eq!(resolve_from(&request, &source, &cache, &NoProgress).unwrap(), first);
        assert_eq!(ranges.iter().count(), 1);
    }

    #[test]
    fn shapes_hold_as_many_samples_as_asked_for() {
        let (_dir, cache) = fixtures::cache();
        let mut request = request(DataName::Shapes, None);
        (request.train, request.test) = (Some(30), Some(20));
        let resolved = resolve(&request, &cache, &NoProgress).unwrap();
        assert_eq!((resolved.train, resolved.test), (30, 20));
        assert_eq!(resolved.classes[0], "circle");
        let size_bytes = fs::metadata(&resolved.file).unwrap().len();
        assert!((50 * 3080..50 * 3080 + 1_000).contains(&size_bytes), "{size_bytes}");
    }
}
