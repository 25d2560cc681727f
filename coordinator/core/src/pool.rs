//! Which run gets which workers: the queue of a coordinator of many runs, as a state machine.
//!
//! ```text
//!  a run:     Submitted ──► waits ──Start──► runs ──► Ended          (TakenOver, WorkerCame: runs at once)
//!  a worker:  WorkerCame ──► free ──Start, Assign──► in a run ──Reclaim──► on its way ──Freed──► free
//! ```
//!
//! Whatever happens, all is decided anew from who is there (`plan`), and what differs is asked for: so a decision never
//! rests on one that has become wrong meanwhile, and why a run waits is told by the decision itself. What was asked for
//! and is still on its way counts as come, so that nothing is asked for twice.
//!
//! The rules. Runs are in order: the higher priority, then the earlier submission. Those that wait get their minimum at
//! once, of one kind of device, or nothing; before them come those that run and have lost so many that they have come to
//! a halt. Whoever lacks workers keeps what is free and of use to it from all behind it, and gets from runs above their
//! minimum what it lacks, if that is enough; so nobody overtakes with workers that an earlier one could use, and nobody
//! gives workers back in vain. Who could not be placed with all the workers there are keeps nothing. What nobody waits
//! for goes to those that run, up to their maximum. No run is pushed below its minimum, but one that is at a halt already
//! gives way where that lets another go on.
//!
//! Nothing here is bounded by itself: how many runs may wait and how many workers may come is the outside's to say.

mod event;
mod intake;
mod view;
mod waits;

use std::cmp::Reverse;
use std::collections::BTreeMap;

pub use self::event::{DeviceKind, PoolEffect, PoolEvent, Requirements, Resources};
pub use self::view::{PooledWorker, WorkerPlace};
pub use self::waits::{Asked, Awaited, Waits};
use crate::{RunName, Time, WorkerName};

/// All runs that wait or run, and all workers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pool {
    runs: BTreeMap<RunName, PoolRun>,
    order: BTreeMap<Turn, RunName>,
    workers: BTreeMap<WorkerName, PooledWorker>,
    /// So many were submitted ever.
    submitted: u64,
}

/// A run's place in the order: what comes first is served first.
type Turn = (Reverse<i32>, u64);

#[derive(Debug, Clone, PartialEq, Eq)]
struct PoolRun {
    turn: Turn,
    requirements: Requirements,
    /// None: it waits.
    running: Option<Running>,
    /// What it lacks, as of the last decision.
    waits: Option<Waits>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Running {
    /// None until its first worker is known.
    device: Option<DeviceKind>,
    /// Since when it is at a halt that nobody in the pool could end.
    stuck: Option<Time>,
}

impl Pool {
    /// Takes one event in, and says what is to be done.
    pub fn apply(&mut self, _now: Time, event: PoolEvent) -> Vec<PoolEffect> {
        self.take(event);
        self.retire()
    }

    /// When to send the next [`PoolEvent::Tick`].
    pub fn next_deadline(&self) -> Option<Time> {
        None
    }

    /// Workers that are to leave: free ones go, the others are asked back.
    fn retire(&mut self) -> Vec<PoolEffect> {
        let mut effects = Vec::new();
        for (name, worker) in self.workers.iter_mut().filter(|(_, worker)| worker.draining) {
            match &mut worker.place {
                WorkerPlace::Free => {
                    worker.place = WorkerPlace::Dismissed;
                    effects.push(PoolEffect::Dismiss { worker: name.clone() });
                }
                WorkerPlace::In { run, reclaimed } if !*reclaimed => {
                    *reclaimed = true;
                    effects.push(PoolEffect::Reclaim { run: run.clone(), worker: name.clone() });
                }
                WorkerPlace::In { .. } | WorkerPlace::Returning { .. } | WorkerPlace::Dismissed => {}
            }
        }
        effects
    }
}
