//! Why a run cannot begin, or go on.

use std::io;

use thiserror::Error;

use crate::convert::PlanError;
use crate::data::{BlobError, DataError};
use crate::journal::JournalError;
use crate::recipe::RecipeError;
use crate::run_folder::FolderError;
use crate::weights::WeightsError;

/// A run cannot begin, or go on. [`PrepareError::hint`] says what to do about it.
#[derive(Debug, Error)]
pub enum PrepareError {
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Weights(#[from] WeightsError),
    #[error(transparent)]
    Cache(#[from] BlobError),
    #[error("{what} is not what the run began with")]
    Changed { what: &'static str, instead: String },
    #[error("{0}")]
    Journal(#[from] JournalError),
    #[error("the journal knows nothing of run {name}")]
    Unknown { name: String },
    #[error("run {name} has {done} done already")]
    Beyond { name: String, done: String },
    #[error("run {name} is done, with {done}")]
    NothingLeft { name: String, done: String, longer: u32 },
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error("writing the run's folder: {0}")]
    Write(io::Error),
}

/// Whose fault it is; decides exit codes and what a queued run's end is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// What was asked for.
    Usage,
    /// Data or weights missing or damaged.
    Data,
    /// This machine's.
    System,
}

impl PrepareError {
    pub fn fault(&self) -> Fault {
        match self {
            Self::Recipe(_) | Self::Plan(_) | Self::Beyond { .. } | Self::NothingLeft { .. } => Fault::Usage,
            Self::Folder(FolderError::Io { .. }) | Self::Write(_) => Fault::System,
            Self::Folder(_) => Fault::Usage,
            Self::Data(_)
            | Self::Weights(_)
            | Self::Cache(_)
            | Self::Changed { .. }
            | Self::Journal(_)
            | Self::Unknown { .. } => Fault::Data,
        }
    }

    /// What can be done about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Recipe(error) => error.hint(),
            Self::Plan(_) => {
                Some("change batch, shards, data.train, data.test or data.validation".to_owned())
            }
            Self::Data(error) => error.hint(),
            Self::Weights(error) => error.hint(),
            Self::Changed { instead, .. } => Some(format!("bring the old files back, or {instead}")),
            Self::Unknown { .. } => {
                Some("the run did not get to its start: train again under another --name".to_owned())
            }
            Self::NothingLeft { name, longer, .. } => {
                Some(format!("train on with `lockstep resume {name} --epochs {longer}`"))
            }
            Self::Beyond { .. } | Self::Cache(_) | Self::Journal(_) | Self::Folder(_) | Self::Write(_) => {
                None
            }
        }
    }
}
