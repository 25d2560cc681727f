//! Where the mirror lies: a folder of an object store, or of a file system.
//!
//! What was sent counts once the store shows it with the size that it has here; on the way every part bears a SHA-256 that
//! the store checks. Large files go in parts, of which only two are in memory.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use object_store::aws::{AmazonS3Builder, Checksum};
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{
    ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, RetryConfig, WriteMultipart,
};
use sha2::{Digest, Sha256};
use thiserror::Error;
use tokio::fs::{self, File};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::rustls::crypto;

use crate::durable;

/// Of a file that is sent in several.
const PART_BYTES: usize = 8 << 20;

/// On their way at a time.
const PARTS_TOGETHER: usize = 2;

/// For one request to a store, with its retries; who asks tries again later, for as long as it takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// A folder of objects.
#[derive(Debug, Clone)]
pub struct Bucket {
    store: Arc<dyn ObjectStore>,
    prefix: String,
    url: String,
}

/// A file that is in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) bytes: u64,
    pub(super) sha256: String,
}

/// What went wrong between here and the store.
#[derive(Debug, Error)]
pub enum BucketError {
    #[error("`{url}` names no store: {reason}")]
    Url { url: String, reason: String },
    #[error("the store {url}: {what}: {reason}")]
    Store { url: String, what: String, reason: String },
    #[error("the store {url} has {found} bytes of {key}, and {sent} were sent")]
    Short { url: String, key: String, found: u64, sent: u64 },
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
}

impl Bucket {
    /// The store that `url` names: `s3://BUCKET/PREFIX`, with credentials, region and endpoint from the usual `AWS_…`
    /// variables, or `file:///FOLDER`. Nothing is asked of it yet.
    pub fn open(url: &str) -> Result<Self, BucketError> {
        let wrong = |reason: String| BucketError::Url { url: url.to_owned(), reason };
        let (scheme, rest) =
            url.split_once("://").ok_or_else(|| wrong("it has the form SCHEME://PLACE".to_owned()))?;
        let (store, prefix): (Arc<dyn ObjectStore>, &str) = match scheme {
            "s3" => {
                let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
                if bucket.is_empty() {
                    return Err(wrong("there is no bucket in it".to_owned()));
                }
                (Arc::new(s3(bucket).map_err(|error| wrong(error.to_string()))?), prefix)
            }
            "file" => {
                std::fs::create_dir_all(rest)
                    .map_err(|source| BucketError::File { path: rest.into(), source })?;
                let folder =
                    LocalFileSystem::new_with_prefix(rest).map_err(|error| wrong(error.to_string()))?;
                (Arc::new(folder.with_fsync(true).with_automatic_cleanup(true)), "")
            }
            other => return Err(wrong(format!("there are s3:// and file://, and no {other}://"))),
        };
        Ok(Self::of(store, prefix, url))
    }

    pub(super) fn of(store: Arc<dyn ObjectStore>, prefix: &str, url: &str) -> Self {
        let prefix = prefix.trim_matches('/');
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        Self { store, prefix, url: url.to_owned() }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// None: there is no such object.
    pub(super) async fn get(&self, key: &str) -> Result<Option<Bytes>, BucketError> {
        let got = match self.store.get(&self.key(key)).await {
            Ok(got) => got.bytes().await,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => Err(error),
        };
        got.map(Some).map_err(self.failed("reading", key))
    }

    pub(super) async fn has(&self, key: &str) -> Result<bool, BucketError> {
        match self.store.head(&self.key(key)).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(self.failed("looking at", key)(error)),
        }
    }

