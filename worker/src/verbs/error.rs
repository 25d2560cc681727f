//! Why a verb could not do its job, in one line, and the exit code that says whose fault it is.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use crate::data::DataError;
use crate::device::DeviceError;
use crate::model::ModelError;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VerbError {
    #[error("cannot read the job {}", path.display())]
    ReadJob { path: PathBuf, source: io::Error },
    #[error("the job {} is not what this worker understands", path.display())]
    Job { path: PathBuf, source: serde_json::Error },
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error("the model")]
    Model(#[source] ModelError),
    #[error("cannot read the weights {}", path.display())]
    ReadWeights { path: PathBuf, source: io::Error },
    #[error("the weights {}", path.display())]
    Weights { path: PathBuf, source: ModelError },
    #[error(transparent)]
    Data(#[from] DataError),
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("the answer could not be put into a file")]
    Answer(#[from] safetensors::SafeTensorError),
    #[error("libtorch refused")]
    Torch(#[from] tch::TchError),
}

impl VerbError {
    /// As the command line documents them: 1 failed, 2 wrong usage, 3 data or weights missing or damaged.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::ReadJob { .. } | Self::Job { .. } | Self::Device(_) | Self::Model(_) => 2,
            Self::Data(
                DataError::Normalisation
                | DataError::Size
                | DataError::Augmentation { .. }
                | DataError::Sample { .. }
                | DataError::Missing { .. },
            ) => 2,
            Self::Data(DataError::Tensor(_)) => 1,
            Self::Data(_) | Self::ReadWeights { .. } | Self::Weights { .. } => 3,
            Self::Write { .. } | Self::Answer(_) | Self::Torch(_) => 1,
        }
    }

    /// The error and its causes in one line. libtorch's messages carry a stack trace below their first one.
    pub(crate) fn line(&self) -> String {
        let mut lines = Vec::new();
        let mut cause: Option<&dyn Error> = Some(self);
        while let Some(error) = cause {
            lines.push(error.to_string().lines().next().unwrap_or_default().to_owned());
            cause = error.source();
        }
        lines.join(": ")
    }
}
