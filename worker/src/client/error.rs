//! What may go wrong with the coordinator, and whether it passes.

use std::error::Error;
use std::time::Duration;

use tonic::{Code, Status};

use super::convert::Malformed;

/// Why the coordinator could not be asked, or refused.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("{0:?} is not an address: {1}")]
    Address(String, String),
    #[error("cannot reach the coordinator at {url}: {reason}")]
    Unreachable { url: String, reason: String },
    #[error("the coordinator did not answer within {} s", .within.as_secs())]
    Silent { within: Duration },
    #[error("the coordinator refused: {}", .0.message())]
    Refused(Status),
    #[error("lost the coordinator")]
    Lost,
    /// Another one has taken over since.
    #[error("the coordinator is in term {term}, but this worker has heard of term {newest}")]
    Overtaken { term: u64, newest: u64 },
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

impl ClientError {
    pub(super) fn unreachable(url: &str, error: &dyn Error) -> Self {
        Self::Unreachable { url: url.to_owned(), reason: root_cause(error) }
    }

    /// Whether joining again may help: nobody is there, nobody answers, the run has no place, another process has this name
    /// (perhaps a former one that is not missed yet), or a term is over.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Silent { .. } | Self::Lost | Self::Overtaken { .. } => true,
            Self::Refused(status) => {
                is_broken(status) || matches!(status.code(), Code::AlreadyExists | Code::Aborted)
            }
            Self::Address(..) | Self::Malformed(_) => false,
        }
    }

    /// Whether the connection is at fault, so that the same call may succeed on another one.
    #[must_use]
    pub fn is_of_the_connection(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Silent { .. } | Self::Lost => true,
            Self::Refused(status) => is_broken(status),
            Self::Address(..) | Self::Overtaken { .. } | Self::Malformed(_) => false,
        }
    }

    /// Whether what was asked for is not there, or no longer whole.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Refused(status) if matches!(status.code(), Code::NotFound | Code::DataLoss))
    }
}

impl From<Status> for ClientError {
    fn from(status: Status) -> Self {
        Self::Refused(status)
    }
}

/// Whether a status may have been made on this side because the connection broke.
fn is_broken(status: &Status) -> bool {
    let codes = [Code::Unavailable, Code::Unknown, Code::Cancelled, Code::Internal, Code::DeadlineExceeded];
    codes.contains(&status.code())
}

/// The innermost error: tonic's outer ones say "transport error" only.
fn root_cause(error: &dyn Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_tries_again_what_may_pass_and_no_more() {
        for code in [Code::Unavailable, Code::AlreadyExists, Code::Aborted, Code::Internal] {
            assert!(ClientError::Refused(Status::new(code, "")).is_passing(), "{code:?}");
        }
        for code in [Code::NotFound, Code::FailedPrecondition, Code::InvalidArgument, Code::Unimplemented] {
            assert!(!ClientError::Refused(Status::new(code, "")).is_passing(), "{code:?}");
        }
        assert!(ClientError::Overtaken { term: 1, newest: 2 }.is_passing());
        assert!(!ClientError::Overtaken { term: 1, newest: 2 }.is_of_the_connection());
    }
}
