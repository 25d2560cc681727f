//! What the beginning of a run takes of disk, network and processor: its inputs are found, its folder is made or opened, and
//! the run is created, or taken over where it has a history.
//!
//! Whether it has one is the journal's to say, so that it does not matter whether a run is new, resumed, or was under way
//! when the coordinator died.

use std::collections::BTreeSet;

use lockstep_core::{Requirements, WorkerBounds, WorkerName};

use super::record::Record;
use crate::home::Home;
use crate::prepare::{Again, Begun, Draft, PrepareError, Started, TellLog, history};
use crate::recipe::Recipe;
use crate::run_folder::RunFolder;

/// A year. In a cluster a run without workers does not fail: there will be others.
const JOIN_TIMEOUT_MS: u64 = 365 * 86_400_000;

/// What is to begin.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) record: Record,
    /// As many as it begins with.
    pub(super) workers: u32,
    /// Theirs.
    pub(super) libtorch_version: String,
    /// Who may come back from before this coordinator's life.
    pub(super) expected: BTreeSet<WorkerName>,
}

/// This blocks, for as long as a download takes.
pub(super) fn begin(home: &Home, order: Order) -> Result<Begun, PrepareError> {
    let Order { record, workers, libtorch_version, expected } = order;
    let Requirements { min_workers, max_workers, .. } = record.requirements;
    let bounds = WorkerBounds {
        min: min_workers,
        start: workers.clamp(min_workers, max_workers.max(min_workers)),
        max: max_workers.max(min_workers),
    };
    // Nothing was typed on this machine.
    let started = Started { libtorch_version, command: Vec::new() };
    let (name, tell) = (&record.run.0, TellLog);
    match history(&home.journal()?, name) {
        Ok(history) => {
            let folder = RunFolder::open(&home.path, name)?;
            let again = Again::new(name, history, Some(record.epochs), &tell)?;
            // Workers that live have them; the bytes are looked at where a run begins from the disk.
            if expected.is_empty() || !again.has_inputs(home) {
                again.bring_inputs(home, &tell)?;
            }
            again.with_join_timeout(JOIN_TIMEOUT_MS).begin(folder, bounds, expected, started)
        }
        Err(PrepareError::Unknown { .. }) => {
            let recipe = Recipe::from_toml_str(&record.recipe, "the run's recipe")?;
            let draft = Draft::new(name, recipe, bounds, home, &tell)?.with_join_timeout(JOIN_TIMEOUT_MS);
            let folder = draft.claim_folder(home)?;
            Ok(draft.begin(folder, started))
        }
        Err(error) => Err(error),
    }
}
