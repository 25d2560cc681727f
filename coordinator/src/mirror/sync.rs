//! Brings one run in the store up to date with the journal.
//!
//! In this order: checkpoints, data and weights, other files, then the entries that name them, then the register's row, and
//! at last what the entries say is deleted. So whatever the store's entries name is in the store, wherever this is cut off,
//! and doing it again is doing the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use lockstep_core::{History, Step};

use super::bucket::Bucket;
use super::segment::Segment;
use super::state::{Known, State};
use super::{Count, MirrorError, layout};
use crate::home::Home;
use crate::run_folder::RunFolder;
use crate::store::{CheckpointStore, Manifest};

/// What was sent in this process's life: size and time of change by path.
type Seen = BTreeMap<PathBuf, (u64, SystemTime)>;

#[derive(Debug)]
pub(super) struct Sync<'a> {
    pub(super) bucket: &'a Bucket,
    pub(super) state: &'a State,
    pub(super) home: &'a Home,
    pub(super) count: &'a Count,
    pub(super) seen: &'a mut Seen,
    /// Data sets and weights that the store has.
    pub(super) blobs: &'a mut BTreeSet<String>,
    /// A run has gone, and with it perhaps the last that was made of a data set or of weights.
    pub(super) untidy: &'a mut bool,
}

