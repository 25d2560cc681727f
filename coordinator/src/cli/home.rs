//! The home folder: where runs, the journal and the cache lie.

use std::fs;
use std::path::PathBuf;

use clap::Args;

use super::{CliError, code};
use crate::data::BlobCache;
use crate::journal::Journal;
use crate::run_folder::FolderError;

#[derive(Debug, Args)]
pub(super) struct HomeArgs {
    /// Folder of runs, journal and cache
    #[arg(long, value_name = "DIR", env = "LOCKSTEP_HOME", default_value = "lockstep-home")]
    home: PathBuf,
}

/// An open home.
#[derive(Debug)]
pub(super) struct Home {
    pub(super) path: PathBuf,
    pub(super) cache: PathBuf,
    pub(super) blobs: BlobCache,
}

impl HomeArgs {
    /// Opens the home, making it where there is none.
    pub(super) fn open(&self) -> Result<Home, CliError> {
        let cannot = |error: std::io::Error| {
            CliError::new(
                code::USAGE,
                format!("the home folder {} cannot be used: {error}", self.home.display()),
            )
            .hint("choose another with --home DIR or LOCKSTEP_HOME")
        };
        fs::create_dir_all(&self.home).map_err(cannot)?;
        let path = fs::canonicalize(&self.home).map_err(cannot)?;
        let cache = path.join("cache");
        let blobs = BlobCache::open(&cache).map_err(|error| CliError::new(code::DATA, error.to_string()))?;
        Ok(Home { path, cache, blobs })
    }
}

impl Home {
    /// Opens the journal.
    pub(super) fn journal(&self) -> Result<Journal, CliError> {
        Journal::open(&self.path.join("journal.db"))
            .map_err(|error| CliError::new(code::FAILED, error.to_string()))
    }
}

impl From<FolderError> for CliError {
    fn from(error: FolderError) -> Self {
        let message = error.to_string();
        match error {
            FolderError::Exists { name, .. } => Self::new(code::USAGE, message)
                .hint(format!("go on with it by `lockstep resume {name}`, or choose another --name")),
            FolderError::Locked { name, serving } => {
                let who = serving.map_or_else(String::new, |serving| {
                    format!(" (process {}, at {})", serving.pid, serving.address)
                });
                Self::new(code::USAGE, message).hint(format!(
                    "`lockstep status {name}` tells how it goes; wait for it{who}, or stop it with Ctrl-C there"
                ))
            }
            FolderError::Missing { .. } | FolderError::Name { .. } => Self::new(code::USAGE, message),
            FolderError::Io { .. } => Self::new(code::FAILED, message),
        }
    }
}
