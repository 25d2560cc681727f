//! What a trainer holds: its replica, where that stands, and what has been done of the epoch.
//!
//! It outlives generations. It stands at a boundary between two steps whenever nobody is in the middle of an update, and
//! what stands at a position has the same bits whoever computed it: any generation may go on from there.

use std::path::Path;
use std::time::Duration;

use tch::Device;
use tracing::info;

use super::checkpoint;
use super::epoch::EpochState;
use super::error::TrainerError;
use super::message::CheckpointFiles;
use super::replica::Replica;
use super::samples::Samples;
use crate::plan::{Plan, Position};

#[derive(Debug)]
pub(super) struct Held {
    pub(super) replica: Replica,
    /// After an epoch's last step it stays in that epoch until the verdict on it is followed.
    pub(super) position: Position,
    pub(super) epoch: EpochState,
    /// Time that this member has trained in the epoch.
    pub(super) trained: Duration,
}

impl Held {
    /// At the start of a run: by the seed, over which `weights` are laid where they are given.
    pub(super) fn initial(
        plan: &Plan,
        weights: Option<&Path>,
        samples: &Samples,
        position: Position,
        device: Device,
    ) -> Result<Self, TrainerError> {
        let mut replica = Replica::new(plan, position.epoch, device)?;
        replica.initialise(plan.seed, weights)?;
        let epoch = samples.new_epoch(position.epoch);
        Ok(Self { replica, position, epoch, trained: Duration::ZERO })
    }

    /// From a checkpoint, or another member's state, of `position`.
    pub(super) fn load(
        plan: &Plan,
        position: Position,
        files: &CheckpointFiles,
        device: Device,
    ) -> Result<Self, TrainerError> {
        let mut replica = Replica::new(plan, position.epoch, device)?;
        let epoch = checkpoint::load(&mut replica, position, files)?;
        Ok(Self { replica, position, epoch, trained: Duration::ZERO })
    }

    /// The checkpoint of where it stands: a copy in memory, the same bytes on every member.
    pub(super) fn save(&self) -> Result<CheckpointFiles, TrainerError> {
        checkpoint::save(&self.replica, self.position, &self.epoch)
    }

    /// The epoch is trained to its end, and the verdict on it not followed.
    pub(super) fn is_unjudged(&self, plan: &Plan) -> bool {
        self.position.step == plan.start_of(self.position.epoch + 1).step
    }

    /// Follows a verdict on the epoch: moves to the start of the next one, with the weights of `restore` where they are
    /// given. Tells whether other parameters are trained from there on.
    pub(super) fn follow(
        &mut self,
        plan: &Plan,
        samples: &Samples,
        restore: Option<&[u8]>,
    ) -> Result<bool, TrainerError> {
        let next = plan.start_of(self.position.epoch + 1);
        // Before a checkpoint may be saved, so that one of this position has the same bytes whoever saves it.
        let made_anew = self.replica.enter(plan, next.epoch)?;
        if let Some(model_file) = restore {
            info!(epoch = self.position.epoch, "went back to the best weights");
            self.replica.restore(model_file)?;
        }
        self.position = next;
        self.epoch = samples.new_epoch(next.epoch);
        self.trained = Duration::ZERO;
        Ok(made_anew)
    }
}
