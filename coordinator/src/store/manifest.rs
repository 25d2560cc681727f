//! What a checkpoint says of itself, sealed: the text ends with the digest of all that comes before, so that a changed
//! metric or position is noticed as a changed weight is.

use lockstep_core::Position;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::FORMAT_VERSION;

/// What comes between the manifest's own text and its digest, and after it.
const SEAL: (&str, &str) = (",\n  \"manifest_sha256\": \"", "\"\n}");

/// The end of the text that the seal takes the place of.
const END: &str = "\n}";

/// Hex digits of a sha256.
const DIGEST_BYTES: usize = 64;

/// What `manifest.json` says. It follows from the position alone: whoever computed a state, it is the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub format_version: u32,
    pub lockstep_version: String,
    pub run: String,
    pub position: Position,
    /// Of the epoch that ended here; absent in the middle of an epoch.
    pub metric: Option<ManifestMetric>,
    pub files: Vec<ManifestFile>,
}

/// The metric by which the best model is chosen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ManifestMetric {
    /// `val/acc_top1` or `test/acc_top1`.
    pub name: String,
    pub value: f64,
    pub epoch: u32,
}

/// A file of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestFile {
    pub name: String,
    pub size_bytes: u64,
    /// Hex.
    pub sha256: String,
}

/// Why a text is no manifest.
#[derive(Debug)]
pub(super) enum Fault {
    Text(serde_json::Error),
    Version(u32),
    Digest,
}

impl Manifest {
    /// The text of the file.
    pub(crate) fn seal(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec_pretty(self).map(Self::sealed)
    }

    /// A text with the seal in place of its end.
    pub(crate) fn sealed(mut text: Vec<u8>) -> Vec<u8> {
        let digest = hex::encode(Sha256::digest(&text));
        text.truncate(text.len().saturating_sub(END.len()));
        text.extend([SEAL.0, &digest, SEAL.1].concat().into_bytes());
        text
    }

    /// Reads what [`Self::seal`] has written, and nothing that differs from it in a single bit.
    pub(super) fn unseal(text: &[u8]) -> Result<Self, Fault> {
        #[derive(Deserialize)]
        struct Version {
            format_version: u32,
        }
        // Before the seal, so that another release's file is told of as such.
        let Version { format_version } = serde_json::from_slice(text).map_err(Fault::Text)?;
        if format_version != FORMAT_VERSION {
            return Err(Fault::Version(format_version));
        }
        let body = sealed_body(text).ok_or(Fault::Digest)?;
        serde_json::from_slice(&body).map_err(Fault::Text)
    }

    /// As [`Self::unseal`], for whoever needs no reason: none of a text that is not whole, or of another format.
    pub(crate) fn read(text: &[u8]) -> Option<Self> {
        Self::unseal(text).ok()
    }

    /// Of all files.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.files.iter().fold(0, |sum: u64, file| sum.saturating_add(file.size_bytes))
    }

    /// The same checkpoint, whichever release wrote it.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.run == other.run
            && self.position == other.position
            && self.metric == other.metric
            && self.files == other.files
    }
}

/// The text without its seal; none when that is missing or does not match.
fn sealed_body(text: &[u8]) -> Option<Vec<u8>> {
    let rest = text.strip_suffix(SEAL.1.as_bytes())?;
    let (rest, digest) = rest.split_at(rest.len().checked_sub(DIGEST_BYTES)?);
    let body = [rest.strip_suffix(SEAL.0.as_bytes())?, END.as_bytes()].concat();
    (hex::encode(Sha256::digest(&body)).as_bytes() == digest).then_some(body)
}
