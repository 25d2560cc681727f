//! What anybody can know who hears all that the pool is told and all that it asks for: who is where, and who lacks what. It
//! decides nothing, and shares nothing with the pool but its words.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use lockstep_core::{DeviceKind, PoolEvent, Requirements, Resources, RunName, WorkerName};

#[derive(Debug, Clone, Default)]
pub(super) struct Mirror {
    pub(super) runs: BTreeMap<RunName, Known>,
    pub(super) workers: BTreeMap<WorkerName, Worker>,
    submitted: u64,
}

/// A run that is not over.
#[derive(Debug, Clone)]
pub(super) struct Known {
    /// The first one comes first.
    pub(super) turn: (Reverse<i32>, u64),
    pub(super) needs: Requirements,
    pub(super) running: bool,
    /// Of those that it has had.
    pub(super) device: Option<DeviceKind>,
    /// Since when it is at a halt that nobody can end.
    pub(super) stuck_ms: Option<u64>,
}

#[derive(Debug, Clone)]
pub(super) struct Worker {
    pub(super) resources: Resources,
    pub(super) at: At,
    pub(super) draining: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum At {
    Free,
    In { run: RunName, reclaimed: bool },
    Returning { from: RunName },
    Dismissed,
}

impl Known {
    pub(super) fn least(&self) -> usize {
        self.needs.min_workers.max(1) as usize
    }

    pub(super) fn most(&self) -> usize {
        self.least().max(self.needs.max_workers as usize)
    }

    pub(super) fn device(&self) -> Option<DeviceKind> {
        self.device.or(self.needs.device)
    }

    /// Whether such a worker is of use to it.
    pub(super) fn suits(&self, resources: Resources) -> bool {
        let kind = self.device().is_none_or(|device| device == resources.device);
        kind && resources.memory_bytes >= self.needs.memory_bytes
    }
}

impl Mirror {
    pub(super) fn hear(&mut self, event: &PoolEvent) {
        match event.clone() {
            PoolEvent::Submitted { run, priority, requirements } => self.admit(run, priority, requirements),
            PoolEvent::TakenOver { run, priority, requirements, workers } => {
                self.admit(run.clone(), priority, requirements);
                let device = workers.values().next().map(|resources| resources.device);
                if let Some(known) = self.runs.get_mut(&run) {
                    (known.running, known.device) = (true, device);
                }
                for (worker, resources) in workers {
                    let at = At::In { run: run.clone(), reclaimed: false };
                    self.workers.insert(worker, Worker { resources, at, draining: false });
                }
            }
            PoolEvent::Cancelled { run } => {
                self.runs.remove(&run);
            }
            PoolEvent::Ended { run } => {
                self.runs.remove(&run);
                for worker in self.workers.values_mut().filter(|worker| worker.is_in(&run)) {
                    worker.at = At::Returning { from: run.clone() };
                }
            }
            PoolEvent::WorkerCame { worker, resources, at } => {
                let known = self.workers.get(&worker);
                let draining = known.is_some_and(|known| known.draining);
                let asked = known.is_some_and(|known| matches!(known.at, At::In { reclaimed: true, .. }));
                let at = at.map_or(At::Free, |run| At::In { run, reclaimed: asked });
                self.workers.insert(worker, Worker { resources, at, draining });
            }
            PoolEvent::Freed { worker } => self.put(&worker, At::Free),
            PoolEvent::Gone { worker } => {
                self.workers.remove(&worker);
            }
            PoolEvent::Draining { worker } => {
                if let Some(worker) = self.workers.get_mut(&worker) {
                    worker.draining = true;
                }
            }
            PoolEvent::Tick => {}
        }
    }

    fn admit(&mut self, run: RunName, priority: i32, needs: Requirements) {
        let turn = (Reverse(priority), self.submitted);
        let known = Known { turn, needs, running: false, device: None, stuck_ms: None };
        if self.runs.contains_key(&run) {
            return;
        }
        self.submitted += 1;
        self.runs.insert(run, known);
    }

