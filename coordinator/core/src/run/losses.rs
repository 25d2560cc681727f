//! Who is gone: blamed by others, cut off, failed by its own word, or dead. Whatever the run was at, those that are left
//! form another generation.

use super::receipt::Reason;
use super::{Phase, Run, Stage, Training, Worker};
use crate::{Activity, Cause, Effect, Entry, FailureKind, Start, Time, WorkerName};

/// Generations in a row without a step for which the same worker is blamed, until it has to go.
const BLAMED_MAX: u32 = 3;

impl Run {
    /// A member has fallen out of the generation under way.
    pub(super) fn is_broken_for(&self, worker: &WorkerName) -> bool {
        let Phase::Training(training) = &self.phase else { return false };
        self.workers.get(worker).is_some_and(|Worker { heartbeat, .. }| {
            heartbeat.activity == Activity::Idle && heartbeat.generation == training.generation
        })
    }

    /// A generation that another coordinator began turns out to be one that holds: what it waits for is not known here.
    pub(super) fn holds_for_another(&self, worker: &WorkerName) -> bool {
        let Phase::Training(Training { generation, begin: None, stage: Stage::Stepping, .. }) = &self.phase
        else {
            return false;
        };
        self.workers.get(worker).is_some_and(|Worker { heartbeat, .. }| {
            heartbeat.activity == Activity::Holding && heartbeat.generation == *generation
        })
    }

    /// Whoever is blamed and has lost its session is gone; otherwise all are asked to form anew.
    pub(super) fn on_broken(&mut self, now: Time, by: &WorkerName) {
        let Phase::Training(Training { generation, begin, started, members, .. }) = &self.phase else {
            return;
        };
        let (generation, stepped) = (*generation, begin.is_none() || started.len() == members.len());
        let broken =
            self.workers.get(by).and_then(|worker| worker.heartbeat.broken.clone()).unwrap_or_default();
        for blamed in &broken.blames {
            let Some(worker) = self.workers.get_mut(blamed) else { continue };
            worker.blamed = if stepped { 0 } else { worker.blamed + 1 };
            let (detached, since) = (worker.detached.is_some(), worker.heard);
            if detached {
                self.lose(now, blamed, format!("{by} lost it: {}", broken.reason), since);
            } else if worker.blamed >= BLAMED_MAX {
                self.lose(now, blamed, format!("others cannot reach it: {}", broken.reason), since);
            }
        }
        let culprit = broken.blames.first().cloned();
        let text = format!("{by}: {}", broken.reason);
        if matches!(&self.phase, Phase::Training(training) if training.generation == generation) {
            self.form(now, Reason { cause: Cause::Link, culprit, text, since: now }, true);
        }
        if let Phase::Forming(forming) = &mut self.phase {
            forming.blamed.extend(broken.blames);
        }
    }

    /// While all pause, each may blame others than the first one did.
    pub(super) fn heed_blame(&mut self, now: Time, by: &WorkerName) {
        let Phase::Forming(forming) = &mut self.phase else { return };
        let Some(Worker { heartbeat, .. }) = self.workers.get(by) else { return };
        let Some(broken) = heartbeat.broken.clone() else { return };
        if heartbeat.generation != self.history.generation {
            return;
        }
        forming.blamed.extend(broken.blames.iter().cloned());
        for blamed in &broken.blames {
            if let Some(Worker { detached: Some(_), heard, .. }) = self.workers.get(blamed) {
                let since = *heard;
                self.lose(now, blamed, format!("{by} lost it: {}", broken.reason), since);
            }
        }
    }

    pub(super) fn on_detached(&mut self, now: Time, worker: &WorkerName) {
        let blamed = matches!(&self.phase, Phase::Forming(forming) if forming.blamed.contains(worker));
        let Some(known) = self.workers.get_mut(worker) else { return };
        let since = known.heard;
        known.detached.get_or_insert(now);
        if blamed {
            self.lose(now, worker, "its connections ended".to_owned(), since);
        }
    }

    pub(super) fn on_worker_failed(
        &mut self,
        now: Time,
        worker: WorkerName,
        reason: String,
        kind: FailureKind,
    ) {
        // What one worker's disk lacks, another's may have; but not what comes from the coordinator.
        let loading = match &self.phase {
            Phase::Training(training) => {
                let from_store = |begin: &crate::Begin| !matches!(begin.start, Start::Peer { .. });
                let starting = training.started.is_empty() && training.begin.as_ref().is_some_and(from_store);
                let testing = matches!(training.stage, Stage::Testing(_));
                starting || testing || self.is_restoring(&worker)
            }
            _ => false,
        };
        let shared = loading || self.workers.values().all(|worker| worker.heartbeat.position.is_none());
        match kind {
            FailureKind::Run => self.fail(format!("{worker}: {reason}"), kind),
            FailureKind::Data if shared => self.fail(format!("{worker}: {reason}"), kind),
            _ => self.lose(now, &worker, reason, now),
        }
    }

    /// A member that has not followed a verdict which tells it to load the best model.
    fn is_restoring(&self, worker: &WorkerName) -> bool {
        let Some(row) = self.history.rows.last().filter(|row| row.restored.is_some()) else { return false };
        let position = self.workers.get(worker).and_then(|worker| worker.heartbeat.position);
        position.is_some_and(|position| position.epoch <= row.epoch)
    }

    /// A worker is gone; `since` was its last sign of life. Nothing when it is gone already.
    pub(super) fn lose(&mut self, now: Time, worker: &WorkerName, reason: String, since: Time) {
        let was_missing = match &mut self.phase {
            Phase::Returning { missing, .. } => missing.remove(worker),
            _ => false,
        };
        if matches!(self.phase, Phase::Ended(_)) || self.workers.remove(worker).is_none() && !was_missing {
            return;
        }
        let generation = self.generation();
        let lost =
            Entry::WorkerLost { worker: worker.clone(), generation, reason: reason.clone(), log: Vec::new() };
        self.record(lost);
        self.effects.push(Effect::Disconnect { worker: worker.clone() });
        let text = format!("{worker}: {reason}");
        let reason = Reason { cause: Cause::Loss, culprit: Some(worker.clone()), text, since };
        match &mut self.phase {
            Phase::Forming(forming) => {
                let counted = forming.waiting.remove(worker);
                let was_member = self.history.members.iter().any(|member| member.worker == *worker);
                if was_member {
                    forming.now = true;
                    self.open_receipt(now, generation, reason);
                    self.ask_again(now);
                }
                if let Phase::Forming(forming) = &self.phase
                    && counted
                    && forming.waiting.is_empty()
                {
                    self.agree(now);
                }
            }
            Phase::Training(training) if training.members.contains(worker) => self.form(now, reason, true),
            Phase::Returning { missing, .. } if missing.is_empty() => self.settle(now),
            Phase::Training(_) | Phase::Returning { .. } | Phase::Gathering(_) | Phase::Ended(_) => {}
        }
    }
}
