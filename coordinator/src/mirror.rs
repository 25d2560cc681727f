//! A copy of a home in an object store, for when the machine is lost: `lockstep serve --store`, and `--restore`.
//!
//! Runs work on the local disk, and never wait for the store. Beside them one task brings over what has changed, run by run
//! (`sync`), which it learns from the journal's own file (`state`). Entries go in `segment`s, each after everything that it
//! names, so that the store is at every moment a home from which runs can go on: at the newest checkpoint that it has. `layout`
//! says what lies where, `bucket` is the store, `restore` the way back.
//!
//! A store is one home's, and one coordinator's at a time: who serves a home writes its token into `home.json`, and whoever
//! finds another's there stops. So a machine that was given up, and comes back, cannot spoil what goes on elsewhere.

mod bucket;
mod layout;
mod restore;
mod segment;
mod state;
mod sync;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use rand_core::{OsRng, TryRngCore};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use self::state::State;
use self::sync::Sync;
use crate::data::BlobError;
use crate::home::Home;
use crate::journal::{JournalError, SharedJournal};
use crate::run_folder::FolderError;

pub use self::bucket::{Bucket, BucketError};
pub use self::restore::Brought;

/// Bumped when the store's layout changes its meaning.
const FORMAT_VERSION: u32 = 1;

/// Between two looks at what has changed.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Between two tries when the store does not do what it is asked for, at first and at last.
const PAUSE: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];

/// At the coordinator's end, for what is under way and what has just happened.
const LAST_UPLOADS: Duration = Duration::from_secs(10);

/// What a store says of the home that it is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct HomeObject {
    format: u32,
    home: String,
    /// The coordinator's that writes to it.
    owner: String,
}

/// What has been brought over, for whoever watches.
#[derive(Debug, Clone, Default)]
pub struct Count {
    pub uploads: Family<[(&'static str, &'static str); 1], Counter>,
    pub bytes: Counter,
    /// Runs with something that the store lacks.
    pub pending: Gauge,
    /// Since when there has been something that it lacks; 0: there is nothing.
    pub behind_seconds: Gauge,
}

/// The store cannot be used, or not be restored from.
#[derive(Debug, Error)]
pub enum MirrorError {
    #[error(transparent)]
    Bucket(#[from] BucketError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    Blob(#[from] BlobError),
    #[error("writing the home folder: {0}")]
    Home(#[from] io::Error),
    #[error("an entry cannot be written: {0}")]
    Encode(serde_json::Error),
    #[error("{} does not have its digest any more", path.display())]
    Changed { path: PathBuf },
    #[error("the store {url} has format {found}, this version reads {FORMAT_VERSION}")]
    Format { url: String, found: u32 },
    #[error("the store {url} is that of another home")]
    OtherHome { url: String },
    #[error("the store {url} is another coordinator's by now: this home was restored elsewhere")]
    Overtaken { url: String },
    #[error("there is no home in the store {url}")]
    Nothing { url: String },
    #[error("{} has runs already: a home is restored into an empty folder", home.display())]
    NotEmpty { home: PathBuf },
    #[error("{key} in the store is damaged: {reason}")]
    Damaged { key: String, reason: String },
}

/// The store that a home is copied to.
#[derive(Debug)]
pub struct Mirror {
    bucket: Bucket,
    home: Home,
    state: State,
    /// This coordinator's.
    owner: String,
    count: Count,
}

impl Count {
    fn sent(&self, is_ok: bool) {
        self.uploads.get_or_create(&[("result", if is_ok { "ok" } else { "failed" })]).inc();
    }
}

impl HomeObject {
    async fn read(bucket: &Bucket) -> Result<Option<Self>, MirrorError> {
        let Some(bytes) = bucket.get(layout::HOME).await? else { return Ok(None) };
        let damaged = |error: serde_json::Error| MirrorError::Damaged {
            key: layout::HOME.to_owned(),
            reason: error.to_string(),
        };
        let read: Self = serde_json::from_slice(&bytes).map_err(damaged)?;
        match read.format {
            FORMAT_VERSION => Ok(Some(read)),
            found => Err(MirrorError::Format { url: bucket.url().to_owned(), found }),
        }
    }

    fn bytes(&self) -> Result<Vec<u8>, MirrorError> {
        serde_json::to_vec(self).map_err(MirrorError::Encode)
    }
}

/// Fills an empty home from a store. The journal has its tables already.
pub async fn restore(bucket: &Bucket, home: &Home, journal: SharedJournal) -> Result<Brought, MirrorError> {
    let state = tokio::task::block_in_place(|| State::open(journal, &home.path.join("journal.db")))?;
    restore::restore(bucket, home, &state).await
}

impl Mirror {
    /// Makes the store this home's, and this coordinator the only one that writes to it. The journal has its tables already.
    ///
    /// # Errors
    /// When the store does not let itself be read or written, or is somebody else's.
    pub async fn attach(bucket: Bucket, home: Home, journal: SharedJournal) -> Result<Self, MirrorError> {
        let state = tokio::task::block_in_place(|| State::open(journal, &home.path.join("journal.db")))?;
        let url = || bucket.url().to_owned();
        let mut known = (state.get("home")?, state.get("url")?);
        let found = HomeObject::read(&bucket).await?;
        if let Some(found) = &found {
            if known.0.as_ref() != Some(&found.home) {
                return Err(MirrorError::OtherHome { url: url() });
            }
            let own = [state.get("owner")?, state.get("owner_before")?];
            if !own.contains(&Some(found.owner.clone())) {
                return Err(MirrorError::Overtaken { url: url() });
            }
        } else {
            known.1 = None;
        }
        let mine =
            HomeObject { format: FORMAT_VERSION, home: known.0.map_or_else(draw, Ok)?, owner: draw()? };
        // The token is known here before it is there: a crash between the two locks nobody out.
        let before = found.as_ref().map_or_else(String::new, |found| found.owner.clone());
        let (home_id, owner) = (mine.home.clone(), mine.owner.clone());
        state.set(vec![("home", home_id), ("owner", owner), ("owner_before", before)])?;
        match found {
            Some(_) => bucket.put(layout::HOME, mine.bytes()?).await?,
            None if bucket.create(layout::HOME, mine.bytes()?).await? => {}
            None => return Err(MirrorError::OtherHome { url: url() }),
        }
        if known.1.as_deref() != Some(bucket.url()) {
            state.touch_all()?;
            state.set(vec![("url", url())])?;
        }
        Ok(Self { bucket, home, state, owner: mine.owner, count: Count::default() })
    }

    pub fn count(&self) -> Count {
        self.count.clone()
    }

    /// Brings over what changes, until `shutdown` and a moment longer.
    ///
    /// # Errors
    /// When the store is another coordinator's by now. Whatever else goes wrong is tried again for as long as it takes.
    pub async fn serve(self, shutdown: CancellationToken) -> Result<(), MirrorError> {
        let mut passing = Passing::new(&self);
        let mut pause = LOOK_EVERY;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = tokio::time::sleep(pause) => {}
            }
            let passed = tokio::select! {
                // What is cut off is done again by the last pass.
                () = shutdown.cancelled() => break,
                passed = passing.pass() => passed,
            };
            pause = match passed {
                Ok(()) => LOOK_EVERY,
                Err(error @ MirrorError::Overtaken { .. }) => return Err(error),
                Err(error) => {
                    let pause = (2 * pause).clamp(PAUSE[0], PAUSE[1]);
                    tracing::warn!(%error, again_in_s = pause.as_secs(), "the store is behind; runs go on");
                    pause
                }
            };
        }
        match tokio::time::timeout(LAST_UPLOADS, passing.pass()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "the store lacks the newest; the next start brings it over")
            }
            Err(_) => tracing::warn!("the store lacks the newest; the next start brings it over"),
        }
        Ok(())
    }
}

