//! What can be wrong with files of credentials, told so that a person can mend it.

use std::io;
use std::path::{Path, PathBuf};

use super::identity::{InvalidName, UnknownRole};

/// Credentials that cannot be made, read or used. Its text says what, [`CredentialError::hint`] what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    #[error("cannot read {}: {}", path.display(), reason(source))]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },

    #[error("cannot write {}: {}", path.display(), reason(source))]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },

    #[error("{} is there already", path.display())]
    Exists { path: PathBuf },

    #[error("there is no certificate authority in {}", folder.display())]
    NoAuthority { folder: PathBuf },

    #[error("{} cannot be used: {why}", path.display())]
    Unusable { path: PathBuf, why: String },

    /// The clock has run out on it.
    #[error("{} cannot be used: {why}", path.display())]
    OutOfDate { path: PathBuf, why: String, renew: String },

    #[error(transparent)]
    Name(#[from] InvalidName),

    #[error(transparent)]
    Role(#[from] UnknownRole),

    #[error("`{0}` is neither a host's name nor an address")]
    Host(String),

    #[error("the certificate could not be made: {0}")]
    Issue(String),
}

impl CredentialError {
    pub(super) fn read(path: &Path, source: io::Error) -> Self {
        Self::Read { path: path.to_owned(), source }
    }

    pub(super) fn write(path: &Path, source: io::Error) -> Self {
        Self::Write { path: path.to_owned(), source }
    }

    pub(super) fn unusable(path: &Path, why: impl ToString) -> Self {
        Self::Unusable { path: path.to_owned(), why: why.to_string() }
    }

    /// What the user can do about it, where that is known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Exists { .. } => {
                Some("--replace makes a new one in its place; whoever has the old one keeps it".to_owned())
            }
            Self::NoAuthority { folder } => {
                Some(format!("`lockstep certs init --dir {}` makes one", folder.display()))
            }
            Self::OutOfDate { renew, .. } => Some(renew.clone()),
            Self::Host(_) => Some("for example --host coordinator.example.org --host 10.0.0.7".to_owned()),
            Self::Read { .. }
            | Self::Write { .. }
            | Self::Unusable { .. }
            | Self::Name(_)
            | Self::Role(_)
            | Self::Issue(_) => None,
        }
    }
}

impl From<rcgen::Error> for CredentialError {
    fn from(error: rcgen::Error) -> Self {
        Self::Issue(error.to_string())
    }
}

/// The operating system's words without its error number.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}
