//! The session's half: orders in, checkpoints fetched for them, snapshots uploaded one after another.

use lockstep_core::{Event, FailureKind, Generation, Message};

use super::{Action, Stage, Worker};
use crate::network::ProcessId;
use crate::replica::Snapshot;

/// Snapshots that may be on their way before the trainer waits: one being uploaded and one behind it.
const UPLOADS_MAX: usize = 2;

impl Worker {
    /// A halt and the end act at once; the rest is carried to the trainer in order, with its checkpoint.
    pub(super) fn on_order(&mut self, order: Message) {
        match order {
            Message::Halt { generation } => match &mut self.membership {
                Some(membership) if membership.generation == generation => membership.halt = true,
                // Its Begin is still waiting for a checkpoint.
                _ if self.parcels.iter().any(|parcel| is_begin(parcel, generation)) => {
                    self.early_halt = Some(generation);
                }
                _ => self
                    .act(Action::Complain(format!("{} was told to halt generation {generation}", self.name))),
            },
            Message::Finish { .. } => self.act(Action::Exit),
            Message::Welcome => {}
            order => {
                self.parcels.push_back(order);
                self.carry();
            }
        }
    }

    fn carry(&mut self) {
        while let Some(order) = self.parcels.front()
            && !self.fetching
        {
            let checkpoint = match order {
                Message::Begin(begin) => begin.checkpoint,
                Message::Verdict(verdict) => verdict.restore,
                Message::Evaluate { weights_step, .. } => Some(*weights_step),
                _ => None,
            };
            if let Some(step) = checkpoint {
                self.fetching = true;
                self.act(Action::Fetch(step));
                return;
            }
            self.deliver(None);
        }
    }

    pub(super) fn on_fetched(&mut self, snapshot: Option<Snapshot>) {
        self.fetching = false;
        match snapshot {
            Some(snapshot) => {
                self.deliver(Some(snapshot));
                self.carry();
            }
            None => {
                let reason = "cannot fetch the checkpoint: it no longer verifies".to_owned();
                let worker = self.name.clone();
                self.act(Action::Tell(Event::WorkerFailed { worker, reason, kind: FailureKind::Data }));
                self.act(Action::Exit);
            }
        }
    }

    /// Hands the first parcel over.
    fn deliver(&mut self, snapshot: Option<Snapshot>) {
        let Some(order) = self.parcels.pop_front() else { return };
        if let Message::Prepare { generation } = order {
            let (worker, address) = (self.name.clone(), address(self.id));
            self.act(Action::Tell(Event::Prepared { worker, generation, address }));
        } else {
            self.mailbox.push_back((order, snapshot));
            self.attend();
        }
    }

    /// Hands a snapshot over, or gives it back when there is no room.
    pub(super) fn upload(&mut self, snapshot: Snapshot) -> Result<(), Snapshot> {
        if self.uploads.len() == UPLOADS_MAX {
            return Err(snapshot);
        }
        self.uploads.push_back(snapshot);
        if self.uploads.len() == 1 {
            self.start_upload();
        }
        Ok(())
    }

    fn start_upload(&mut self) {
        if let (Some(membership), Some(snapshot)) = (&self.membership, self.uploads.front().cloned()) {
            self.act(Action::Upload(membership.generation, snapshot));
        }
    }

    pub(super) fn on_uploaded(&mut self) {
        self.uploads.pop_front();
        self.start_upload();
        if matches!(self.stage, Stage::Saving(..))
            && let Stage::Saving(snapshot, then) = std::mem::replace(&mut self.stage, Stage::Waiting)
        {
            self.hand_over(snapshot, then);
        }
    }
}

fn is_begin(order: &Message, of: Generation) -> bool {
    matches!(order, Message::Begin(begin) if begin.generation == of)
}

/// Where other members reach a process.
fn address(id: ProcessId) -> String {
    format!("process:{}", id.0)
}

/// The process behind an address.
pub(super) fn process(address: &str) -> Option<ProcessId> {
    address.strip_prefix("process:")?.parse().ok().map(ProcessId)
}