    pub(super) fn put(&mut self, worker: &WorkerName, at: At) {
        if let Some(worker) = self.workers.get_mut(worker) {
            worker.at = at;
        }
    }

    pub(super) fn worker(&self, worker: &WorkerName) -> Result<&Worker, String> {
        self.workers.get(worker).ok_or_else(|| format!("nobody knows of {worker}"))
    }

    /// Those that a run goes on with.
    pub(super) fn held<'a>(&'a self, run: &'a RunName) -> impl Iterator<Item = (&'a WorkerName, &'a Worker)> {
        self.workers.iter().filter(move |(_, worker)| worker.is_held_by(run))
    }

    /// All that are at a run.
    pub(super) fn present(&self, run: &RunName) -> usize {
        self.workers.values().filter(|worker| worker.is_in(run)).count()
    }

    /// So many less than its minimum.
    pub(super) fn lacks(&self, run: &RunName) -> usize {
        self.runs.get(run).map_or(0, |known| known.least().saturating_sub(self.held(run).count()))
    }

    pub(super) fn is_halted(&self, run: &RunName) -> bool {
        self.runs.get(run).is_some_and(|known| known.running) && self.lacks(run) > 0
    }

    /// Workers of a kind that a run could get, if all others ended.
    pub(super) fn within_reach(&self, run: &RunName, device: DeviceKind) -> usize {
        let Some(known) = self.runs.get(run) else { return 0 };
        let reach = self.workers.values().filter(|worker| {
            let stays = !worker.draining && worker.at != At::Dismissed;
            stays
                && !worker.is_held_by(run)
                && worker.resources.device == device
                && known.suits(worker.resources)
        });
        reach.count()
    }

    /// The kinds of device of which it could have enough.
    pub(super) fn possible(&self, run: &RunName) -> Vec<DeviceKind> {
        let lacks = self.lacks(run);
        let kinds = [DeviceKind::Cpu, DeviceKind::Cuda];
        kinds.into_iter().filter(|device| self.within_reach(run, *device) >= lacks).collect()
    }

    /// Runs that lack workers and could have them, in the order in which they are served.
    pub(super) fn wanting(&self) -> Vec<&RunName> {
        let wanting = self.runs.keys().filter(|run| self.lacks(run) > 0 && !self.possible(run).is_empty());
        let mut wanting: Vec<&RunName> = wanting.collect();
        wanting.sort_by_key(|run| self.served(run));
        wanting
    }

    /// Sorts those that lack workers: first who is at a halt, then who waits.
    pub(super) fn served(&self, run: &RunName) -> (bool, (Reverse<i32>, u64)) {
        let known = &self.runs[run];
        (!known.running, known.turn)
    }

    /// Whether a run that lacks workers could do with this one.
    pub(super) fn could_use(&self, run: &RunName, resources: Resources) -> bool {
        self.runs[run].suits(resources) && self.possible(run).contains(&resources.device)
    }

    /// Of a kind, and of use to a run: those that are free, and those that are on their way.
    pub(super) fn soon(&self, run: &RunName, device: DeviceKind) -> (usize, usize) {
        let known = &self.runs[run];
        let of_use = |worker: &&Worker| {
            !worker.draining && worker.resources.device == device && known.suits(worker.resources)
        };
        let all = || self.workers.values().filter(of_use);
        let coming =
            |worker: &&Worker| matches!(worker.at, At::In { reclaimed: true, .. } | At::Returning { .. });
        (all().filter(|worker| worker.at == At::Free).count(), all().filter(coming).count())
    }
}

impl Worker {
    /// It is in that run, which goes on with it.
    pub(super) fn is_held_by(&self, run: &RunName) -> bool {
        matches!(&self.at, At::In { run: at, reclaimed: false } if at == run)
    }

    pub(super) fn is_in(&self, run: &RunName) -> bool {
        matches!(&self.at, At::In { run: at, .. } if at == run)
    }
}
