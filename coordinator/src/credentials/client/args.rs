//! The flags of every verb that asks a coordinator, and how they become a [`Remote`].

use std::path::PathBuf;

use clap::Args;
use tonic::transport::Uri;

use super::config::{Config, Place};
use super::proof::{ClientCredentials, Proof};
use super::{Remote, RemoteError};

/// Which coordinator, and what proves who asks.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Coordinator")]
pub struct RemoteArgs {
    /// Where the coordinator is: https://HOST:PORT, or http://127.0.0.1:PORT on this machine
    #[arg(long, value_name = "URL", env = "LOCKSTEP_COORDINATOR")]
    pub coordinator: Option<String>,
    /// The cluster's certificate authority (ca.pem)
    #[arg(long, value_name = "FILE", env = "LOCKSTEP_CA")]
    pub ca: Option<PathBuf>,
    /// Your certificate (user-NAME.pem)
    #[arg(long, value_name = "FILE", env = "LOCKSTEP_CERT")]
    pub cert: Option<PathBuf>,
    /// The key of the certificate (user-NAME.key)
    #[arg(long, value_name = "FILE", env = "LOCKSTEP_KEY")]
    pub key: Option<PathBuf>,
    /// A file that holds a token, in place of a certificate
    #[arg(long, value_name = "FILE", env = "LOCKSTEP_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,
}

impl RemoteArgs {
    /// The coordinator that is meant; an error where none is named anywhere.
    pub fn resolve(&self) -> Result<Remote, RemoteError> {
        self.find()?.ok_or_else(|| RemoteError::NoCoordinator { config: Place::of_user().shown() })
    }

    /// The coordinator that is meant, if any is named: for verbs that do without one.
    pub fn find(&self) -> Result<Option<Remote>, RemoteError> {
        self.find_in(&Place::of_user())
    }

    /// As if there were no config.toml.
    #[cfg(test)]
    pub(crate) fn alone(&self) -> Result<Remote, RemoteError> {
        self.find_in(&Place::default()).map(|remote| remote.expect("a test names its coordinator"))
    }

    pub(super) fn find_in(&self, place: &Place) -> Result<Option<Remote>, RemoteError> {
        let config = Config::read(place)?;
        let files = Files {
            ca: said(self.ca.as_ref()).or(config.ca),
            cert: said(self.cert.as_ref()).or(config.cert),
            key: said(self.key.as_ref()).or(config.key),
            token_file: said(self.token_file.as_ref()).or(config.token_file),
        };
        let named = self.coordinator.clone().filter(|url| !url.is_empty());
        let Some(url) = named.or(config.coordinator) else { return Ok(None) };
        let url = coordinator_url(&url)?;
        // What is said for another coordinator does no harm on this machine, and is not sent in the clear.
        let is_tls = url.scheme_str() == Some("https");
        let credentials = is_tls.then(|| files.credentials()).transpose()?;
        Ok(Some(Remote { url, credentials }))
    }
}

/// An empty variable is one that somebody has switched off.
fn said(path: Option<&PathBuf>) -> Option<PathBuf> {
    path.filter(|path| !path.as_os_str().is_empty()).cloned()
}

#[derive(Debug)]
struct Files {
    ca: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    token_file: Option<PathBuf>,
}

impl Files {
    /// A certificate goes before a token.
    fn credentials(self) -> Result<ClientCredentials, RemoteError> {
        let missing = |what| RemoteError::NoCredential { what };
        let ca = self.ca.ok_or_else(|| missing("the cluster's certificate authority (--ca)"))?;
        let proof = match (self.cert, self.key, self.token_file) {
            (Some(cert), Some(key), _) => Proof::Certificate { cert, key },
            (Some(_), None, _) => return Err(missing("the certificate's key (--key)")),
            (None, Some(_), _) => return Err(missing("the key's certificate (--cert)")),
            (None, None, Some(token_file)) => Proof::TokenFile(token_file),
            (None, None, None) => {
                return Err(missing("a certificate (--cert and --key) or a token (--token-file)"));
            }
        };
        Ok(ClientCredentials { ca, proof })
    }
}

/// Only what can be connected to, and nothing that would pass in the clear beyond this machine.
fn coordinator_url(text: &str) -> Result<Uri, RemoteError> {
    let wrong = |why: &'static str| RemoteError::Url { url: text.to_owned(), why };
    let url: Uri = text.parse().map_err(|_| wrong("it is no URL"))?;
    let host = url.host().ok_or_else(|| wrong("it names no host"))?.trim_matches(['[', ']']);
    if url.port_u16().is_none() {
        return Err(wrong("it names no port"));
    }
    if !matches!(url.path(), "" | "/") || url.query().is_some() {
        return Err(wrong("nothing comes after the port"));
    }
    if url.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(wrong("credentials have no place in it"));
    }
    let is_here =
        host == "localhost" || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback());
    match url.scheme_str() {
        Some("https") => Ok(url),
        Some("http") if is_here => Ok(url),
        Some("http") => Err(wrong("beyond this machine a coordinator is spoken to over TLS alone")),
        _ => Err(wrong("it begins with neither https:// nor http://")),
    }
}
