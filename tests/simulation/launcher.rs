//! Who starts processes, notices their end, and starts others in their place: sometimes under the same name, sometimes
//! as children of the coordinator's machine, whose end is known for certain.

use std::rc::Rc;

use lockstep_core::{Event, Term, WorkerName};

use crate::faults::{Fault, span_ms};
use crate::network::{CoordinatorId, Cut, Delivery, Link, Pair, ProcessId, SessionId, Word};
use crate::worker::{Input, PeerWord, Worker};
use crate::world::{Going, World};

/// How long a process takes to come up, at the most.
const START_MAX_MS: u64 = 500;

/// How long after the end of a process another one is started, at the most.
const AGAIN_MAX_MS: u64 = 1500;

/// How long it takes to notice that a child has ended, at the most. Less than to start another one.
const REAP_MAX_MS: u64 = 50;

/// A place for one process after another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot(u32);

/// A process and the machine around it.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) worker: Worker,
    slot: Slot,
    /// The coordinator whose child it is.
    pub(crate) parent: Option<CoordinatorId>,
    /// Where its newest session leads.
    pub(crate) dialled: Option<(SessionId, CoordinatorId)>,
    /// The newest term that it was told of.
    pub(crate) known: Term,
    /// It is stopped; this is what waits for it.
    pub(crate) frozen: Option<Vec<Input>>,
}

/// How a process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Exited,
    Killed,
    /// With its machine: nobody is told.
    Vanished,
}

impl World {
    /// A process in a new place.
    pub(crate) fn start_worker(&mut self) {
        self.slots += 1;
        let slot = Slot(self.slots);
        self.starting += 1;
        let delay_ms = self.random.below(START_MAX_MS);
        self.network.after(delay_ms, Delivery::Launch(slot));
    }

    pub(crate) fn on_launch(&mut self, slot: Slot) {
        self.starting -= 1;
        if self.outcome().is_some() {
            return;
        }
        self.processes_started += 1;
        let id = ProcessId(self.processes_started);
        let name = if self.random.percent(70) {
            format!("worker-{}", slot.0)
        } else {
            format!("worker-{}-{}", slot.0, id.0)
        };
        let name = WorkerName(name);
        let worker = Worker::new(id, name, Rc::clone(&self.case), self.planted, self.random.fork());
        let parent = self.current.filter(|_| self.random.percent(50));
        let process = Process { worker, slot, parent, dialled: None, known: Term(0), frozen: None };
        self.processes.insert(id, process);
        self.network.after(0, Delivery::Started(id));
    }

    /// A process is gone. What it had sent still arrives, then the ends of its connections do.
    pub(crate) fn end_process(&mut self, id: ProcessId, end: End) {
        let Some(process) = self.processes.remove(&id) else { return };
        self.trace(|| format!("{} ends: {end:?}", process.worker.name));
        if end == End::Vanished {
            self.vanished.insert(id);
        } else {
            if let Some((session, to)) = process.dialled {
                let word = Word::Close;
                self.network.send(Link::Up(id), Delivery::ToCoordinator { from: id, to, session, word });
            }
            for peer in self.processes.keys() {
                let delivery = Delivery::ToWorker(*peer, Input::Peer(id, PeerWord::Gone));
                self.network.send(Link::Data(id, *peer), delivery);
            }
        }
        if process.parent.is_some() && process.parent == self.current {
            self.reaped.insert(id, process.worker.name.clone());
            let delay_ms = self.random.below(REAP_MAX_MS);
            self.network.after(delay_ms, Delivery::Reaped(id));
        }
        let retires = process.worker.is_leaving() && self.random.percent(50);
        let needed = self.life.bounds.min.max(1) as usize;
        if !retires || self.processes.len() + self.starting < needed {
            self.starting += 1;
            let delay_ms = REAP_MAX_MS + self.random.below(AGAIN_MAX_MS);
            self.network.after(delay_ms, Delivery::Launch(process.slot));
        }
    }

    pub(crate) fn on_reaped(&mut self, id: ProcessId) -> Going {
        let Some(worker) = self.reaped.remove(&id) else { return Ok(()) };
        let Some(current) = self.current else { return Ok(()) };
        let reason = "its process ended".to_owned();
        // A run that is over does not mind.
        drop(self.decide(current, Event::WorkerLost { worker, reason })?);
        Ok(())
    }

