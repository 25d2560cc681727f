//! What a certificate says: read for people, before it is used, and from a peer whose chain TLS has verified already.

use std::fmt;
use std::net::IpAddr;

use jiff::Timestamp;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, Pem, X509Certificate};

use super::identity::Identity;

/// How many lie in one file: a chain, not a collection.
const CHAIN_MAX: usize = 16;

/// A certificate's contents, as far as they matter here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Its subject's common name.
    pub subject: String,
    pub identity: Option<Identity>,
    /// The names and addresses that it stands for as a server.
    pub hosts: Vec<String>,
    pub is_authority: bool,
    pub valid: Validity,
    pub(super) der: Vec<u8>,
}

/// From when to when it may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    pub from: Timestamp,
    pub until: Timestamp,
}

/// The bytes are no certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it holds no certificate that can be read")]
pub struct Unreadable;

impl Certificate {
    /// The first certificate of a PEM file.
    pub fn from_pem(pem: &[u8]) -> Result<Self, Unreadable> {
        Self::all_from_pem(pem).map(|mut all| all.swap_remove(0))
    }

    /// All certificates of a PEM file, at least one.
    pub fn all_from_pem(pem: &[u8]) -> Result<Vec<Self>, Unreadable> {
        let blocks = Pem::iter_from_buffer(pem).take(CHAIN_MAX).collect::<Result<Vec<_>, _>>();
        let blocks = blocks.map_err(|_| Unreadable)?;
        let certificates = blocks.iter().filter(|block| block.label == "CERTIFICATE");
        let all: Vec<_> =
            certificates.map(|block| Self::from_der(&block.contents)).collect::<Result<_, _>>()?;
        if all.is_empty() { Err(Unreadable) } else { Ok(all) }
    }

    pub fn from_der(der: &[u8]) -> Result<Self, Unreadable> {
        let (_, read) = X509Certificate::from_der(der).map_err(|_| Unreadable)?;
        let alternatives = read.subject_alternative_name().map_err(|_| Unreadable)?;
        let alternatives = alternatives.map_or(&[][..], |found| &found.value.general_names);
        let uris = alternatives.iter().filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        });
        let hosts = alternatives.iter().filter_map(|name| match name {
            GeneralName::DNSName(host) => Some((*host).to_owned()),
            GeneralName::IPAddress(bytes) => address(bytes).map(|address| address.to_string()),
            _ => None,
        });
        let time = |time: x509_parser::time::ASN1Time| {
            Timestamp::from_second(time.timestamp()).map_err(|_| Unreadable)
        };
        let subject = read.subject().iter_common_name().find_map(|name| name.as_str().ok());
        Ok(Self {
            subject: subject.unwrap_or_default().to_owned(),
            identity: Identity::from_uris(uris),
            hosts: hosts.collect(),
            is_authority: read.is_ca(),
            valid: Validity {
                from: time(read.validity().not_before)?,
                until: time(read.validity().not_after)?,
            },
            der: der.to_vec(),
        })
    }

    /// Whether `authority` has signed this one.
    #[must_use]
    pub fn is_issued_by(&self, authority: &Self) -> bool {
        let (own, theirs) = (X509Certificate::from_der(&self.der), X509Certificate::from_der(&authority.der));
        let (Ok((_, own)), Ok((_, theirs))) = (own, theirs) else { return false };
        own.verify_signature(Some(theirs.public_key())).is_ok()
    }

    /// Whether a chain, from its own certificate on, ends at one of the authorities.
    #[must_use]
    pub fn leads_to(chain: &[Self], authorities: &[Self]) -> bool {
        for (index, link) in chain.iter().enumerate() {
            if authorities.iter().any(|authority| link.is_issued_by(authority)) {
                return true;
            }
            if !chain.get(index + 1).is_some_and(|next| link.is_issued_by(next)) {
                return false;
            }
        }
        false
    }

    /// Whether a server of this certificate may be spoken to as `host`.
    #[must_use]
    pub fn stands_for(&self, host: &str) -> bool {
        self.hosts.iter().any(|own| own.eq_ignore_ascii_case(host))
    }
}

impl Validity {
    /// Why it may not be used at a time; none when it may.
    #[must_use]
    pub fn fault(self, now: Timestamp) -> Option<ValidityFault> {
        if now > self.until {
            Some(ValidityFault::Expired(self.until))
        } else if now < self.from {
            Some(ValidityFault::NotYet(self.from))
        } else {
            None
        }
    }

    /// Whole days that are left, of one that has not expired.
    #[must_use]
    pub fn days_left(self, now: Timestamp) -> i64 {
        (self.until.as_second() - now.as_second()).div_euclid(86_400)
    }
}

/// Why a certificate is of no use now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValidityFault {
    Expired(Timestamp),
    NotYet(Timestamp),
}

impl fmt::Display for ValidityFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired(at) => write!(f, "it expired at {at}"),
            Self::NotYet(at) => write!(f, "it is not valid before {at}"),
        }
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from).ok();
    four.or_else(|| <[u8; 16]>::try_from(bytes).map(IpAddr::from).ok())
}
