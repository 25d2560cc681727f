//! Reading a checkpoint back: nothing is taken on trust.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::PathBuf;

use lockstep_core::Step;
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::manifest::Fault;
use super::{CheckpointStore, FORMAT_VERSION, MANIFEST, Manifest, ManifestFile};

/// What a look at all checkpoints has found.
#[derive(Debug, Default)]
pub struct Survey {
    /// Of the known ones.
    pub whole: BTreeSet<Step>,
    pub damaged: BTreeMap<Step, Damage>,
    /// Whole ones that nobody knew of: a crash came between the last byte and the journal.
    pub unknown: Vec<Manifest>,
}

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
    /// Looks at the checkpoints of `known` steps, and at whatever else bears a checkpoint's name.
    pub fn survey(&self, known: impl IntoIterator<Item = Step>) -> Survey {
        let mut survey = Survey::default();
        for step in known {
            match self.verify(step) {
                Ok(_) => drop(survey.whole.insert(step)),
                Err(damage) => drop(survey.damaged.insert(step, damage)),
            }
        }
        let is_known = |step: &Step| survey.whole.contains(step) || survey.damaged.contains_key(step);
        // What cannot be listed is not known, as before.
        let others = self.steps().unwrap_or_default().into_iter().filter(|step| !is_known(step));
        survey.unknown = others.filter_map(|step| self.verify(step).ok()).collect();
        survey
    }

    /// Reads every byte of a checkpoint and compares it with its manifest.
    pub fn verify(&self, step: Step) -> Result<Manifest, Damage> {
        let manifest = self.manifest(step)?;
        manifest.files.iter().try_for_each(|file| self.verify_file(step, file))?;
        Ok(manifest)
    }

    /// Whether this very checkpoint is stored and whole.
    pub fn holds(&self, manifest: &Manifest) -> bool {
        let step = manifest.position.step;
        self.manifest(step).is_ok_and(|stored| stored.is_same(manifest)) && self.verify(step).is_ok()
    }

    /// Whether a checkpoint of `step` is there with all its bytes, without reading them.
    pub fn is_complete(&self, step: Step) -> bool {
        self.manifest(step).is_ok_and(|manifest| {
            manifest.files.iter().all(|file| {
                let found = fs::metadata(self.path(step).join(&file.name));
                found.is_ok_and(|found| found.len() == file.size_bytes)
            })
        })
    }

    fn manifest(&self, step: Step) -> Result<Manifest, Damage> {
        let path = self.path(step).join(MANIFEST);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Damage::Missing { path }),
            Err(source) => return Err(Damage::Io { path, source }),
        };
        match Manifest::unseal(&text) {
            Ok(manifest) if manifest.position.step == step => Ok(manifest),
            Ok(manifest) => Err(Damage::OtherStep { path, found: manifest.position.step }),
            Err(Fault::Text(source)) => Err(Damage::Manifest { path, source }),
            Err(Fault::Version(found)) => Err(Damage::Version { path, found }),
            Err(Fault::Digest) => Err(Damage::Digest { path }),
        }
    }

    fn verify_file(&self, step: Step, file: &ManifestFile) -> Result<(), Damage> {
        let path = self.path(step).join(&file.name);
        let mut reader = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Damage::Missing { path }),
            Err(source) => return Err(Damage::Io { path, source }),
        };
        let mut hash = Sha256::new();
        let found =
            io::copy(&mut reader, &mut hash).map_err(|source| Damage::Io { path: path.clone(), source })?;
        if found != file.size_bytes {
            return Err(Damage::Size { path, found, expected: file.size_bytes });
        }
        if hex::encode(hash.finalize()) != file.sha256 {
            return Err(Damage::Digest { path });
        }
        Ok(())
    }
}
