//! Why a trained model could not be found. A name that is none, and an average asked of a file, are wrong usage and end a
//! command with exit code 2; checkpoints that are missing or damaged, with 3.

use std::io;
use std::path::{Path, PathBuf};

use crate::nearest::nearest;
use crate::recipe::RecipeError;
use crate::store::Damage;
use crate::weights::WeightsError;

/// Every way in which finding a trained model fails.
#[derive(Debug, thiserror::Error)]
pub enum TrainedError {
    #[error("there is no run and no file named {what}")]
    NotFound {
        what: String,
        home: PathBuf,
        /// A run with a similar name.
        nearest: Option<String>,
    },

    #[error("run {run} has no {which} checkpoint yet")]
    NoCheckpoint { run: String, which: &'static str },

    #[error("the {which} checkpoint of run {run} is not used: {damage}")]
    Damaged { run: String, which: &'static str, damage: Damage },

    #[error("run {run} kept no running average of its weights")]
    NoAverage { run: String },

    #[error("{} is a file, and only a run has a running average to choose", path.display())]
    AverageOfFile { path: PathBuf },

    #[error("the running average in {} does not fit: {reason}", path.display())]
    Average { path: PathBuf, reason: String },

    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },

    #[error("{} cannot be read: {reason}", path.display())]
    RunFile { path: PathBuf, reason: String },

    #[error("the recipe of run {run} cannot be read: {source}")]
    Recipe { run: String, source: Box<RecipeError> },

    #[error("{} tells of itself what it does not hold: {reason}", path.display())]
    Description { path: PathBuf, reason: String },

    #[error(transparent)]
    Weights(#[from] WeightsError),
}

impl TrainedError {
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }

    pub(super) fn not_found(home: &Path, what: &str) -> Self {
        let runs = std::fs::read_dir(home.join("runs")).into_iter().flatten().flatten();
        let names = runs.filter_map(|run| run.file_name().into_string().ok());
        Self::NotFound { what: what.to_owned(), home: home.to_owned(), nearest: nearest(what, names) }
    }

    /// What a person can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NotFound { nearest: Some(name), .. } => {
                return Some(format!("did you mean the run {name}?"));
            }
            Self::NotFound { home, .. } => {
                return Some(format!(
                    "runs lie in {}, another home is chosen with --home DIR; files are .safetensors, .pth or .pt",
                    home.join("runs").display()
                ));
            }
            Self::NoCheckpoint { .. } => "the first is stored at the end of the first epoch",
            Self::Damaged { run, which: "best", .. } => {
                return Some(format!("try --last, or `lockstep resume {run}`"));
            }
            Self::Damaged { run, .. } => return Some(format!("try --best, or `lockstep resume {run}`")),
            Self::NoAverage { .. } => "leave --ema out; train.ema_decay = 0.999 in the recipe keeps one",
            Self::AverageOfFile { .. } => {
                "leave --ema out; `lockstep export RUN --ema` writes the average into a file"
            }
            Self::Description { .. } => "export it again from its run",
            Self::Weights(error) => return error.hint(),
            Self::Average { .. } | Self::Io { .. } | Self::RunFile { .. } | Self::Recipe { .. } => {
                return None;
            }
        };
        Some(hint.to_owned())
    }
}
