//! What the cluster tells of itself: runs with what they wait for, workers with where they are.

use std::collections::BTreeSet;

use lockstep_core::{Resources, RunName, Time, WorkerName, WorkerPlace};

use super::seats::{Place, Seat};
use super::summary::{RunState, RunSummary};
use super::{Cluster, LiveStage};

/// What a worker is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum WorkerState {
    Free,
    Busy,
    /// On its way from its run back to the pool.
    Returning,
    /// Leaves for good when its run lets it go.
    Draining,
    /// Its connection broke, and its run waits for it.
    Away,
}

/// A worker as people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolWorker {
    pub worker: WorkerName,
    pub state: WorkerState,
    pub run: Option<RunName>,
    pub device: String,
    pub resources: Resources,
    pub host: String,
    pub joined_at_ms: Time,
    pub libtorch_version: String,
}

impl Cluster {
    /// A run that is not over, as of now.
    pub(super) fn summary(&mut self, run: &RunName) -> Option<RunSummary> {
        self.refresh(run);
        Some(self.runs.get(run)?.summary.borrow().clone())
    }

    /// Waiting runs in the queue's order, then the others by their start.
    pub(super) fn list(&self) -> Vec<RunSummary> {
        let waiting = self.pool.queue().zip(1..).filter_map(|(run, position)| {
            let mut summary = self.runs.get(run)?.summary.borrow().clone();
            self.note_queue(&mut summary, position);
            Some(summary)
        });
        let mut all: Vec<RunSummary> = waiting.collect();
        // One that has ended wants no workers any more, and is there until its last word is written down.
        let queue: BTreeSet<&RunName> = self.pool.queue().collect();
        let others = self.runs.iter().filter(|(run, _)| !queue.contains(run));
        let mut others: Vec<RunSummary> = others
            .map(|(run, live)| RunSummary { lacks: self.lacks(run), ..live.summary.borrow().clone() })
            .collect();
        others.sort_by_key(|summary| summary.started_at_ms);
        all.append(&mut others);
        all
    }

    /// Brings what the pool knows up to date; the rest is kept so by who knows of it first.
    pub(super) fn refresh(&self, run: &RunName) {
        let Some(live) = self.runs.get(run) else { return };
        if !matches!(live.stage, LiveStage::Waiting { .. }) {
            let lacks = self.lacks(run);
            live.summary
                .send_if_modified(|summary| std::mem::replace(&mut summary.lacks, lacks) != summary.lacks);
            return;
        }
        let position = self.pool.queue().zip(1..).find(|(queued, _)| *queued == run);
        live.summary.send_if_modified(|summary| {
            let before = summary.clone();
            self.note_queue(summary, position.map_or(0, |(_, position)| position));
            *summary != before
        });
    }

    fn note_queue(&self, summary: &mut RunSummary, position: u32) {
        summary.state = RunState::Queued;
        summary.queue_position = position;
        summary.lacks = self.lacks(&summary.run);
    }

    fn lacks(&self, run: &RunName) -> String {
        self.pool.waits_for(run).map(ToString::to_string).unwrap_or_default()
    }

    pub(super) fn workers(&self) -> Vec<PoolWorker> {
        self.seats.iter().map(|(worker, seat)| self.worker(worker, seat)).collect()
    }

    /// What a worker is at.
    pub(super) fn worker_state(&self, worker: &WorkerName, seat: &Seat) -> WorkerState {
        let pooled = self.pool.worker(worker);
        match (&seat.place, pooled.map(|pooled| &pooled.place)) {
            _ if pooled.is_some_and(|pooled| pooled.draining) => WorkerState::Draining,
            (Place::At(_), _) if !seat.open => WorkerState::Away,
            (_, Some(WorkerPlace::In { reclaimed: true, .. } | WorkerPlace::Returning { .. })) => {
                WorkerState::Returning
            }
            (Place::Between, _) => WorkerState::Returning,
            (Place::At(_), _) | (_, Some(WorkerPlace::In { .. })) => WorkerState::Busy,
            (Place::Pool { .. }, _) => WorkerState::Free,
        }
    }

    pub(super) fn worker(&self, worker: &WorkerName, seat: &Seat) -> PoolWorker {
        let place = self.pool.worker(worker).map(|pooled| &pooled.place);
        let run = match &seat.place {
            Place::At(run) => Some(run.clone()),
            _ => place.and_then(WorkerPlace::run).cloned(),
        };
        PoolWorker {
            worker: worker.clone(),
            state: self.worker_state(worker, seat),
            run,
            device: seat.info.device.clone(),
            resources: seat.resources,
            host: seat.info.host.clone(),
            joined_at_ms: seat.joined_at_ms,
            libtorch_version: seat.info.libtorch_version.clone(),
        }
    }
}
