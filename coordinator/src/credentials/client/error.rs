//! What keeps a person from a coordinator, told so that they can mend it.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use tokio_rustls::rustls::{self, CertificateError};
use tonic::{Code, Status};

use crate::credentials::error::CredentialError;

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

    #[error("over https a coordinator wants to know who asks, and {what} is not named")]
    NoCredential { what: &'static str },

    #[error(transparent)]
    Credential(#[from] CredentialError),

    #[error("the coordinator at {url} cannot be reached: {why}")]
    Unreachable { url: String, why: String },

    /// Its certificate is not what it should be.
    #[error("the coordinator at {url} is not to be trusted: {why}")]
    Distrusted { url: String, why: String, hint: &'static str },

    /// It does not take ours.
    #[error("the coordinator at {url} does not take the certificate: {why}")]
    Refused { url: String, why: String },

    /// It was reached and said no.
    #[error("{message}")]
    Answer { code: Code, message: String, hint: Option<String> },
}

impl RemoteError {
    pub(super) fn connecting(url: &str, error: &(dyn Error + 'static)) -> Self {
        let cause = cause(error);
        match cause.downcast_ref::<rustls::Error>() {
            Some(rustls::Error::InvalidCertificate(fault)) => Self::Distrusted {
                url: url.to_owned(),
                why: fault.to_string(),
                hint: match fault {
                    CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                        "where its authority is: `lockstep certs issue server --replace`, then start it again"
                    }
                    CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                        "use a name that its certificate has, or give it this one: `lockstep certs issue server --host`"
                    }
                    _ => "is --ca the ca.pem of this very cluster?",
                },
            },
            Some(rustls::Error::InvalidMessage(_)) => Self::Unreachable {
                url: url.to_owned(),
                why: "what answers there does not speak TLS".to_owned(),
            },
            _ => Self::refused(url, cause.to_string()),
        }
    }

    /// What the other end says of our certificate comes with the first answer, when we believe to be through: HTTP/2 hands
    /// that on as text.
    fn refused(url: &str, cause: String) -> Self {
        let url = url.to_owned();
        let why = match cause.strip_prefix("received fatal alert: ") {
            None => return Self::Unreachable { url, why: cause },
            Some("UnknownCA" | "DecryptError") => "another authority has issued it".to_owned(),
            Some("CertificateExpired") => "it has expired".to_owned(),
            Some(alert) => alert.to_owned(),
        };
        Self::Refused { url, why }
    }

    pub(super) fn answered(url: &str, status: &Status) -> Self {
        // What the transport says bears a source, what the coordinator says does not.
        if let Some(error) = status.source() {
            return Self::connecting(url, error);
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
            Self::NoCredential { .. } => Some(
                "--ca, --cert and --key name files; so do LOCKSTEP_CA, LOCKSTEP_CERT and LOCKSTEP_KEY, or the keys ca, \
                 cert and key in config.toml"
                    .to_owned(),
            ),
            Self::Unreachable { .. } => {
                Some("is it running, is this its address, and does a firewall let it through?".to_owned())
            }
            Self::Distrusted { hint, .. } => Some((*hint).to_owned()),
            Self::Refused { .. } => Some("ask whoever runs `lockstep certs issue` for a new one".to_owned()),
            Self::Credential(error) => error.hint(),
            Self::Config { hint, .. } | Self::Answer { hint, .. } => hint.clone(),
            Self::Read { .. } => None,
        }
    }
}

/// The reason beneath the layers that have handed it on: TLS's, when it is one of them.
fn cause<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    let mut error = error;
    loop {
        // An io::Error does not count what it carries as its source.
        let carried = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let carried = carried.map(|carried| carried as &(dyn Error + 'static));
        match carried.or_else(|| error.source()) {
            Some(source) => error = source,
            None => return error,
        }
    }
}
