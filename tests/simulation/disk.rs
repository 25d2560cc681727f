//! What survives a crash: the journal up to its durable mark, and the checkpoints that bear their final name.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_core::{Entry, Step};

use crate::random::Random;
use crate::replica::Snapshot;

/// The coordinator's disk.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    journal: Vec<Entry>,
    /// So many entries survive a crash.
    durable: usize,
    checkpoints: BTreeMap<Step, Snapshot>,
    /// Those that no longer verify, lying there or set aside.
    damaged: BTreeSet<Step>,
    blows: u32,
}

impl Disk {
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

    pub(crate) fn crash(&mut self) {
        self.journal.truncate(self.durable);
    }

    pub(crate) fn store(&mut self, snapshot: Snapshot) {
        self.damaged.remove(&snapshot.position.step);
        self.checkpoints.insert(snapshot.position.step, snapshot);
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
    pub(crate) fn whole(&self, step: Step) -> Option<&Snapshot> {
        self.checkpoints.get(&step).filter(|_| !self.is_damaged(step))
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
