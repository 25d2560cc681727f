//! The courier: checkpoints on their way to the coordinator, one after another, and from it. Whatever breaks on the way
//! starts again with the next session.

use std::collections::VecDeque;

use lockstep_core::{Event, FailureKind, Step};

use super::{Action, Stage, Timer, Worker};
use crate::network::SessionId;
use crate::replica::State;

/// A checkpoint that did not come within this time is asked for again.
const FETCH_MS: u64 = 3000;

#[derive(Debug, Default)]
pub(super) struct Courier {
    /// The first one is on its way if `in_flight`.
    parcels: VecDeque<Parcel>,
    in_flight: bool,
    wanted: Option<(Step, u64)>,
    tickets: u64,
}

#[derive(Debug)]
struct Parcel {
    state: State,
    /// A later one may take its place as long as it waits.
    replaceable: bool,
}

impl Courier {
    /// The session is broken, and what was on its way with it.
    pub(super) fn pause(&mut self) {
        self.in_flight = false;
    }
}

impl Worker {
    pub(super) fn courier_resume(&mut self) {
        self.start_upload();
        self.ask();
    }

    pub(super) fn upload(&mut self, state: State, replaceable: bool) {
        let courier = &mut self.courier;
        if courier.parcels.iter().any(|parcel| parcel.state.position == state.position) {
            return;
        }
        let waiting = courier.parcels.len() - usize::from(courier.in_flight);
        match courier.parcels.back_mut() {
            Some(last) if waiting > 0 && last.replaceable => *last = Parcel { state, replaceable },
            _ => courier.parcels.push_back(Parcel { state, replaceable }),
        }
        self.start_upload();
    }

    fn start_upload(&mut self) {
        if let Some(parcel) = self.courier.parcels.front()
            && self.session.open
            && !self.courier.in_flight
        {
            let upload = Action::Upload(self.session.id, parcel.state.clone());
            self.courier.in_flight = true;
            self.act(upload);
        }
    }

    pub(super) fn on_uploaded(&mut self, session: SessionId, step: Step, stored: bool) {
        let front = self.courier.parcels.front().map(|parcel| parcel.state.position.step);
        if session != self.session.id || !self.courier.in_flight || front != Some(step) {
            return;
        }
        self.courier.parcels.pop_front();
        self.courier.in_flight = false;
        if stored {
            self.release(step);
        }
        self.start_upload();
    }

    /// It is stored, so nobody need keep it.
    pub(super) fn release(&mut self, step: Step) {
        if self.kept.as_ref().is_some_and(|kept| kept.position.step == step) {
            self.kept = None;
        }
    }

    /// Fetches a checkpoint for what the trainer is about to do.
    pub(super) fn fetch(&mut self, step: Step) {
        self.courier.tickets += 1;
        self.courier.wanted = Some((step, self.courier.tickets));
        self.ask();
    }

    /// The trainer has no use for it any more.
    pub(super) fn forget_fetch(&mut self) {
        self.courier.wanted = None;
    }

    fn ask(&mut self) {
        let Some((step, ticket)) = self.courier.wanted else { return };
        if self.session.open {
            self.act(Action::Fetch(self.session.id, step, ticket));
            self.timer(FETCH_MS, Timer::FetchAgain(ticket));
        }
    }

    pub(super) fn fetch_again(&mut self, ticket: u64) {
        if self.courier.wanted.is_some_and(|(_, wanted)| wanted == ticket) {
            self.ask();
        }
    }

    pub(super) fn on_fetched(&mut self, ticket: u64, state: Option<State>) {
        if self.courier.wanted.is_none_or(|(_, wanted)| wanted != ticket) {
            return;
        }
        self.courier.wanted = None;
        let Some(state) = state else {
            let reason = "cannot fetch the checkpoint: it no longer verifies".to_owned();
            let worker = self.name.clone();
            self.say(Event::WorkerFailed { worker, reason, kind: FailureKind::Data });
            return self.act(Action::Exit);
        };
        match &mut self.stage {
            Stage::Forming { fetched } => {
                *fetched = Some(state);
                self.try_form();
            }
            Stage::Restoring(verdict) => {
                let verdict = *verdict;
                self.follow(verdict, Some(&state));
            }
            Stage::Testing { .. } => self.compute(Stage::Testing { weights: Some(state) }),
            _ => {}
        }
    }
}
