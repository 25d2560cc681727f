//! Content-addressed files: `blobs/<sha256>`, whole and verified whenever the name exists.
//!
//! A blob is written aside in the same folder, synced, hashed, and only then renamed. So a crash leaves at
//! most an unnamed leftover, two processes that store the same bytes at once do no harm, and a blob that was
//! damaged on disk is replaced the next time its content is stored.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tempfile::TempPath;

/// Large enough that hashing, and not the calls, costs the time.
const COPY_BUFFER_BYTES: usize = 1 << 20;

/// What went wrong with which file of the cache.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub struct BlobError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl BlobError {
    fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self { action, path, source }
    }
}

/// A folder of files named by their sha256.
#[derive(Debug, Clone)]
pub struct BlobCache {
    dir: PathBuf,
    blobs: PathBuf,
}

impl BlobCache {
    /// Opens the cache in `dir`, making the folder when it is not there.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, BlobError> {
        let dir = dir.into();
        let blobs = dir.join("blobs");
        fs::create_dir_all(&blobs).map_err(BlobError::at("create", &blobs))?;
        Ok(Self { dir, blobs })
    }

    /// The cache's own folder; downloads are kept beside the blobs.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the blob lies or would lie. Only for digests made here: `find` takes those from outside.
    pub fn path(&self, digest: &str) -> PathBuf {
        self.blobs.join(digest)
    }

    /// The blob's path, if it is here. A text that is no digest (`../…`) names no blob.
    pub fn find(&self, digest: &str) -> Option<PathBuf> {
        let is_digest = digest.len() == 64 && digest.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let path = is_digest.then(|| self.path(digest))?;
        path.is_file().then_some(path)
    }

    pub fn contains(&self, digest: &str) -> bool {
        self.find(digest).is_some()
    }

    /// Whether the blob is here and its bytes still have its digest.
    pub fn verify(&self, digest: &str) -> Result<bool, BlobError> {
        let Some(path) = self.find(digest) else { return Ok(false) };
        let mut file = File::open(&path).map_err(BlobError::at("open", &path))?;
        Ok(copy_hashed(&mut file, &mut io::sink()).map_err(BlobError::at("read", &path))? == digest)
    }

    /// Stores bytes and returns their digest.
    pub fn insert_bytes(&self, bytes: &[u8]) -> Result<String, BlobError> {
        self.insert_reader(&mut &bytes[..], &self.blobs)
    }

    /// Stores a copy of a file and returns its digest.
    pub fn insert_file(&self, path: &Path) -> Result<String, BlobError> {
        let mut file = File::open(path).map_err(BlobError::at("open", path))?;
        self.insert_reader(&mut file, path)
    }

    /// Stores what `write` puts at the path that it is given, without a second copy: for files that are too
    /// large to be built in memory first.
    pub fn insert_written<E: From<BlobError>>(
        &self,
        write: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<String, E> {
        let aside = self.aside()?.into_temp_path();
        write(&aside)?;
        let digest = {
            // Opened anew and for writing: the writer may have replaced the file, and some systems refuse
            // to sync a file that is open for reading only.
            let mut file =
                File::options().read(true).write(true).open(&aside).map_err(BlobError::at("open", &aside))?;
            file.sync_all().map_err(BlobError::at("sync", &aside))?;
            copy_hashed(&mut file, &mut io::sink()).map_err(BlobError::at("read", &aside))?
        };
        self.publish(aside, &digest)?;
        Ok(digest)
    }

    fn insert_reader(&self, reader: &mut dyn Read, origin: &Path) -> Result<String, BlobError> {
        let mut aside = self.aside()?;
        let digest = copy_hashed(reader, &mut aside).map_err(BlobError::at("store", origin))?;
        aside.as_file().sync_all().map_err(BlobError::at("sync", aside.path()))?;
        self.publish(aside.into_temp_path(), &digest)?;
        Ok(digest)
    }

    fn aside(&self) -> Result<tempfile::NamedTempFile, BlobError> {
        tempfile::Builder::new()
            .prefix(".aside-")
            .tempfile_in(&self.blobs)
            .map_err(BlobError::at("write in", &self.blobs))
    }

    /// Gives a written and synced file its final name, replacing what had it: the bytes are the same, or
    /// the old ones were damaged.
    fn publish(&self, aside: TempPath, digest: &str) -> Result<(), BlobError> {
        let path = self.path(digest);
        aside.persist(&path).map_err(|e| BlobError::at("write", &path)(e.error))?;
        // The rename itself must survive a power cut, or a journal could name a blob that is gone.
        File::open(&self.blobs)
            .and_then(|folder| folder.sync_all())
            .map_err(BlobError::at("sync", &self.blobs))
    }
}

/// Copies to the end and returns the sha256 of what passed, in hexadecimal digits.
fn copy_hashed(from: &mut dyn Read, to: &mut dyn Write) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; COPY_BUFFER_BYTES];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => {
                hasher.update(&buffer[..n]);
                to.write_all(&buffer[..n])?;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    to.flush()?;
    Ok(hex::encode(hasher.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn cache() -> (tempfile::TempDir, BlobCache) {
        let dir = tempfile::tempdir().unwrap();
        let cache = BlobCache::open(dir.path().join("cache")).unwrap();
        (dir, cache)
    }

    fn names(cache: &BlobCache) -> Vec<String> {
        fs::read_dir(cache.dir().join("blobs"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[test]
    fn a_blob_is_named_by_its_sha256_however_it_came_in() {
        let (dir, cache) = cache();
        assert!(!cache.contains(ABC));
        assert_eq!(cache.insert_bytes(b"abc").unwrap(), ABC);
        let file = dir.path().join("abc");
        fs::write(&file, "abc").unwrap();
        assert_eq!(cache.insert_file(&file).unwrap(), ABC);
        let written = cache
            .insert_written::<BlobError>(|path| fs::write(path, "abc").map_err(BlobError::at("write", path)));
        assert_eq!(written.unwrap(), ABC);
        assert_eq!(fs::read(cache.path(ABC)).unwrap(), b"abc");
        assert_eq!(names(&cache), [ABC], "nothing is left aside");
    }

    #[test]
    fn a_failed_write_leaves_nothing() {
        let (dir, cache) = cache();
        let missing = dir.path().join("missing");
        assert!(cache.insert_file(&missing).unwrap_err().to_string().contains("missing"));
        let failed = cache.insert_written::<BlobError>(|path| {
            fs::write(path, "half").unwrap();
            Err(BlobError::at("write", path)(io::Error::other("disk full")))
        });
        assert!(failed.is_err());
        assert!(names(&cache).is_empty());
    }

    #[test]
    fn a_damaged_blob_is_noticed_and_replaced() {
        let (_dir, cache) = cache();
        cache.insert_bytes(b"abc").unwrap();
        assert!(cache.verify(ABC).unwrap());
        fs::write(cache.path(ABC), "abd").unwrap();
        assert!(!cache.verify(ABC).unwrap());
        cache.insert_bytes(b"abc").unwrap();
        assert!(cache.verify(ABC).unwrap());
    }

    #[test]
    fn a_text_that_is_no_digest_names_no_blob() {
        let (_dir, cache) = cache();
        fs::write(cache.dir().join("secret"), "x").unwrap();
        assert!(!cache.contains("../secret"));
        assert!(!cache.contains(""));
        assert!(!cache.verify("../secret").unwrap());
    }
}
