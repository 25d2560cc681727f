//! The home folder: where runs, the journal and the cache lie.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
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
    /// Two would deal with the same runs.
    #[error("another coordinator serves the home folder {}{who}", path.display())]
    Served { path: PathBuf, who: String },
}

/// Held as long as this process serves the home's runs from a queue.
#[derive(Debug)]
pub struct Claim {
    lock: File,
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

    /// Makes this process the only one that serves the home's runs from a queue, until the claim is dropped.
    pub fn claim(&self) -> Result<Claim, HomeError> {
        let path = self.path.join(".serve.lock");
        let cannot = |source| HomeError::Folder { path: self.path.clone(), source };
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(cannot)?;
        match lock.try_lock() {
            Ok(()) => Ok(Claim { lock }),
            Err(TryLockError::WouldBlock) => {
                let who = fs::read_to_string(&path).unwrap_or_default();
                let who = if who.is_empty() { who } else { format!(" ({})", who.trim()) };
                Err(HomeError::Served { path: self.path.clone(), who })
            }
            Err(TryLockError::Error(source)) => Err(cannot(source)),
        }
    }
}

impl Claim {
    /// Tells others who it is that they are refused for.
    pub fn say(&mut self, who: &str) -> io::Result<()> {
        self.lock.set_len(0)?;
        self.lock.write_all(who.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_is_served_by_one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(folder.path()).unwrap();
        let mut claim = home.claim().unwrap();
        claim.say("process 7, at 127.0.0.1:1").unwrap();
        let refused = home.claim().unwrap_err().to_string();
        assert!(refused.ends_with("(process 7, at 127.0.0.1:1)"), "{refused}");
        drop(claim);
        home.claim().unwrap();
    }
}