    /// The coordinator wants to be rid of a worker; its own child is killed.
    pub(crate) fn evict(&mut self, by: CoordinatorId, name: &WorkerName) {
        let child = |process: &Process| process.parent == Some(by) && process.worker.name == *name;
        let id = self.processes.iter().find(|(_, process)| child(process)).map(|(id, _)| *id);
        if let Some(id) = id {
            self.end_process(id, End::Killed);
        }
    }

    pub(crate) fn on_thaw(&mut self, id: ProcessId) {
        let Some(process) = self.processes.get_mut(&id) else { return };
        for input in process.frozen.take().unwrap_or_default() {
            self.network.after(0, Delivery::ToWorker(id, input));
        }
    }

    pub(crate) fn strike(&mut self, fault: Fault) -> Going {
        if self.calm {
            return Ok(());
        }
        self.trace(|| format!("! {fault:?}"));
        match fault {
            Fault::Stop => {
                if let Some(current) = self.current {
                    self.stop_asked = true;
                    drop(self.decide(current, Event::StopRequested)?);
                }
            }
            Fault::AskBack => self.ask_back()?,
            Fault::Newcomer => self.start_worker(),
            Fault::KillAll => {
                let all: Vec<ProcessId> = self.processes.keys().copied().collect();
                all.into_iter().for_each(|id| self.end_process(id, End::Killed));
            }
            Fault::Restart => {
                if self.outcome().is_none() && self.current.is_some() {
                    self.crash_coordinators();
                }
            }
            Fault::Usurp => self.usurp()?,
            Fault::Damage => {
                let step = self.disk.damage(&mut self.random);
                self.trace(|| format!("damages {step:?}"));
            }
            _ => self.strike_worker(fault),
        }
        Ok(())
    }

    /// Whoever it is, and whatever it is at: one that the run does not know is refused.
    fn ask_back(&mut self) -> Going {
        let names: Vec<WorkerName> = self.processes.values().map(|it| it.worker.name.clone()).collect();
        let (Some(worker), Some(current)) = (self.random.pick(&names).cloned(), self.current) else {
            return Ok(());
        };
        self.trace(|| format!("… it is {worker}"));
        drop(self.decide(current, Event::LeaveRequested { worker })?);
        Ok(())
    }

    fn strike_worker(&mut self, fault: Fault) {
        let alive: Vec<ProcessId> = self.processes.keys().copied().collect();
        let Some(id) = self.random.pick(&alive).copied() else { return };
        let other = self.random.pick(&alive).copied().filter(|other| *other != id);
        let span_ms = span_ms(&mut self.random);
        self.trace(|| format!("… it is {id:?}, perhaps with {other:?}, for {span_ms} ms"));
        match fault {
            Fault::Kill => self.end_process(id, End::Killed),
            Fault::Vanish => self.end_process(id, End::Vanished),
            Fault::Terminate => self.network.after(0, Delivery::ToWorker(id, Input::Terminate)),
            Fault::Hang => {
                self.network.after(0, Delivery::ToWorker(id, Input::Hang { for_ms: span_ms }));
            }
            Fault::Freeze => {
                if let Some(process) = self.processes.get_mut(&id) {
                    process.frozen.get_or_insert_default();
                    self.network.after(span_ms, Delivery::Thaw(id));
                }
            }
            Fault::CutControl => {
                let cut = if self.random.percent(50) { Cut::Lost } else { Cut::Stalled };
                self.network.cut(Pair::Control(id), span_ms, cut);
            }
            Fault::BreakSession => self.break_session(id),
            Fault::StallData => {
                let Some(other) = other else { return };
                self.network.cut(Pair::between(id, other), span_ms, Cut::Stalled);
            }
            Fault::BreakData => {
                let Some(other) = other else { return };
                for (from, to) in [(id, other), (other, id)] {
                    let delivery = Delivery::ToWorker(to, Input::Peer(from, PeerWord::Gone));
                    self.network.send(Link::Data(from, to), delivery);
                }
                if self.random.percent(50) {
                    self.network.cut(Pair::between(id, other), span_ms, Cut::Lost);
                }
            }
            _ => {}
        }
    }

    /// Both ends notice.
    pub(crate) fn break_session(&mut self, id: ProcessId) {
        let Some((session, to)) = self.processes.get(&id).and_then(|process| process.dialled) else { return };
        let word = Word::Close;
        self.network.send(Link::Up(id), Delivery::ToCoordinator { from: id, to, session, word });
        self.network.send(Link::Down(id), Delivery::ToWorker(id, Input::Closed(session)));
    }
}
