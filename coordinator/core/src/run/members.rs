//! Who is there: workers come, are heard of, come back and leave.

use super::receipt::Reason;
use super::{Forming, Gathering, Phase, Run, Stage, Training, Worker};
use crate::{
    Activity, Attached, Cause, Entry, Generation, Heartbeat, Message, Outcome, Position, Progress, Reject,
    Time, WorkerInfo, WorkerName,
};

/// How long newcomers that are not ready yet are waited for, so that several that come together cost one change.
const SETTLE_MS: u64 = 1000;
/// With more workers, a newcomer is not a reason to look at all the others at once: the next tick will do.
const PROMPT_MAX: usize = 256;

impl Run {
    pub(super) fn on_joined(
        &mut self,
        now: Time,
        worker: WorkerName,
        info: WorkerInfo,
        attached: Option<Attached>,
    ) -> Result<(), Reject> {
        if matches!(self.phase, Phase::Ended(_)) {
            return Err(Reject::RunOver);
        }
        let (most, lease_ms) = (self.history.spec.workers.max, self.history.spec.lease_ms);
        let full = self.workers.len() >= most as usize;
        let own = self.history.term;
        if let Some(newest) = attached.map(|attached| attached.term).filter(|newest| *newest > own) {
            return Err(Reject::Fenced { own, newest });
        }
        match self.workers.get_mut(&worker) {
            Some(known) if known.info.incarnation == info.incarnation => {
                (known.detached, known.heard, known.told) = (None, now, Time(0));
                self.send(worker, Message::Welcome { term: own, lease_ms });
                return Ok(());
            }
            Some(known) if known.detached.is_none() && now.0 < known.heard.0 + lease_ms => {
                return Err(Reject::NameTaken { worker });
            }
            Some(known) => {
                let since = known.heard;
                self.lose(now, &worker, "another process took its name".to_owned(), since);
                // It may have been the last one that a stop waited for.
                if matches!(self.phase, Phase::Ended(_)) {
                    return Ok(());
                }
            }
            None if full => return Err(Reject::Full { workers: most }),
            None => {}
        }
        self.note_return(&worker, &info);
        self.workers.insert(worker.clone(), Worker::new(now, info));
        self.send(worker, Message::Welcome { term: own, lease_ms });
        Ok(())
    }

    pub(super) fn on_heartbeat(
        &mut self,
        now: Time,
        worker: WorkerName,
        mut heartbeat: Heartbeat,
    ) -> Result<(), Reject> {
        if matches!(self.phase, Phase::Ended(_)) {
            return Err(Reject::RunOver);
        }
        // A state of a former life of the run, which lay beyond what it knows now.
        heartbeat.position = heartbeat.position.filter(|position| self.is_known(*position));
        let Some(known) = self.workers.get_mut(&worker) else { return Err(Reject::UnknownWorker { worker }) };
        if heartbeat.sequence <= known.heartbeat.sequence {
            return Ok(());
        }
        known.heard = now;
        let before = std::mem::replace(&mut known.heartbeat, heartbeat);
        let Heartbeat { generation, prepared, position, .. } = known.heartbeat;
        let shows = known.heartbeat.address != before.address || known.heartbeat.leaving != before.leaving;
        self.furthest = self.furthest.max(position.unwrap_or_default());
        self.outnumber(now, prepared.max(generation));
        self.heed_blame(now, &worker);
        match &mut self.phase {
            Phase::Returning { .. } => self.on_sign_of_return(now, &worker),
            Phase::Forming(forming) if prepared >= forming.generation => {
                let counted = forming.waiting.remove(&worker);
                if counted && forming.waiting.is_empty() {
                    self.agree(now);
                }
            }
            // It comes back with a state that may be the most advanced one.
            Phase::Forming(_) if position.is_some() => self.ask_newcomers(now),
            Phase::Training(training) if training.members.contains(&worker) => {
                training.note_position(&worker, position);
                if self.is_broken_for(&worker) {
                    self.on_broken(now, &worker);
                } else if self.holds_for_another(&worker) {
                    let text = "its members hold for another coordinator";
                    self.form(now, Reason::planned(now, Cause::Start, None, text), true);
                }
            }
            _ => {}
        }
        if shows && self.workers.len() <= PROMPT_MAX {
            self.reconsider(now);
        }
        Ok(())
    }

