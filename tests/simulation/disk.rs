//! What survives a crash: the journal up to its durable mark, and the checkpoints that bear their final name. One
//! coordinator has it locked; another one's entries are refused.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_core::{Entry, Step};

use crate::network::CoordinatorId;
use crate::random::Random;
use crate::replica::State;

/// The coordinator's disk.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    journal: Vec<Entry>,
    /// So many entries survive a crash.
    durable: usize,
    owner: Option<CoordinatorId>,
    checkpoints: BTreeMap<Step, State>,
    /// Those that no longer verify, lying there or set aside.
    damaged: BTreeSet<Step>,
    blows: u32,
}

impl Disk {
    pub(crate) fn lock(&mut self, owner: CoordinatorId) {
        self.owner = Some(owner);
    }

    pub(crate) fn is_owned_by(&self, owner: CoordinatorId) -> bool {
        self.owner == Some(owner)
    }

    pub(crate) fn journal(&self) -> &[Entry] {
        &self.journal
    }

    pub(crate) fn append(&mut self, entries: &[Entry]) {
        self.journal.extend_from_slice(entries);
    }

    /// Makes the first so many entries durable.
    pub(crate) fn sync(&mut self, entries: usize) {
        self.durable = self.durable.max(entries);
    }

    /// What was not made durable is lost, or was written all the same.
    pub(crate) fn crash(&mut self, lost: bool) {
        if lost {
            self.journal.truncate(self.durable);
        }
        self.durable = self.journal.len();
        self.owner = None;
    }

    pub(crate) fn store(&mut self, state: State) {
        self.damaged.remove(&state.position.step);
        self.checkpoints.insert(state.position.step, state);
    }

    pub(crate) fn delete(&mut self, step: Step) {
        self.checkpoints.remove(&step);
        self.damaged.remove(&step);
    }

    /// Keeps a damaged checkpoint out of the way.
    pub(crate) fn set_aside(&mut self, step: Step) {
        self.checkpoints.remove(&step);
    }

    /// Whether there is a checkpoint of this step, whole or damaged.
    pub(crate) fn has(&self, step: Step) -> bool {
        self.checkpoints.contains_key(&step)
    }

    pub(crate) fn is_damaged(&self, step: Step) -> bool {
        self.damaged.contains(&step)
    }

    /// A checkpoint that verifies.
    pub(crate) fn whole(&self, step: Step) -> Option<&State> {
        self.checkpoints.get(&step).filter(|_| !self.is_damaged(step))
    }

    /// Any checkpoint that verifies, the oldest first.
    pub(crate) fn oldest(&self) -> Option<&State> {
        self.checkpoints.values().find(|state| !self.is_damaged(state.position.step))
    }

    /// Damages one of the checkpoints.
    pub(crate) fn damage(&mut self, random: &mut Random) -> Option<Step> {
        let steps: Vec<Step> = self.checkpoints.keys().copied().collect();
        let step = *random.pick(&steps)?;
        self.damaged.insert(step);
        self.blows += 1;
        Some(step)
    }

    /// How often a checkpoint was damaged, in all lives.
    pub(crate) fn blows(&self) -> u32 {
        self.blows
    }
}
