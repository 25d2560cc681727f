//! Taking a checkpoint in, piece by piece, as it comes over the wire.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use sha2::{Digest, Sha256};
use thiserror::Error;

use super::{CheckpointStore, MANIFEST, Manifest, ManifestFile};
use crate::durable;

/// Larger than any model here (ResNet152 with optimizer is 0.5 GB), small enough to refuse nonsense.
const FILE_BYTES_MAX: u64 = 16 << 30;

/// The files that a checkpoint holds.
const FILE_NAMES: [&str; 2] = ["model.safetensors", "optimizer.safetensors"];

/// A checkpoint under construction. Dropping it removes what was written.
#[derive(Debug)]
pub struct CheckpointWriter {
    store: CheckpointStore,
    manifest: Manifest,
    folder: PathBuf,
    /// The file being written: its index, itself, its hash and how many bytes it still wants.
    current: Option<Current>,
    next: usize,
    finished: bool,
}

#[derive(Debug)]
struct Current {
    file: BufWriter<File>,
    hash: Sha256,
    missing_bytes: u64,
}

/// Why a checkpoint was not stored.
#[derive(Debug, Error)]
pub enum WriteError {
    #[error("a checkpoint holds {} and {}, not {names:?}", FILE_NAMES[0], FILE_NAMES[1])]
    Files { names: Vec<String> },
    #[error("{name} of {size_bytes} bytes is larger than a checkpoint's file can be")]
    TooLarge { name: String, size_bytes: u64 },
    #[error("{name} arrived with another digest than announced")]
    Digest { name: String },
    #[error("more bytes arrived than announced")]
    Excess,
    #[error("the files ended {missing_bytes} bytes early")]
    Short { missing_bytes: u64 },
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl CheckpointStore {
    /// Starts a checkpoint with the files that `manifest` announces.
    pub fn begin(&self, manifest: Manifest) -> Result<CheckpointWriter, WriteError> {
        let mut names: Vec<&str> = manifest.files.iter().map(|file| file.name.as_str()).collect();
        names.sort_unstable();
        if names != FILE_NAMES {
            return Err(WriteError::Files { names: names.into_iter().map(str::to_owned).collect() });
        }
        for ManifestFile { name, size_bytes, .. } in &manifest.files {
            if *size_bytes > FILE_BYTES_MAX {
                return Err(WriteError::TooLarge { name: name.clone(), size_bytes: *size_bytes });
            }
        }
        let folder = self.unfinished(manifest.position.step);
        fs::create_dir(&folder).map_err(|source| WriteError::Io { path: folder.clone(), source })?;
        let store = self.clone();
        Ok(CheckpointWriter { store, manifest, folder, current: None, next: 0, finished: false })
    }
}

impl CheckpointWriter {
    /// Takes the next bytes, which run through the files in the manifest's order.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<(), WriteError> {
        loop {
            let mut current = match self.current.take() {
                Some(current) => current,
                None if self.next < self.manifest.files.len() => self.open_next()?,
                None if bytes.is_empty() => return Ok(()),
                None => return Err(WriteError::Excess),
            };
            let fits = bytes.len().min(usize::try_from(current.missing_bytes).unwrap_or(usize::MAX));
            let (now, rest) = bytes.split_at(fits);
            current.hash.update(now);
            current.missing_bytes -= now.len() as u64;
            current.file.write_all(now).map_err(|source| self.io(source))?;
            bytes = rest;
            if current.missing_bytes == 0 {
                self.close(current)?;
                continue;
            }
            self.current = Some(current);
            return Ok(());
        }
    }

    /// Writes the manifest and gives the checkpoint its name, unless a whole one has it already. It is durable when this
    /// returns.
    ///
    /// Returns the size of all files in bytes.
    pub fn finish(mut self) -> Result<u64, WriteError> {
        self.write(&[])?;
        if let Some(current) = &self.current {
            return Err(WriteError::Short { missing_bytes: current.missing_bytes });
        }
        let text = self.manifest.seal().map_err(|error| self.io(error.into()))?;
        let step = self.manifest.position.step;
        let path = self.store.path(step);
        let _naming = self.store.lock();
        if self.store.holds(&self.manifest) {
            return Ok(self.manifest.size_bytes());
        }
        let commit = || -> io::Result<()> {
            durable::write_file(&self.folder.join(MANIFEST), &text)?;
            durable::sync_folder(&self.folder)?;
            // A damaged one may have the name.
            self.store.delete_locked(step)?;
            fs::rename(&self.folder, &path)?;
            durable::sync_folder(&self.store.folder)
        };
        commit().map_err(|source| WriteError::Io { path: path.clone(), source })?;
        self.finished = true;
        Ok(self.manifest.size_bytes())
    }

    fn open_next(&mut self) -> Result<Current, WriteError> {
        let ManifestFile { name, size_bytes, .. } = &self.manifest.files[self.next];
        let file = File::create(self.folder.join(name)).map_err(|source| self.io(source))?;
        let missing_bytes = *size_bytes;
        self.next += 1;
        Ok(Current { file: BufWriter::new(file), hash: Sha256::new(), missing_bytes })
    }

    fn close(&self, current: Current) -> Result<(), WriteError> {
        let ManifestFile { name, sha256, .. } = &self.manifest.files[self.next - 1];
        let file = current.file.into_inner().map_err(|error| self.io(error.into_error()))?;
        file.sync_all().map_err(|source| self.io(source))?;
        if hex::encode(current.hash.finalize()) != *sha256 {
            return Err(WriteError::Digest { name: name.clone() });
        }
        Ok(())
    }

    fn io(&self, source: io::Error) -> WriteError {
        WriteError::Io { path: self.folder.clone(), source }
    }
}

impl Drop for CheckpointWriter {
    fn drop(&mut self) {
        if !self.finished
            && let Err(error) = fs::remove_dir_all(&self.folder)
        {
            tracing::warn!(folder = %self.folder.display(), %error, "an unfinished checkpoint was left behind");
        }
    }
}
