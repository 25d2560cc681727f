//! Coordinators' processes: each decides by the core, makes what it records durable, then carries out the rest, as the
//! real driver does. A crash may come between any two of these. There is one at a time, and sometimes an older one that
//! does not know yet that it was taken over from.

mod sessions;
mod store;

use std::collections::{BTreeMap, BTreeSet};

use lockstep_core::{
    Effect, Entry, Event, Generation, History, Message, Origin, Outcome, Position, Reject, Run, Step, Term,
    Time, WorkerName,
};

use crate::checks;
use crate::network::{CoordinatorId, Delivery, Link, ProcessId, SessionId};
use crate::planted::Planted;
use crate::worker::Input;
use crate::world::{Going, Interruption, World};

/// How long a coordinator that died is away, in bits of virtual milliseconds.
const AWAY_BITS: (u32, u32) = (4, 12);

/// How long looking at the checkpoints takes, at the most.
const VERIFY_MAX_MS: u64 = 50;

/// A coordinator that runs.
#[derive(Debug)]
pub(crate) struct Coordinator {
    pub(crate) run: Run,
    /// The fold of what was recorded, kept beside the run's own.
    pub(crate) folded: History,
    pub(crate) outcome: Option<Outcome>,
    pub(crate) sessions: BTreeMap<WorkerName, (ProcessId, SessionId)>,
    /// What was last heard of those.
    pub(crate) heard: BTreeMap<WorkerName, Heard>,
    /// Verdicts that were given, for the bug of giving them only once.
    given: BTreeSet<(WorkerName, u32)>,
}

/// What a worker's newest heartbeat said.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heard {
    pub(crate) at_ms: u64,
    sequence: u64,
    pub(crate) prepared: Generation,
    pub(crate) position: Option<Position>,
    /// Since when it says that it has a replica.
    pub(crate) since_ms: u64,
}

impl World {
    /// The coordinator that has the disk.
    pub(crate) fn coordinator(&self) -> Option<&Coordinator> {
        self.coordinators.get(&self.current?)
    }

    /// How the run has ended in this life.
    pub(crate) fn outcome(&self) -> Option<&Outcome> {
        self.coordinator()?.outcome.as_ref()
    }

    /// Starts a coordinator: creates the run, or takes it over from what is on the disk. Some members of the newest
    /// generation are expected to be alive, rightly or not.
    pub(crate) fn start_coordinator(&mut self, expects: bool) -> Going {
        self.coordinators_started += 1;
        let id = CoordinatorId(self.coordinators_started);
        let now = Time(self.network.now_ms());
        let bounds = self.life.bounds;
        self.disk.lock(id);
        self.current = Some(id);
        checks::take_in(self)?;
        let (run, folded, effects) = match History::from_entries(self.disk.journal().to_vec()) {
            None => {
                let mut spec = self.case.spec.clone();
                spec.workers = bounds;
                let (run, effects) = Run::create(now, spec.clone(), Origin::default());
                (run, History::new(spec, Origin::default()), effects)
            }
            Some(history) => {
                checks::stored(&history, &self.disk)?;
                let shares: &[u64] = if self.trusting { &[100] } else { &[100, 100, 50, 0] };
                let share = if expects { *self.random.pick(shares).unwrap_or(&100) } else { 0 };
                let mut expected: BTreeSet<WorkerName> =
                    history.members.iter().map(|member| member.worker.clone()).collect();
                expected.retain(|_| self.random.percent(share));
                self.trace(|| format!("{id:?} takes over and expects {expected:?}"));
                let epochs = self.case.spec.epochs;
                let (run, effects) = Run::take_over(now, history.clone(), bounds, epochs, expected);
                (run, history, effects)
            }
        };
        let coordinator = Coordinator {
            run,
            folded,
            outcome: None,
            sessions: BTreeMap::new(),
            heard: BTreeMap::new(),
            given: BTreeSet::new(),
        };
        self.coordinators.insert(id, coordinator);
        self.carry_out(id, effects)
    }

