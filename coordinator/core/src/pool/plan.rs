//! Who gets which workers: one decision, from scratch, as a plain function of who is there.

mod claim;
mod spare;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use self::claim::Before;
use super::stock::{SlotState, Stock};
use super::{DeviceKind, PoolRun, PooledWorker, Waits, WorkerPlace};
use crate::{RunName, WorkerName};

/// What is to be done, and why nothing is done for those that wait.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Workers that runs get: those that wait, or those that go on. Runs in order.
    pub(super) grants: Vec<(RunName, Vec<WorkerName>)>,
    pub(super) reclaims: Vec<(RunName, WorkerName)>,
    pub(super) waits: BTreeMap<RunName, Waits>,
    /// At a halt, and nobody that is there can change that.
    pub(super) stuck: BTreeSet<RunName>,
}

impl Plan {
    pub(super) fn is_idle(&self) -> bool {
        self.grants.is_empty() && self.reclaims.is_empty()
    }
}

/// Decides for `runs`, which are in order.
pub(super) fn plan<'a>(
    runs: impl Iterator<Item = (&'a RunName, &'a PoolRun)>,
    workers: &'a BTreeMap<WorkerName, PooledWorker>,
) -> Plan {
    let mut planner = Planner::new(runs, workers);
    let (halted, waiting): (Vec<usize>, Vec<usize>) = (0..planner.deals.len())
        .filter(|index| planner.deals[*index].lacks() > 0)
        .partition(|index| planner.deals[*index].run.running.is_some());
    halted.into_iter().chain(waiting).for_each(|index| planner.claim(index));
    planner.grow();
    planner.plan()
}

struct Planner<'a> {
    workers: &'a BTreeMap<WorkerName, PooledWorker>,
    stock: Stock<'a>,
    /// One for each run, in order.
    deals: Vec<Deal<'a>>,
    before: Before,
    plan: Plan,
}

/// What a run has and gets.
struct Deal<'a> {
    name: &'a RunName,
    run: &'a PoolRun,
    /// The slots of those that it goes on with.
    held: Vec<usize>,
    /// So many are at the run, those included that it is about to let go.
    present: usize,
    granted: Vec<usize>,
}

impl Deal<'_> {
    /// Workers below its minimum.
    fn lacks(&self) -> usize {
        self.run.requirements.least().saturating_sub(self.held.len())
    }

    fn is_halted(&self) -> bool {
        self.run.running.is_some() && self.lacks() > 0
    }
}

impl<'a> Planner<'a> {
    fn new(
        runs: impl Iterator<Item = (&'a RunName, &'a PoolRun)>,
        workers: &'a BTreeMap<WorkerName, PooledWorker>,
    ) -> Self {
        let deal = |(name, run)| Deal { name, run, held: Vec::new(), present: 0, granted: Vec::new() };
        let mut deals: Vec<Deal<'a>> = runs.map(deal).collect();
        let indices: BTreeMap<&RunName, usize> = deals.iter().map(|deal| deal.name).zip(0..).collect();
        let stock = Stock::new(workers);
        for (slot, run) in stock.held() {
            if let Some(index) = indices.get(run) {
                deals[*index].held.push(slot);
            }
        }
        for worker in workers.values() {
            if let WorkerPlace::In { run, .. } = &worker.place
                && let Some(index) = indices.get(run)
            {
                deals[*index].present += 1;
            }
        }
        Self { workers, stock, deals, before: Before::default(), plan: Plan::default() }
    }

    /// The kinds of device that a run may have, the better one first.
    fn devices(&self, index: usize) -> Vec<DeviceKind> {
        let PoolRun { requirements, running, .. } = self.deals[index].run;
        match running.and_then(|running| running.device).or(requirements.device) {
            Some(device) => vec![device],
            None => vec![DeviceKind::Cuda, DeviceKind::Cpu],
        }
    }

    /// The slots that a run may have of a kind of device.
    fn range(&self, index: usize, device: DeviceKind) -> Range<usize> {
        self.stock.range(device, self.deals[index].run.requirements.memory_bytes)
    }

    fn grant(&mut self, index: usize, slots: Vec<usize>) {
        self.stock.set(&slots, SlotState::Taken);
        let deal = &mut self.deals[index];
        deal.present += slots.len();
        deal.granted.extend(slots);
    }

    /// What nobody waits for goes to those that have their minimum, up to their maximum.
    fn grow(&mut self) {
        for index in 0..self.deals.len() {
            let Deal { run, held, granted, present, .. } = &self.deals[index];
            let room = run.requirements.most().saturating_sub(*present);
            if self.deals[index].lacks() > granted.len() || room == 0 {
                continue;
            }
            let Some(first) = held.iter().chain(granted).next() else { continue };
            let range = self.range(index, self.stock.device(*first));
            let free = self.stock.pick(&range, &[SlotState::Free], room);
            self.grant(index, free);
        }
    }

    fn plan(self) -> Plan {
        let mut plan = self.plan;
        for Deal { name, granted, .. } in self.deals.into_iter().filter(|deal| !deal.granted.is_empty()) {
            let mut workers: Vec<WorkerName> =
                granted.iter().map(|slot| self.stock.name(*slot).clone()).collect();
            workers.sort();
            plan.grants.push((name.clone(), workers));
        }
        plan
    }
}
