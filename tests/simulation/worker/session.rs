//! The session's half: connecting again and again, heartbeats, orders in, reports until they are answered.

use lockstep_core::{Attached, Event, Generation, Heartbeat, Message, Term};

use super::{Action, Refusal, Stage, Timer, Worker};
use crate::network::{ProcessId, SessionId};
use crate::planted::Planted;

/// Between attempts to connect: the first pause at the most, and any.
const BACKOFF_MS: (u64, u64) = (50, 1000);

/// Nothing is heard of an attempt for so long: it is given up.
const CONNECT_MS: u64 = 1000;

/// Data and weights are at hand after so long at the most.
const READY_MAX_MS: u64 = 300;

/// How long a worker that wants to leave waits to be let go.
const GRACE_MS: u64 = 30_000;

/// Heartbeats in a lease.
const HEARTBEATS: u64 = 15;

#[derive(Debug, Default)]
pub(super) struct Session {
    /// The newest one.
    pub(super) id: SessionId,
    /// The coordinator has said welcome, and nothing broke since.
    pub(super) open: bool,
    /// The coordinator's.
    term: Term,
    /// The newest term that was heard of.
    newest: Term,
    /// Heartbeats.
    sequence: u64,
    attempts: u32,
    pub(super) ready: bool,
    pub(super) leaving: bool,
}

impl Worker {
    pub(super) fn connect(&mut self) {
        self.session.id.0 += 1;
        self.session.open = false;
        let term = self.session.newest;
        let known = term > Term(0) && !self.is_planted(Planted::NoFencing);
        let attached = known.then_some(Attached { term });
        self.act(Action::Connect(self.session.id, attached));
        self.timer(CONNECT_MS, Timer::Reconnect(self.session.id));
    }

    pub(super) fn on_reconnect(&mut self, session: SessionId) {
        if session == self.session.id && !self.session.open {
            self.connect();
        }
    }

    pub(super) fn on_closed(&mut self, session: SessionId) {
        if session != self.session.id {
            return;
        }
        self.session.open = false;
        self.courier.pause();
        self.back_off();
    }

    fn back_off(&mut self) {
        let most = (BACKOFF_MS.0 << self.session.attempts.min(5)).min(BACKOFF_MS.1);
        self.session.attempts += 1;
        let after_ms = 1 + self.random.below(most);
        self.timer(after_ms, Timer::Reconnect(self.session.id));
    }

    pub(super) fn on_refused(&mut self, session: SessionId, refusal: Refusal) {
        match refusal {
            _ if session != self.session.id => {}
            Refusal::RunOver => self.act(Action::Exit),
            Refusal::Passing => self.on_closed(session),
        }
    }

    pub(super) fn on_order(&mut self, session: SessionId, order: Message) {
        if session != self.session.id {
            return;
        }
        if let Message::Welcome { term, .. } = order {
            return self.on_welcome(term);
        }
        if !self.session.open {
            return;
        }
        self.act(Action::Obeys(self.session.term));
        match order {
            Message::Welcome { .. } => {}
            Message::Prepare { generation, now } => self.on_prepare(generation, now),
            Message::Begin(begin) => self.on_begin(begin),
            Message::Verdict(verdict) => self.on_verdict(verdict),
            Message::Evaluate { generation, split, weights_step } => {
                self.on_evaluate(generation, split, weights_step);
            }
            Message::Stored { step } => self.release(step),
            Message::Finish { .. } => self.act(Action::Exit),
        }
    }

    fn on_welcome(&mut self, term: Term) {
        if self.session.open {
            return;
        }
        if term < self.session.newest && !self.is_planted(Planted::NoFencing) {
            self.act(Action::Disconnect(self.session.id));
            return self.on_closed(self.session.id);
        }
        let first = self.session.newest == Term(0);
        self.session.term = term;
        self.session.newest = self.session.newest.max(term);
        (self.session.open, self.session.attempts) = (true, 0);
        if first {
            let after_ms = self.random.below(READY_MAX_MS);
            self.timer(after_ms, Timer::Ready);
        }
        self.on_heartbeat(self.session.id);
        if let Some(owed) = self.owed.clone() {
            self.say(owed);
        }
        self.courier_resume();
    }

