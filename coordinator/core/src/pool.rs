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
mod plan;
mod stock;
mod view;
mod waits;

use std::cmp::Reverse;
use std::collections::BTreeMap;

pub use self::event::{DeviceKind, PoolEffect, PoolEvent, Requirements, Resources};
use self::plan::{Plan, plan};
pub use self::view::{PooledWorker, WorkerPlace};
pub use self::waits::{Awaited, Waits, WorkerKind};
use crate::{RunName, Time, WorkerName};

/// A run that nobody can bring back to its minimum keeps its workers for so long: one that failed may come back.
const STUCK_MS: u64 = 60_000;

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
    stuck: Option<Stuck>,
}

/// At a halt that nobody in the pool could end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stuck {
    Since(Time),
    /// For so long that its workers are better used by others.
    GivenUp,
}

impl Pool {
    /// Takes one event in, and says what is to be done.
    pub fn apply(&mut self, now: Time, event: PoolEvent) -> Vec<PoolEffect> {
        self.take(event);
        self.lose_patience(now);
        let mut effects = self.retire();
        // The last look has nothing left to do, and tells why.
        loop {
            let turns = self.order.values().filter_map(|name| self.runs.get_key_value(name));
            let plan = plan(turns, &self.workers);
            if plan.is_idle() {
                self.explain(now, plan);
                break;
            }
            effects.extend(self.carry_out(plan));
        }
        effects
    }

    /// When to send the next [`PoolEvent::Tick`].
    pub fn next_deadline(&self) -> Option<Time> {
        let stuck = self.runs.values().filter_map(|run| run.running?.stuck);
        let deadline = |stuck| match stuck {
            Stuck::Since(Time(since)) => Some(Time(since + STUCK_MS)),
            Stuck::GivenUp => None,
        };
        stuck.filter_map(deadline).min()
    }

    fn lose_patience(&mut self, now: Time) {
        for running in self.runs.values_mut().filter_map(|run| run.running.as_mut()) {
            if let Some(Stuck::Since(since)) = running.stuck
                && now.0 >= since.0 + STUCK_MS
            {
                running.stuck = Some(Stuck::GivenUp);
            }
        }
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

    /// Notes what was decided as if it had been done, and asks for it.
    fn carry_out(&mut self, plan: Plan) -> Vec<PoolEffect> {
        let mut effects = Vec::new();
        for (run, worker) in plan.reclaims {
            self.put(&worker, WorkerPlace::In { run: run.clone(), reclaimed: true });
            effects.push(PoolEffect::Reclaim { run, worker });
        }
        for (run, workers) in plan.grants {
            for worker in &workers {
                self.put(worker, WorkerPlace::In { run: run.clone(), reclaimed: false });
            }
            let first = workers.first().and_then(|worker| self.workers.get(worker));
            let device = first.map(|worker| worker.resources.device);
            match self.runs.get_mut(&run).map(|run| &mut run.running) {
                Some(Some(running)) => {
                    running.device = running.device.or(device);
                    let assign = |worker| PoolEffect::Assign { run: run.clone(), worker };
                    effects.extend(workers.into_iter().map(assign));
                }
                Some(waiting) => {
                    *waiting = Some(Running { device, stuck: None });
                    effects.push(PoolEffect::Start { run, workers });
                }
                None => {}
            }
        }
        effects
    }

    /// Notes why those that wait do.
    fn explain(&mut self, now: Time, mut plan: Plan) {
        for (name, run) in &mut self.runs {
            run.waits = plan.waits.remove(name);
            if let Some(running) = &mut run.running {
                let since = running.stuck.unwrap_or(Stuck::Since(now));
                running.stuck = plan.stuck.contains(name).then_some(since);
            }
        }
    }

    fn put(&mut self, worker: &WorkerName, place: WorkerPlace) {
        if let Some(worker) = self.workers.get_mut(worker) {
            worker.place = place;
        }
    }
}

#[cfg(test)]
mod tests;
