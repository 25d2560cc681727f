//! What goes into the pool and what comes out of it.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{RunName, WorkerName};

/// A kind of device. Replicas of one run are on devices of one kind: others give other bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    Cpu,
    Cuda,
}

impl DeviceKind {
    /// Of a device as workers name it: `cpu` or `cuda:N`. None: of no kind that is known here.
    pub fn of(device: &str) -> Option<Self> {
        match device.split(':').next() {
            Some("cpu") => Some(Self::Cpu),
            Some("cuda") => Some(Self::Cuda),
            _ => None,
        }
    }

    /// As recipes and people write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        }
    }
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

/// What a worker has to offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resources {
    pub device: DeviceKind,
    /// Of its device; 0: not known, which is enough for runs alone that do not care.
    pub memory_bytes: u64,
}

/// What a run asks of the workers that it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requirements {
    /// It waits until it has so many at once, and goes on with as few. 0 counts as 1.
    pub min_workers: u32,
    /// It takes free ones up to here. Fewer than the minimum count as the minimum.
    pub max_workers: u32,
    /// None: any, but all of one kind.
    pub device: Option<DeviceKind>,
    /// Of each worker's device; 0: any.
    pub memory_bytes: u64,
}

impl Requirements {
    /// The fewest workers that it goes on with, at least 1.
    pub(super) fn least(&self) -> usize {
        self.min_workers.max(1) as usize
    }

    /// The most workers that it has use for.
    pub(super) fn most(&self) -> usize {
        self.least().max(self.max_workers as usize)
    }
}

/// What the outside tells the pool. What is known already changes nothing; but each time that a worker is freed is told
/// once, since it may be in another run a moment later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PoolEvent {
    /// A run waits for workers from here on. After a restart all that are not over are told again, in the order in which
    /// they were submitted.
    Submitted { run: RunName, priority: i32, requirements: Requirements },
    /// A run that a former coordinator started: these are the workers that it is known to have had. They count as its own
    /// until they come, or are told to be gone.
    TakenOver {
        run: RunName,
        priority: i32,
        requirements: Requirements,
        workers: BTreeMap<WorkerName, Resources>,
    },
    /// A waiting run leaves the queue.
    Cancelled { run: RunName },
    /// A run is over. Its workers come back one by one.
    Ended { run: RunName },
    /// A worker's session begins.
    WorkerCame {
        worker: WorkerName,
        resources: Resources,
        /// It is in that run already, and goes on there. A run that is not known counts as none.
        at: Option<RunName>,
    },
    /// Its run let a worker go, and it waits in the pool again. Between the two it counts as on its way.
    Freed { worker: WorkerName },
    /// A worker's connection ended while it was free, or its run lost it, or it did not come back from its run.
    Gone { worker: WorkerName },
    /// A worker is to get nothing new, and to leave as soon as it can.
    Draining { worker: WorkerName },
    /// A deadline passed. Spurious ones change nothing.
    Tick,
}

/// What the pool asks of the outside, to be carried out in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PoolEffect {
    /// Begin a run that waited with these workers, at least its minimum at once.
    Start { run: RunName, workers: Vec<WorkerName> },
    /// One more for a run that goes on: because it can use it, or in the place of another.
    Assign { run: RunName, worker: WorkerName },
    /// Have the run let this worker go at its next step boundary.
    Reclaim { run: RunName, worker: WorkerName },
    /// Tell a free worker to end for good.
    Dismiss { worker: WorkerName },
}
