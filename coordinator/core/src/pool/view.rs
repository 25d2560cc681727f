//! What the pool tells of itself: who is where, who is before whom, and why somebody waits.

use super::{Pool, Resources, Waits};
use crate::{RunName, WorkerName};

/// A worker as the pool knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PooledWorker {
    pub resources: Resources,
    pub place: WorkerPlace,
    /// It gets nothing new, and leaves as soon as it can.
    pub draining: bool,
}

/// Where a worker is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkerPlace {
    Free,
    In {
        run: RunName,
        /// Its run was asked to let it go.
        reclaimed: bool,
    },
    /// Its run has ended, and it has yet to come back.
    Returning {
        from: RunName,
    },
    /// It was told to end.
    Dismissed,
}

impl WorkerPlace {
    /// The run that it is at, or comes back from.
    pub fn run(&self) -> Option<&RunName> {
        match self {
            Self::In { run, .. } | Self::Returning { from: run } => Some(run),
            Self::Free | Self::Dismissed => None,
        }
    }
}

impl Pool {
    /// Why a run waits for workers, or has come to a halt for want of them; none when it lacks nothing, or is not known.
    pub fn waits_for(&self, run: &RunName) -> Option<&Waits> {
        self.runs.get(run)?.waits.as_ref()
    }

    /// The waiting runs, the first one first.
    pub fn queue(&self) -> impl Iterator<Item = &RunName> {
        self.order.values().filter(|run| !self.is_running(run))
    }

    /// Whether a run was started and has not ended.
    pub fn is_running(&self, run: &RunName) -> bool {
        self.runs.get(run).is_some_and(|run| run.running.is_some())
    }

    pub fn worker(&self, worker: &WorkerName) -> Option<&PooledWorker> {
        self.workers.get(worker)
    }

    /// All workers, by name.
    pub fn workers(&self) -> impl Iterator<Item = (&WorkerName, &PooledWorker)> {
        self.workers.iter()
    }

    /// Those that a run has, by name; one that is to be given back is one of them until it is free.
    pub fn workers_of(&self, run: &RunName) -> impl Iterator<Item = &WorkerName> {
        let at = move |worker: &PooledWorker| matches!(&worker.place, WorkerPlace::In { run: at, .. } if at == run);
        self.workers.iter().filter(move |(_, worker)| at(worker)).map(|(name, _)| name)
    }
}
