//! What a file must turn out to be: by its checkpoint's manifest where there is one, else by its size.

use std::collections::BTreeMap;

use serde_json::Value;

use super::download::{Trouble, digest};
use super::place::{Kind, Place};
use crate::client::RunClient;
use crate::credentials::client::RemoteError;
use crate::store::{Manifest, ManifestFile};

/// A manifest names a handful of files.
const MANIFEST_BYTES_MAX: usize = 1 << 20;
/// Class names, and what its workers are at.
const STATUS_BYTES_MAX: usize = 16 << 20;

/// What a checkpoint calls the weights, of which `best.safetensors` is a copy.
const WEIGHTS: &str = "model.safetensors";

/// What one file must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Expected {
    /// This, byte for byte: sha256, hex.
    Exactly { size_bytes: u64, sha256: String },
    /// The weights of any of these checkpoints; `now` those of the one that is the best for good.
    OneOf { sha256: Vec<String>, now: Option<String> },
    /// So long.
    Size(u64),
    /// What still grows, or is replaced all the time.
    Anything,
}

/// A checkpoint's manifest, and its text as a file.
#[derive(Debug)]
struct Known {
    manifest: Manifest,
    size_bytes: u64,
    sha256: String,
}

/// What is known of the run's files.
#[derive(Debug)]
pub(super) struct Expectations {
    /// By the checkpoint's folder: the oldest is the first.
    checkpoints: BTreeMap<String, Known>,
    /// Folders of checkpoints whose manifests are not whole.
    pub(super) damaged: Vec<String>,
    /// The best checkpoint's folder, once that does not change any more.
    best: Option<String>,
    is_over: bool,
}

impl Expectations {
    /// Reads what `wanted` needs: of the best model all manifests that are `listed`, since it may be any's.
    pub(super) async fn read(
        client: &RunClient,
        run: &str,
        listed: &[Place],
        wanted: &[&Place],
        is_over: bool,
    ) -> Result<Self, Trouble> {
        let mut this = Self { checkpoints: BTreeMap::new(), damaged: Vec::new(), best: None, is_over };
        if !wanted.iter().any(|place| matches!(place.kind, Kind::Best | Kind::Checkpoint)) {
            return Ok(this);
        }
        for place in listed.iter().filter(|place| place.kind == Kind::Manifest) {
            let text = text(client, run, &place.path, MANIFEST_BYTES_MAX).await;
            let text = text.map_err(|error| Trouble::of_file(error, place))?;
            let Some((folder, _)) = place.in_checkpoint() else { continue };
            match Manifest::read(&text) {
                Some(manifest) => {
                    let hashed = digest(&*text);
                    let (sha256, size_bytes) =
                        hashed.map_err(|source| Trouble::Io { path: (&*place.path).into(), source })?;
                    this.checkpoints.insert(folder.to_owned(), Known { manifest, size_bytes, sha256 });
                }
                None => this.damaged.push(folder.to_owned()),
            }
        }
        if is_over {
            // Without it the best model is fetched again, which is all.
            let text = text(client, run, "run.json", STATUS_BYTES_MAX).await.unwrap_or_default();
            let status: Value = serde_json::from_slice(&text).unwrap_or_default();
            this.best = status["best"]["step"].as_u64().map(|step| format!("step-{step:08}"));
        }
        Ok(this)
    }

    pub(super) fn of(&self, place: &Place) -> Expected {
        let by_size = if self.is_over { Expected::Size(place.size_bytes) } else { Expected::Anything };
        let checkpoint = place.in_checkpoint();
        let checkpoint = checkpoint.and_then(|(folder, name)| Some((self.checkpoints.get(folder)?, name)));
        match (place.kind, checkpoint) {
            (Kind::Best, _) => self.of_best().unwrap_or(by_size),
            (Kind::Manifest, Some((known, _))) => {
                Expected::Exactly { size_bytes: known.size_bytes, sha256: known.sha256.clone() }
            }
            (Kind::Checkpoint, Some((known, name))) => file(&known.manifest, name).map_or(by_size, |file| {
                Expected::Exactly { size_bytes: file.size_bytes, sha256: file.sha256.clone() }
            }),
            _ => by_size,
        }
    }

    /// Whether the file is of a checkpoint that nobody can verify.
    pub(super) fn is_damaged(&self, place: &Place) -> bool {
        place.in_checkpoint().is_some_and(|(folder, _)| self.damaged.iter().any(|damaged| damaged == folder))
    }

    /// None where there is no checkpoint to compare with.
    fn of_best(&self) -> Option<Expected> {
        let sha256: Vec<String> = self.weights().map(|(_, file)| file.sha256.clone()).collect();
        let now = self.weights().find(|(folder, _)| self.best.as_deref() == Some(folder));
        let now = now.map(|(_, file)| file.sha256.clone());
        (!sha256.is_empty()).then_some(Expected::OneOf { sha256, now })
    }

    /// The newest checkpoint's folder.
    pub(super) fn newest(&self) -> Option<&str> {
        self.checkpoints.keys().next_back().map(String::as_str)
    }

    /// The folder of the checkpoint whose weights these are.
    pub(super) fn checkpoint_of(&self, sha256: &str) -> Option<&str> {
        self.weights().find(|(_, file)| file.sha256 == sha256).map(|(folder, _)| folder)
    }

    fn weights(&self) -> impl Iterator<Item = (&str, &ManifestFile)> {
        self.checkpoints
            .iter()
            .filter_map(|(folder, known)| Some((&**folder, file(&known.manifest, WEIGHTS)?)))
    }
}

/// A small file; nothing of one that is too large to be what it should.
async fn text(client: &RunClient, run: &str, path: &str, bytes_max: usize) -> Result<Vec<u8>, RemoteError> {
    let content = client.file(run, path).await?.all(bytes_max).await?;
    Ok(content.unwrap_or_default())
}

fn file<'a>(manifest: &'a Manifest, name: &str) -> Option<&'a ManifestFile> {
    manifest.files.iter().find(|file| file.name == name)
}
