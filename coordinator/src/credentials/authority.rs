//! The cluster's own certificate authority: a folder with its key, from which everybody's certificates are issued.
//!
//! A private authority, because the names in a cluster are private: no public one vouches for `worker-3`, and whoever holds
//! a certificate of this one has been let in on purpose. The key is needed for issuing alone; it may lie elsewhere while
//! the coordinator runs.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use rand_core::{OsRng, TryRngCore};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};

use super::certificate::{Certificate, Validity};
use super::error::CredentialError;
use super::folder::{Folder, Readers};
use super::identity::{Identity, Names, Role};
use super::token::{Claims, Token, TokenKey};

pub(super) const CA_CERT: &str = "ca.pem";
const CA_KEY: &str = "ca.key";
pub(super) const SERVER_CERT: &str = "server.pem";
pub(super) const SERVER_KEY: &str = "server.key";
pub(super) const TOKEN_KEY: &str = "tokens.key";

/// Replacing an authority means visiting every machine.
const AUTHORITY_DAYS: u32 = 3650;

/// For clocks that differ.
const BACKDATED: SignedDuration = SignedDuration::from_hours(1);

/// X.520 gives a common name no more.
const COMMON_NAME_BYTES_MAX: usize = 64;

/// The authority, with its key.
#[derive(Debug)]
pub struct Authority {
    folder: Folder,
    issuer: Issuer<'static, KeyPair>,
    own: Certificate,
}

/// What a certificate is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A coordinator that is reached by these names and addresses.
    Server { hosts: Vec<Host> },
    /// A worker or a person.
    Client(Identity),
}

/// Where a coordinator is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    Name(String),
    Address(IpAddr),
}

/// A certificate and its key, as they lie in the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    pub cert: PathBuf,
    pub key: PathBuf,
    pub valid: Validity,
    /// It ends with the authority, earlier than was asked for.
    pub is_cut: bool,
}

/// What [`Authority::init`] has made, or found.
#[derive(Debug, Clone)]
pub struct Initialised {
    /// False: it was there already.
    pub is_new: bool,
    pub authority: Certificate,
    /// False: it was there already.
    pub is_new_server: bool,
    pub server: Certificate,
}

impl Host {
    pub fn parse(text: &str) -> Result<Self, CredentialError> {
        if let Ok(address) = text.trim_matches(['[', ']']).parse() {
            return Ok(Self::Address(address));
        }
        let label = |label: &str| {
            let is_good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
            (1..=63).contains(&label.len()) && label.bytes().all(is_good)
        };
        let name = text.strip_prefix("*.").unwrap_or(text);
        if text.len() > 253 || !name.split('.').all(label) {
            return Err(CredentialError::Host(text.escape_debug().to_string()));
        }
        Ok(Self::Name(text.to_ascii_lowercase()))
    }

    fn alternative(&self) -> Result<SanType, CredentialError> {
        Ok(match self {
            Self::Name(name) => SanType::DnsName(name.as_str().try_into()?),
            Self::Address(address) => SanType::IpAddress(*address),
        })
    }
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(address) => write!(f, "{address}"),
        }
    }
}

impl Subject {
    pub fn client(name: &str, role: Role) -> Result<Self, CredentialError> {
        Ok(Self::Client(Identity { names: Names::one(name)?, role }))
    }

    /// What the files are called, without their endings.
    #[must_use]
    pub fn stem(&self) -> String {
        match self {
            Self::Server { .. } => "server".to_owned(),
            Self::Client(Identity { names, role: Role::Worker }) => format!("worker-{names}"),
            Self::Client(Identity { names, .. }) => format!("user-{names}"),
        }
    }

    fn params(&self, valid: Validity) -> Result<CertificateParams, CredentialError> {
        let mut params = params(&self.stem(), valid)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        // A worker's certificate must not pass for a coordinator's, nor the other way round.
        let (usage, alternatives) = match self {
            Self::Server { hosts } => (
                ExtendedKeyUsagePurpose::ServerAuth,
                hosts.iter().map(Host::alternative).collect::<Result<_, _>>()?,
            ),
            Self::Client(identity) => (ExtendedKeyUsagePurpose::ClientAuth, uris(identity)?),
        };
        params.extended_key_usages = vec![usage];
        params.subject_alt_names = alternatives;
        Ok(params)
    }
}

impl Authority {
    /// The authority of a folder, made where there is none. What is there already stays as it is.
    pub fn init(path: &Path, hosts: Vec<Host>, days: u32) -> Result<Initialised, CredentialError> {
        let folder = Folder::create(path)?;
        let is_new = !folder.has(CA_CERT);
        if is_new {
            // A key without its certificate is what an init that was cut short has left.
            if !folder.has(CA_KEY) {
                let key = KeyPair::generate()?.serialize_pem();
                folder.write(CA_KEY, &key, Readers::Owner, false)?;
            }
            let key = read_key(&folder)?;
            let pem = authority_params(lifetime(Timestamp::now(), AUTHORITY_DAYS)?)?.self_signed(&key)?.pem();
            folder.write(CA_CERT, &pem, Readers::Everybody, false)?;
        }
        if !folder.has(TOKEN_KEY) {
            let key = TokenKey::draw().map_err(|error| CredentialError::Issue(error.to_string()))?;
            folder.write(TOKEN_KEY, &key, Readers::Owner, false)?;
        }
        // Where all is there already, the authority's key may be kept elsewhere.
        let is_new_server = !folder.has(SERVER_CERT) || !folder.has(SERVER_KEY);
        let authority = certificate(&folder, CA_CERT)?;
        let folder = if is_new_server {
            let issuing = Self::of(folder)?;
            issuing.issue(&Subject::Server { hosts }, days, true)?;
            issuing.folder
        } else {
            folder
        };
        Ok(Initialised { is_new, authority, is_new_server, server: certificate(&folder, SERVER_CERT)? })
    }

