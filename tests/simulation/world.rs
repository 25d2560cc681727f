//! A world in one thread: the coordinator, its disk, the workers, and the network between them, through as many lives
//! as a scenario has. The same seed makes the same history, to the last message.

use std::collections::BTreeMap;
use std::rc::Rc;

use lockstep_core::{Event, Outcome, WorkerName};

use crate::case::{Case, JOIN_TIMEOUT_MS};
use crate::checks::{self, Lineage};
use crate::coordinator::Coordinator;
use crate::disk::Disk;
use crate::faults::{Fault, Life};
use crate::network::{Delivery, Link, Network, ProcessId};
use crate::oracle::Oracle;
use crate::planted::Planted;
use crate::random::Random;
use crate::worker::{Action, Input, Worker};

/// How long a process takes to come up, at the most.
const START_MAX_MS: u64 = 500;

/// The most that a checkpoint takes to go up or down, in virtual milliseconds. It differs between worlds: training
/// waits for slow ones, and never meets fast ones on their way.
const TRANSFER_MAX_MS: [u64; 3] = [5, 60, 600];

/// A life that takes longer hangs. Virtual time; the join timeout is by far the longest wait.
const LIFE_MAX_MS: u64 = 4 * JOIN_TIMEOUT_MS;

/// Events of a life at the most; a storm of messages is a fault too.
const EVENTS_MAX: u64 = 100_000;

/// Why things do not simply go on.
#[derive(Debug)]
pub(crate) enum Interruption {
    /// Everything was killed.
    Crash,
    /// What must not be.
    Violation(String),
}

pub(crate) type Going<T = ()> = Result<T, Interruption>;

/// All there is.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) case: Rc<Case>,
    pub(crate) oracle: Oracle,
    pub(crate) planted: Option<Planted>,
    pub(crate) random: Random,
    pub(crate) network: Network,
    pub(crate) disk: Disk,
    pub(crate) coordinator: Option<Coordinator>,
    pub(crate) workers: BTreeMap<ProcessId, Worker>,
    /// Of this life.
    pub(crate) names: BTreeMap<WorkerName, ProcessId>,
    pub(crate) lineage: Lineage,
    /// Something happened in this life that may fail the run.
    pub(crate) excuse: bool,
    /// A stop was asked for in this life.
    pub(crate) stop_asked: bool,
    pub(crate) transfer_max_ms: u64,
    processes: u32,
    /// The smallest things that happen until everything is killed.
    fuse: Option<u64>,
    /// What happened, when somebody wants to know.
    pub(crate) told: Option<Vec<String>>,
}

impl World {
    pub(crate) fn new(case: Case, planted: Option<Planted>, mut random: Random) -> Self {
        Self {
            oracle: Oracle::of(&case),
            case: Rc::new(case),
            planted,
            network: Network::new(random.fork()),
            transfer_max_ms: *random.pick(&TRANSFER_MAX_MS).expect("there are some"),
            random,
            disk: Disk::default(),
            coordinator: None,
            workers: BTreeMap::new(),
            names: BTreeMap::new(),
            lineage: Lineage::default(),
            excuse: false,
            stop_asked: false,
            processes: 0,
            fuse: None,
            told: None,
        }
    }

    /// From the next life on, so many epochs are wanted.
    pub(crate) fn set_epochs(&mut self, epochs: u32) {
        let mut case = Case::clone(&self.case);
        case.spec.epochs = epochs;
        self.oracle = Oracle::of(&case);
        self.case = Rc::new(case);
    }

    /// Lives through one life. Returns how the run ended, or none when everything was killed.
    pub(crate) fn live(&mut self, life: &Life) -> Result<Option<Outcome>, String> {
        self.trace(|| format!("--- a life: {life:?}"));
        (self.excuse, self.stop_asked) = (life.latecomer, false);
        self.fuse = life.crash_after;
        let ended = self.start(life).and_then(|()| self.go_on(life));
        self.coordinator = None;
        self.names.clear();
        match ended {
            Ok(outcome) => {
                checks::outcome(&outcome, self)?;
                Ok(Some(outcome))
            }
            Err(Interruption::Crash) => {
                self.trace(|| "everything is killed".to_owned());
                self.workers.clear();
                self.network.cut();
                self.disk.crash();
                Ok(None)
            }
            Err(Interruption::Violation(what)) => Err(what),
        }
    }

    fn start(&mut self, life: &Life) -> Going {
        self.start_coordinator(life)?;
        for (after_ms, fault) in &life.timed_faults {
            self.network.after(*after_ms, Delivery::Strike(*fault));
        }
        for index in 0..life.workers {
            let late = life.latecomer && index == 0;
            let delay_ms = self.random.below(START_MAX_MS) + if late { JOIN_TIMEOUT_MS } else { 0 };
            self.processes += 1;
            let id = ProcessId(self.processes);
            let name = WorkerName(format!("worker-{index}"));
            self.names.insert(name.clone(), id);
            let worker = Worker::new(id, name, Rc::clone(&self.case), self.planted, self.random.fork());
            self.workers.insert(id, worker);
            self.network.after(delay_ms, Delivery::Started(id));
        }
        Ok(())
    }

