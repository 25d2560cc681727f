//! What this worker shows of itself, and how it knows the coordinator.
//!
//! Over `https://` the coordinator's certificate must be from the authority that this worker was given: no other one counts,
//! whatever the system trusts. The worker shows a certificate of its own, or a token with every request, or both. Files are
//! read for every connection, so that certificates can be renewed and tokens replaced under a worker that goes on for months.
//!
//! Over `http://` nothing of all this is used, least of all sent.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Status};

use super::error::ClientError;
use super::trust::innermost;
use super::{CONNECT_WITHIN, PING_AFTER, PONG_WITHIN, WINDOW_BYTES};

const HTTPS: &str = "https://";
const AUTHORIZATION: &str = "authorization";

/// Where they lie.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// The authority that the coordinator's certificate is from.
    pub ca: Option<PathBuf>,
    /// This worker's certificate, and its private key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// A token that is shown with every request.
    pub token_file: Option<PathBuf>,
}

/// Why they cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    #[error(
        "{url} needs --ca FILE, to know the coordinator by; hint: it is the ca.pem that `lockstep certs init` has made"
    )]
    NoAuthority { url: String },
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("there is no {what} in {}; hint: it is a PEM file, with BEGIN and END lines", path.display())]
    Missing { path: PathBuf, what: &'static str },
    #[error("{} is damaged: {reason}", path.display())]
    Damaged { path: PathBuf, reason: String },
    #[error("the certificates cannot be used: {reason}; hint: --cert and --key belong together")]
    Unusable { reason: String },
    #[error("{} holds no token: one line of printable characters", path.display())]
    NoToken { path: PathBuf },
}

/// A coordinator's address, and what opens it.
#[derive(Debug, Clone)]
pub struct Access {
    url: String,
    credentials: Credentials,
}

impl Access {
    /// To `http://host:port` (the scheme may be left out) or `https://host:port`. Makes sure that the credentials can be used
    /// as they are now.
    ///
    /// # Errors
    /// [`ClientError::Address`], [`ClientError::Credentials`].
    pub fn new(url: &str, credentials: Credentials) -> Result<Self, ClientError> {
        let access = Self { url: url.to_owned(), credentials };
        access.endpoint()?;
        access.bearer().token().map_err(ClientError::Credentials)?;
        Ok(access)
    }

    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Whether credentials were given that go over TLS only, for a coordinator on another machine that is asked without.
    #[must_use]
    pub fn leaves_credentials_unused(&self) -> bool {
        let has_any = self.credentials != Credentials::default();
        has_any && !self.is_secure() && !is_loopback(host(&self.url))
    }

    pub(super) fn is_secure(&self) -> bool {
        self.url.starts_with(HTTPS)
    }

    pub(super) fn endpoint(&self) -> Result<Endpoint, ClientError> {
        let full = if self.url.contains("://") { self.url.clone() } else { format!("http://{}", self.url) };
        let address = |reason: String| ClientError::Address(self.url.clone(), reason);
        let endpoint = Endpoint::from_shared(full).map_err(|error| address(error.to_string()))?;
        match endpoint.uri().scheme_str() {
            Some("http" | "https") => {}
            _ => return Err(address("it begins neither with http:// nor with https://".to_owned())),
        }
        let endpoint = endpoint
            .connect_timeout(CONNECT_WITHIN)
            .tcp_nodelay(true)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .http2_keep_alive_interval(PING_AFTER)
            .keep_alive_timeout(PONG_WITHIN)
            .keep_alive_while_idle(true);
        if !self.is_secure() {
            return Ok(endpoint);
        }
        let config = self.tls().map_err(ClientError::Credentials)?;
        endpoint.tls_config(config).map_err(|error| {
            ClientError::Credentials(CredentialError::Unusable { reason: innermost(&error).to_string() })
        })
    }

    fn tls(&self) -> Result<ClientTlsConfig, CredentialError> {
        let Credentials { ca, identity, .. } = &self.credentials;
        let ca = ca.as_ref().ok_or_else(|| CredentialError::NoAuthority { url: self.url.clone() })?;
        let config = ClientTlsConfig::new()
            .timeout(CONNECT_WITHIN)
            .ca_certificate(Certificate::from_pem(certificates(ca)?));
        let Some((certificate, key)) = identity else { return Ok(config) };
        Ok(config.identity(Identity::from_pem(certificates(certificate)?, private_key(key)?)))
    }

    pub(super) fn bearer(&self) -> Bearer {
        Bearer { file: self.credentials.token_file.clone().filter(|_| self.is_secure()) }
    }
}

/// Shows the token with every request, where there is one.
#[derive(Debug, Clone)]
pub struct Bearer {
    file: Option<PathBuf>,
}

impl Bearer {
    fn token(&self) -> Result<Option<MetadataValue<Ascii>>, CredentialError> {
        let Some(path) = &self.file else { return Ok(None) };
        let text = fs::read_to_string(path)
            .map_err(|source| CredentialError::Read { path: path.clone(), source })?;
        let none = || CredentialError::NoToken { path: path.clone() };
        let token = text.trim();
        if token.is_empty() || token.contains(char::is_whitespace) {
            return Err(none());
        }
        let mut value: MetadataValue<Ascii> = format!("Bearer {token}").parse().map_err(|_| none())?;
        // Not for logs.
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let token = self.token().map_err(|error| Status::unauthenticated(error.to_string()))?;
        if let Some(token) = token {
            request.metadata_mut().insert(AUTHORIZATION, token);
        }
        Ok(request)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, CredentialError> {
    fs::read(path).map_err(|source| CredentialError::Read { path: path.to_owned(), source })
}

/// The file, which holds one or more.
fn certificates(path: &Path) -> Result<Vec<u8>, CredentialError> {
    let pem = read(path)?;
    let mut count = 0;
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let damaged = |reason: String| CredentialError::Damaged { path: path.to_owned(), reason };
        certificate.map_err(|error| damaged(error.to_string()))?;
        count += 1;
    }
    if count == 0 {
        return Err(CredentialError::Missing { path: path.to_owned(), what: "certificate" });
    }
    Ok(pem)
}

fn private_key(path: &Path) -> Result<Vec<u8>, CredentialError> {
    let pem = read(path)?;
    PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|_| CredentialError::Missing { path: path.to_owned(), what: "private key" })?;
    Ok(pem)
}

/// Without the brackets of an IPv6 address.
fn host(url: &str) -> &str {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = authority.split('/').next().unwrap_or_default();
    match authority.strip_prefix('[') {
        Some(bracketed) => bracketed.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}
