//! What is known: runs come and end, workers come, are freed and go. Nothing is decided here.

use std::cmp::Reverse;

use super::{Pool, PoolEvent, PoolRun, PooledWorker, Requirements, Resources, Running, WorkerPlace};
use crate::{RunName, WorkerName};

impl Pool {
    pub(super) fn take(&mut self, event: PoolEvent) {
        match event {
            PoolEvent::Submitted { run, priority, requirements } => {
                self.admit(run, priority, requirements, None);
            }
            PoolEvent::TakenOver { run, priority, requirements, workers } => {
                let device = workers.values().next().map(|resources| resources.device);
                let running = Running { device: requirements.device.or(device), stuck: None };
                if self.admit(run.clone(), priority, requirements, Some(running)) {
                    for (worker, resources) in workers {
                        let place = WorkerPlace::In { run: run.clone(), reclaimed: false };
                        self.workers.entry(worker).or_insert(PooledWorker {
                            resources,
                            place,
                            draining: false,
                        });
                    }
                }
            }
            PoolEvent::Cancelled { run } => {
                if !self.is_running(&run) {
                    self.forget(&run);
                }
            }
            PoolEvent::Ended { run } => {
                self.forget(&run);
                for worker in self.workers.values_mut() {
                    if matches!(&worker.place, WorkerPlace::In { run: at, .. } if *at == run) {
                        worker.place = WorkerPlace::Returning { from: run.clone() };
                    }
                }
            }
            PoolEvent::WorkerCame { worker, resources, at } => self.on_worker_came(worker, resources, at),
            PoolEvent::Freed { worker } => {
                if let Some(worker) = self.workers.get_mut(&worker)
                    && worker.place != WorkerPlace::Dismissed
                {
                    worker.place = WorkerPlace::Free;
                }
            }
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

    /// Whether the run was not known before.
    fn admit(
        &mut self,
        run: RunName,
        priority: i32,
        requirements: Requirements,
        running: Option<Running>,
    ) -> bool {
        if self.runs.contains_key(&run) {
            return false;
        }
        let turn = (Reverse(priority), self.submitted);
        self.submitted += 1;
        self.order.insert(turn, run.clone());
        self.runs.insert(run, PoolRun { turn, requirements, running, waits: None });
        true
    }

    fn forget(&mut self, run: &RunName) {
        if let Some(known) = self.runs.remove(run) {
            self.order.remove(&known.turn);
        }
    }

    fn on_worker_came(&mut self, worker: WorkerName, resources: Resources, at: Option<RunName>) {
        let known = self.workers.get(&worker);
        let draining = known.is_some_and(|known| known.draining && known.place != WorkerPlace::Dismissed);
        let run = at.and_then(|name| Some((self.runs.get_mut(&name)?, name)));
        let place = match run {
            None => WorkerPlace::Free,
            Some((run, name)) => {
                // It was started by a former coordinator.
                let running =
                    run.running.get_or_insert(Running { device: run.requirements.device, stuck: None });
                running.device.get_or_insert(resources.device);
                let asked = |known: &PooledWorker| {
                    known.place == WorkerPlace::In { run: name.clone(), reclaimed: true }
                };
                WorkerPlace::In { reclaimed: known.is_some_and(asked), run: name }
            }
        };
        self.workers.insert(worker, PooledWorker { resources, place, draining });
    }
}
