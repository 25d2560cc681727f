//! A coordinator that takes a run over: its members may have gone on without one.

use std::collections::BTreeSet;

use super::receipt::Reason;
use super::{Gathering, Phase, Run, Stage, Training};
use crate::{
    Activity, Cause, Effect, Entry, Generation, History, Time, WorkerBounds, WorkerInfo, WorkerName,
};

impl Run {
    /// The run that `history` tells of, in the hands of a new coordinator. `expected` are those members of the newest
    /// generation that may still be alive: they are waited for as long as their lease lasts. If all members come back,
    /// the generation goes on as if nothing had been; otherwise those that came form a new one. If nobody has the run's
    /// state any more, it goes on from a checkpoint.
    pub fn take_over(
        now: Time,
        history: History,
        workers: WorkerBounds,
        epochs: u32,
        expected: BTreeSet<WorkerName>,
    ) -> (Self, Vec<Effect>) {
        let mut run = Self::new(now, history);
        let term = run.history.term.next();
        run.record(Entry::TakenOver { term, workers, epochs });
        run.phase = Phase::Gathering(Gathering::at_start(now, &run.history.spec));
        if !expected.is_empty() {
            let deadline = Time(now.0 + run.history.spec.lease_ms);
            run.phase = Phase::Returning { deadline, missing: expected };
        }
        run.publish();
        let effects = std::mem::take(&mut run.effects);
        (run, effects)
    }

    /// A worker of this name has come: if it is another process, the one that is waited for is dead.
    pub(super) fn note_return(&mut self, worker: &WorkerName, info: &WorkerInfo) {
        let Phase::Returning { missing, .. } = &mut self.phase else { return };
        let mut former = self.history.members.iter();
        if former.any(|member| member.worker == *worker && member.pid != info.pid) {
            missing.remove(worker);
        }
    }

    pub(super) fn on_sign_of_return(&mut self, now: Time, worker: &WorkerName) {
        let Phase::Returning { missing, .. } = &mut self.phase else { return };
        missing.remove(worker);
        if missing.is_empty() {
            self.settle(now);
        }
    }

    /// Those that are to come back have come, or their time is up.
    pub(super) fn settle(&mut self, now: Time) {
        let Phase::Returning { missing, .. } = &self.phase else { return };
        let generation = self.history.generation;
        for worker in missing.clone() {
            self.workers.remove(&worker);
            let reason = "it did not come back to the new coordinator".to_owned();
            self.record(Entry::WorkerLost { worker, generation, reason, log: Vec::new() });
        }
        let members: BTreeSet<WorkerName> =
            self.history.members.iter().map(|member| member.worker.clone()).collect();
        if !members.is_empty() && members.iter().all(|name| self.goes_on(name, generation)) {
            let (begin, started) = (None, BTreeSet::new());
            let training =
                Training { generation, members, begin, parting: false, started, stage: Stage::Stepping };
            self.phase = Phase::Training(training);
            self.pronounce_owed(now);
            return self.reconsider(now);
        }
        let ready = self.workers.values().filter(|worker| worker.is_ready()).count();
        if ready >= self.history.spec.workers.min.max(1) as usize
            && self.workers.values().any(|worker| worker.heartbeat.position.is_some())
        {
            let text = "not all members came back to the new coordinator";
            return self.form(now, Reason::planned(now, Cause::Start, None, text), true);
        }
        self.phase = Phase::Gathering(Gathering::at_start(now, &self.history.spec));
        self.reconsider(now);
    }

    /// A member that still is at work in the newest generation.
    fn goes_on(&self, name: &WorkerName, generation: Generation) -> bool {
        self.workers.get(name).is_some_and(|worker| {
            let heartbeat = &worker.heartbeat;
            let at_work = !matches!(heartbeat.activity, Activity::Idle | Activity::Holding);
            at_work && heartbeat.generation == generation && heartbeat.prepared <= generation
        })
    }
}
