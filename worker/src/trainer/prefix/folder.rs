//! Blocks as files: `CACHE/prefix/KEY/NAME`, the activations' bytes and a sha256 over name and bytes.
//!
//! Written aside and renamed, so that members which share the folder never see each other's halves. Nothing is synced: a
//! file that a crash has left damaged is found out by its digest, and computed again.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;
use tracing::warn;

use super::key::Key;

const DIGEST_BYTES: usize = 32;

#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// Nothing more is written once that has failed.
    is_writable: bool,
}

impl Folder {
    pub(super) fn new(cache: &Path, key: &Key) -> Self {
        Self { path: cache.join(hex::encode(key)), is_writable: true }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The block `name` of `size` bytes; none when it is not there, or not whole.
    pub(super) fn load(&self, name: &str, size: usize) -> Option<Vec<u8>> {
        let path = self.path.join(name);
        let mut bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return None,
            Err(error) => {
                warn!(path = %path.display(), %error, "a cached block of activations cannot be read");
                return None;
            }
        };
        let is_whole = bytes.len() == size + DIGEST_BYTES && {
            let (contents, found) = bytes.split_at(size);
            digest(name, contents) == found
        };
        if !is_whole {
            warn!(path = %path.display(), "a cached block of activations is damaged; computing it again");
            return None;
        }
        bytes.truncate(size);
        Some(bytes)
    }

    /// Tells whether it is there for others now. A failure is told once, and nothing more written.
    pub(super) fn store(&mut self, name: &str, contents: &[u8]) -> bool {
        if self.is_writable
            && let Err(error) = self.write(name, contents)
        {
            let path = self.path.display();
            warn!(%path, %error, "cached activations cannot be written; a resumed run will compute them again");
            self.is_writable = false;
        }
        self.is_writable
    }

    fn write(&self, name: &str, contents: &[u8]) -> io::Result<()> {
        fs::create_dir_all(&self.path)?;
        let mut file = NamedTempFile::new_in(&self.path)?;
        file.write_all(contents)?;
        file.write_all(&digest(name, contents))?;
        file.persist(self.path.join(name))?;
        Ok(())
    }

    /// Part of a block that was loaded before.
    pub(super) fn read(&self, name: &str, offset: u64, out: &mut [u8]) -> io::Result<()> {
        File::open(self.path.join(name))?.read_exact_at(out, offset)
    }
}

fn digest(name: &str, contents: &[u8]) -> [u8; DIGEST_BYTES] {
    Sha256::new_with_prefix(name).chain_update(contents).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_comes_back_and_what_is_damaged_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let mut folder = Folder::new(dir.path(), &[7; 32]);
        assert_eq!(folder.load("a", 4), None);
        assert!(folder.store("a", b"four"));
        assert_eq!(folder.load("a", 4).as_deref(), Some(&b"four"[..]));
        let mut part = [0; 2];
        folder.read("a", 1, &mut part).unwrap();
        assert_eq!(&part, b"ou");
        assert_eq!(folder.load("a", 3), None, "of another size");

        let path = folder.path().join("a");
        fs::copy(&path, folder.path().join("b")).unwrap();
        assert_eq!(folder.load("b", 4), None, "another block's");
        let whole = fs::read(&path).unwrap();
        for damaged in [&whole[..whole.len() - 1], &[&b"fxur"[..], &whole[4..]].concat()] {
            fs::write(&path, damaged).unwrap();
            assert_eq!(folder.load("a", 4), None);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing is left aside");
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_given_up() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        let mut folder = Folder::new(&dir.path().join("file"), &[7; 32]);
        assert!(!folder.store("a", b"four") && !folder.store("b", b"four"));
    }
}
