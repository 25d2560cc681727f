//! Virtual time and what travels in it.
//!
//! What members say to each other, and checkpoints, travel as in a stream: in order, whole, or not at all once the
//! connection is broken. What is said between workers and coordinators may also be lost, doubled and overtaken where
//! the weather is rough. Any pair may be cut off from each other for a while: what they send is lost then, or stalls and
//! arrives when the cut is over.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_core::{Attached, Event, Step};

use crate::faults::Fault;
use crate::launcher::Slot;
use crate::random::Random;
use crate::replica::State;
use crate::worker::Input;

/// The most that a message takes, in virtual milliseconds.
const DELAY_MAX_MS: u64 = 8;

/// A worker's process. Never used twice, so that what is meant for a dead one reaches nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ProcessId(pub(crate) u32);

/// A coordinator's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CoordinatorId(pub(crate) u32);

/// A process's session with a coordinator; it has one after another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SessionId(pub(crate) u32);

/// A stream with an order of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Link {
    /// A worker's session, upwards.
    Up(ProcessId),
    /// A worker's session, downwards.
    Down(ProcessId),
    /// A checkpoint on its way up, or the answer to it.
    Upload(ProcessId),
    /// A checkpoint asked for and on its way down.
    Fetch(ProcessId),
    /// Between two members.
    Data(ProcessId, ProcessId),
}

/// Who is cut off from whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Pair {
    /// A worker and all coordinators.
    Control(ProcessId),
    /// Two workers, the lower one first.
    Data(ProcessId, ProcessId),
}

/// What becomes of what is sent while a pair is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    Lost,
    Stalled,
}

/// How rough the way between workers and coordinators is, in times of a hundred.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Roughness {
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    /// A message may be late by so much, and be overtaken.
    pub(crate) late_ms: u64,
}

/// What a worker sends up.
#[derive(Debug, Clone)]
pub(crate) enum Word {
    Join(Option<Attached>),
    Say(Event),
    Close,
    UploadBegan(State),
    UploadEnded(State),
    FetchAsked { step: Step, ticket: u64 },
}

/// What arrives.
#[derive(Debug, Clone)]
pub(crate) enum Delivery {
    /// A worker's process is up.
    Started(ProcessId),
    ToCoordinator {
        from: ProcessId,
        to: CoordinatorId,
        session: SessionId,
        word: Word,
    },
    ToWorker(ProcessId, Input),
    /// The store has looked at the checkpoints.
    Verified(CoordinatorId, BTreeSet<Step>),
    /// The end of a local process was noticed.
    Reaped(ProcessId),
    Launch(Slot),
    Thaw(ProcessId),
    StartCoordinator,
    Strike(Fault),
    /// The weather clears up for the rest of the life.
    Calm,
}

/// All that is under way.
#[derive(Debug)]
pub(crate) struct Network {
    now_ms: u64,
    /// By time, then in the order of sending.
    queue: BTreeMap<(u64, u64), Delivery>,
    sent: u64,
    /// When the last message of each link arrives.
    links: BTreeMap<Link, u64>,
    cuts: BTreeMap<Pair, (u64, Cut)>,
    pub(crate) roughness: Roughness,
    random: Random,
}

impl Network {
    pub(crate) fn new(random: Random) -> Self {
        Self {
            now_ms: 0,
            queue: BTreeMap::new(),
            sent: 0,
            links: BTreeMap::new(),
            cuts: BTreeMap::new(),
            roughness: Roughness::default(),
            random,
        }
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.now_ms
    }

    pub(crate) fn send(&mut self, link: Link, delivery: Delivery) {
        let delay_ms = self.random.below(DELAY_MAX_MS + 1);
        self.send_slowly(link, delay_ms, delivery);
    }

    /// Sends what may be lost, doubled or overtaken.
    pub(crate) fn send_roughly(&mut self, link: Link, delivery: Delivery) {
        let Roughness { lost, doubled, late_ms } = self.roughness;
        if lost + doubled + late_ms == 0 {
            return self.send(link, delivery);
        }
        if self.random.percent(lost) {
            return;
        }
        let copies = 1 + u32::from(self.random.percent(doubled));
        for _ in 0..copies {
            let delay_ms = self.random.below(DELAY_MAX_MS + late_ms + 1);
            if let Some(stall_ms) = self.passes(link) {
                self.push(self.now_ms + stall_ms + delay_ms, delivery.clone());
            }
        }
    }

    /// Sends what takes `delay_ms`, and longer if the link is busy.
    pub(crate) fn send_slowly(&mut self, link: Link, delay_ms: u64, delivery: Delivery) {
        let Some(stall_ms) = self.passes(link) else { return };
        let arrival = self.links.entry(link).or_default();
        *arrival = (*arrival).max(self.now_ms + stall_ms + delay_ms);
        let at = *arrival;
        self.push(at, delivery);
    }

    /// Something that happens by itself after a while.
    pub(crate) fn after(&mut self, delay_ms: u64, delivery: Delivery) {
        self.push(self.now_ms + delay_ms, delivery);
    }

    /// Cuts a pair off from each other for a while.
    pub(crate) fn cut(&mut self, pair: Pair, for_ms: u64, cut: Cut) {
        self.cuts.insert(pair, (self.now_ms + for_ms, cut));
    }

    /// Nothing that is sent from now on is rough or cut off.
    pub(crate) fn calm(&mut self) {
        self.roughness = Roughness::default();
        self.cuts.clear();
    }

    pub(crate) fn is_cut(&self, pair: Pair) -> bool {
        self.cuts.get(&pair).is_some_and(|(until_ms, _)| self.now_ms < *until_ms)
    }

    /// The next arrival, if it is not later than `deadline_ms`. Otherwise time moves on to the deadline, if any.
    pub(crate) fn next(&mut self, deadline_ms: Option<u64>) -> Option<Delivery> {
        let first = self.queue.first_key_value().map(|((at, _), _)| *at);
        match (first, deadline_ms) {
            (Some(at), deadline) if deadline.is_none_or(|deadline| at <= deadline) => {
                self.now_ms = at;
                self.queue.pop_first().map(|(_, delivery)| delivery)
            }
            (_, Some(deadline)) => {
                self.now_ms = self.now_ms.max(deadline);
                None
            }
            _ => None,
        }
    }

    pub(crate) fn is_silent(&self) -> bool {
        self.queue.is_empty()
    }

    /// Nothing that was under way arrives any more.
    pub(crate) fn clear(&mut self) {
        self.queue.clear();
        self.links.clear();
        self.calm();
    }

    /// How long what is sent now waits for the end of a cut; none when it is lost.
    fn passes(&self, link: Link) -> Option<u64> {
        if self.cuts.is_empty() {
            return Some(0);
        }
        let pair = match link {
            Link::Up(id) | Link::Down(id) | Link::Upload(id) | Link::Fetch(id) => Pair::Control(id),
            Link::Data(one, other) => Pair::between(one, other),
        };
        match self.cuts.get(&pair) {
            Some((until_ms, cut)) if self.now_ms < *until_ms => {
                // A checkpoint's stream waits, as streams do, until somebody closes it.
                let waits = *cut == Cut::Stalled || matches!(link, Link::Upload(_) | Link::Fetch(_));
                waits.then(|| until_ms - self.now_ms)
            }
            _ => Some(0),
        }
    }

    fn push(&mut self, at: u64, delivery: Delivery) {
        self.sent += 1;
        self.queue.insert((at, self.sent), delivery);
    }
}

impl Pair {
    pub(crate) fn between(one: ProcessId, other: ProcessId) -> Self {
        Self::Data(one.min(other), one.max(other))
    }
}
