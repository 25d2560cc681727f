//! A run that has fewer workers than its minimum: what it gets, what it keeps from those behind it, and what it waits for.

use std::collections::BTreeMap;
use std::ops::Range;

use super::super::stock::SlotState;
use super::super::{Awaited, DeviceKind, Waits, WorkerKind, WorkerPlace};
use super::{Deal, Planner};
use crate::WorkerName;

/// Workers that nobody has, or that are about to be so.
const SOON: [SlotState; 3] = [SlotState::Free, SlotState::Kept, SlotState::Coming];

/// What a run could use: the slots of one kind of device.
struct Kind {
    device: DeviceKind,
    range: Range<usize>,
}

/// Those that wait, among the runs that were decided on.
#[derive(Debug, Default)]
pub(super) struct Before {
    all: usize,
    /// Those that could use workers of a kind. One that could use any counts for each.
    by_device: BTreeMap<DeviceKind, usize>,
}

impl Before {
    fn count(&self, kinds: &[Kind]) -> usize {
        match kinds {
            [Kind { device, .. }] => self.by_device.get(device).copied().unwrap_or_default(),
            _ => self.all,
        }
    }

    fn add(&mut self, kinds: &[Kind]) {
        self.all += 1;
        kinds.iter().for_each(|kind| *self.by_device.entry(kind.device).or_default() += 1);
    }
}

impl Planner<'_> {
    /// Decides for a run that lacks workers.
    pub(super) fn claim(&mut self, index: usize) {
        let (name, needs) = (self.deals[index].name, self.deals[index].lacks());
        let possible = self.possible(index);
        if possible.is_empty() {
            let waits = self.never(index);
            self.plan.waits.insert(name.clone(), waits);
            if self.deals[index].run.running.is_some() {
                self.plan.stuck.insert(name.clone());
            }
        } else if !self.place(index, &possible, needs) {
            let waits = self.reserve(index, &possible, needs);
            self.before.add(&possible);
            self.plan.waits.insert(name.clone(), waits);
        }
    }

    /// The kinds of device of which there are enough for a run, if all others ended.
    fn possible(&self, index: usize) -> Vec<Kind> {
        let needs = self.deals[index].lacks();
        let mut kinds = self.kinds(index);
        kinds.retain(|kind| self.within_reach(index, kind) >= needs);
        kinds
    }

    fn kinds(&self, index: usize) -> Vec<Kind> {
        let kind = |device| Kind { device, range: self.range(index, device) };
        self.devices(index).into_iter().map(kind).collect()
    }

    /// A run lacks workers, and with all that are there it would.
    pub(super) fn is_out_of_reach(&self, index: usize) -> bool {
        self.deals[index].lacks() > 0 && self.possible(index).is_empty()
    }

    /// Workers of a kind that a run does not have, and could have if all others ended.
    fn within_reach(&self, index: usize, Kind { range, .. }: &Kind) -> usize {
        let own = self.deals[index].held.iter().filter(|slot| range.contains(slot)).count();
        range.len() - own
    }

    fn never(&self, index: usize) -> Waits {
        let Deal { run, held, .. } = &self.deals[index];
        let reach = self.kinds(index).iter().map(|kind| self.within_reach(index, kind)).max();
        let has = held.len() + reach.unwrap_or_default();
        Waits::Never { needs: run.requirements.least(), asked: self.asked(index), has }
    }

    fn asked(&self, index: usize) -> WorkerKind {
        let device = match self.devices(index)[..] {
            [device] => Some(device),
            _ => None,
        };
        WorkerKind { device, memory_bytes: self.deals[index].run.requirements.memory_bytes }
    }

    /// There may be no room before one that was asked back has left.
    fn has_room(&self, index: usize, needs: usize) -> bool {
        let Deal { run, present, .. } = &self.deals[index];
        present + needs <= run.requirements.most()
    }

    /// Gives a run what it needs, if there is so much that is free.
    fn place(&mut self, index: usize, possible: &[Kind], needs: usize) -> bool {
        if !self.has_room(index, needs) {
            return false;
        }
        for Kind { range, .. } in possible {
            let free = self.stock.pick(range, &[SlotState::Free], needs);
            if free.len() == needs {
                self.grant(index, free);
                return true;
            }
        }
        false
    }

    /// Puts aside what a run waits for: no more than it needs where it is known to come, and all that it could use where
    /// others have to end first.
    fn reserve(&mut self, index: usize, possible: &[Kind], needs: usize) -> Waits {
        for Kind { range, .. } in possible {
            let soon = self.stock.pick(range, &SOON, needs);
            if soon.len() == needs {
                return self.expect(index, possible, soon);
            }
        }
        for Kind { range, .. } in possible {
            let mut soon = self.stock.pick(range, &SOON, needs);
            let lacks = needs - soon.len();
            let spare = self.spare(index, range, lacks);
            if spare.len() == lacks {
                spare.iter().for_each(|slot| self.reclaim(*slot));
                soon.extend(spare);
                return self.expect(index, possible, soon);
            }
        }
        let free = |kind: &Kind| self.stock.count(&kind.range, SlotState::Free);
        let free = possible.iter().map(free).max().unwrap_or_default();
        let before = self.before.count(possible);
        for Kind { range, .. } in possible {
            self.stock.take_all(range.clone());
        }
        match before {
            0 => Waits::Workers { needs, asked: self.asked(index), free },
            runs => Waits::Behind { runs },
        }
    }

    /// These are free or on their way, and enough. What else is free and of use is kept until the run has begun.
    fn expect(&mut self, index: usize, possible: &[Kind], slots: Vec<usize>) -> Waits {
        self.stock.set(&slots, SlotState::Taken);
        for Kind { range, .. } in possible {
            let free = self.stock.pick(range, &[SlotState::Free], usize::MAX);
            self.stock.set(&free, SlotState::Kept);
        }
        let mut workers: Vec<Awaited> = slots.iter().filter_map(|slot| self.awaited(*slot)).collect();
        workers.sort_by(|a, b| a.worker.cmp(&b.worker));
        if workers.is_empty() && !self.has_room(index, slots.len()) {
            workers = self.leaving(index);
        }
        match workers[..] {
            // Others keep them, and will not need them in the end.
            [] => Waits::Behind { runs: self.before.count(possible) },
            _ => Waits::GivenBack { workers },
        }
    }

    fn awaited(&self, slot: usize) -> Option<Awaited> {
        let worker = self.stock.name(slot).clone();
        let place = self.stock.place(slot);
        let over = matches!(place, WorkerPlace::Returning { .. });
        place.run().map(|run| Awaited { worker, run: run.clone(), over })
    }

    /// Those that a run is about to let go.
    fn leaving(&self, index: usize) -> Vec<Awaited> {
        let name = self.deals[index].name;
        let asked_back = WorkerPlace::In { run: name.clone(), reclaimed: true };
        let leaving = self.workers.iter().filter(|(_, worker)| worker.place == asked_back);
        let awaited =
            |worker: &WorkerName| Awaited { worker: worker.clone(), run: name.clone(), over: false };
        leaving.map(|(worker, _)| awaited(worker)).collect()
    }

    fn reclaim(&mut self, slot: usize) {
        for deal in self.deals.iter_mut().filter(|deal| deal.held.contains(&slot)) {
            deal.held.retain(|held| *held != slot);
            self.plan.reclaims.push((deal.name.clone(), self.stock.name(slot).clone()));
        }
    }
}
