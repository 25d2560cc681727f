//! A coordinator's store: checkpoints come in, are made durable under their final name, and go out.

use lockstep_core::{Admission, Event, Step};

use crate::checks;
use crate::network::{CoordinatorId, Delivery, Link, ProcessId, SessionId, Word};
use crate::planted::Planted;
use crate::replica::State;
use crate::worker::Input;
use crate::world::{Going, Interruption, World};

/// What a checkpoint is said to weigh.
const SIZE_BYTES: u64 = 64;

impl World {
    /// A checkpoint's header has come. The bytes follow if it is wanted.
    pub(super) fn on_upload_began(
        &mut self,
        from: ProcessId,
        to: CoordinatorId,
        session: SessionId,
        state: State,
    ) -> Going {
        let Some(coordinator) = self.coordinators.get(&to) else { return Ok(()) };
        let position = state.position;
        let admission = coordinator.run.admit_upload(position);
        if !matches!(admission, Ok(Admission::Wanted)) {
            self.answer(from, session, position.step, admission.is_ok());
            return Ok(());
        }
        if self.planted == Some(Planted::HastyStore) {
            // Nobody hears of a refusal here.
            drop(self.decide(to, Event::CheckpointStored { position, size_bytes: SIZE_BYTES })?);
        }
        let delay_ms = self.random.below(self.transfer_max_ms);
        let word = Word::UploadEnded(state);
        let delivery = Delivery::ToCoordinator { from, to, session, word };
        self.network.send_slowly(Link::Upload(from), delay_ms, delivery);
        Ok(())
    }

    /// All of a checkpoint has come: it is made durable under its final name, then the run hears of it.
    pub(super) fn on_upload_ended(
        &mut self,
        from: ProcessId,
        to: CoordinatorId,
        session: SessionId,
        state: State,
    ) -> Going {
        // An upload ends with the process that it comes from.
        if !self.processes.contains_key(&from) {
            return Ok(());
        }
        let position = state.position;
        checks::bits(&state, &self.oracle)?;
        self.disk.store(state);
        self.burn()?;
        let mut stored = true;
        if self.planted != Some(Planted::HastyStore) {
            let event = Event::CheckpointStored { position, size_bytes: SIZE_BYTES };
            // A run that is over or went back refuses it; then nobody knows of the checkpoint.
            stored = self.decide(to, event)?.is_ok();
        }
        // One that was taken over from ends before it can answer.
        if !self.coordinators.contains_key(&to) {
            return Ok(());
        }
        self.answer(from, session, position.step, stored);
        Ok(())
    }

    fn answer(&mut self, to: ProcessId, session: SessionId, step: Step, stored: bool) {
        let delivery = Delivery::ToWorker(to, Input::Uploaded { session, step, stored });
        self.network.send(Link::Upload(to), delivery);
    }

    pub(super) fn on_fetch_asked(&mut self, from: ProcessId, step: Step, ticket: u64) -> Going {
        let Some(process) = self.processes.get(&from) else { return Ok(()) };
        let state = self.disk.whole(step).cloned();
        let current = self.coordinator().map(|coordinator| coordinator.run.history().generation);
        if state.is_none() && !self.disk.is_damaged(step) {
            // A member of a generation that is over may come too late for what the others have done with.
            return if current == Some(process.worker.begun) {
                Err(Interruption::Violation(format!("the checkpoint of step {step} is wanted but gone")))
            } else {
                Ok(())
            };
        }
        self.excuse |= state.is_none();
        let delay_ms = self.random.below(self.transfer_max_ms);
        let delivery = Delivery::ToWorker(from, Input::Fetched { ticket, state });
        self.network.send_slowly(Link::Fetch(from), delay_ms, delivery);
        Ok(())
    }
}