    /// A coordinator that was taken over from may have asked workers to pause for generations that never began, so that the
    /// journal does not know of their numbers. Workers follow higher ones alone.
    fn outnumber(&mut self, now: Time, newest: Generation) {
        if newest <= self.numbered {
            return;
        }
        self.numbered = newest;
        if let Phase::Forming(Forming { now: at_once, .. }) = self.phase {
            let text = "workers have paused for another coordinator's generation";
            self.form(now, Reason::planned(now, Cause::Start, None, text), at_once);
        }
    }

    /// Something was heard of a worker beside its heartbeats.
    pub(super) fn hear(&mut self, now: Time, worker: &WorkerName) {
        if let Some(worker) = self.workers.get_mut(worker) {
            worker.heard = now;
        }
    }

    /// A worker that leaves may go.
    pub(super) fn release(&mut self, worker: &WorkerName) {
        let why = self.why_it_leaves(worker);
        if self.workers.remove(worker).is_some() {
            let generation = self.history.generation;
            self.record(Entry::WorkerLeft { worker: worker.clone(), generation });
            self.send(worker.clone(), Message::Finish { reason: why.to_owned() });
        }
    }

    /// Somebody else needs a worker of this run. Its own heartbeats know nothing of that.
    pub(super) fn on_leave_requested(&mut self, now: Time, worker: WorkerName) -> Result<(), Reject> {
        if matches!(self.phase, Phase::Ended(_)) {
            return Err(Reject::RunOver);
        }
        let Some(known) = self.workers.get_mut(&worker) else { return Err(Reject::UnknownWorker { worker }) };
        known.asked_back = true;
        self.reconsider(now);
        Ok(())
    }

    /// Looks whether who is there calls for another generation.
    pub(super) fn reconsider(&mut self, now: Time) {
        match &self.phase {
            Phase::Gathering(gathering) => {
                let gathering = gathering.clone();
                if let Some(last) = self.last_with_state() {
                    return self.form(now, self.leave_of(now, last), false);
                }
                self.release_leaving();
                self.gather(now, &gathering);
            }
            Phase::Training(_) => self.reconsider_members(now),
            Phase::Returning { .. } | Phase::Forming(_) | Phase::Ended(_) => {}
        }
    }

    fn gather(&mut self, now: Time, gathering: &Gathering) {
        let ready = self.workers.values().filter(|worker| worker.is_ready()).count();
        if self.stopping {
            if ready > 0 && self.workers.values().any(|worker| worker.heartbeat.position.is_some()) {
                self.form(now, Reason::planned(now, Cause::Stop, None, "a stop was asked for"), false);
            } else {
                self.end(Outcome::Stopped { position: self.history.position() });
            }
            return;
        }
        let bounds = self.history.spec.workers;
        let hurry = gathering.patience.is_none_or(|patience| now >= patience);
        let wanted = if hurry { bounds.min } else { bounds.start.max(bounds.min) };
        if ready >= wanted as usize && ready > 0 {
            self.form(now, Reason::planned(now, Cause::Start, None, "enough workers are ready"), false);
        }
    }

