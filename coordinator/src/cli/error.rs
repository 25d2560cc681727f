//! What a person is told when a command cannot do its work, and the exit code that scripts see.

use std::fmt;

use crate::credentials::CredentialError;
use crate::credentials::client::RemoteError;
use crate::grpc::transport::EntranceError;

/// Exit codes, the same for every command.
pub mod code {
    /// The run failed.
    pub const FAILED: u8 = 1;
    /// Wrong usage or recipe.
    pub const USAGE: u8 = 2;
    /// Data, weights or checkpoints are missing or damaged.
    pub const DATA: u8 = 3;
    /// A worker or the network failed.
    pub const CLUSTER: u8 = 4;
    /// Stopped by SIGINT.
    pub const INTERRUPTED: u8 = 130;
    /// Stopped by SIGTERM.
    pub const TERMINATED: u8 = 143;
}

/// One clear message, what to do about it, and the exit code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CliError {
    pub message: String,
    pub hint: Option<String>,
    pub code: u8,
}

impl CliError {
    /// An error without advice.
    pub fn new(code: u8, message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, code }
    }

    /// Adds advice.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for CliError {}

/// What went wrong outside the user's reach: the whole chain on one line.
impl From<anyhow::Error> for CliError {
    fn from(error: anyhow::Error) -> Self {
        match error.downcast::<Self>() {
            Ok(error) => error,
            Err(error) => Self::new(code::FAILED, format!("{error:#}")),
        }
    }
}

impl From<crate::data::DataError> for CliError {
    fn from(error: crate::data::DataError) -> Self {
        Self { message: error.to_string(), hint: error.hint(), code: code::DATA }
    }
}

impl From<crate::weights::WeightsError> for CliError {
    fn from(error: crate::weights::WeightsError) -> Self {
        Self { message: error.to_string(), hint: error.hint(), code: code::DATA }
    }
}

impl From<CredentialError> for CliError {
    fn from(error: CredentialError) -> Self {
        let code = match &error {
            CredentialError::Write { .. } | CredentialError::Issue(_) => code::FAILED,
            _ => code::USAGE,
        };
        Self { message: error.to_string(), hint: error.hint(), code }
    }
}

impl From<EntranceError> for CliError {
    fn from(error: EntranceError) -> Self {
        Self { message: error.to_string(), hint: error.hint(), code: code::USAGE }
    }
}

impl From<RemoteError> for CliError {
    fn from(error: RemoteError) -> Self {
        use RemoteError::{Answer, Unreachable};
        use tonic::Code;
        if let RemoteError::Credential(error) = error {
            return error.into();
        }
        let (code, advice) = match &error {
            Unreachable { .. } => (code::CLUSTER, None),
            Answer { code: Code::DataLoss, .. } => (code::DATA, None),
            Answer { code: Code::Unauthenticated, .. } => {
                (code::CLUSTER, Some("--cert and --key, or --token-file, say who you are"))
            }
            Answer { code: Code::PermissionDenied, .. } => (
                code::CLUSTER,
                Some("whoever runs the cluster gives out certificates and tokens with that role"),
            ),
            Answer { code: Code::Unimplemented, .. } => {
                (code::CLUSTER, Some("it is of another release: `lockstep --version` tells this one"))
            }
            Answer { code: Code::ResourceExhausted, .. } => (code::CLUSTER, Some("try again in a while")),
            Answer { code: Code::Unavailable | Code::Internal | Code::Unknown, .. } => (code::CLUSTER, None),
            _ => (code::USAGE, None),
        };
        let hint = error.hint().or_else(|| advice.map(str::to_owned));
        Self { message: error.to_string(), hint, code }
    }
}

impl From<crate::trained::TrainedError> for CliError {
    fn from(error: crate::trained::TrainedError) -> Self {
        use crate::trained::TrainedError::{AverageOfFile, NotFound};
        // A name that was mistyped is no data that is missing.
        let is_usage = matches!(error, NotFound { .. } | AverageOfFile { .. });
        let code = if is_usage { code::USAGE } else { code::DATA };
        Self { message: error.to_string(), hint: error.hint(), code }
    }
}
