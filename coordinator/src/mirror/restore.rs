//! A home from the store: when the machine is lost that had it.
//!
//! Files come first, each under its name once it is whole, then the journal in one transaction: cut off before, the home is
//! as empty as it was, and restoring it again fetches what is missing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use futures_util::{StreamExt, TryStreamExt, stream};
use lockstep_core::{History, Step};

use super::bucket::Bucket;
use super::segment::{self, Segment};
use super::state::{Registered, Restored, State};
use super::{HomeObject, MirrorError, layout};
use crate::home::Home;
use crate::run_folder::RunFolder;
use crate::store::CheckpointStore;

/// Runs that are brought back at a time.
const TOGETHER: usize = 4;

/// What came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Brought {
    pub runs: usize,
    pub checkpoints: usize,
}

/// Writes everything that `bucket` has into `home`, whose journal is empty.
pub(super) async fn restore(bucket: &Bucket, home: &Home, state: &State) -> Result<Brought, MirrorError> {
    let url = bucket.url().to_owned();
    if !state.is_empty()? {
        return Err(MirrorError::NotEmpty { home: home.path.clone() });
    }
    let Some(mine) = HomeObject::read(bucket).await? else { return Err(MirrorError::Nothing { url }) };
    let mut runs: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for key in bucket.list(layout::RUNS).await? {
        if let Some((run, _)) = key[layout::RUNS.len()..].split_once('/')
            && RunFolder::path_of(Path::new(""), run).is_ok()
        {
            runs.entry(run.to_owned()).or_default().push(key);
        }
    }
    let bring = |(run, keys)| bring(bucket, home, run, keys);
    let mut brought: Vec<(Restored, usize)> = stream::iter(runs)
        .map(bring)
        .buffer_unordered(TOGETHER)
        .try_filter_map(async |run| Ok(run))
        .try_collect()
        .await?;
    brought.sort_by(|(a, _), (b, _)| a.run.cmp(&b.run));
    let checkpoints = brought.iter().map(|(_, checkpoints)| checkpoints).sum();
    let restored: Vec<Restored> = brought.into_iter().map(|(restored, _)| restored).collect();
    let runs = restored.len();
    inputs(bucket, home, &restored).await?;
    state.restore(restored)?;
    state.set(vec![("home", mine.home), ("owner", mine.owner), ("url", url)])?;
    Ok(Brought { runs, checkpoints })
}

/// None: there is too little of it to be a run; its first entries never came to the store.
async fn bring(
    bucket: &Bucket,
    home: &Home,
    run: String,
    keys: Vec<String>,
) -> Result<Option<(Restored, usize)>, MirrorError> {
    let damaged = |key: &str, reason: String| MirrorError::Damaged { key: key.to_owned(), reason };
    let mut segments = Vec::new();
    for key in keys.iter().filter(|key| key.starts_with(&layout::journal(&run))) {
        let bytes = bucket.get(key).await?.ok_or_else(|| damaged(key, "it went away".to_owned()))?;
        segments.push(Segment::decode(&run, &bytes).map_err(|error| damaged(key, error.to_string()))?);
    }
    let rows = segment::join(segments).map_err(|error| damaged(&layout::journal(&run), error.to_string()))?;
    let record = layout::record(&run);
    let registered: Option<Registered> = match bucket.get(&record).await? {
        Some(bytes) => {
            Some(serde_json::from_slice(&bytes).map_err(|error| damaged(&record, error.to_string()))?)
        }
        None => None,
    };
    if rows.is_empty() && registered.is_none() {
        return Ok(None);
    }
    let folder = RunFolder::path_of(&home.path, &run)?;
    let history = History::from_entries(rows.iter().map(|row| row.entry.clone()));
    let mut checkpoints = 0;
    if let Some(history) = &history {
        let files = format!("{}files/", layout::run(&run));
        for key in &keys {
            if let Some(place) = key.strip_prefix(&files).and_then(layout::place) {
                bucket.fetch(key, &folder.join(place)).await?;
            }
        }
        let whole: BTreeSet<Step> = history
            .checkpoints
            .keys()
            .filter(|step| keys.contains(&layout::manifest(&run, **step)))
            .copied()
            .collect();
        for step in whole {
            checkpoints += usize::from(checkpoint(bucket, &run, &folder, step, &keys).await?);
        }
    }
    Ok(Some((Restored { run, rows, registered }, checkpoints)))
}

/// Fetches a checkpoint, and looks at it as at any other. One that is damaged is left out: the one before it serves.
async fn checkpoint(
    bucket: &Bucket,
    run: &str,
    folder: &Path,
    step: Step,
    keys: &[String],
) -> Result<bool, MirrorError> {
    let store = CheckpointStore::reading(folder.join("checkpoints"));
    let verified = || tokio::task::block_in_place(|| store.verify(step));
    if verified().is_ok() {
        return Ok(true);
    }
    let prefix = layout::checkpoint(run, step);
    for key in keys {
        if let Some(place) = key.strip_prefix(&prefix).and_then(layout::place) {
            bucket.fetch(key, &store.path(step).join(place)).await?;
        }
    }
    if let Err(damage) = verified() {
        tracing::warn!(run, %step, %damage, "a checkpoint in the store is not used");
        tokio::task::block_in_place(|| std::fs::remove_dir_all(store.path(step)))?;
        return Ok(false);
    }
    Ok(true)
}

async fn inputs(bucket: &Bucket, home: &Home, runs: &[Restored]) -> Result<(), MirrorError> {
    let histories =
        runs.iter().filter_map(|run| History::from_entries(run.rows.iter().map(|row| row.entry.clone())));
    let digests: BTreeSet<String> =
        histories.flat_map(|history| history.origin.digests().cloned().collect::<Vec<_>>()).collect();
    for digest in digests {
        let key = layout::blob(&digest);
        if home.blobs.contains(&digest) || !bucket.has(&key).await? {
            // What is in neither place is made or downloaded again when it is needed.
            continue;
        }
        let aside = tempfile::NamedTempFile::new_in(home.blobs.dir())?;
        bucket.fetch(&key, aside.path()).await?;
        let found = tokio::task::block_in_place(|| home.blobs.insert_file(aside.path()))?;
        if found != digest {
            return Err(MirrorError::Damaged { key, reason: format!("its digest is {found}") });
        }
    }
    Ok(())
}