/// One look after the other.
struct Passing<'a> {
    mirror: &'a Mirror,
    seen: BTreeMap<PathBuf, (u64, std::time::SystemTime)>,
    blobs: BTreeSet<String>,
    /// Runs have gone, or may have while nobody looked.
    untidy: bool,
    behind: Option<Instant>,
}

impl<'a> Passing<'a> {
    fn new(mirror: &'a Mirror) -> Self {
        Self { mirror, seen: BTreeMap::new(), blobs: BTreeSet::new(), untidy: true, behind: None }
    }

    /// Brings over all that has changed by now. What fails does not keep the others from their turn.
    async fn pass(&mut self) -> Result<(), MirrorError> {
        let Mirror { bucket, state, owner, count, .. } = self.mirror;
        let touched = tokio::task::block_in_place(|| state.touched())?;
        count.pending.set(i64::try_from(touched.len()).unwrap_or(i64::MAX));
        if touched.is_empty() {
            self.behind = None;
            count.behind_seconds.set(0);
            if !self.untidy {
                return Ok(());
            }
        }
        let behind = *self.behind.get_or_insert_with(Instant::now);
        count.behind_seconds.set(i64::try_from(behind.elapsed().as_secs()).unwrap_or(i64::MAX));
        if HomeObject::read(bucket).await?.is_none_or(|found| found.owner != *owner) {
            return Err(MirrorError::Overtaken { url: bucket.url().to_owned() });
        }
        let mut first = Ok(());
        for run in touched {
            match self.sync().run(&run).await {
                Ok(()) => {}
                Err(error @ MirrorError::Overtaken { .. }) => return Err(error),
                Err(error) => first = first.and(Err(error)),
            }
        }
        if first.is_ok() && self.untidy {
            first = self.sync().tidy().await;
        }
        if first.is_ok() {
            self.untidy = false;
            self.behind = None;
        }
        first
    }

    fn sync(&mut self) -> Sync<'_> {
        let Mirror { bucket, home, state, count, .. } = self.mirror;
        let (seen, blobs, untidy) = (&mut self.seen, &mut self.blobs, &mut self.untidy);
        Sync { bucket, state, home, count, seen, blobs, untidy }
    }
}

/// What nobody else has drawn.
fn draw() -> Result<String, MirrorError> {
    let mut bytes = [0; 16];
    OsRng.try_fill_bytes(&mut bytes).map_err(|error| MirrorError::Home(io::Error::other(error)))?;
    Ok(hex::encode(bytes))
}
