//! The home folder: where runs, the journal and the cache lie.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::data::{BlobCache, BlobError};
use crate::journal::{Journal, JournalError};

/// An open home.
#[derive(Debug, Clone)]
pub struct Home {
    pub path: PathBuf,
    pub cache: PathBuf,
    pub blobs: BlobCache,
}

/// A folder cannot be a home.
#[derive(Debug, Error)]
pub enum HomeError {
    #[error("the home folder {} cannot be used: {source}", path.display())]
    Folder { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Cache(#[from] BlobError),
}

impl Home {
    /// Opens the home at `path`, making it where there is none.
    pub fn open(path: &Path) -> Result<Self, HomeError> {
        let cannot = |source| HomeError::Folder { path: path.to_owned(), source };
        fs::create_dir_all(path).map_err(cannot)?;
        let path = fs::canonicalize(path).map_err(cannot)?;
        let cache = path.join("cache");
        let blobs = BlobCache::open(&cache)?;
        Ok(Self { path, cache, blobs })
    }

    /// Opens the journal.
    pub fn journal(&self) -> Result<Journal, JournalError> {
        Journal::open(&self.path.join("journal.db"))
    }
}
