//! The workers as they can be dealt out, one after another, while a decision is being made.

use std::collections::BTreeMap;
use std::ops::Range;

use super::{DeviceKind, PooledWorker, Resources, WorkerPlace};
use crate::{RunName, WorkerName};

/// Of all workers that do not leave. By kind of device and then by memory, so that whoever asks for some memory may have
/// those from one place on, and gets the smallest that are enough for it.
pub(super) struct Stock<'a> {
    slots: Vec<Slot<'a>>,
    /// Those that nobody has taken, in order: where hundreds of runs wait for the same few, nearly all find none.
    open: Vec<usize>,
}

struct Slot<'a> {
    /// What they are sorted by: the kind of device, and its memory.
    key: (DeviceKind, u64),
    name: &'a WorkerName,
    worker: &'a PooledWorker,
    state: SlotState,
}

/// What is to become of a worker, as far as it has been decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SlotState {
    Free,
    /// A run that has yet to begin keeps it for the time being, and will not need it then.
    Kept,
    /// On its way back to the pool.
    Coming,
    /// In a run that goes on with it.
    Held,
    /// Somebody's.
    Taken,
}

impl<'a> Stock<'a> {
    pub(super) fn new(workers: &'a BTreeMap<WorkerName, PooledWorker>) -> Self {
        let dealt = workers.iter().filter(|(_, worker)| !worker.draining);
        let slots = dealt.filter_map(|(name, worker)| {
            let state = match worker.place {
                WorkerPlace::Free => SlotState::Free,
                WorkerPlace::In { reclaimed: false, .. } => SlotState::Held,
                WorkerPlace::In { reclaimed: true, .. } | WorkerPlace::Returning { .. } => SlotState::Coming,
                WorkerPlace::Dismissed => return None,
            };
            let Resources { device, memory_bytes } = worker.resources;
            Some(Slot { key: (device, memory_bytes), name, worker, state })
        });
        let mut slots: Vec<Slot<'a>> = slots.collect();
        slots.sort_by_key(|slot| slot.key);
        Self { open: (0..slots.len()).collect(), slots }
    }

    /// The slots of those with such a device and at least so much memory.
    pub(super) fn range(&self, device: DeviceKind, memory_bytes: u64) -> Range<usize> {
        let start = self.slots.partition_point(|slot| slot.key < (device, memory_bytes));
        let end = self.slots.partition_point(|slot| slot.key.0 <= device);
        start..end.max(start)
    }

    /// Who is held by whom.
    pub(super) fn held(&self) -> impl Iterator<Item = (usize, &'a RunName)> {
        (0..).zip(&self.slots).filter_map(|(slot, Slot { worker, state, .. })| match &worker.place {
            WorkerPlace::In { run, .. } if *state == SlotState::Held => Some((slot, run)),
            _ => None,
        })
    }

    fn open(&self, range: &Range<usize>) -> &[usize] {
        let start = self.open.partition_point(|slot| *slot < range.start);
        let end = self.open.partition_point(|slot| *slot < range.end);
        &self.open[start..end.max(start)]
    }

    /// Those of `range` in one of these states, first by the states' order and then the smallest.
    pub(super) fn pick(&self, range: &Range<usize>, states: &[SlotState], most: usize) -> Vec<usize> {
        let open = self.open(range);
        let of = |state: &SlotState| {
            let state = *state;
            open.iter().copied().filter(move |slot| self.slots[*slot].state == state)
        };
        states.iter().flat_map(of).take(most).collect()
    }

    pub(super) fn count(&self, range: &Range<usize>, state: SlotState) -> usize {
        self.open(range).iter().filter(|slot| self.slots[**slot].state == state).count()
    }

    pub(super) fn set(&mut self, slots: &[usize], state: SlotState) {
        slots.iter().for_each(|slot| self.slots[*slot].state = state);
        if state == SlotState::Taken {
            self.close();
        }
    }

    pub(super) fn take_all(&mut self, range: Range<usize>) {
        self.slots[range].iter_mut().for_each(|slot| slot.state = SlotState::Taken);
        self.close();
    }

    fn close(&mut self) {
        self.open.retain(|slot| self.slots[*slot].state != SlotState::Taken);
    }

    pub(super) fn state(&self, slot: usize) -> SlotState {
        self.slots[slot].state
    }

    pub(super) fn device(&self, slot: usize) -> DeviceKind {
        self.slots[slot].key.0
    }

    pub(super) fn memory_bytes(&self, slot: usize) -> u64 {
        self.slots[slot].key.1
    }

    pub(super) fn name(&self, slot: usize) -> &'a WorkerName {
        self.slots[slot].name
    }

    pub(super) fn place(&self, slot: usize) -> &'a WorkerPlace {
        &self.slots[slot].worker.place
    }
}