    /// All coordinators die, and one is started again later.
    pub(crate) fn crash_coordinators(&mut self) {
        self.trace(|| "the coordinator is killed".to_owned());
        self.at_work = self.are_members_at_work().then(|| self.lineage.generations());
        let all: Vec<CoordinatorId> = self.coordinators.keys().copied().collect();
        all.into_iter().for_each(|id| self.end_coordinator(id));
        let lost = self.random.percent(50);
        self.disk.crash(lost);
        self.current = None;
        let away_ms = self.random.magnitude(AWAY_BITS.0, AWAY_BITS.1);
        self.network.after(away_ms, Delivery::StartCoordinator);
    }

    /// All members have begun the newest generation and have steps to make in it.
    fn are_members_at_work(&self) -> bool {
        let Some(history) = self.coordinator().map(|it| it.run.history()) else { return false };
        let mut members = history.members.iter();
        let at_work = |name: &WorkerName| {
            let mut named = self.processes.values().filter(|process| process.worker.name == *name);
            named.any(|process| process.worker.begun == history.generation && process.worker.is_at_work())
        };
        !history.is_trained() && history.generation.0 > 0 && members.all(|member| at_work(&member.worker))
    }

    /// Another coordinator takes over while the former one lives.
    pub(crate) fn usurp(&mut self) -> Going {
        if self.current.is_none() || self.outcome().is_some() {
            return Ok(());
        }
        let current = self.current;
        self.coordinators.retain(|id, _| Some(*id) == current);
        // Some workers lose their sessions with the former one, and dial whoever listens.
        let all: Vec<ProcessId> = self.processes.keys().copied().collect();
        for id in all {
            if self.random.percent(40) {
                self.break_session(id);
            }
        }
        self.start_coordinator(true)
    }

    /// Its sessions end with it.
    pub(crate) fn end_coordinator(&mut self, id: CoordinatorId) {
        let Some(coordinator) = self.coordinators.remove(&id) else { return };
        for (process, session) in coordinator.sessions.into_values() {
            self.network.send(Link::Down(process), Delivery::ToWorker(process, Input::Closed(session)));
        }
    }

    /// Lets a coordinator's run decide on an event.
    pub(crate) fn decide(&mut self, id: CoordinatorId, event: Event) -> Going<Result<(), Reject>> {
        match self.apply(id, event)? {
            Ok(effects) => {
                self.carry_out(id, effects)?;
                Ok(Ok(()))
            }
            Err(reject) => Ok(Err(reject)),
        }
    }

    fn apply(&mut self, id: CoordinatorId, event: Event) -> Going<Result<Vec<Effect>, Reject>> {
        let now = Time(self.network.now_ms());
        let Some(Coordinator { run, .. }) = self.coordinators.get_mut(&id) else {
            return Ok(Err(Reject::RunOver));
        };
        // A copy of everything for every event is too dear to be made in each world.
        let before = self.careful.then(|| run.clone());
        let decided = run.apply(now, event);
        if let Err(reject) = &decided
            && before.is_some_and(|before| before != *run)
        {
            return Err(Interruption::Violation(format!("a refusal changed the run: {reject}")));
        }
        Ok(decided)
    }