impl Sync<'_> {
    pub(super) async fn run(&mut self, run: &str) -> Result<(), MirrorError> {
        let mut known = self.known(run)?;
        let oldest = known.rows.first().map(|row| row.seq);
        if known.mirrored > 0 && oldest.is_none_or(|oldest| oldest > known.mirrored) {
            // It was deleted here; a run of the same name may have come.
            *self.untidy = true;
            self.bucket.delete_all(&layout::run(run)).await?;
            self.state.note(run, None, 0)?;
            self.seen.retain(|path, _| !path.starts_with(self.home.path.join("runs").join(run)));
            known.mirrored = 0;
        }
        if known.rows.is_empty() && known.registered.is_none() {
            *self.untidy = true;
            self.bucket.delete_all(&layout::run(run)).await?;
            return Ok(self.state.note(run, None, known.changes)?);
        }
        let Ok(folder) = RunFolder::path_of(&self.home.path, run) else {
            // What is in the journal may be any name; what is in the store may not.
            return Ok(self.state.note(run, Some(known.mirrored), known.changes)?);
        };
        let history = History::from_entries(known.rows.iter().map(|row| row.entry.clone()));
        let mut stored = BTreeSet::new();
        if let Some(history) = &history {
            stored = self.checkpoints(run, &folder, history).await?;
            self.inputs(history).await?;
            self.files(run, &folder, history.outcome.is_some()).await?;
        }
        let last = self.entries(run, &known, history.as_ref()).await?;
        if let Some(registered) = &known.registered {
            let bytes = serde_json::to_vec(registered).map_err(MirrorError::Encode)?;
            self.sent(self.bucket.put(&layout::record(run), bytes).await)?;
        }
        let kept =
            |step: &Step| history.as_ref().is_some_and(|history| history.checkpoints.contains_key(step));
        for step in stored.iter().filter(|step| !kept(step)) {
            self.bucket.delete_all(&layout::checkpoint(run, *step)).await?;
        }
        Ok(self.state.note(run, Some(last), known.changes)?)
    }

    /// Deletes data sets and weights that no run began with. One that begins with them meanwhile sends them again.
    pub(super) async fn tidy(&mut self) -> Result<(), MirrorError> {
        let needed = tokio::task::block_in_place(|| self.state.inputs())?;
        let stored = self.bucket.list(layout::BLOBS).await?;
        for digest in stored.iter().filter_map(|key| key.strip_prefix(layout::BLOBS)) {
            if !needed.contains(digest) {
                self.blobs.remove(digest);
                self.bucket.delete(&layout::blob(digest)).await?;
            }
        }
        Ok(())
    }

    fn known(&self, run: &str) -> Result<Known, MirrorError> {
        Ok(tokio::task::block_in_place(|| self.state.known(run))?)
    }

    /// Sends those that the history names; returns all that the store has.
    async fn checkpoints(
        &mut self,
        run: &str,
        folder: &Path,
        history: &History,
    ) -> Result<BTreeSet<Step>, MirrorError> {
        let prefix = layout::checkpoints(run);
        let keys = self.bucket.list(&prefix).await?;
        let mut stored: BTreeSet<Step> =
            keys.iter().filter_map(|key| layout::step_of(&prefix, key)).collect();
        let is_whole = |step: Step| keys.contains(&layout::manifest(run, step));
        let store = CheckpointStore::reading(folder.join("checkpoints"));
        for step in history.checkpoints.keys().filter(|step| !is_whole(**step)) {
            // One that is gone was deleted in the meantime, which the next entries tell, or is damaged.
            let Some(manifest) = tokio::task::block_in_place(|| store.verify(*step)).ok() else { continue };
            if self.checkpoint(run, &store.path(*step), *step, &manifest).await? {
                stored.insert(*step);
            }
        }
        Ok(stored)
    }

    /// The manifest goes last: what has one is whole. False: it went away on the way.
    async fn checkpoint(
        &mut self,
        run: &str,
        path: &Path,
        step: Step,
        manifest: &Manifest,
    ) -> Result<bool, MirrorError> {
        for file in &manifest.files {
            let key = format!("{}{}", layout::checkpoint(run, step), file.name);
            let Some(sent) = self.file(&key, &path.join(&file.name)).await? else { return Ok(false) };
            if sent != file.sha256 {
                return Err(MirrorError::Changed { path: path.join(&file.name) });
            }
        }
        Ok(self.file(&layout::manifest(run, step), &path.join("manifest.json")).await?.is_some())
    }

    /// What a run cannot go on without, and whose source may be gone by then.
    async fn inputs(&mut self, history: &History) -> Result<(), MirrorError> {
        for digest in history.origin.digests() {
            let Some(path) = self.home.blobs.find(digest).filter(|_| !self.blobs.contains(digest)) else {
                continue;
            };
            let key = layout::blob(digest);
            if !self.bucket.has(&key).await? {
                match self.file(&key, &path).await? {
                    Some(sent) if sent != *digest => {
                        self.bucket.delete(&key).await?;
                        return Err(MirrorError::Changed { path });
                    }
                    Some(_) => {}
                    None => continue,
                }
            }
            self.blobs.insert(digest.clone());
        }
        Ok(())
    }

    /// All that lies in the run's folder for people; what is still being written to at every moment, once it is over.
    async fn files(&mut self, run: &str, folder: &Path, is_over: bool) -> Result<(), MirrorError> {
        for path in tokio::task::block_in_place(|| layout::files(folder)) {
            if path.starts_with("logs") && !is_over {
                continue;
            }
            let whole = folder.join(&path);
            let Ok(metadata) = tokio::task::block_in_place(|| std::fs::metadata(&whole)) else { continue };
            let state = (metadata.len(), metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH));
            if self.seen.get(&whole) != Some(&state) {
                self.file(&layout::file(run, &path), &whole).await?;
                self.seen.insert(whole, state);
            }
        }
        Ok(())
    }

    /// What the store does not have yet; all in one once the run is over. Returns the newest.
    async fn entries(
        &mut self,
        run: &str,
        known: &Known,
        history: Option<&History>,
    ) -> Result<i64, MirrorError> {
        let rows = known.rows.iter().filter(|row| row.seq > known.mirrored).cloned().collect();
        let segment = Segment { after: known.mirrored, rows };
        let last = segment.last();
        if !segment.rows.is_empty() {
            self.segment(run, &segment).await?;
        }
        if history.is_some_and(|history| history.outcome.is_some()) {
            let whole = Segment { after: 0, rows: known.rows.clone() };
            let name = layout::segment(run, &whole.name());
            let others: Vec<String> = self.bucket.list(&layout::journal(run)).await?;
            if others.iter().any(|other| *other != name) {
                if !others.contains(&name) {
                    self.segment(run, &whole).await?;
                }
                for other in others.iter().filter(|other| **other != name) {
                    self.bucket.delete(other).await?;
                }
            }
        }
        Ok(last)
    }

    async fn segment(&mut self, run: &str, segment: &Segment) -> Result<(), MirrorError> {
        let key = layout::segment(run, &segment.name());
        let bytes = segment.encode(run).map_err(MirrorError::Encode)?;
        if self.sent(self.bucket.create(&key, bytes.clone()).await)? {
            return Ok(());
        }
        // It was sent, and the answer or the note of it was lost; or it is somebody else's.
        match self.bucket.get(&key).await? {
            Some(found) if found == bytes => Ok(()),
            _ => Err(MirrorError::Overtaken { url: self.bucket.url().to_owned() }),
        }
    }

    /// Sends a file. Returns its digest; none when it is not there.
    async fn file(&mut self, key: &str, path: &Path) -> Result<Option<String>, MirrorError> {
        let sent = self.sent(self.bucket.put_file(key, path).await)?;
        if let Some(sent) = &sent {
            self.count.bytes.inc_by(sent.bytes);
        }
        Ok(sent.map(|sent| sent.sha256))
    }

    fn sent<T>(&self, result: Result<T, super::BucketError>) -> Result<T, MirrorError> {
        self.count.sent(result.is_ok());
        Ok(result?)
    }
}
