//! What the worker says of its own accord: its heartbeat, at an even pace and at every change that may be waited for, and
//! with it the reports that are due.

use std::time::Duration;

use tokio::time::Instant;

use super::reports::Reports;
use crate::client::{Heartbeat, Outgoing};
use crate::trainer::Pulse;
use crate::trainer::pulse::Activity;

/// Heartbeats in a lease, so that a few may be late and none is missed.
const HEARTBEATS_PER_LEASE: u32 = 15;

/// Speaks on the open session, if there is one.
#[derive(Debug)]
pub(super) struct Speaker {
    outgoing: Option<Outgoing>,
    lease: Duration,
    pulse: Pulse,
    reports: Reports,
    sequence: u64,
    spoken: Instant,
    /// host:port of the data plane; empty until data and weights are at hand.
    pub(super) address: String,
    /// The newest generation's number, and its members by rank.
    pub(super) members: (u64, Vec<String>),
    pub(super) is_leaving: bool,
}

impl Speaker {
    pub(super) fn new(pulse: Pulse, reports: Reports, outgoing: Outgoing, lease: Duration) -> Self {
        Self {
            outgoing: Some(outgoing),
            lease,
            pulse,
            reports,
            sequence: 0,
            spoken: Instant::now(),
            address: String::new(),
            members: (0, Vec::new()),
            is_leaving: false,
        }
    }

    /// Somebody listens again, and may have heard nothing of what was said before.
    pub(super) fn attach(&mut self, outgoing: Outgoing, lease: Duration) {
        (self.outgoing, self.lease) = (Some(outgoing), lease);
        self.reports.say_again();
        self.speak();
    }

    pub(super) fn detach(&mut self) {
        self.outgoing = None;
    }

    pub(super) fn outgoing(&self) -> Option<&Outgoing> {
        self.outgoing.as_ref()
    }

    /// Of the replica, where there is one.
    pub(super) fn step(&self) -> Option<u64> {
        self.pulse.state().position.map(|position| position.step)
    }

    /// When to speak again.
    pub(super) fn due(&self) -> Instant {
        self.spoken + self.lease / HEARTBEATS_PER_LEASE
    }

    pub(super) fn speak(&mut self) {
        self.spoken = Instant::now();
        let Some(outgoing) = &self.outgoing else { return };
        self.sequence += 1;
        let state = self.pulse.state();
        let (generation, names) = &self.members;
        let waiting_on = match state.activity {
            Activity::Exchanging { rank } if *generation == state.generation => names.get(rank).cloned(),
            _ => None,
        };
        outgoing.heartbeat(Heartbeat {
            sequence: self.sequence,
            address: self.address.clone(),
            state,
            waiting_on: waiting_on.unwrap_or_default(),
            leaving: self.is_leaving,
        });
        self.reports.say(outgoing, self.lease);
    }
}