    /// Members that leave, and newcomers that are ready, are reasons for a change, at the next boundary.
    fn reconsider_members(&mut self, now: Time) {
        let Phase::Training(training) = &self.phase else { return };
        let (stepping, parting) = (matches!(training.stage, Stage::Stepping), training.parting);
        let all_started = training.begin.is_none() || training.started.len() == training.members.len();
        let member = |name: &WorkerName| training.members.contains(name);
        let of = |wanted: fn(&Worker) -> bool| {
            self.workers.iter().filter(move |(_, worker)| wanted(worker)).map(|(name, _)| name)
        };
        let leaving = of(Worker::is_leaving).find(|name| member(name)).cloned();
        let evaluating = of(Worker::is_at_epochs_end).any(member);
        let newcomer = of(Worker::is_ready).find(|name| !member(name)).cloned();
        let unsettled = self.workers.iter().any(|(name, worker)| {
            // Nothing is told to a newcomer before it is ready.
            let fresh = worker.heartbeat.address.is_empty() && now.0 < worker.told.0 + SETTLE_MS;
            !member(name) && fresh && worker.detached.is_none()
        });
        self.release_leaving();
        if !stepping || evaluating || parting {
            return;
        }
        let reason = match (leaving, newcomer) {
            _ if self.stopping => Reason::planned(now, Cause::Stop, None, "a stop was asked for"),
            (Some(leaving), _) if all_started => self.leave_of(now, leaving),
            (None, Some(newcomer)) if all_started && !unsettled => {
                Reason::planned(now, Cause::Join, Some(newcomer), "it is ready to take part")
            }
            _ => return,
        };
        self.form(now, reason, false);
    }

    /// One of those that leave, if they would take the run's newest state along and it is not stored.
    fn last_with_state(&self) -> Option<WorkerName> {
        let top = self.workers.values().filter_map(|worker| worker.heartbeat.position).max()?;
        let mut with_state = self.workers.iter().filter(|(_, worker)| worker.heartbeat.position == Some(top));
        let all_leave = with_state.clone().all(|(_, worker)| worker.is_leaving());
        let unsaved = top > self.history.position();
        with_state.next().filter(|_| all_leave && unsaved).map(|(name, _)| name.clone())
    }

    fn leave_of(&self, now: Time, leaving: WorkerName) -> Reason {
        let why = self.why_it_leaves(&leaving);
        Reason::planned(now, Cause::Leave, Some(leaving), why)
    }

    fn why_it_leaves(&self, worker: &WorkerName) -> &'static str {
        match self.workers.get(worker) {
            Some(Worker { asked_back: true, .. }) => "it was asked back",
            _ => "it asked to leave",
        }
    }

    /// Those that leave and take no part may go.
    pub(super) fn release_leaving(&mut self) {
        let takes_part = |name: &WorkerName| match &self.phase {
            Phase::Training(training) => training.members.contains(name),
            _ => false,
        };
        let leaving = self.workers.iter().filter(|(name, worker)| worker.is_leaving() && !takes_part(name));
        let leaving: Vec<WorkerName> = leaving.map(|(name, _)| name.clone()).collect();
        leaving.iter().for_each(|name| self.release(name));
    }

    /// Every newcomer of rank 0 says it; only what is new is of interest.
    pub(super) fn on_prefix_told(
        &mut self,
        now: Time,
        worker: &WorkerName,
        generation: Generation,
        line: String,
    ) -> Result<(), Reject> {
        self.member_of(worker, generation)?;
        self.hear(now, worker);
        if self.history.prefix.as_ref() != Some(&line) {
            self.record(Entry::PrefixTold { line });
        }
        Ok(())
    }
}

impl Worker {
    pub(super) fn new(now: Time, info: WorkerInfo) -> Self {
        Self {
            info,
            heartbeat: Heartbeat::default(),
            progress: Progress::default(),
            heard: now,
            detached: None,
            told: now,
            asked_back: false,
            blamed: 0,
            slow: 0,
        }
    }

    /// Data and weights are at hand, and it means to stay.
    pub(super) fn is_ready(&self) -> bool {
        !self.heartbeat.address.is_empty() && !self.is_leaving()
    }

    /// By its own wish, or because somebody else needs it.
    pub(super) fn is_leaving(&self) -> bool {
        self.heartbeat.leaving || self.asked_back
    }

    pub(super) fn is_at_epochs_end(&self) -> bool {
        matches!(self.heartbeat.activity, Activity::Evaluating | Activity::AwaitingVerdict)
    }
}

impl Training {
    /// A member that is well past the beginning has started, even if its word on that is lost.
    fn note_position(&mut self, worker: &WorkerName, position: Option<Position>) {
        let begun = self.begin.as_ref().map_or(0, |begin| begin.position.step.0);
        if position.is_some_and(|position| position.step.0 > begun + 1) && !self.started.contains(worker) {
            self.started.insert(worker.clone());
        }
    }
}
