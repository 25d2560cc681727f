//! What a client shows: a certificate or a token, and which authority it believes.

use std::fmt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate as Pem, ClientTlsConfig, Identity as PemIdentity};

use super::RemoteError;
use crate::credentials::error::CredentialError;
use crate::credentials::folder::{looseness, read, read_secret};
use crate::credentials::server::{authorities, chain};
use crate::credentials::token::{Token, TokenFault};

/// Files that prove who asks, and by which the coordinator proves itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ClientCredentials {
    pub(super) ca: PathBuf,
    pub(super) proof: Proof,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Proof {
    Certificate { cert: PathBuf, key: PathBuf },
    TokenFile(PathBuf),
}

/// Puts the token, where there is one, on every request.
#[derive(Clone, Default)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl ClientCredentials {
    pub(super) fn looseness(&self) -> Option<String> {
        match &self.proof {
            Proof::Certificate { key, .. } => looseness(key),
            Proof::TokenFile(path) => looseness(path),
        }
    }

    /// What the files hold now. Whatever the coordinator would refuse is told here, where more is known.
    pub(super) fn load(&self) -> Result<(ClientTlsConfig, Bearer), RemoteError> {
        let ca_pem = read(&self.ca)?;
        let authorities = authorities(&ca_pem, &self.ca)?;
        let tls = ClientTlsConfig::new().ca_certificate(Pem::from_pem(&ca_pem));
        match &self.proof {
            Proof::Certificate { cert, key } => {
                let cert_pem = read(cert)?;
                let renew = "ask whoever runs `lockstep certs issue` for a new one";
                chain(&cert_pem, cert, &authorities, &self.ca, renew)?;
                let identity = PemIdentity::from_pem(cert_pem, read_secret(key)?);
                Ok((tls.identity(identity), Bearer::default()))
            }
            Proof::TokenFile(path) => Ok((tls, Bearer::of(&token(path)?)?)),
        }
    }
}

/// The token of a file.
fn token(path: &Path) -> Result<Token, CredentialError> {
    let renew = "ask whoever runs `lockstep certs token` for a new one";
    let token = Token::parse(&read_secret(path)?).map_err(|fault| CredentialError::unusable(path, fault))?;
    match token.claims().map(|claims| claims.expires) {
        Some(expires) if expires < Timestamp::now() => Err(CredentialError::OutOfDate {
            path: path.to_owned(),
            why: TokenFault::Expired(expires).to_string(),
            renew: renew.to_owned(),
        }),
        _ => Ok(token),
    }
}

impl Bearer {
    fn of(token: &Token) -> Result<Self, CredentialError> {
        let header = format!("Bearer {}", token.reveal()).parse();
        let mut header: MetadataValue<Ascii> =
            header.map_err(|_| CredentialError::Issue(TokenFault::Malformed.to_string()))?;
        // Neither printed nor kept in a table of headers.
        header.set_sensitive(true);
        Ok(Self(Some(header)))
    }

    pub(super) fn header(&self) -> Option<&MetadataValue<Ascii>> {
        self.0.as_ref()
    }
}

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Bearer(a token)" } else { "Bearer(none)" })
    }
}
