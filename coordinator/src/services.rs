//! What the workers of one run are served with: its driver's ear, the plan, its checkpoints, and what is agreed with all of
//! them. Made by whoever starts a run, used by the sessions in front of it.

use std::sync::Arc;

use lockstep_core::Generation;
use lockstep_proto::v1 as pb;
use rand_core::{OsRng, TryRngCore};
use sha2::{Digest, Sha256};

use crate::driver::DriverHandle;
use crate::run_folder::WorkerLogs;
use crate::store::CheckpointStore;

/// Everything that is needed to speak with the workers of one run.
#[derive(Debug)]
pub struct Services {
    pub driver: DriverHandle,
    pub plan: pb::Plan,
    pub checkpoints: CheckpointStore,
    /// From which each generation's token is derived; random, never sent.
    pub secret: [u8; 32],
    /// Where what they log is kept; none: they have files of their own here.
    pub logs: Option<Arc<WorkerLogs>>,
    /// Who is let go waits for another run.
    pub stand_by: bool,
}

impl Services {
    /// A secret for a run.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn draw_secret() -> anyhow::Result<[u8; 32]> {
        let mut secret = [0; 32];
        OsRng
            .try_fill_bytes(&mut secret)
            .map_err(|error| anyhow::Error::new(error).context("drawing the run's secret"))?;
        Ok(secret)
    }

    /// The run's name.
    pub fn run(&self) -> &str {
        &self.plan.run
    }

    /// What every data-plane handshake of a generation must carry.
    pub(crate) fn token(&self, generation: Generation) -> Vec<u8> {
        let digest =
            Sha256::new().chain_update(self.secret).chain_update(generation.0.to_le_bytes()).finalize();
        digest[..16].to_vec()
    }
}
