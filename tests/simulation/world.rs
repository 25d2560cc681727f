//! A world in one thread: coordinators, their disk, the workers, and the network between them, through as many lives
//! as a scenario has. The same seed makes the same history, to the last message.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use lockstep_core::{Event, Message, Outcome, Step, Time, WorkerName};

use crate::case::Case;
use crate::checks;
use crate::coordinator::Coordinator;
use crate::disk::Disk;
use crate::faults::{Life, Scope, Weather};
use crate::launcher::{End, Process};
use crate::lineage::Lineage;
use crate::network::{CoordinatorId, Delivery, Link, Network, ProcessId, Word};
use crate::oracle::Oracle;
use crate::planted::Planted;
use crate::random::Random;
use crate::worker::{Action, Input, PeerWord};

/// The most that a checkpoint takes to go up or down, in virtual milliseconds. It differs between worlds: training
/// leaves slow ones behind, and never meets fast ones on their way.
const TRANSFER_MAX_MS: [u64; 3] = [5, 60, 600];

/// A life that takes longer, once nothing goes wrong any more, hangs. The longest wait by far is for a worker that hangs
/// before it has made its first step.
const LIFE_MAX_MS: u64 = 200_000;

/// Events of a life at the most; a storm of messages is a fault too.
const EVENTS_MAX: u64 = 1_000_000;

/// Workers that have not heard of the end by then are killed.
const END_MAX_MS: u64 = 3000;

/// In one of so many worlds, refusals are checked to change nothing.
const CAREFUL: u64 = 16;

/// Why things do not simply go on.
#[derive(Debug)]
pub(crate) enum Interruption {
    /// Something was killed between two things.
    Crash(Scope),
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
    pub(crate) careful: bool,
    pub(crate) random: Random,
    pub(crate) network: Network,
    pub(crate) disk: Disk,
    pub(crate) coordinators: BTreeMap<CoordinatorId, Coordinator>,
    /// The newest one, as long as it lives.
    pub(crate) current: Option<CoordinatorId>,
    pub(crate) coordinators_started: u32,
    pub(crate) processes: BTreeMap<ProcessId, Process>,
    pub(crate) processes_started: u32,
    /// Processes that are about to be launched.
    pub(crate) starting: usize,
    pub(crate) slots: u32,
    /// Children whose end has yet to be noticed.
    pub(crate) reaped: BTreeMap<ProcessId, WorkerName>,
    /// Processes whose machines are gone: nobody there answers.
    pub(crate) vanished: BTreeSet<ProcessId>,
    pub(crate) lineage: Lineage,
    /// Checkpoints that were stored at any time.
    pub(crate) ever_stored: BTreeSet<Step>,
    /// So many entries of the journal were taken in by the checks.
    pub(crate) checked: usize,
    pub(crate) life: Life,
    /// Coordinators that come back expect all members.
    pub(crate) trusting: bool,
    /// How many generations had begun when a coordinator was killed whose members were all at work.
    pub(crate) at_work: Option<usize>,
    /// Nothing goes wrong any more in this life.
    pub(crate) calm: bool,
    /// Something happened in this life that may fail the run.
    pub(crate) excuse: bool,
    /// A stop was asked for in this life.
    pub(crate) stop_asked: bool,
    pub(crate) transfer_max_ms: u64,
    /// The smallest things that happen until something is killed, the next one last.
    fuses: Vec<(u64, Scope)>,
    /// What happened, when somebody wants to know.
    pub(crate) told: Option<Vec<String>>,
}

