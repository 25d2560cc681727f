//! What the pool wants done: runs begin, workers are called and asked back.

use lockstep_core::{Event, PoolEffect, PoolEvent, RunName, WorkerName, WorkerPlace};

use super::seats::{Place, Summons};
use super::{Cluster, Live, LiveStage};

impl Cluster {
    pub(super) fn carry_out(&mut self, effects: Vec<PoolEffect>) -> anyhow::Result<()> {
        for effect in effects {
            tracing::debug!(?effect, "pool");
            match effect {
                PoolEffect::Start { run, workers } => {
                    tracing::info!(%run, workers = workers.len(), "a run begins");
                    self.start(&run, workers.len())?;
                }
                PoolEffect::Assign { run, worker } => {
                    tracing::info!(%run, %worker, "a run gets a worker");
                    self.summon(&run);
                }
                PoolEffect::Reclaim { run, worker } => {
                    tracing::info!(%run, %worker, "a run is to give a worker back");
                    self.reclaim(&run, &worker);
                }
                PoolEffect::Dismiss { worker } => {
                    if let Some(seat) = self.seats.get(&worker)
                        && let Place::Pool { summons, .. } = &seat.place
                    {
                        tracing::info!(%worker, "a worker is drained");
                        // One that does not listen is gone in a moment.
                        drop(summons.try_send(Summons::Leave { reason: "it was drained".to_owned() }));
                    }
                }
            }
        }
        Ok(())
    }

    /// Calls all workers that are a run's by the pool's word, and wait here still.
    pub(super) fn summon(&mut self, run: &RunName) {
        let Some(services) = self.runs.get(run).and_then(Live::services) else { return };
        let promised: Vec<WorkerName> = self.pool.workers_of(run).cloned().collect();
        for worker in promised {
            let Some(seat) = self.seats.get_mut(&worker) else { continue };
            let Place::Pool { summons, turned_away: false } = &seat.place else { continue };
            // There is room for one; a session that has another in hand, or has ended, tells of it itself.
            if summons.try_send(Summons::Run(services.clone())).is_ok() {
                seat.summons = Some(summons.clone());
                seat.place = Place::At(run.clone());
            }
        }
    }

    /// Asks a run to let a worker go, or takes it back at once when it was not called yet.
    pub(super) fn reclaim(&mut self, run: &RunName, worker: &WorkerName) {
        let waits_here = self.seats.get(worker).is_some_and(|seat| matches!(seat.place, Place::Pool { .. }));
        if waits_here {
            self.consequences.push_back(PoolEvent::Freed { worker: worker.clone() });
        } else if let Some(services) = self.runs.get(run).and_then(Live::services) {
            let (driver, worker) = (services.driver.clone(), worker.clone());
            tokio::spawn(async move { driver.tell(Event::LeaveRequested { worker }).await });
        }
    }

    /// Says again what a run was to be asked before there was anybody to ask.
    pub(super) fn reclaim_all(&mut self, run: &RunName) {
        let asked = |worker: &&WorkerName| {
            let place = self.pool.worker(worker).map(|worker| &worker.place);
            matches!(place, Some(WorkerPlace::In { reclaimed: true, .. }))
        };
        let asked: Vec<WorkerName> = self.pool.workers_of(run).filter(asked).cloned().collect();
        asked.iter().for_each(|worker| self.reclaim(run, worker));
    }

    /// Whether a run was taken from the queue before.
    pub(super) fn is_under_way(&self, run: &RunName) -> bool {
        self.runs.get(run).is_some_and(|live| !matches!(live.stage, LiveStage::Waiting { .. }))
    }
}
