//! A home forgets old runs: their folders, their entries in the journal, their rows in the register.
//!
//! It may happen beside a coordinator that serves the home, and may be cut off at any point. A run's folder is locked, as
//! by whoever works on a run, and moved aside within the transaction that deletes what is known of the run
//! ([`Past::forget`]); then its bytes are removed. What lies aside at the next time belongs to a transaction that was
//! committed, and is removed, or to one that was not, and is put back. A run that lacks its folder is forgotten as any other.
//!
//! Cached activations are not any run's: they serve all with the same frozen layers and data. Nobody says when they are
//! read, so they go when they have lain unused for long and no run goes on.

mod caches;
mod disk;

#[cfg(test)]
mod tests;

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lockstep_core::{RunName, Time};
use serde::Serialize;
use thiserror::Error;

use crate::cluster::{Account, ForgetError, Past, PastRun, Stage};
use crate::durable;
use crate::home::Home;
use crate::journal::JournalError;
use crate::run_folder::{self, FolderError, RunFolder};

/// Before the name of a folder that is about to be removed; no run's name begins with a dot.
const ASIDE: &str = ".pruned-";

/// What goes.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// Runs that ended so long ago, and activations unused for as long; none: whenever they ended, and no activations.
    pub older_than: Option<Duration>,
    /// So many of the newest stay.
    pub keep: usize,
    /// How they ended; empty: in any way.
    pub stages: Vec<Stage>,
}

/// What went, or would go.
#[derive(Debug, Default, Serialize)]
pub struct Pruned {
    pub runs: Vec<PrunedRun>,
    /// Those that would have gone, but for a reason.
    pub kept: Vec<KeptRun>,
    pub activations: Vec<PrunedFolder>,
    /// On the disk, all in all.
    pub bytes: u64,
}

#[derive(Debug, Serialize)]
pub struct PrunedRun {
    pub run: RunName,
    pub state: &'static str,
    pub ended_at_ms: Time,
    pub bytes: u64,
}

#[derive(Debug, Serialize)]
pub struct KeptRun {
    pub run: RunName,
    pub reason: String,
}

#[derive(Debug, Serialize)]
pub struct PrunedFolder {
    pub path: PathBuf,
    pub bytes: u64,
}

/// Nothing could be pruned, or not all.
#[derive(Debug, Error)]
pub enum PruneError {
    #[error("another process prunes {}", home.display())]
    Busy { home: PathBuf },
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("run {run}: {source}")]
    Run { run: RunName, source: ForgetError },
}

/// Prunes `home` as of `now`; `dry`: only tells what would go. This blocks.
pub fn prune(home: &Home, policy: &Policy, now: Time, dry: bool) -> Result<Pruned, PruneError> {
    let _turn = take_turn(home)?;
    let past = Past::open(home)?;
    let mut pruned = Pruned::default();
    if !dry {
        pruned.bytes += recover(home, &past)?;
    }
    let account = past.account()?;
    for candidate in policy.candidates(&account, now) {
        let folder = home.path.join("runs").join(&candidate.run.0);
        match prune_run(&past, candidate, &folder, dry)? {
            Ok(bytes) => {
                let PastRun { run, stage, ended_at_ms } = candidate.clone();
                pruned.bytes += bytes;
                pruned.runs.push(PrunedRun { run, state: stage.as_str(), ended_at_ms, bytes });
            }
            Err(reason) => pruned.kept.push(KeptRun { run: candidate.run.clone(), reason }),
        }
    }
    if let Some(age) = policy.older_than
        && account.going_on.is_empty()
        && !caches::is_anybody_at_work(home)
    {
        pruned.activations = caches::prune(home, age, dry)?;
        pruned.bytes += pruned.activations.iter().map(|folder| folder.bytes).sum::<u64>();
    }
    Ok(pruned)
}

impl Policy {
    fn candidates<'a>(&self, account: &'a Account, now: Time) -> impl Iterator<Item = &'a PastRun> {
        let age_ms = self.older_than.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
        let newest = now.0.saturating_sub(age_ms.unwrap_or_default());
        let stages = self.stages.clone();
        let asked = account.over.iter().filter(move |past| stages.is_empty() || stages.contains(&past.stage));
        asked.skip(self.keep).filter(move |past| age_ms.is_none() || past.ended_at_ms.0 < newest)
    }
}

/// So many bytes are free, or why it stays.
fn prune_run(
    past: &Past,
    candidate: &PastRun,
    folder: &Path,
    dry: bool,
) -> Result<Result<u64, String>, PruneError> {
    let run = &candidate.run;
    let io = |source| PruneError::Io { path: folder.to_owned(), source };
    // What is in the journal may be any name; what is in the file system may not.
    if let Err(FolderError::Name { .. }) = RunFolder::path_of(Path::new(""), &run.0) {
        return Ok(Err("its name is not one of a run".to_owned()));
    }
    let has_folder = folder.is_dir();
    let held = if has_folder { run_folder::hold(folder).map_err(io)? } else { None };
    if has_folder && held.is_none() {
        return Ok(Err("another process is working on it".to_owned()));
    }
    let bytes = if has_folder { disk::bytes(folder) } else { 0 };
    if dry {
        return Ok(Ok(bytes));
    }
    let aside = aside(folder, run);
    let (from, to) = (folder.to_owned(), aside.clone());
    let forgotten = past.forget(run, move || if has_folder { move_aside(&from, &to) } else { Ok(()) });
    match forgotten {
        Ok(()) => {
            disk::remove(&aside).map_err(io)?;
            Ok(Ok(bytes))
        }
        Err(ForgetError::GoesOn) => Ok(Err("it goes on again".to_owned())),
        Err(source) => {
            if aside.exists() {
                move_aside(&aside, folder).map_err(io)?;
            }
            Err(PruneError::Run { run: run.clone(), source })
        }
    }
}

fn aside(folder: &Path, run: &RunName) -> PathBuf {
    folder.with_file_name(format!("{ASIDE}{run}"))
}

/// Durable before anything is forgotten: else a power cut could leave a folder that nobody knows.
fn move_aside(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    from.parent().map_or(Ok(()), durable::sync_folder)
}

/// Finishes or undoes what was cut off. Returns the bytes that were freed.
fn recover(home: &Home, past: &Past) -> Result<u64, PruneError> {
    let mut freed = 0;
    for path in disk::folders(&home.path.join("runs")) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some(name) = name.strip_prefix(ASIDE) else { continue };
        let io = |source| PruneError::Io { path: path.clone(), source };
        let folder = path.with_file_name(name);
        if !folder.exists() && past.knows(&name.into())? {
            move_aside(&path, &folder).map_err(io)?;
        } else {
            freed += disk::bytes(&path);
            disk::remove(&path).map_err(io)?;
        }
    }
    Ok(freed)
}

/// One at a time: another one's half-done work looks like what was cut off.
fn take_turn(home: &Home) -> Result<File, PruneError> {
    let path = home.path.join(".prune.lock");
    let io = |source| PruneError::Io { path: path.clone(), source };
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(io)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(PruneError::Busy { home: home.path.clone() }),
        Err(TryLockError::Error(source)) => Err(io(source)),
    }
}
