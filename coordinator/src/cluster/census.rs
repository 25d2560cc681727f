//! How many there are of each kind: what metrics ask for, a few bytes whatever the cluster's size.

use std::collections::BTreeMap;

use lockstep_core::DeviceKind;

use super::summary::RunState;
use super::view::WorkerState;
use super::{Cluster, LiveStage};

/// A count of the moment. What is not in a map is not there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Census {
    /// That are not over.
    pub runs: BTreeMap<RunState, usize>,
    pub workers: BTreeMap<(WorkerState, DeviceKind), usize>,
    /// Workers that are connected.
    pub sessions: usize,
}

impl Cluster {
    pub(super) fn census(&self) -> Census {
        let mut census = Census::default();
        for live in self.runs.values() {
            let state = match live.stage {
                LiveStage::Waiting { .. } => RunState::Queued,
                LiveStage::Preparing | LiveStage::Running { .. } => live.summary.borrow().state,
            };
            *census.runs.entry(state).or_default() += 1;
        }
        for (worker, seat) in self.seats.iter() {
            let state = self.worker_state(worker, seat);
            *census.workers.entry((state, seat.resources.device)).or_default() += 1;
            census.sessions += usize::from(seat.open);
        }
        census
    }
}
