//! What a coordinator that others reach needs: its certificate, the authority that its clients' were issued by, and the
//! key of the tokens. All are renewed while it stands (`renewal`).

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio_rustls::rustls::{self, RootCertStore, ServerConfig};

use super::authority::{CA_CERT, SERVER_CERT, SERVER_KEY, TOKEN_KEY, read_token_key};
use super::certificate::Certificate;
use super::error::CredentialError;
use super::folder::{looseness, read, read_secret};
use super::renewal::Renewal;
use super::token::TokenKey;

/// A certificate that ends so soon is worth a word.
const RENEW_DAYS: i64 = 14;

/// HTTP/2 alone, which is what gRPC speaks.
const ALPN: &[u8] = b"h2";

/// TLS and tokens of a coordinator.
#[derive(Clone)]
pub struct ServerCredentials {
    folder: PathBuf,
    tls: Arc<ServerConfig>,
    tokens: Option<TokenKey>,
    certificate: Certificate,
    warnings: Vec<String>,
}

impl ServerCredentials {
    /// Reads `ca.pem`, `server.pem`, `server.key` and, where there is one, `tokens.key`.
    pub fn load(folder: &Path) -> Result<Self, CredentialError> {
        let paths = [CA_CERT, SERVER_CERT, SERVER_KEY].map(|name| folder.join(name));
        let [ca_path, cert_path, key_path] = &paths;
        if paths.iter().all(|path| !path.exists()) {
            return Err(CredentialError::NoAuthority { folder: folder.to_owned() });
        }
        let (cert_pem, key_pem) = (read(cert_path)?, read_secret(key_path)?);
        let authorities = authorities(&read(ca_path)?, ca_path)?;
        let renew =
            format!("`lockstep certs issue server --replace --dir {}` makes a new one", folder.display());
        let chain = chain(&cert_pem, cert_path, &authorities, ca_path, &renew)?;
        let tls = config(&authorities, &chain, key_pem.as_bytes())
            .map_err(|error| CredentialError::unusable(key_path, error))?;
        let token_path = folder.join(TOKEN_KEY);
        let tokens = token_path.exists().then(|| read_token_key(&token_path)).transpose()?;
        let certificate = chain[0].clone();
        let days = certificate.valid.days_left(Timestamp::now());
        let soon =
            (days < RENEW_DAYS).then(|| format!("{} expires in {days} days: {renew}", cert_path.display()));
        let loose = [key_path, &token_path].into_iter().filter_map(|path| looseness(path));
        let warnings = soon.into_iter().chain(loose).collect();
        Ok(Self { folder: folder.to_owned(), tls: Arc::new(tls), tokens, certificate, warnings })
    }

    /// What its owner should see to, though it works.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// What the coordinator shows to its clients.
    #[must_use]
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    pub(super) fn tls(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.tls)
    }

    pub(super) fn tokens(&self) -> Option<TokenKey> {
        self.tokens.clone()
    }

    pub(crate) fn renewal(&self) -> Renewal {
        Renewal::new(self.folder.clone(), self.tls(), self.tokens())
    }
}

impl fmt::Debug for ServerCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerCredentials")
            .field("hosts", &self.certificate.hosts)
            .field("tokens", &self.tokens)
            .finish_non_exhaustive()
    }
}

/// The authorities of a file whose time it is, at least one: while one takes another's place there are two.
pub(super) fn authorities(pem: &[u8], path: &Path) -> Result<Vec<Certificate>, CredentialError> {
    let all = Certificate::all_from_pem(pem).map_err(|error| CredentialError::unusable(path, error))?;
    if !all.iter().all(|certificate| certificate.is_authority) {
        let what = "it holds a certificate that is no authority's (take ca.pem, not server.pem)";
        return Err(CredentialError::unusable(path, what));
    }
    let now = Timestamp::now();
    let (usable, faulty): (Vec<_>, Vec<_>) = all.into_iter().partition(|own| own.valid.fault(now).is_none());
    match faulty.first().and_then(|first| first.valid.fault(now)) {
        Some(fault) if usable.is_empty() => Err(CredentialError::OutOfDate {
            path: path.to_owned(),
            why: fault.to_string(),
            renew:
                "`lockstep certs init` in an empty folder makes a new authority, and all certificates with it"
                    .to_owned(),
        }),
        _ => Ok(usable),
    }
}

/// A certificate whose time it is, and what leads from it to an authority.
pub(super) fn chain(
    pem: &[u8],
    path: &Path,
    authorities: &[Certificate],
    ca_path: &Path,
    renew: &str,
) -> Result<Vec<Certificate>, CredentialError> {
    let chain = Certificate::all_from_pem(pem).map_err(|error| CredentialError::unusable(path, error))?;
    if let Some(fault) = chain[0].valid.fault(Timestamp::now()) {
        return Err(CredentialError::OutOfDate {
            path: path.to_owned(),
            why: fault.to_string(),
            renew: renew.to_owned(),
        });
    }
    if !Certificate::leads_to(&chain, authorities) {
        return Err(CredentialError::unusable(path, format!("{} has not issued it", ca_path.display())));
    }
    Ok(chain)
}

/// TLS that takes clients with a certificate of the authority, and such without any, who have to show a token.
fn config(
    authorities: &[Certificate],
    chain: &[Certificate],
    key_pem: &[u8],
) -> Result<ServerConfig, String> {
    let words = |error: rustls::Error| error.to_string();
    let provider = Arc::new(ring::default_provider());
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(CertificateDer::from(authority.der.clone())).map_err(words)?;
    }
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .allow_unauthenticated()
        .build()
        .map_err(|error| error.to_string())?;
    let chain = chain.iter().map(|link| CertificateDer::from(link.der.clone())).collect();
    let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(|_| "it holds no private key".to_owned())?;
    // Both ends are Lockstep's.
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(words)?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key)
        .map_err(words)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    // A session taken up again would not have its certificate looked at again.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}
