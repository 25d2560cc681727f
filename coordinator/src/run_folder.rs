//! A run's folder: what people look at, written from the run's history.
//!
//! Only the checkpoints hold state here. The rest is a projection of the journal and can be written again at any
//! time, which is what a resume does: rows beyond the point it goes on from disappear.

mod serving;
mod tables;
mod worker_logs;

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use lockstep_core::{Entry, History, Origin, Outcome, Status, Time, WorkerBounds};
use serde::Serialize;
use thiserror::Error;

use crate::durable;
use crate::plot::{self, EpochPoint};
use crate::prepare::Started;
use crate::recipe::Recipe;
use crate::store::CheckpointStore;

pub use self::serving::{Announcement, Serving};
pub use self::worker_logs::WorkerLogs;

const EVENTS: &str = "events.jsonl";

/// The open, locked folder of one run.
#[derive(Debug)]
pub struct RunFolder {
    name: String,
    path: PathBuf,
    checkpoints: CheckpointStore,
    /// Changes of generation whose cost is in `events.jsonl`.
    receipts: AtomicU64,
    /// Held as long as this process works on the run.
    _lock: File,
}

/// A run's folder cannot be used.
#[derive(Debug, Error)]
pub enum FolderError {
    #[error("a run named {name} exists already in {}", path.display())]
    Exists { name: String, path: PathBuf },
    #[error("there is no run named {name} in {}", home.display())]
    Missing { name: String, home: PathBuf },
    #[error("run {name} is being worked on by another process")]
    Locked { name: String, serving: Option<Serving> },
    #[error("`{name}` cannot be a run's name: use letters, digits, `.`, `_` and `-`, at most 100 of them")]
    Name { name: String },
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// What `run.json` tells beside the run's own status.
#[derive(Debug, Clone, Default, Serialize)]
pub struct RunFacts {
    pub lockstep_version: &'static str,
    pub libtorch_version: String,
    pub data: String,
    pub data_digest: String,
    pub weights_digest: Option<String>,
    /// Class names by label.
    pub classes: Vec<String>,
    pub shards: u32,
    /// At the start, and the bounds between which the run goes on.
    pub workers: u32,
    pub workers_min: u32,
    pub workers_max: u32,
    /// As typed.
    pub command: Vec<String>,
}

impl RunFacts {
    pub fn new(recipe: &Recipe, origin: &Origin, workers: WorkerBounds, started: Started) -> Self {
        Self {
            lockstep_version: env!("CARGO_PKG_VERSION"),
            libtorch_version: started.libtorch_version,
            data: recipe.data.name.to_string(),
            data_digest: origin.data_digest.clone(),
            weights_digest: origin.weights_digest.clone(),
            classes: origin.classes.clone(),
            shards: recipe.shards,
            workers: workers.start,
            workers_min: workers.min,
            workers_max: workers.max,
            command: started.command,
        }
    }
}

impl RunFolder {
    /// Makes the folder of a new run under `home`.
    pub fn create(home: &Path, name: &str) -> Result<Self, FolderError> {
        let path = Self::path_of(home, name)?;
        let io = |source| FolderError::Io { path: path.clone(), source };
        fs::create_dir_all(home.join("runs")).map_err(io)?;
        match fs::create_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(FolderError::Exists { name: name.to_owned(), path });
            }
            other => other.map_err(io)?,
        }
        Self::lock(name, path)
    }

    /// Opens the folder of a run, making it where there is none: for who knows that the name is its own.
    pub fn claim(home: &Path, name: &str) -> Result<Self, FolderError> {
        match Self::create(home, name) {
            Err(FolderError::Exists { .. }) => Self::open(home, name),
            made => made,
        }
    }

    /// Opens the folder of a run that exists.
    pub fn open(home: &Path, name: &str) -> Result<Self, FolderError> {
        let path = Self::path_of(home, name)?;
        if !path.is_dir() {
            return Err(FolderError::Missing { name: name.to_owned(), home: home.to_owned() });
        }
        Self::lock(name, path)
    }

    /// Where the run `name` lies; a name that could leave the folder of runs is refused.
    pub fn path_of(home: &Path, name: &str) -> Result<PathBuf, FolderError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let valid =
            !name.is_empty() && name.len() <= 100 && !name.starts_with('.') && name.chars().all(plain);
        if valid {
            Ok(home.join("runs").join(name))
        } else {
            Err(FolderError::Name { name: name.to_owned() })
        }
    }

    fn lock(name: &str, path: PathBuf) -> Result<Self, FolderError> {
        let io = |source| FolderError::Io { path: path.clone(), source };
        let Some(lock) = hold(&path).map_err(io)? else {
            return Err(FolderError::Locked { name: name.to_owned(), serving: Serving::read(&path) });
        };
        fs::create_dir_all(path.join("logs")).map_err(io)?;
        let checkpoints = CheckpointStore::open(path.join("checkpoints")).map_err(io)?;
        let events = fs::read_to_string(path.join(EVENTS)).unwrap_or_default();
        let receipts = events.lines().filter(|line| line.contains(r#""event":"generation_started""#)).count();
        let receipts = AtomicU64::new(receipts as u64);
        Ok(Self { name: name.to_owned(), path, checkpoints, receipts, _lock: lock })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn checkpoints(&self) -> &CheckpointStore {
        &self.checkpoints
    }

    /// Where the best model's weights are published.
    pub fn best_weights(&self) -> PathBuf {
        self.path.join("best.safetensors")
    }

    /// The log of `process`, e.g. `worker-0`.
    pub fn log(&self, process: &str) -> PathBuf {
        self.path.join("logs").join(format!("{process}.log"))
    }

    /// Writes the resolved recipe.
    pub fn write_recipe(&self, recipe: &str) -> io::Result<()> {
        durable::write_file(&self.path.join("recipe.toml"), recipe.as_bytes())
    }

    /// Appends to `events.jsonl`, one line per entry. The journal is the truth; this is for reading along.
    pub fn append_events(&self, at: Time, entries: &[Entry]) -> io::Result<()> {
        #[derive(Serialize)]
        struct Line<'a> {
            at_ms: Time,
            #[serde(flatten)]
            entry: &'a Entry,
        }
        let mut lines = Vec::new();
        for entry in entries {
            serde_json::to_writer(&mut lines, &Line { at_ms: at, entry })?;
            lines.push(b'\n');
        }
        let receipts = entries.iter().filter(|entry| matches!(entry, Entry::GenerationStarted(_))).count();
        self.receipts.fetch_add(receipts as u64, Ordering::Relaxed);
        OpenOptions::new().create(true).append(true).open(self.path.join(EVENTS))?.write_all(&lines)
    }

    /// Writes `results.csv` and `ledger.csv` again.
    pub fn write_tables(&self, history: &History) -> io::Result<()> {
        Self::write_page(&self.path.join("results.csv"), tables::results(history).as_bytes(), history)?;
        Self::write_page(&self.path.join("ledger.csv"), tables::ledger(history).as_bytes(), history)
    }

    /// Durable once the run is over; until then it is written again and again, and a resume begins with that.
    fn write_page(path: &Path, bytes: &[u8], history: &History) -> io::Result<()> {
        match history.outcome {
            Some(_) => durable::write_file(path, bytes),
            None => durable::show_file(path, bytes),
        }
    }

    /// Writes `run.json` again.
    pub fn write_status(
        &self,
        now: Time,
        history: &History,
        status: &Status,
        facts: &RunFacts,
    ) -> io::Result<()> {
        let (word, reason) = match &history.outcome {
            None if status.reason.is_empty() => ("running", status.phase.to_owned()),
            None => ("running", format!("{}: {}", status.phase, status.reason)),
            Some(Outcome::Done { early: false }) => ("done", "all epochs are done".into()),
            Some(Outcome::Done { early: true }) => ("done", "no improvement within the patience".into()),
            Some(Outcome::Stopped { .. }) => ("stopped", "stopped on request".into()),
            Some(Outcome::Failed { reason, .. }) => ("failed", reason.clone()),
        };
        let best = history.best();
        let json = serde_json::json!({
            "name": self.name,
            "status": word,
            "reason": reason,
            "updated_at_ms": now,
            "position": history.position(),
            "epochs": history.spec.epochs,
            "epochs_done": history.rows.len(),
            "term": history.term,
            "generation": history.generation,
            "receipts": self.receipts.load(Ordering::Relaxed),
            "live": status,
            "best": best.map(|row| serde_json::json!({
                "epoch": row.epoch, "step": row.step, "split": row.split, "acc_top1": row.eval.accuracy(),
            })),
            "test": history.tested.map(|(step, metrics)| serde_json::json!({
                "step": step, "loss": metrics.loss(), "acc_top1": metrics.accuracy(),
                "correct": metrics.correct, "count": metrics.count,
            })),
            "learning_time_ms": history.rows.iter().map(|row| row.train_ms + row.eval_ms).sum::<u64>(),
            "run": facts,
        });
        Self::write_page(&self.path.join("run.json"), &serde_json::to_vec_pretty(&json)?, history)
    }

    /// Draws the curves again.
    pub fn write_plots(&self, history: &History) -> anyhow::Result<()> {
        let points: Vec<EpochPoint> = history
            .rows
            .iter()
            .map(|row| EpochPoint {
                epoch: row.epoch.0,
                lr: row.learning_rate,
                train_loss: row.train.loss(),
                train_acc: row.train.accuracy(),
                eval_loss: row.eval.loss(),
                eval_acc: row.eval.accuracy(),
            })
            .collect();
        let folder = self.path.join("plots");
        fs::create_dir_all(&folder)?;
        plot::write_curves(&folder, &points, history.spec.select.split.as_str())
    }
}

/// Keeps others from working on the run whose folder is `path`, as long as the file is open; none when somebody does.
pub(crate) fn hold(path: &Path) -> io::Result<Option<File>> {
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(path.join(".lock"))?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_the_folder_are_refused() {
        for name in ["", ".", "..", "a/b", "../x", ".hidden", "a b", &"x".repeat(101)] {
            assert!(
                matches!(RunFolder::path_of(Path::new("h"), name), Err(FolderError::Name { .. })),
                "{name}"
            );
        }
        assert_eq!(RunFolder::path_of(Path::new("h"), "a-1_b.c").unwrap(), Path::new("h/runs/a-1_b.c"));
    }

    #[test]
    fn a_run_is_made_once_and_worked_on_by_one_process() {
        let home = tempfile::tempdir().unwrap();
        let folder = RunFolder::create(home.path(), "a").unwrap();
        assert!(matches!(RunFolder::create(home.path(), "a"), Err(FolderError::Exists { .. })));
        assert!(matches!(RunFolder::open(home.path(), "a"), Err(FolderError::Locked { .. })));
        drop(folder);
        RunFolder::open(home.path(), "a").unwrap();
        assert!(matches!(RunFolder::open(home.path(), "b"), Err(FolderError::Missing { .. })));
    }
}
