//! Virtual time and what travels in it. Each link keeps its order, as a stream does, and delays at random; between
//! links anything may overtake anything.

use std::collections::BTreeMap;

use lockstep_core::{Event, Generation, Step};

use crate::faults::Fault;
use crate::random::Random;
use crate::replica::Snapshot;
use crate::worker::Input;

/// The most that a message takes, in virtual milliseconds.
const DELAY_MAX_MS: u64 = 8;

/// A worker's process. Never used twice, so that what is meant for a dead one reaches nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ProcessId(pub(crate) u32);

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

/// What arrives.
#[derive(Debug)]
pub(crate) enum Delivery {
    /// A worker's process is up.
    Started(ProcessId),
    /// A worker's word.
    Event(ProcessId, Event),
    /// The end of a worker's session and process.
    Closed(ProcessId),
    UploadBegan(ProcessId, Generation, Snapshot),
    UploadEnded(ProcessId, Generation, Snapshot),
    FetchAsked(ProcessId, Step),
    ToWorker(ProcessId, Input),
    Strike(Fault),
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
    random: Random,
}

impl Network {
    pub(crate) fn new(random: Random) -> Self {
        Self { now_ms: 0, queue: BTreeMap::new(), sent: 0, links: BTreeMap::new(), random }
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.now_ms
    }

    pub(crate) fn send(&mut self, link: Link, delivery: Delivery) {
        let delay_ms = self.random.below(DELAY_MAX_MS + 1);
        self.send_slowly(link, delay_ms, delivery);
    }

    /// Sends what takes `delay_ms`, and longer if the link is busy.
    pub(crate) fn send_slowly(&mut self, link: Link, delay_ms: u64, delivery: Delivery) {
        let arrival = self.links.entry(link).or_default();
        *arrival = (*arrival).max(self.now_ms + delay_ms);
        let at = *arrival;
        self.push(at, delivery);
    }

    /// Something that happens by itself after a while.
    pub(crate) fn after(&mut self, delay_ms: u64, delivery: Delivery) {
        self.push(self.now_ms + delay_ms, delivery);
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
    pub(crate) fn cut(&mut self) {
        self.queue.clear();
        self.links.clear();
    }

    fn push(&mut self, at: u64, delivery: Delivery) {
        self.sent += 1;
        self.queue.insert((at, self.sent), delivery);
    }
}
