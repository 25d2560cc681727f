//! What the cluster does not do, and why.

use thiserror::Error;

use crate::prepare::{Fault, PrepareError};
use crate::recipe::RecipeError;

/// Why the cluster does not do what it was asked for.
#[derive(Debug, Error)]
pub enum Refusal {
    #[error("{message}")]
    Invalid { message: String, hint: Option<String> },
    #[error("a run named {run} exists already")]
    Exists { run: String },
    #[error("the queue is full, with {most} runs")]
    QueueFull { most: usize },
    /// The coordinator is one of `train` or `resume`.
    #[error("this coordinator is for run {run} alone")]
    NoQueue { run: String },
    #[error("there is no run named {run} here")]
    UnknownRun { run: String },
    #[error("there is no worker named {worker} here")]
    UnknownWorker { worker: String },
    #[error("run {run} is {state}: only one that is over can be resumed")]
    NotOver { run: String, state: &'static str },
    #[error("{message}")]
    NothingLeft { message: String, hint: Option<String> },
    /// A worker's name is another's.
    #[error("a worker named {worker} is here already")]
    NameTaken { worker: String },
    /// It may try again.
    #[error("{0}")]
    NotNow(String),
    #[error("the cluster has as many workers as it takes, {most}")]
    Crowded { most: usize },
    /// The coordinator's disk, say.
    #[error("{0}")]
    Failed(String),
}

impl Refusal {
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid { message: message.into(), hint: None }
    }

    pub(super) fn recipe(error: RecipeError) -> Self {
        Self::Invalid { message: error.to_string(), hint: error.hint() }
    }

    /// Of a run that is to go on.
    pub(super) fn resume(error: &PrepareError) -> Self {
        let (message, hint) = (error.to_string(), error.hint());
        match error {
            PrepareError::NothingLeft { .. } | PrepareError::Beyond { .. } => {
                Self::NothingLeft { message, hint }
            }
            error if error.fault() == Fault::Usage => Self::Invalid { message, hint },
            _ => Self::Failed(message),
        }
    }

    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Invalid { hint, .. } | Self::NothingLeft { hint, .. } => hint.as_deref(),
            Self::Exists { .. } => Some("choose another name"),
            Self::NoQueue { .. } => Some("`lockstep serve` is one that takes runs into a queue"),
            Self::QueueFull { .. } => Some("stop runs that nobody needs, or wait until some have ended"),
            _ => None,
        }
    }
}
