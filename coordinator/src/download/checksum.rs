//! What publishers give to check a download by: a whole md5, or the beginning of a sha256 in the file's name.

use std::fs::File;
use std::io;
use std::path::Path;

use md5::{Digest, Md5};
use sha2::Sha256;

/// Lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Checksum {
    /// In full, as CIFAR's page has it.
    Md5(String),
    /// The first digits, as PyTorch's weight files carry them: `resnet50-0676ba61.pth`.
    Sha256Prefix(String),
}

impl Checksum {
    /// The digits that are expected.
    #[must_use]
    pub fn digits(&self) -> &str {
        match self {
            Self::Md5(digits) | Self::Sha256Prefix(digits) => digits,
        }
    }

    pub(super) fn algorithm(&self) -> &'static str {
        match self {
            Self::Md5(_) => "md5",
            Self::Sha256Prefix(_) => "sha256",
        }
    }

    /// The file's whole checksum.
    pub(super) fn of(&self, path: &Path) -> io::Result<String> {
        match self {
            Self::Md5(_) => hash::<Md5>(path),
            Self::Sha256Prefix(_) => hash::<Sha256>(path),
        }
    }

    pub(super) fn matches(&self, actual: &str) -> bool {
        match self {
            Self::Md5(expected) => actual == expected,
            // An empty prefix would let everything pass.
            Self::Sha256Prefix(expected) => !expected.is_empty() && actual.starts_with(expected),
        }
    }
}

fn hash<D: Digest + io::Write>(path: &Path) -> io::Result<String> {
    const BUFFER_BYTES: usize = 1 << 16;
    let mut hasher = D::new();
    io::copy(&mut io::BufReader::with_capacity(BUFFER_BYTES, File::open(path)?), &mut hasher)?;
    Ok(hex::encode(hasher.finalize()))
}
