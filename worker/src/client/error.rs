//! What may go wrong with the coordinator, and whether it passes.

use std::error::Error;
use std::time::Duration;

use tonic::{Code, Status};

use super::convert::Malformed;
use super::credentials::CredentialError;
use super::trust::{Distrust, distrust, innermost};

/// Why the coordinator could not be asked, or refused.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("{0:?} is not an address: {1}")]
    Address(String, String),
    /// What is shown to the coordinator, or what it is known by, is missing or damaged.
    #[error(transparent)]
    Credentials(CredentialError),
    #[error("cannot reach the coordinator at {url}: {reason}")]
    Unreachable { url: String, reason: String },
    #[error("the coordinator cannot be trusted: {reason}; hint: {hint}")]
    Untrusted { reason: String, hint: &'static str },
    #[error(
        "the coordinator does not let this worker in: {reason}; hint: whoever runs the coordinator issues certificates"
    )]
    Distrusted { reason: String },
    #[error("the coordinator did not answer within {} s", .within.as_secs())]
    Silent { within: Duration },
    /// As what speaks TLS only does to whoever speaks plainly.
    #[error(
        "the connection broke before the coordinator answered: {reason}; hint: the address of a coordinator with TLS begins \
         with https://"
    )]
    Cut { reason: String },
    #[error("{}", told(.0))]
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
    pub(super) fn connecting(url: &str, error: &(dyn Error + 'static)) -> Self {
        let reason = innermost(error).to_string();
        distrust(error).map_or_else(|| Self::Unreachable { url: url.to_owned(), reason }, Self::from)
    }

    /// For one that ends a plain connection before the first answer.
    pub(super) fn before_an_answer(self) -> Self {
        match &self {
            Self::Refused(status) => match status.source() {
                Some(source) => Self::Cut { reason: innermost(source).to_string() },
                None => self,
            },
            _ => self,
        }
    }

    /// Whether joining again may help: nobody is there, nobody answers, the run has no place, another process has this name
    /// (perhaps a former one that is not missed yet), or a term is over.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::Silent { .. }
            | Self::Cut { .. }
            | Self::Lost
            | Self::Overtaken { .. } => true,
            Self::Refused(status) => {
                is_broken(status) || matches!(status.code(), Code::AlreadyExists | Code::Aborted)
            }
            Self::Address(..)
            | Self::Credentials(_)
            | Self::Untrusted { .. }
            | Self::Distrusted { .. }
            | Self::Malformed(_) => false,
        }
    }

    /// Whether the connection is at fault, so that the same call may succeed on another one.
    #[must_use]
    pub fn is_of_the_connection(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Silent { .. } | Self::Cut { .. } | Self::Lost => true,
            Self::Refused(status) => is_broken(status),
            Self::Address(..)
            | Self::Credentials(_)
            | Self::Untrusted { .. }
            | Self::Distrusted { .. }
            | Self::Overtaken { .. }
            | Self::Malformed(_) => false,
        }
    }

    /// Whether what was asked for is not there, or no longer whole.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Refused(status) if matches!(status.code(), Code::NotFound | Code::DataLoss))
    }
}

impl From<Status> for ClientError {
    /// With TLS 1.3 a coordinator turns a certificate down only when the connection is in use already.
    fn from(status: Status) -> Self {
        status.source().and_then(distrust).map_or_else(|| Self::Refused(status), Self::from)
    }
}

impl From<Distrust> for ClientError {
    fn from(distrust: Distrust) -> Self {
        match distrust {
            Distrust::OfCoordinator { reason, hint } => Self::Untrusted { reason, hint },
            Distrust::OfWorker { reason } => Self::Distrusted { reason },
        }
    }
}

/// In one line. What the transport says bears a source, what the coordinator says does not.
fn told(status: &Status) -> String {
    match status.source() {
        Some(source) => format!("the connection to the coordinator broke: {}", innermost(source)),
        None => {
            let message = status.message();
            let message = if message.is_empty() { status.code().description() } else { message };
            format!("the coordinator refused: {}", message.replace("\nhint: ", "; hint: "))
        }
    }
}

/// Whether a status may have been made on this side because the connection broke.
fn is_broken(status: &Status) -> bool {
    let codes = [Code::Unavailable, Code::Unknown, Code::Cancelled, Code::Internal, Code::DeadlineExceeded];
    codes.contains(&status.code())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_tries_again_what_may_pass_and_no_more() {
        for code in [Code::Unavailable, Code::AlreadyExists, Code::Aborted, Code::Internal] {
            assert!(ClientError::Refused(Status::new(code, "")).is_passing(), "{code:?}");
        }
        let for_good = [
            Code::NotFound,
            Code::FailedPrecondition,
            Code::InvalidArgument,
            Code::Unimplemented,
            Code::Unauthenticated,
            Code::PermissionDenied,
        ];
        for code in for_good {
            assert!(!ClientError::Refused(Status::new(code, "")).is_passing(), "{code:?}");
        }
        assert!(ClientError::Overtaken { term: 1, newest: 2 }.is_passing());
        assert!(!ClientError::Overtaken { term: 1, newest: 2 }.is_of_the_connection());
    }

    #[test]
    fn a_refusal_is_one_line() {
        let refused = |message| ClientError::from(Status::permission_denied(message)).to_string();
        assert_eq!(refused("no\nhint: ask"), "the coordinator refused: no; hint: ask");
        let code = Code::PermissionDenied.description();
        assert_eq!(refused(""), format!("the coordinator refused: {code}"));
    }
}