impl World {
    pub(crate) fn new(case: Case, planted: Option<Planted>, mut random: Random) -> Self {
        Self {
            oracle: Oracle::of(&case),
            life: Weather::calm(&case, &mut random),
            careful: case.seed.is_multiple_of(CAREFUL),
            case: Rc::new(case),
            planted,
            network: Network::new(random.fork()),
            transfer_max_ms: *random.pick(&TRANSFER_MAX_MS).expect("there are some"),
            random,
            disk: Disk::default(),
            coordinators: BTreeMap::new(),
            current: None,
            coordinators_started: 0,
            processes: BTreeMap::new(),
            processes_started: 0,
            starting: 0,
            slots: 0,
            reaped: BTreeMap::new(),
            vanished: BTreeSet::new(),
            lineage: Lineage::default(),
            ever_stored: BTreeSet::new(),
            checked: 0,
            trusting: false,
            at_work: None,
            calm: false,
            excuse: false,
            stop_asked: false,
            fuses: Vec::new(),
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
        self.life = life.clone();
        (self.excuse, self.stop_asked, self.calm) = (false, false, false);
        self.fuses = life.fuses.iter().rev().copied().collect();
        self.network.roughness = life.roughness;
        let ended = match self.start(life) {
            Err(Interruption::Crash(Scope::Coordinator)) => {
                self.crash_coordinators();
                self.go_on(life)
            }
            Ok(()) => self.go_on(life),
            Err(interruption) => Err(interruption),
        };
        match ended {
            Ok(outcome) => {
                self.clear(false);
                checks::outcome(&outcome, self)?;
                Ok(Some(outcome))
            }
            Err(Interruption::Crash(_)) => {
                self.trace(|| "everything is killed".to_owned());
                self.clear(true);
                Ok(None)
            }
            Err(Interruption::Violation(what)) => Err(what),
        }
    }

    /// Nobody is left.
    fn clear(&mut self, crashed: bool) {
        self.coordinators.clear();
        self.current = None;
        self.processes.clear();
        self.reaped.clear();
        self.starting = 0;
        self.network.clear();
        let lost = crashed && self.random.percent(50);
        self.disk.crash(lost);
    }

    fn start(&mut self, life: &Life) -> Going {
        self.network.after(life.calm_ms, Delivery::Calm);
        for (after_ms, fault) in &life.timed_faults {
            self.network.after(*after_ms, Delivery::Strike(*fault));
        }
        (0..life.workers).for_each(|_| self.start_worker());
        self.start_coordinator(false)
    }

    fn go_on(&mut self, life: &Life) -> Going<Outcome> {
        let started_ms = self.network.now_ms();
        let mut faults = life.faults.iter().peekable();
        let mut over_ms = None;
        for event in 0..EVENTS_MAX {
            let happened = self.burn().and_then(|()| {
                while let Some((_, fault)) = faults.next_if(|(after, _)| *after <= event) {
                    self.strike(*fault)?;
                }
                self.happen()
            });
            match happened {
                Err(Interruption::Crash(Scope::Coordinator)) => {
                    if self.outcome().is_none() && self.current.is_some() {
                        self.crash_coordinators();
                    }
                }
                other => other?,
            }
            let now_ms = self.network.now_ms();
            if let Some(outcome) = self.outcome().cloned() {
                let over_ms = *over_ms.get_or_insert(now_ms);
                if self.processes.is_empty() || now_ms > over_ms + END_MAX_MS {
                    return Ok(outcome);
                }
            }
            if now_ms - started_ms > life.calm_ms + LIFE_MAX_MS {
                return Err(self.hangs("it takes too long"));
            }
        }
        Err(self.hangs("too much happens"))
    }

    fn hangs(&self, how: &str) -> Interruption {
        let status = self.coordinator().map(|coordinator| coordinator.run.status());
        Interruption::Violation(format!("the run hangs: {how}; {status:?}"))
    }

    /// The next thing happens.
    fn happen(&mut self) -> Going {
        let deadlines = self.coordinators.values().filter_map(|it| it.run.next_deadline());
        let deadline = deadlines.min().map(|deadline| deadline.0);
        if deadline.is_none() && self.network.is_silent() && self.outcome().is_none() {
            return Err(self.hangs("nothing is under way"));
        }
        match self.network.next(deadline) {
            Some(delivery) => self.arrive(delivery),
            None => {
                let now = Time(self.network.now_ms());
                let due = |it: &Coordinator| it.run.next_deadline().is_some_and(|deadline| deadline <= now);
                let due = self.coordinators.iter().filter(|(_, it)| due(it)).map(|(id, _)| *id);
                for id in due.collect::<Vec<_>>() {
                    drop(self.decide(id, Event::Tick)?);
                }
                Ok(())
            }
        }
    }

    fn arrive(&mut self, delivery: Delivery) -> Going {
        self.trace(|| format!("{delivery:?}"));
        match delivery {
            Delivery::Started(id) => self.tell_worker(id, Input::Start),
            Delivery::ToWorker(id, input) => self.tell_worker(id, input),
            Delivery::ToCoordinator { from, to, session, word } => self.on_word(from, to, session, word),
            Delivery::Verified(id, verified) => {
                drop(self.decide(id, Event::CheckpointsVerified { verified })?);
                Ok(())
            }
            Delivery::Reaped(id) => self.on_reaped(id),
            Delivery::Launch(slot) => {
                self.on_launch(slot);
                Ok(())
            }
            Delivery::Thaw(id) => {
                self.on_thaw(id);
                Ok(())
            }
            Delivery::StartCoordinator if self.current.is_none() => self.start_coordinator(true),
            Delivery::StartCoordinator => Ok(()),
            Delivery::Strike(fault) => self.strike(fault),
            Delivery::Calm => {
                self.calm_down();
                Ok(())
            }
        }
    }

    fn calm_down(&mut self) {
        self.calm = true;
        self.fuses.clear();
        self.network.calm();
        // What is still alive of former times ends at last.
        let current = self.current;
        let older = self.coordinators.keys().copied().filter(|id| Some(*id) != current);
        older.collect::<Vec<_>>().into_iter().for_each(|id| self.end_coordinator(id));
        let all: Vec<ProcessId> = self.processes.keys().copied().collect();
        all.into_iter().for_each(|id| self.on_thaw(id));
        let needed = self.life.bounds.min.max(1) as usize;
        (self.processes.len() + self.starting..needed).for_each(|_| self.start_worker());
    }

    fn tell_worker(&mut self, id: ProcessId, mut input: Input) -> Going {
        let Some(process) = self.processes.get_mut(&id) else {
            // A connection with a process that is gone is refused.
            if let Input::Peer(from, PeerWord::Hello { .. }) = input
                && !self.vanished.contains(&id)
            {
                let delivery = Delivery::ToWorker(from, Input::Peer(id, PeerWord::Gone));
                self.network.send(Link::Data(id, from), delivery);
            }
            return Ok(());
        };
        if let Some(waiting) = &mut process.frozen {
            waiting.push(input);
            return Ok(());
        }
        if let Input::Order(session, Message::Welcome { term, .. }) = input
            && process.dialled.is_some_and(|(dialled, _)| dialled == session)
        {
            process.known = process.known.max(term);
        }
        if self.planted == Some(Planted::NewcomerFromCheckpoint)
            && let Input::Peer(_, PeerWord::State { state, .. }) = &mut input
            && let Some(old) = self.disk.oldest()
        {
            *state = crate::replica::State { position: state.position, ..old.clone() };
        }
        let actions = process.worker.on(self.network.now_ms(), input);
        actions.into_iter().try_for_each(|action| self.act(id, action))?;
        checks::worker(self, id)
    }

    /// Carries out what a worker does.
    fn act(&mut self, id: ProcessId, action: Action) -> Going {
        let dialled = self.processes.get(&id).and_then(|process| process.dialled);
        let up = |session, word| {
            let (_, to) = dialled.filter(|(dialled, _)| *dialled == session)?;
            Some(Delivery::ToCoordinator { from: id, to, session, word })
        };
        let (link, delivery) = match action {
            Action::Connect(session, attached) => {
                self.on_connect(id, session, attached);
                return Ok(());
            }
            Action::Say(session, event) => {
                if let Some(delivery) = up(session, Word::Say(event)) {
                    self.network.send_roughly(Link::Up(id), delivery);
                }
                return Ok(());
            }
            Action::Disconnect(session) => (Link::Up(id), up(session, Word::Close)),
            Action::Fetch(session, step, ticket) => {
                (Link::Fetch(id), up(session, Word::FetchAsked { step, ticket }))
            }
            Action::Upload(session, state) => (Link::Upload(id), up(session, Word::UploadBegan(state))),
            Action::Tell(to, word) => {
                (Link::Data(id, to), Some(Delivery::ToWorker(to, Input::Peer(id, word))))
            }
            Action::Obeys(term) => {
                let known = self.processes.get(&id).map(|process| process.known).unwrap_or_default();
                return checks::ensure(term >= known, || {
                    format!("{id:?} follows term {term} and knows of {known}")
                });
            }
            Action::Timer { after_ms, timer } => {
                self.network.after(after_ms, Delivery::ToWorker(id, Input::Timer(timer)));
                return Ok(());
            }
            Action::Computed { generation, step, shards } => {
                self.lineage.computed(generation, step, shards, self.case.spec.shards);
                return Ok(());
            }
            Action::Updated { generation, step } => return self.lineage.updated(generation, step),
            Action::Exit => {
                self.end_process(id, End::Exited);
                return Ok(());
            }
            Action::Complain(what) => return Err(Interruption::Violation(what)),
        };
        if let Some(delivery) = delivery {
            self.network.send(link, delivery);
        }
        Ok(())
    }

    /// One of the smallest things happens; it may be the last.
    pub(crate) fn burn(&mut self) -> Going {
        match self.fuses.last_mut() {
            Some((0, scope)) => {
                let scope = *scope;
                self.fuses.pop();
                Err(Interruption::Crash(scope))
            }
            Some((left, _)) => {
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
