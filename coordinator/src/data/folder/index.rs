//! Which folder of pictures was stored under which digest: `folders/KEY.json` in the cache.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::FolderRequest;
use super::broken::Broken;
use super::decode::Content;
use super::layout::Layout;
use crate::data::{BlobCache, DataError, SplitName, pictures};

/// Changes with what the splits are made of and how they are ordered.
const VERSION: &str = "folder 1";

const FOLDER: &str = "folders";

/// A digest of all that decides what is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key(String);

/// What was stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Index {
    pub(super) digest: String,
    pub(super) train: usize,
    pub(super) test: usize,
    pub(super) broken: Vec<Broken>,
}

impl Key {
    pub(super) fn of(request: &FolderRequest<'_>, layout: &Layout, contents: &[Content]) -> Self {
        let mut hasher = Sha256::new();
        // Each with its length before it: "ab", "c" is not "a", "bc".
        let mut add = |field: &[u8]| {
            hasher.update((field.len() as u64).to_le_bytes());
            hasher.update(field);
        };
        add(VERSION.as_bytes());
        add(pictures::VERSION.as_bytes());
        add(&request.image_size.to_le_bytes());
        if layout.test_folder.is_none() {
            add(&request.seed.to_le_bytes());
            add(&request.test_fraction.to_le_bytes());
        }
        for class in &layout.classes {
            add(class.as_bytes());
        }
        for (picture, content) in layout.pictures.iter().zip(contents) {
            add(match picture.split {
                Some(SplitName::Train) => b"train",
                Some(SplitName::Test) => b"test",
                None => b"any",
            });
            add(&picture.class.to_le_bytes());
            add(picture.file.as_os_str().as_encoded_bytes());
            match content {
                Ok(digest) => add(digest),
                Err(error) => add(error.to_string().as_bytes()),
            }
        }
        Self(hex::encode(hasher.finalize()))
    }
}

impl Index {
    fn path(key: &Key, cache: &BlobCache) -> PathBuf {
        cache.dir().join(FOLDER).join(format!("{}.json", key.0))
    }

    /// What is known under `key`, if the pictures lie whole in the cache. What cannot be read is not known.
    pub(super) fn find(key: &Key, cache: &BlobCache) -> Result<Option<Self>, DataError> {
        let known: Option<Self> =
            fs::read(Self::path(key, cache)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        match known {
            Some(index) if cache.verify(&index.digest)? => Ok(Some(index)),
            _ => Ok(None),
        }
    }

    /// Written aside and renamed: a half of it has no name.
    pub(super) fn write(&self, key: &Key, cache: &BlobCache) -> Result<(), DataError> {
        let folder = cache.dir().join(FOLDER);
        let cannot = DataError::io("write in", &folder);
        let write = || {
            fs::create_dir_all(&folder)?;
            let mut aside = tempfile::NamedTempFile::new_in(&folder)?;
            aside.write_all(&serde_json::to_vec_pretty(self)?)?;
            aside.as_file().sync_all()?;
            aside.persist(Self::path(key, cache)).map_err(|error| error.error)?;
            File::open(&folder)?.sync_all()
        };
        write().map_err(cannot)
    }
}
