//! Reading a checkpoint back: nothing is taken on trust.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;

use lockstep_core::Step;
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::{CheckpointStore, FORMAT_VERSION, MANIFEST, Manifest};

/// Why a checkpoint is not used.
#[derive(Debug, Error)]
pub enum Damage {
    #[error("{} is missing", path.display())]
    Missing { path: PathBuf },
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{} does not read: {source}", path.display())]
    Manifest { path: PathBuf, source: serde_json::Error },
    #[error("{} has format {found}, this version reads {FORMAT_VERSION}", path.display())]
    Version { path: PathBuf, found: u32 },
    #[error("{} is of step {found}", path.display())]
    OtherStep { path: PathBuf, found: Step },
    #[error("{} has {found} bytes instead of {expected}", path.display())]
    Size { path: PathBuf, found: u64, expected: u64 },
    #[error("{} does not match its digest", path.display())]
    Digest { path: PathBuf },
}

impl CheckpointStore {
    /// Reads every byte of a checkpoint and compares it with its manifest.
    pub fn verify(&self, step: Step) -> Result<Manifest, Damage> {
        let folder = self.path(step);
        let path = folder.join(MANIFEST);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Damage::Missing { path }),
            Err(source) => return Err(Damage::Io { path, source }),
        };
        let manifest: Manifest = serde_json::from_slice(&text)
            .map_err(|source| Damage::Manifest { path: path.clone(), source })?;
        if manifest.format_version != FORMAT_VERSION {
            return Err(Damage::Version { path, found: manifest.format_version });
        }
        if manifest.position.step != step {
            return Err(Damage::OtherStep { path, found: manifest.position.step });
        }
        for file in &manifest.files {
            let path = folder.join(&file.name);
            let mut reader = match File::open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Err(Damage::Missing { path });
                }
                Err(source) => return Err(Damage::Io { path, source }),
            };
            let mut hash = Sha256::new();
            let found = io::copy(&mut reader, &mut hash)
                .map_err(|source| Damage::Io { path: path.clone(), source })?;
            if found != file.size_bytes {
                return Err(Damage::Size { path, found, expected: file.size_bytes });
            }
            if hex::encode(hash.finalize()) != file.sha256 {
                return Err(Damage::Digest { path });
            }
        }
        Ok(manifest)
    }
}
