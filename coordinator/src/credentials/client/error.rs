//! What keeps a person from a coordinator, told so that they can mend it.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use tonic::{Code, Status};

/// No coordinator, none that answers, or one that refuses. Its text says what, [`RemoteError::hint`] what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    #[error("no coordinator is named")]
    NoCoordinator { config: String },

    #[error("`{url}` is no coordinator's address: {why}")]
    Url { url: String, why: &'static str },

    #[error("cannot read {}: {source}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },

    #[error("{what} in {file}, line {line}")]
    Config { file: String, line: usize, what: String, hint: Option<String> },

    #[error("the coordinator at {url} cannot be reached: {why}")]
    Unreachable { url: String, why: String },

    /// It was reached and said no.
    #[error("{message}")]
    Answer { code: Code, message: String, hint: Option<String> },
}

impl RemoteError {
    pub(super) fn connecting(url: &str, error: &tonic::transport::Error) -> Self {
        Self::Unreachable { url: url.to_owned(), why: innermost(error) }
    }

    pub(super) fn answered(url: &str, status: &Status) -> Self {
        // What the transport says bears a source, what the coordinator says does not.
        if let Some(error) = status.source() {
            return Self::Unreachable { url: url.to_owned(), why: innermost(error) };
        }
        let (message, hint) = match status.message().split_once("\nhint: ") {
            Some((message, hint)) => (message, Some(hint.to_owned())),
            None => (status.message(), None),
        };
        let message = if message.is_empty() { status.code().description() } else { message };
        Self::Answer { code: status.code(), message: message.to_owned(), hint }
    }

    /// What the user can do about it, where that is known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoCoordinator { config } => Some(format!(
                "name it with --coordinator URL, by LOCKSTEP_COORDINATOR, or as `coordinator = \"URL\"` in {config}"
            )),
            Self::Url { .. } => {
                Some("https://HOST:PORT, or http://127.0.0.1:PORT for one on this machine".to_owned())
            }
            Self::Unreachable { .. } => {
                Some("is it running, is this its address, and does a firewall let it through?".to_owned())
            }
            Self::Config { hint, .. } | Self::Answer { hint, .. } => hint.clone(),
            Self::Read { .. } => None,
        }
    }
}

/// The reason beneath the layers that have handed it on.
fn innermost(error: &dyn Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
