//! A coordinator's sessions: one per worker's name, told apart by number, so that the end of an old one does not count
//! against the new one.

use lockstep_core::{Attached, Effect, Event, Reject, WorkerInfo, WorkerName};

use super::Heard;
use crate::network::{CoordinatorId, Delivery, Link, ProcessId, SessionId, Word};
use crate::worker::{Input, Refusal};
use crate::world::{Going, Interruption, World};

impl World {
    /// A worker dials: the newest coordinator mostly answers, and an older one that still listens sometimes.
    pub(crate) fn on_connect(&mut self, from: ProcessId, session: SessionId, attached: Option<Attached>) {
        let older = self.coordinators.keys().next().copied();
        let to = match self.current {
            Some(current) if self.coordinators.len() == 1 || self.random.percent(60) => Some(current),
            _ => older,
        };
        let Some(process) = self.processes.get_mut(&from) else { return };
        match to {
            Some(to) => {
                process.dialled = Some((session, to));
                let word = Word::Join(attached);
                self.network.send(Link::Up(from), Delivery::ToCoordinator { from, to, session, word });
            }
            None => {
                process.dialled = None;
                self.network.send(Link::Down(from), Delivery::ToWorker(from, Input::Closed(session)));
            }
        }
    }

    pub(crate) fn on_word(
        &mut self,
        from: ProcessId,
        to: CoordinatorId,
        session: SessionId,
        word: Word,
    ) -> Going {
        if !self.coordinators.contains_key(&to) {
            if !matches!(word, Word::Close) {
                self.close(from, session);
            }
            return Ok(());
        }
        match word {
            Word::Join(attached) => self.on_join(from, to, session, attached),
            Word::Say(event) => self.on_say(from, to, session, event),
            Word::Close => {
                let Some(worker) = self.named(from, to, session) else { return Ok(()) };
                if let Some(coordinator) = self.coordinators.get_mut(&to) {
                    coordinator.sessions.remove(&worker);
                }
                drop(self.decide(to, Event::Detached { worker })?);
                Ok(())
            }
            Word::UploadBegan(state) => self.on_upload_began(from, to, session, state),
            Word::UploadEnded(state) => self.on_upload_ended(from, to, session, state),
            Word::FetchAsked { step, ticket } => self.on_fetch_asked(from, step, ticket),
        }
    }

    fn on_join(
        &mut self,
        from: ProcessId,
        to: CoordinatorId,
        session: SessionId,
        attached: Option<Attached>,
    ) -> Going {
        let Some(process) = self.processes.get(&from) else { return Ok(()) };
        let worker = process.worker.name.clone();
        let info = WorkerInfo { incarnation: u64::from(from.0), pid: from.0, ..WorkerInfo::default() };
        let term = self.term(to);
        let newer = attached.is_some_and(|attached| attached.term > term);
        let effects = match self.apply(to, Event::Joined { worker: worker.clone(), info, attached })? {
            Ok(_) if newer => {
                let what = format!("{to:?} welcomes {worker}, who knows of a newer term than {term}");
                return Err(Interruption::Violation(what));
            }
            Ok(effects) => effects,
            Err(reject) => {
                self.refuse(from, session, &reject);
                if matches!(reject, Reject::Fenced { .. }) {
                    self.end_coordinator(to);
                }
                return Ok(());
            }
        };
        let Some(coordinator) = self.coordinators.get_mut(&to) else { return Ok(()) };
        let former = coordinator.sessions.insert(worker.clone(), (from, session));
        coordinator.heard.remove(&worker);
        if let Some((process, session)) = former.filter(|(process, _)| *process != from) {
            self.close(process, session);
        }
        // A former process of that name is disconnected thereby, and the new one is not.
        let of_former =
            |effect: &Effect| matches!(effect, Effect::Disconnect { worker: former } if *former == worker);
        let effects = effects.into_iter().filter(|effect| !of_former(effect)).collect();
        self.carry_out(to, effects)
    }

    fn on_say(&mut self, from: ProcessId, to: CoordinatorId, session: SessionId, event: Event) -> Going {
        let Some(worker) = self.named(from, to, session) else {
            self.close(from, session);
            return Ok(());
        };
        self.note_heartbeat(to, &worker, &event);
        if let Err(reject) = self.decide(to, event)? {
            self.trace(|| format!("{to:?} refuses it: {reject}"));
            match reject {
                Reject::RunOver => self.refuse(from, session, &reject),
                // It was let go and has not heard of it: it may come back.
                Reject::UnknownWorker { .. } => {
                    if let Some(coordinator) = self.coordinators.get_mut(&to) {
                        coordinator.sessions.remove(&worker);
                    }
                    self.close(from, session);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn note_heartbeat(&mut self, to: CoordinatorId, worker: &WorkerName, event: &Event) {
        let Event::Heartbeat { heartbeat, .. } = event else { return };
        let at_ms = self.network.now_ms();
        let Some(coordinator) = self.coordinators.get_mut(&to) else { return };
        let mut heard = Heard {
            at_ms,
            sequence: heartbeat.sequence,
            prepared: heartbeat.prepared,
            position: heartbeat.position,
            since_ms: at_ms,
        };
        let newest = coordinator.heard.entry(worker.clone()).or_insert(heard);
        if newest.sequence <= heard.sequence {
            if newest.position.is_some() {
                heard.since_ms = newest.since_ms;
            }
            *newest = heard;
        }
    }

    /// The name that a session speaks for, if it is a worker's newest one.
    fn named(&self, from: ProcessId, to: CoordinatorId, session: SessionId) -> Option<WorkerName> {
        let sessions = &self.coordinators.get(&to)?.sessions;
        let speaks = |(_, newest): &(&WorkerName, &(ProcessId, SessionId))| **newest == (from, session);
        sessions.iter().find(speaks).map(|(worker, _)| worker.clone())
    }

    fn refuse(&mut self, process: ProcessId, session: SessionId, reject: &Reject) {
        self.trace(|| format!("{process:?} is refused: {reject}"));
        let refusal = if *reject == Reject::RunOver { Refusal::RunOver } else { Refusal::Passing };
        let delivery = Delivery::ToWorker(process, Input::Refused(session, refusal));
        self.network.send(Link::Down(process), delivery);
    }

    fn close(&mut self, process: ProcessId, session: SessionId) {
        self.network.send(Link::Down(process), Delivery::ToWorker(process, Input::Closed(session)));
    }
}