    /// The authority of a folder.
    pub fn open(path: &Path) -> Result<Self, CredentialError> {
        if !path.join(CA_CERT).exists() {
            return Err(CredentialError::NoAuthority { folder: path.to_owned() });
        }
        Self::of(Folder::open(path)?)
    }

    fn of(folder: Folder) -> Result<Self, CredentialError> {
        let own = certificate(&folder, CA_CERT)?;
        if !own.is_authority {
            return Err(CredentialError::unusable(&folder.path(CA_CERT), "it is no authority's certificate"));
        }
        let key = read_key(&folder)?;
        let issuer = Issuer::from_ca_cert_der(&own.der.as_slice().into(), key)?;
        Ok(Self { folder, issuer, own })
    }

    /// Issues a certificate for so many days, with a key of its own.
    pub fn issue(&self, subject: &Subject, days: u32, replace: bool) -> Result<Issued, CredentialError> {
        self.issue_for(subject, lifetime(Timestamp::now(), days)?, replace)
    }

    /// For any time, one that is over too.
    pub(super) fn issue_for(
        &self,
        subject: &Subject,
        valid: Validity,
        replace: bool,
    ) -> Result<Issued, CredentialError> {
        let is_cut = valid.until > self.own.valid.until;
        let valid = Validity { until: valid.until.min(self.own.valid.until), ..valid };
        let stem = subject.stem();
        let (cert_name, key_name) = (format!("{stem}.pem"), format!("{stem}.key"));
        // Neither is written when one of them is there.
        if let Some(there) =
            [&cert_name, &key_name].into_iter().find(|name| !replace && self.folder.has(name))
        {
            return Err(CredentialError::Exists { path: self.folder.path(there) });
        }
        let key_pair = KeyPair::generate()?;
        let pem = subject.params(valid)?.signed_by(&key_pair, &self.issuer)?.pem();
        let key = self.folder.write(&key_name, &key_pair.serialize_pem(), Readers::Owner, replace)?;
        let cert = self.folder.write(&cert_name, &pem, Readers::Everybody, replace)?;
        Ok(Issued { cert, key, valid, is_cut })
    }
}

/// A token of the folder's key.
pub fn issue_token(folder: &Path, claims: &Claims) -> Result<Token, CredentialError> {
    let path = folder.join(TOKEN_KEY);
    if !path.exists() {
        return Err(CredentialError::NoAuthority { folder: folder.to_owned() });
    }
    Ok(read_token_key(&path)?.sign(claims))
}

/// Writes a token to a file that its owner alone reads.
pub fn write_token(path: &Path, token: &Token) -> Result<(), CredentialError> {
    super::folder::write(path, &format!("{}\n", token.reveal()), Readers::Owner)
}

/// A certificate's or token's file.
pub fn read_credential(path: &Path) -> Result<Vec<u8>, CredentialError> {
    super::folder::read(path)
}

pub(super) fn read_token_key(path: &Path) -> Result<TokenKey, CredentialError> {
    let text = super::folder::read_secret(path)?;
    TokenKey::parse(&text).ok_or_else(|| CredentialError::unusable(path, "it is no key of 64 hex digits"))
}

/// From a little before `now` on.
fn lifetime(now: Timestamp, days: u32) -> Result<Validity, CredentialError> {
    let length = SignedDuration::from_hours(24 * i64::from(days));
    let too_long = |error: jiff::Error| CredentialError::Issue(error.to_string());
    Ok(Validity {
        from: now.checked_sub(BACKDATED).map_err(too_long)?,
        until: now.checked_add(length).map_err(too_long)?,
    })
}

fn authority_params(valid: Validity) -> Result<CertificateParams, CredentialError> {
    // Two authorities of one name would be told apart by their signatures alone, and errors would be about those.
    let mut mark = [0; 4];
    OsRng.try_fill_bytes(&mut mark).map_err(|error| CredentialError::Issue(error.to_string()))?;
    let mut params = params(&format!("Lockstep authority {}", hex::encode(mark)), valid)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn params(common_name: &str, valid: Validity) -> Result<CertificateParams, CredentialError> {
    let date = |time: Timestamp| {
        time::OffsetDateTime::from_unix_timestamp(time.as_second())
            .map_err(|error| CredentialError::Issue(error.to_string()))
    };
    let mut params = CertificateParams::default();
    (params.not_before, params.not_after) = (date(valid.from)?, date(valid.until)?);
    params.distinguished_name = rcgen::DistinguishedName::new();
    // Names are ASCII, so any byte is a letter's end.
    let common_name = &common_name[..common_name.len().min(COMMON_NAME_BYTES_MAX)];
    params.distinguished_name.push(DnType::CommonName, common_name);
    Ok(params)
}

fn uris(identity: &Identity) -> Result<Vec<SanType>, CredentialError> {
    identity.uris().into_iter().map(|uri| Ok(SanType::URI(uri.try_into()?))).collect()
}

fn certificate(folder: &Folder, name: &str) -> Result<Certificate, CredentialError> {
    let pem = folder.read(name)?;
    Certificate::from_pem(&pem).map_err(|error| CredentialError::unusable(&folder.path(name), error))
}

fn read_key(folder: &Folder) -> Result<KeyPair, CredentialError> {
    let path = folder.path(CA_KEY);
    let pem = super::folder::read_secret(&path)?;
    KeyPair::from_pem(&pem).map_err(|error| CredentialError::unusable(&path, error))
}
