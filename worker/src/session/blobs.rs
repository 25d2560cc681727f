//! Content-addressed files in the cache folder: `blobs/<sha256>`, the layout that the coordinator keeps too, so that
//! workers on its machine find everything there.
//!
//! A file is hashed before it is used. What is fetched is written aside and renamed once its digest is right, so
//! that workers which share a folder never see each other's halves.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;
use tokio::sync::mpsc;
use tokio::task;
use tracing::{info, warn};

use crate::client::{Bulk, ClientError};

/// Chunks on their way from the network to the disk.
const CHUNKS_IN_FLIGHT: usize = 4;
const BUFFER_BYTES: usize = 1 << 20;

/// Why a file could not be had.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    #[error("cannot fetch {digest}: {source}")]
    Fetch { digest: String, source: ClientError },
    #[error("what the coordinator sent as {expected} has the sha256 {found}")]
    Digest { expected: String, found: String },
    #[error("cannot store {digest} in {}: {source}", dir.display())]
    Store { digest: String, dir: PathBuf, source: io::Error },
}

impl BlobError {
    /// What the coordinator, or the way to it, has to do with it.
    pub(super) fn of_the_coordinator(&self) -> Option<&ClientError> {
        match self {
            Self::Fetch { source, .. } => Some(source),
            Self::Digest { .. } | Self::Store { .. } => None,
        }
    }
}

/// The folder.
#[derive(Debug, Clone)]
pub(super) struct Blobs {
    dir: PathBuf,
}

impl Blobs {
    /// In the cache folder `cache`.
    pub(super) fn new(cache: &Path) -> Self {
        Self { dir: cache.join("blobs") }
    }

    /// Where a blob lies once [`Self::obtain`] has succeeded.
    pub(super) fn path(&self, digest: &str) -> PathBuf {
        self.dir.join(digest)
    }

    /// Makes sure that the blob is here and whole.
    pub(super) async fn obtain(&self, bulk: &Bulk, digest: &str) -> Result<(), BlobError> {
        let path = self.path(digest);
        let found = task::spawn_blocking(move || hash_file(&path)).await;
        match found.map_err(io::Error::other).flatten() {
            Ok(found) if found == digest => return Ok(()),
            Ok(found) => warn!(digest, found, "a cached file is damaged; fetching it again"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => warn!(digest, %error, "a cached file cannot be read; fetching it again"),
        }
        self.fetch(bulk, digest).await
    }

    async fn fetch(&self, bulk: &Bulk, digest: &str) -> Result<(), BlobError> {
        let refuse = |source| BlobError::Fetch { digest: digest.to_owned(), source };
        let store = |source| BlobError::Store { digest: digest.to_owned(), dir: self.dir.clone(), source };
        let mut download = bulk.fetch_blob(digest).await.map_err(refuse)?;
        let (chunks, received) = mpsc::channel(CHUNKS_IN_FLIGHT);
        let dir = self.dir.clone();
        let writer = task::spawn_blocking(move || write_aside(&dir, received));
        while let Some(chunk) = download.next().await.map_err(refuse)? {
            if chunks.send(chunk).await.is_err() {
                // The writer has failed and says why below.
                break;
            }
        }
        drop(chunks);
        let (file, found, size_bytes) = writer.await.map_err(io::Error::other).flatten().map_err(store)?;
        if found != digest {
            return Err(BlobError::Digest { expected: digest.to_owned(), found });
        }
        file.persist(self.path(digest)).map_err(|error| store(error.error))?;
        info!(digest, size_bytes, "fetched");
        Ok(())
    }
}

fn write_aside<B: AsRef<[u8]>>(
    dir: &Path,
    mut chunks: mpsc::Receiver<B>,
) -> io::Result<(NamedTempFile, String, u64)> {
    std::fs::create_dir_all(dir)?;
    let mut file = NamedTempFile::new_in(dir)?;
    let (mut hash, mut size_bytes) = (Sha256::new(), 0);
    while let Some(chunk) = chunks.blocking_recv() {
        let chunk = chunk.as_ref();
        hash.update(chunk);
        file.write_all(chunk)?;
        size_bytes += chunk.len() as u64;
    }
    Ok((file, hex::encode(hash.finalize()), size_bytes))
}

fn hash_file(path: &Path) -> io::Result<String> {
    let mut file = BufReader::with_capacity(BUFFER_BYTES, File::open(path)?);
    let mut hash = Sha256::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex::encode(hash.finalize())),
            bytes => hash.update(&buffer[..bytes]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_written_aside_is_hashed_and_gone_unless_it_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (chunks, received) = mpsc::channel(2);
        chunks.send(b"hel".to_vec()).await.unwrap();
        chunks.send(b"lo".to_vec()).await.unwrap();
        drop(chunks);
        let blobs = dir.path().join("blobs");
        let folder = blobs.clone();
        let (file, digest, size) =
            task::spawn_blocking(move || write_aside(&folder, received)).await.unwrap().unwrap();
        assert_eq!((digest.as_str(), size), (hex::encode(Sha256::digest("hello")).as_str(), 5));
        assert_eq!(hash_file(file.path()).unwrap(), digest);
        drop(file);
        assert_eq!(std::fs::read_dir(&blobs).unwrap().count(), 0);
    }
}