    /// Records first, all of them or none; then the rest in order.
    pub(crate) fn carry_out(&mut self, id: CoordinatorId, effects: Vec<Effect>) -> Going {
        if effects.is_empty() {
            return Ok(());
        }
        self.burn()?;
        if self.planted == Some(Planted::ReplyBeforeRecord) {
            for effect in &effects {
                if let Effect::Send { to, message } = effect {
                    self.send_order(id, to, message.clone())?;
                }
            }
            self.burn()?;
        }
        if self.planted == Some(Planted::HastyDeletion) {
            let deletions = effects.iter().filter_map(|effect| match effect {
                Effect::DeleteCheckpoint(step) => Some(*step),
                _ => None,
            });
            deletions.for_each(|step| self.disk.delete(step));
            self.burn()?;
        }
        let records: Vec<Entry> = effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Record(entry) => Some(entry.clone()),
                _ => None,
            })
            .collect();
        if !records.is_empty() && !self.record(id, &records)? {
            return Ok(());
        }
        for effect in effects {
            self.burn()?;
            self.carry_out_one(id, effect)?;
        }
        let decided = !records.is_empty();
        match self.coordinators.get(&id).filter(|_| decided && self.disk.is_owned_by(id)) {
            Some(coordinator) => checks::decision(coordinator, &self.disk),
            None => Ok(()),
        }
    }

    /// Makes entries durable. Of a coordinator that was taken over from they are refused, and it ends.
    fn record(&mut self, id: CoordinatorId, records: &[Entry]) -> Going<bool> {
        if !self.disk.is_owned_by(id) && self.planted != Some(Planted::UnlockedHome) {
            self.trace(|| format!("{id:?} is refused {records:?}"));
            self.end_coordinator(id);
            return Ok(false);
        }
        let synced = self.disk.journal().len();
        self.disk.append(records);
        self.burn()?;
        let forgetful = self.planted == Some(Planted::ForgetfulJournal);
        self.disk.sync(if forgetful { synced } else { synced + records.len() });
        for entry in records {
            self.trace(|| format!("{id:?} records {entry:?}"));
            checks::entry(self, id, entry)?;
            self.checked += 1;
            if let Some(coordinator) = self.coordinators.get_mut(&id) {
                coordinator.folded.fold(entry);
            }
        }
        Ok(true)
    }

    fn carry_out_one(&mut self, id: CoordinatorId, effect: Effect) -> Going {
        match effect {
            Effect::Record(_) => {}
            Effect::Send { .. } if self.planted == Some(Planted::ReplyBeforeRecord) => {}
            Effect::Send { to, message } => self.send_order(id, &to, message)?,
            Effect::Publish { last, best } => {
                for step in [Some(last), best].into_iter().flatten() {
                    if !self.disk.has(step) && !self.disk.is_damaged(step) {
                        let what = format!("step {step} is published but gone");
                        return Err(Interruption::Violation(what));
                    }
                }
            }
            Effect::DeleteCheckpoint(step) => self.disk.delete(step),
            Effect::VerifyCheckpoints => self.verify(id),
            Effect::Disconnect { worker } => {
                let session = self.coordinators.get_mut(&id).and_then(|it| it.sessions.remove(&worker));
                if let Some((process, session)) = session {
                    self.network
                        .send(Link::Down(process), Delivery::ToWorker(process, Input::Closed(session)));
                }
                self.evict(id, &worker);
            }
            Effect::Conclude(outcome) => {
                self.trace(|| format!("{id:?} concludes {outcome:?}"));
                let coordinator = self.coordinators.get_mut(&id);
                let former = coordinator.and_then(|coordinator| coordinator.outcome.replace(outcome));
                if former.is_some() {
                    return Err(Interruption::Violation("a run ended twice".to_owned()));
                }
            }
        }
        Ok(())
    }

    fn verify(&mut self, id: CoordinatorId) {
        let Some(coordinator) = self.coordinators.get(&id) else { return };
        let known: Vec<Step> = coordinator.run.history().checkpoints.keys().copied().collect();
        let (whole, damaged): (Vec<Step>, Vec<Step>) =
            known.into_iter().partition(|step| self.disk.whole(*step).is_some());
        if self.disk.is_owned_by(id) {
            damaged.iter().for_each(|step| self.disk.set_aside(*step));
        }
        let delay_ms = self.random.below(VERIFY_MAX_MS);
        self.network.after(delay_ms, Delivery::Verified(id, whole.into_iter().collect()));
    }

    fn send_order(&mut self, id: CoordinatorId, to: &WorkerName, message: Message) -> Going {
        if let Message::Begin(begin) = &message {
            self.lineage.begin(begin, self.case.spec.shards)?;
        }
        self.trace(|| format!("{id:?} tells {to} {message:?}"));
        let Some(coordinator) = self.coordinators.get_mut(&id) else { return Ok(()) };
        if self.planted == Some(Planted::VerdictNotRepeated)
            && let Message::Verdict(verdict) = &message
            && !coordinator.given.insert((to.clone(), verdict.epoch.0))
        {
            return Ok(());
        }
        if let Some((process, session)) = coordinator.sessions.get(to).copied() {
            let delivery = Delivery::ToWorker(process, Input::Order(session, message));
            self.network.send_roughly(Link::Down(process), delivery);
        }
        Ok(())
    }

    /// What a coordinator's term is.
    pub(crate) fn term(&self, id: CoordinatorId) -> Term {
        self.coordinators.get(&id).map(|coordinator| coordinator.run.history().term).unwrap_or_default()
    }
}