    /// False: there is one of this name already.
    pub(super) async fn create(&self, key: &str, bytes: Vec<u8>) -> Result<bool, BucketError> {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.store.put_opts(&self.key(key), PutPayload::from(bytes), options).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                Ok(false)
            }
            Err(error) => Err(self.failed("writing", key)(error)),
        }
    }

    pub(super) async fn put(&self, key: &str, bytes: Vec<u8>) -> Result<(), BucketError> {
        let sent = bytes.len() as u64;
        self.store.put(&self.key(key), bytes.into()).await.map_err(self.failed("writing", key))?;
        self.look(key, sent).await
    }

    /// Sends a file; none when there is none of this name, or no more.
    pub(super) async fn put_file(&self, key: &str, path: &Path) -> Result<Option<Sent>, BucketError> {
        let file = |source| BucketError::File { path: path.to_owned(), source };
        let mut reader = match File::open(path).await {
            Ok(reader) => reader,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(file(error)),
        };
        let mut first = Vec::new();
        (&mut reader).take(PART_BYTES as u64).read_to_end(&mut first).await.map_err(file)?;
        if first.len() < PART_BYTES {
            let sent = Sent { bytes: first.len() as u64, sha256: hex::encode(Sha256::digest(&first)) };
            self.put(key, first).await?;
            return Ok(Some(sent));
        }
        let failed = || self.failed("writing", key);
        let upload = self.store.put_multipart(&self.key(key)).await.map_err(failed())?;
        let mut upload = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
        let (mut hasher, mut bytes, mut part) = (Sha256::new(), 0, first);
        while !part.is_empty() {
            hasher.update(&part);
            bytes += part.len() as u64;
            // A try that is given up leaves no parts behind that somebody pays for.
            if let Err(error) = upload.wait_for_capacity(PARTS_TOGETHER).await {
                drop(upload.abort().await);
                return Err(failed()(error));
            }
            upload.put(part.into());
            part = Vec::new();
            if let Err(error) = (&mut reader).take(PART_BYTES as u64).read_to_end(&mut part).await {
                drop(upload.abort().await);
                return Err(file(error));
            }
        }
        upload.finish().await.map_err(failed())?;
        self.look(key, bytes).await?;
        Ok(Some(Sent { bytes, sha256: hex::encode(hasher.finalize()) }))
    }

    /// What was sent is there, whole.
    async fn look(&self, key: &str, sent: u64) -> Result<(), BucketError> {
        let found = self.store.head(&self.key(key)).await.map_err(self.failed("looking at", key))?.size;
        if found == sent {
            return Ok(());
        }
        Err(BucketError::Short { url: self.url.clone(), key: key.to_owned(), found, sent })
    }

    /// Brings an object here, under its name once it is whole.
    pub(super) async fn fetch(&self, key: &str, path: &Path) -> Result<(), BucketError> {
        let file = |source| BucketError::File { path: path.to_owned(), source };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).await.map_err(file)?;
        }
        let aside = durable::aside(path);
        let got = self.store.get(&self.key(key)).await.map_err(self.failed("reading", key))?;
        let mut bytes = got.into_stream();
        let mut writer = File::create(&aside).await.map_err(file)?;
        while let Some(part) = bytes.next().await {
            writer.write_all(&part.map_err(self.failed("reading", key))?).await.map_err(file)?;
        }
        writer.sync_all().await.map_err(file)?;
        fs::rename(&aside, path).await.map_err(file)
    }

    /// All keys that begin with `prefix`, a folder's with its last slash.
    pub(super) async fn list(&self, prefix: &str) -> Result<Vec<String>, BucketError> {
        let whole = format!("{}{prefix}", self.prefix);
        let folder = Key::from(whole.trim_end_matches('/'));
        let folder = (!folder.as_ref().is_empty()).then_some(folder);
        let objects = self.store.list(folder.as_ref()).map_ok(|object| object.location.to_string());
        let keys: Vec<String> = objects.try_collect().await.map_err(self.failed("listing", prefix))?;
        Ok(keys.into_iter().filter_map(|key| Some(key.strip_prefix(&self.prefix)?.to_owned())).collect())
    }

    /// Deletes an object; that it is not there is no error.
    pub(super) async fn delete(&self, key: &str) -> Result<(), BucketError> {
        match self.store.delete(&self.key(key)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed("deleting", key)(error)),
        }
    }

    /// Deletes all that begins with `prefix`.
    pub(super) async fn delete_all(&self, prefix: &str) -> Result<(), BucketError> {
        for key in self.list(prefix).await? {
            self.delete(&key).await?;
        }
        Ok(())
    }

    fn key(&self, key: &str) -> Key {
        Key::from(format!("{}{key}", self.prefix))
    }

    fn failed(&self, doing: &str, key: &str) -> impl FnOnce(object_store::Error) -> BucketError {
        let (url, what) = (self.url.clone(), format!("{doing} {key}"));
        move |error| BucketError::Store { url, what, reason: brief(&error.to_string()) }
    }
}

/// What an error comes to: a store's answer is a page of XML with a sentence in it.
fn brief(error: &str) -> String {
    let said = error.split_once("<Message>").and_then(|(_, rest)| rest.split_once("</Message>"));
    let said = said.map_or_else(|| error.lines().next().unwrap_or_default(), |(message, _)| message);
    said.trim().to_owned()
}

fn s3(bucket: &str) -> object_store::Result<impl ObjectStore> {
    // Whoever was first is as good.
    drop(crypto::ring::default_provider().install_default());
    let retry = RetryConfig { max_retries: 3, retry_timeout: PATIENCE, ..RetryConfig::default() };
    AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_checksum_algorithm(Checksum::SHA256)
        .with_retry(retry)
        .build()
}

#[cfg(test)]
mod tests {
    use super::brief;

    #[test]
    fn the_sentence_is_told_and_not_the_page() {
        let page = "Error performing PUT in 5ms - Server returned 404 Not Found: <?xml?>\n<Error><Message>The specified \
                    bucket does not exist</Message></Error>";
        assert_eq!(brief(page), "The specified bucket does not exist");
        assert_eq!(
            brief("Error performing PUT: connection refused\nsource: …"),
            "Error performing PUT: connection refused"
        );
    }
}