    pub(super) fn say(&mut self, event: Event) {
        if self.session.open {
            self.act(Action::Say(self.session.id, event));
        }
    }

    /// It is time for another one.
    pub(super) fn on_heartbeat(&mut self, session: SessionId) {
        if session == self.session.id && self.session.open {
            self.heartbeat();
            let after_ms = self.case.spec.lease_ms / HEARTBEATS;
            self.timer(after_ms, Timer::Heartbeat(session));
        }
    }

    /// The whole state.
    pub(super) fn heartbeat(&mut self) {
        if !self.session.open {
            return;
        }
        self.session.sequence += 1;
        let forgets = self.session.leaving && self.is_planted(Planted::LeavingStateForgotten);
        let heartbeat = Heartbeat {
            sequence: self.session.sequence,
            address: if self.session.ready { address(self.id) } else { String::new() },
            generation: self.begun,
            prepared: self.prepared,
            position: self.position().filter(|_| !forgets),
            activity: self.activity(),
            since_ms: self.now_ms - self.since_ms,
            leaving: self.session.leaving,
            broken: self.broken.clone(),
        };
        let worker = self.name.clone();
        self.say(Event::Heartbeat { worker, heartbeat });
    }

    /// Says what it says again until it is answered.
    pub(super) fn report(&mut self, report: Event) {
        self.owed = Some(report.clone());
        self.say(report);
        self.timer(self.case.spec.lease_ms, Timer::Owed(self.ticket));
    }

    pub(super) fn on_owed(&mut self, ticket: u64) {
        if ticket == self.ticket
            && !self.is_planted(Planted::ReportNotRepeated)
            && let Some(owed) = self.owed.clone()
        {
            self.say(owed);
            self.timer(self.case.spec.lease_ms, Timer::Owed(ticket));
        }
    }

    pub(super) fn on_terminate(&mut self) {
        if !std::mem::replace(&mut self.session.leaving, true) {
            self.heartbeat();
            self.timer(GRACE_MS, Timer::GraceOver);
        }
    }

    /// To pause: at once when nothing is under way, else where all do, else now.
    fn on_prepare(&mut self, generation: Generation, now: bool) {
        if generation <= self.begun.max(self.prepared) {
            return self.heartbeat();
        }
        self.asked = self.asked.max(generation);
        let hangs = self.now_ms < self.hung_until_ms;
        match self.stage {
            Stage::Idle | Stage::AwaitingVerdict | Stage::Holding => self.pause(),
            _ if now && !hangs => {
                self.count_cancelled_step();
                self.pause();
            }
            _ => {
                if let Some(member) = &mut self.member {
                    member.pause = true;
                    // As soon as the device answers.
                    member.cancelled |= now;
                }
            }
        }
    }

    /// Leaves the generation under way, if any, and shows that it has paused for the one that it was asked for.
    pub(super) fn pause(&mut self) {
        self.leave_generation();
        self.prepared = self.prepared.max(self.asked);
        self.heartbeat();
    }

    fn count_cancelled_step(&mut self) {
        if self.is_planted(Planted::CancelledStepCounts)
            && matches!(self.stage, Stage::Exchanging { trailer: true })
            && let Some(held) = &mut self.held
        {
            held.position.step.0 += 1;
        }
    }
}

/// Where other members reach a process.
fn address(id: ProcessId) -> String {
    format!("process:{}", id.0)
}

/// The process behind an address.
pub(super) fn process(address: &str) -> Option<ProcessId> {
    address.strip_prefix("process:")?.parse().ok().map(ProcessId)
}
