//! Models out: a `state_dict` under torchvision's names, shapes and types that any PyTorch program loads.
//!
//! Two forms, one content: all entries of torchvision's `state_dict`, and a description (class names, picture size,
//! normalisation, recipe, metrics) where it disturbs no reader.

mod pth;

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::trained::{Description, TrainedModel};
use crate::weights::{self, StateDict, WeightsError};

/// The form of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Numbers and text alone; loads with the safetensors package
    Safetensors,
    /// As torch.save writes it; loads with torch.load(path, weights_only=True)
    Pth,
}

impl Format {
    /// The extension of the file's name.
    #[must_use]
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Safetensors => "safetensors",
            Self::Pth => "pth",
        }
    }
}

/// A file that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    pub path: PathBuf,
    pub size_bytes: u64,
    /// In lower-case hexadecimal digits.
    pub sha256: String,
    /// Entries of the `state_dict`.
    pub tensors: usize,
}

/// Why a model could not be exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error("{} exists already", path.display())]
    Exists { path: PathBuf },

    #[error("{} cannot be written: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },

    #[error("the file cannot be made: {reason}")]
    Encode { reason: String },

    #[error(transparent)]
    Weights(#[from] WeightsError),
}

/// Writes `trained` to `path`: aside, synced, then renamed. What lies there already stays, unless `force`.
///
/// # Errors
/// A file of that name without `force`; weights that do not read; a disk that does not take it.
pub fn export(
    trained: &TrainedModel,
    format: Format,
    path: &Path,
    force: bool,
) -> Result<Exported, ExportError> {
    // Asked again when it gets its name; this saves the work.
    if !force && path.symlink_metadata().is_ok() {
        return Err(ExportError::Exists { path: path.to_owned() });
    }
    let state = weights::load(&trained.weights, Some(trained.model))?.state;
    let bytes = encode(&state, &Description::of(trained), format)?;
    write(path, &bytes, force)?;
    Ok(Exported {
        path: path.to_owned(),
        size_bytes: bytes.len() as u64,
        sha256: hex::encode(Sha256::digest(&bytes)),
        tensors: state.entries.len(),
    })
}

/// The file's bytes; equal models make equal ones.
pub fn encode(state: &StateDict, description: &Description, format: Format) -> Result<Vec<u8>, ExportError> {
    let failed = |reason: String| ExportError::Encode { reason };
    let text = serde_json::to_string(description).map_err(|error| failed(error.to_string()))?;
    match format {
        Format::Safetensors => {
            state.to_safetensors(weights::DESCRIPTION, text).map_err(|error| failed(error.to_string()))
        }
        Format::Pth => pth::encode(state, &text).map_err(|error| failed(error.to_string())),
    }
}

fn write(path: &Path, bytes: &[u8], force: bool) -> Result<(), ExportError> {
    let failed = |source| ExportError::Io { path: path.to_owned(), source };
    let folder = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let mut aside = new_file_in(folder).map_err(failed)?;
    aside.write_all(bytes).and_then(|()| aside.as_file().sync_all()).map_err(failed)?;
    let named = if force { aside.persist(path) } else { aside.persist_noclobber(path) };
    named.map_err(|error| match error.error.kind() {
        io::ErrorKind::AlreadyExists => ExportError::Exists { path: path.to_owned() },
        _ => failed(error.error),
    })?;
    // The rename itself must survive a power cut.
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
}

/// Like any file that a person makes: as their umask has it, and not for them alone as temporary files are.
fn new_file_in(folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    use std::os::unix::fs::PermissionsExt;

    tempfile::Builder::new()
        .prefix(".lockstep-export-")
        .permissions(std::fs::Permissions::from_mode(0o666))
        .tempfile_in(folder)
}

#[cfg(test)]
mod tests;
