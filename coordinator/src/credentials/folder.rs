//! The folder that the authority lives in: keys that only their owner reads, and nothing overwritten unasked.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::error::CredentialError;
use crate::durable;

const SECRET_MODE: u32 = 0o600;
const PUBLIC_MODE: u32 = 0o644;
const FOLDER_MODE: u32 = 0o700;

/// No file of credentials is longer; what is, is something else.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A folder of credentials, held by this process alone while it is changed.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// Two containers may start on one volume and both make what is missing.
    _lock: File,
}

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Readers {
    Owner,
    Everybody,
}

impl Folder {
    /// Makes the folder where there is none.
    pub(super) fn create(path: &Path) -> Result<Self, CredentialError> {
        let failed = |source| CredentialError::write(path, source);
        DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(path).map_err(failed)?;
        // An empty one may have been made for us, a volume's root say; what is in use is its owner's matter.
        if fs::read_dir(path).map_err(failed)?.next().is_none() {
            fs::set_permissions(path, fs::Permissions::from_mode(FOLDER_MODE)).map_err(failed)?;
        }
        Self::open(path)
    }

    pub(super) fn open(path: &Path) -> Result<Self, CredentialError> {
        let failed = |source| CredentialError::read(path, source);
        let lock = File::open(path).map_err(failed)?;
        // Some network file systems lock no folders; two at once are rare enough there.
        if let Err(error) = lock.lock() {
            tracing::debug!(%error, "{} is not locked", path.display());
        }
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.path(name).symlink_metadata().is_ok()
    }

    pub(super) fn read(&self, name: &str) -> Result<Vec<u8>, CredentialError> {
        read(&self.path(name))
    }

    /// Writes a file in one step. One that is there stays, unless it is to be replaced.
    pub(super) fn write(
        &self,
        name: &str,
        text: &str,
        readers: Readers,
        replace: bool,
    ) -> Result<PathBuf, CredentialError> {
        let path = self.path(name);
        if !replace && self.has(name) {
            return Err(CredentialError::Exists { path });
        }
        write(&path, text, readers)?;
        Ok(path)
    }
}

/// Writes a file in one step, readable by whom it may be from its first byte on.
pub(super) fn write(path: &Path, text: &str, readers: Readers) -> Result<(), CredentialError> {
    let mode = match readers {
        Readers::Owner => SECRET_MODE,
        Readers::Everybody => PUBLIC_MODE,
    };
    let aside = durable::aside(path);
    let written = remove(&aside).and_then(|()| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&aside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&aside, path)?;
        durable::sync_folder(
            path.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new(".")),
        )
    });
    written
        .map_err(|source| CredentialError::write(path, source))
        .inspect_err(|_| drop(fs::remove_file(&aside)))
}

/// What a write that was cut short has left.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A file of credentials.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, CredentialError> {
    let failed = |source| CredentialError::read(path, source);
    let length = fs::metadata(path).map_err(failed)?.len();
    if length > FILE_BYTES_MAX {
        return Err(failed(io::Error::other(format!(
            "{length} bytes are too many for a certificate, key or token"
        ))));
    }
    fs::read(path).map_err(failed)
}

/// A file that holds a secret.
pub(super) fn read_secret(path: &Path) -> Result<String, CredentialError> {
    String::from_utf8(read(path)?).map_err(|_| CredentialError::unusable(path, "it is no text"))
}

/// What is to be said of a secret that others may read too. No more than said: a volume of secrets may be mounted so.
pub(super) fn looseness(path: &Path) -> Option<String> {
    let is_loose = fs::metadata(path).is_ok_and(|metadata| metadata.mode() & 0o007 != 0);
    is_loose.then(|| format!("{} may be read by everybody on this machine: chmod 600 it", path.display()))
}
