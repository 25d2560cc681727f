//! The flags of every verb that asks a coordinator, and how they become a [`Remote`].

use std::path::PathBuf;

use clap::Args;
use tonic::transport::Uri;

use super::config::{Config, Place};
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

    pub(super) fn find_in(&self, place: &Place) -> Result<Option<Remote>, RemoteError> {
        let config = Config::read(place)?;
        // An empty variable is one that somebody has switched off.
        let said = self.coordinator.clone().filter(|url| !url.is_empty());
        let Some(url) = said.or(config.coordinator) else { return Ok(None) };
        coordinator_url(&url).map(Remote::new).map(Some)
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
