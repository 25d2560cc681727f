//! Which local worker is started again, and when; when the run has to end for want of them. No process and no clock is
//! in here: what happened and the time are arguments.
//!
//! A slot is a worker's name, device and log file. Processes come and go in it, one at a time.

use std::time::{Duration, Instant};

/// Before a slot's first restart. A worker that dies at once, each time, shall not keep the machine busy; one that a
/// passing trouble killed shall be back soon.
const BACKOFF_MIN: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// What a run can do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// A slot that cannot be filled any more ends the run.
    EverySlot,
    /// It goes on with so many workers.
    AtLeast(u32),
}

/// All slots of a run on this machine.
#[derive(Debug)]
pub(super) struct Slots {
    slots: Vec<Slot>,
    max_restarts: u32,
    needs: Needs,
    /// The run is about to end: nobody is started any more.
    stopping: bool,
}

#[derive(Debug, Clone)]
struct Slot {
    state: State,
    restarts: u32,
}

#[derive(Debug, Clone, PartialEq)]
enum State {
    Running { leaving: bool },
    Waiting { until: Instant },
    Left,
    GivenUp,
}

/// What follows from a process's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// It is started again, for the `restart`-th time.
    Restart { after: Duration, restart: u32 },
    /// It left on purpose and stays away.
    Left,
    /// It is not started again; the others go on.
    GivenUp,
    /// It is not started again, and the run cannot go on without.
    Fail,
    /// The run is about to end anyway.
    Nothing,
}

impl Slots {
    pub(super) fn new(count: usize, max_restarts: u32, needs: Needs) -> Self {
        let slot = Slot { state: State::Running { leaving: false }, restarts: 0 };
        Self { slots: vec![slot; count], max_restarts, needs, stopping: false }
    }

    /// The run let the worker go, as it had asked.
    pub(super) fn leaves(&mut self, slot: usize) {
        if let State::Running { leaving } = &mut self.slots[slot].state {
            *leaving = true;
        }
    }

    /// A process runs in the slot, and is expected to go on running.
    pub(super) fn is_running(&self, slot: usize) -> bool {
        self.slots[slot].state == State::Running { leaving: false }
    }

    /// No process is started from now on.
    pub(super) fn stop(&mut self) {
        self.stopping = true;
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// The slot's process ended; `told_to_go` by somebody's signal. `others` are workers of the run that have no slot here.
    pub(super) fn ended(&mut self, slot: usize, told_to_go: bool, others: u32, now: Instant) -> Decision {
        let leaving = self.slots[slot].state == State::Running { leaving: true };
        if leaving || told_to_go {
            self.slots[slot].state = State::Left;
            return Decision::Left;
        }
        if self.stopping {
            self.slots[slot].state = State::GivenUp;
            return Decision::Nothing;
        }
        let Slot { state, restarts } = &mut self.slots[slot];
        if *restarts < self.max_restarts {
            let after = BACKOFF_MIN.saturating_mul(2_u32.saturating_pow(*restarts)).min(BACKOFF_MAX);
            *restarts += 1;
            *state = State::Waiting { until: now + after };
            return Decision::Restart { after, restart: *restarts };
        }
        *state = State::GivenUp;
        let left = self.slots.iter().filter(|slot| slot.is_alive()).count() as u32 + others;
        match self.needs {
            Needs::AtLeast(least) if left >= least => Decision::GivenUp,
            Needs::AtLeast(_) | Needs::EverySlot => Decision::Fail,
        }
    }

    /// When the next process is to be started.
    pub(super) fn next_start(&self) -> Option<Instant> {
        let waiting = self.slots.iter().filter(|_| !self.stopping).filter_map(|slot| match slot.state {
            State::Waiting { until } => Some(until),
            _ => None,
        });
        waiting.min()
    }

    /// A slot whose process is to be started now; it counts as running from here on.
    pub(super) fn start_due(&mut self, now: Instant) -> Option<usize> {
        let stopping = self.stopping;
        let is_due =
            |slot: &Slot| matches!(slot.state, State::Waiting { until } if until <= now && !stopping);
        let slot = self.slots.iter().position(is_due)?;
        self.slots[slot].state = State::Running { leaving: false };
        Some(slot)
    }

    /// No process runs here, and none will.
    pub(super) fn are_deserted(&self) -> bool {
        !self.slots.iter().any(Slot::is_alive)
    }
}

impl Slot {
    fn is_alive(&self) -> bool {
        matches!(self.state, State::Running { .. } | State::Waiting { .. })
    }
}

#[cfg(test)]
mod tests;