    fn go_on(&mut self, life: &Life) -> Going<Outcome> {
        let started_ms = self.network.now_ms();
        let mut faults = life.faults.iter().peekable();
        for event in 0..EVENTS_MAX {
            self.burn()?;
            while let Some((_, fault)) = faults.next_if(|(after, _)| *after <= event) {
                self.strike(*fault)?;
            }
            let deadline = match &self.coordinator {
                Some(Coordinator { outcome: Some(outcome), .. }) if self.workers.is_empty() => {
                    self.network.cut();
                    return Ok(outcome.clone());
                }
                Some(coordinator) => coordinator.run.next_deadline().map(|deadline| deadline.0),
                None => None,
            };
            if deadline.is_none() && self.network.is_silent() {
                return Err(self.hangs("nothing is under way"));
            }
            match self.network.next(deadline) {
                Some(delivery) => self.arrive(delivery)?,
                None => drop(self.decide(Event::Tick)?),
            }
            if self.network.now_ms() - started_ms > LIFE_MAX_MS {
                return Err(self.hangs("it takes too long"));
            }
        }
        Err(self.hangs("too much happens"))
    }

    fn hangs(&self, how: &str) -> Interruption {
        let status = self.coordinator.as_ref().map(|coordinator| coordinator.run.status());
        Interruption::Violation(format!("the run hangs: {how}; {status:?}"))
    }

    fn arrive(&mut self, delivery: Delivery) -> Going {
        self.trace(|| format!("{delivery:?}"));
        match delivery {
            Delivery::Started(id) => {
                let Some(worker) = self.workers.get(&id) else { return Ok(()) };
                let event = Event::Joined { worker: worker.name.clone(), info: Default::default() };
                self.network.send(Link::Up(id), Delivery::Event(id, event));
            }
            Delivery::Event(id, event) => {
                let joins = matches!(event, Event::Joined { .. });
                if let Err(reject) = self.decide(event)? {
                    self.trace(|| format!("refuses it: {reject}"));
                    if joins {
                        self.network.send(Link::Down(id), Delivery::ToWorker(id, Input::Refused));
                    }
                }
            }
            Delivery::Closed(id) => {
                let Some(worker) = self.names.iter().find(|(_, process)| **process == id) else {
                    return Ok(());
                };
                let event =
                    Event::WorkerLost { worker: worker.0.clone(), reason: "its session ended".into() };
                // A run that is over does not mind.
                drop(self.decide(event)?);
            }
            // An upload ends with the process that it comes from.
            Delivery::UploadBegan(id, generation, snapshot) if self.workers.contains_key(&id) => {
                self.on_upload_began(id, generation, snapshot)?;
            }
            Delivery::UploadEnded(id, generation, snapshot) if self.workers.contains_key(&id) => {
                self.on_upload_ended(id, generation, snapshot)?;
            }
            Delivery::UploadBegan(..) | Delivery::UploadEnded(..) => {}
            Delivery::Strike(fault) => self.strike(fault)?,
            Delivery::FetchAsked(id, step) => self.on_fetch_asked(id, step)?,
            Delivery::ToWorker(id, input) => {
                let Some(worker) = self.workers.get_mut(&id) else { return Ok(()) };
                let actions = worker.on(input);
                actions.into_iter().try_for_each(|action| self.act(id, action))?;
            }
        }
        Ok(())
    }

    /// Carries out what a worker does.
    fn act(&mut self, id: ProcessId, action: Action) -> Going {
        match action {
            Action::Tell(event) => self.network.send(Link::Up(id), Delivery::Event(id, event)),
            Action::Alarm { after_ms } => self.network.after(after_ms, Delivery::ToWorker(id, Input::Alarm)),
            Action::Fetch(step) => self.network.send(Link::Fetch(id), Delivery::FetchAsked(id, step)),
            Action::Upload(generation, snapshot) => {
                self.network.send(Link::Upload(id), Delivery::UploadBegan(id, generation, snapshot));
            }
            Action::Contribute { to, contribution } => {
                let delivery = Delivery::ToWorker(to, Input::Contribution(contribution));
                self.network.send(Link::Data(id, to), delivery);
            }
            Action::Computed { generation, step, shards } => self.lineage.computed(generation, step, shards),
            Action::Exit => self.end_process(id),
            Action::Complain(what) => return Err(Interruption::Violation(what)),
        }
        Ok(())
    }

    /// A process is gone. What it had sent still arrives, then the ends of its connections do.
    fn end_process(&mut self, id: ProcessId) {
        if self.workers.remove(&id).is_none() {
            return;
        }
        self.network.send(Link::Up(id), Delivery::Closed(id));
        for peer in self.workers.keys() {
            let delivery = Delivery::ToWorker(*peer, Input::PeerClosed(id));
            self.network.send(Link::Data(id, *peer), delivery);
        }
    }

    fn strike(&mut self, fault: Fault) -> Going {
        self.trace(|| format!("! {fault:?}"));
        match fault {
            Fault::Stop => {
                self.stop_asked = true;
                drop(self.decide(Event::StopRequested)?);
            }
            Fault::Death => {
                let alive: Vec<ProcessId> = self.workers.keys().copied().collect();
                if let Some(id) = self.random.pick(&alive).copied() {
                    self.excuse = true;
                    self.end_process(id);
                }
            }
            Fault::Damage => {
                let step = self.disk.damage(&mut self.random);
                self.trace(|| format!("damages {step:?}"));
            }
        }
        Ok(())
    }

    /// One of the smallest things happens; it may be the last.
    pub(crate) fn burn(&mut self) -> Going {
        match &mut self.fuse {
            Some(0) => Err(Interruption::Crash),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    pub(crate) fn trace(&mut self, line: impl FnOnce() -> String) {
        if let Some(told) = &mut self.told {
            told.push(format!("{:>7} ms  {}", self.network.now_ms(), line()));
        }
    }
}
