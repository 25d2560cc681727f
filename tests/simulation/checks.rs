//! What must hold: after every decision, when a life begins or ends, and when all is over.

use std::collections::BTreeMap;

use lockstep_core::{Begin, Entry, Epoch, EpochRow, Generation, History, Outcome, Position, Step};

use crate::coordinator::Coordinator;
use crate::disk::Disk;
use crate::oracle::{Expected, Oracle};
use crate::replica::Snapshot;
use crate::world::{Going, Interruption, World};

/// Who computed what, over all lives.
#[derive(Debug, Default)]
pub(crate) struct Lineage {
    /// Generations that began, in the journal's order, and where.
    began: Vec<(Generation, Position)>,
    /// The same as workers were told, and by whom it is to be done: `began` may be forgotten, this is not.
    told: BTreeMap<Generation, Begin>,
    /// How often each shard of the step after this one was computed.
    computed: BTreeMap<(Generation, Step), BTreeMap<u32, u32>>,
}

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Going {
    if holds { Ok(()) } else { Err(Interruption::Violation(what())) }
}

/// After every decision: the journal tells what the run knows, and what it knows of is there.
pub(crate) fn decision(coordinator: &Coordinator, disk: &Disk) -> Going {
    let history = coordinator.run.history();
    ensure(*history == coordinator.folded, || "the journal tells another story than the run".to_owned())?;
    for (row, epoch) in history.rows.iter().zip(0..) {
        ensure(row.epoch == Epoch(epoch), || format!("row {epoch} is of epoch {}", row.epoch))?;
    }
    let best = best(&history.rows);
    ensure(history.best() == best, || format!("the best epoch is {best:?}, not {:?}", history.best()))?;
    ensure(history.outcome == coordinator.outcome, || {
        "the journal and the outside were told of different ends".to_owned()
    })?;
    stored(history, disk)
}

/// The checkpoints that the history knows exist, unless the weather had them.
pub(crate) fn stored(history: &History, disk: &Disk) -> Going {
    for step in history.checkpoints.keys() {
        ensure(disk.has(*step) || disk.is_damaged(*step), || {
            format!("the checkpoint of step {step} is gone")
        })?;
    }
    Ok(())
}

/// The first row of the highest accuracy.
fn best(rows: &[EpochRow]) -> Option<&EpochRow> {
    let mut best: Option<&EpochRow> = None;
    for row in rows {
        let (hits, of) = (row.eval.correct, row.eval.count);
        if best.is_none_or(|best| hits * best.eval.count > best.eval.correct * of) {
            best = Some(row);
        }
    }
    best
}

/// With all checkpoints whole, nothing but what came after the newest is lost. Damage to the newest alone costs no more
/// than the way back to the one before it.
pub(crate) fn resumes(history: &History, position: Position, damaged: &[Step], disk: &Disk) -> Going {
    let newest = history.position();
    ensure(!damaged.is_empty() || position == newest, || {
        format!("goes on from step {} though that of step {} is whole", position.step, newest.step)
    })?;
    let before = history.checkpoints.keys().rev().nth(1).copied().unwrap_or_default();
    ensure(damaged != [newest.step] || disk.blows() > 1 || position.step >= before, || {
        format!("goes on from step {} though that of step {before} is whole", position.step)
    })
}

/// A checkpoint holds what the undisturbed run had at that step.
pub(crate) fn snapshot(snapshot: &Snapshot, oracle: &Oracle) -> Going {
    let expected = oracle.snapshots.get(&snapshot.position.step);
    ensure(expected == Some(snapshot), || format!("{snapshot:?} instead of {expected:?}"))
}

/// A life may fail only for a reason, and stop only when asked to.
pub(crate) fn outcome(outcome: &Outcome, world: &World) -> Result<(), String> {
    match outcome {
        Outcome::Failed { reason, .. } if !world.excuse => Err(format!("failed for no reason: {reason}")),
        Outcome::Failed { reason, .. } if reason.is_empty() => Err("failed without a reason".to_owned()),
        Outcome::Stopped { .. } if !world.stop_asked => Err("stopped without being asked to".to_owned()),
        Outcome::Stopped { position } => {
            let history = History::from_entries(world.disk.journal().to_vec());
            let newest = history.map(|history| history.position()).unwrap_or_default();
            if newest == *position {
                Ok(())
            } else {
                Err(format!("stopped at {position:?}, saved {newest:?}"))
            }
        }
        _ => Ok(()),
    }
}

impl Lineage {
    /// Takes an entry in that became durable.
    pub(crate) fn record(&mut self, entry: &Entry) -> Going {
        let Entry::GenerationBegan { generation, position, .. } = entry else { return Ok(()) };
        let rises = self.began.last().is_none_or(|(newest, _)| generation > newest);
        self.began.push((*generation, *position));
        ensure(rises, || format!("generation {generation} began again"))
    }

    /// Takes in what a member is told: all the same, ranks dense, shards dealt without gap or overlap.
    pub(crate) fn begin(&mut self, begin: &Begin, shards: u32) -> Going {
        let Begin { generation, rank, peers, .. } = begin;
        if *rank == 0 {
            let newest = self.told.keys().next_back();
            ensure(newest.is_none_or(|newest| generation > newest), || {
                format!("generation {generation} was told to members before")
            })?;
            let bounds = [0].into_iter().chain(peers.iter().map(|peer| peer.shards.1));
            let contiguous = bounds.clone().zip(peers).all(|(start, peer)| peer.shards.0 == start);
            ensure(contiguous && bounds.last() == Some(shards), || format!("shards are dealt as {peers:?}"))?;
            self.told.insert(*generation, begin.clone());
        }
        let first = self.told.get(generation).map(|first| Begin { rank: *rank, ..first.clone() });
        ensure(first.as_ref() == Some(begin), || format!("rank {rank} is told another story: {begin:?}"))?;
        ensure((*rank as usize) < peers.len(), || format!("rank {rank} of {}", peers.len()))
    }

    pub(crate) fn computed(&mut self, generation: Generation, step: Step, shards: (u32, u32)) {
        let counts = self.computed.entry((generation, step)).or_default();
        (shards.0..shards.1).for_each(|shard| *counts.entry(shard).or_default() += 1);
    }

    /// Every shard of every step that counts was computed once, by the generation whose work was kept.
    fn is_complete(&self, steps: u64, shards: u32) -> Result<(), String> {
        for step in (0..steps).map(Step) {
            let owner = self.began.iter().rev().find(|(_, start)| start.step <= step);
            let counts = owner.and_then(|(generation, _)| self.computed.get(&(*generation, step)));
            let once = counts.is_some_and(|counts| {
                counts.len() == shards as usize && counts.values().all(|count| *count == 1)
            });
            if !once {
                return Err(format!("step {step} of {owner:?} was computed as {counts:?}"));
            }
        }
        Ok(())
    }
}

/// All is over and done: the results are those of a run that nothing disturbed.
pub(crate) fn done(world: &World, early: bool) -> Result<(), String> {
    let Some(history) = History::from_entries(world.disk.journal().to_vec()) else {
        return Err("a run is done without a journal".to_owned());
    };
    let oracle = &world.oracle;
    let rows: Vec<Expected> = history.rows.iter().map(result).collect();
    if rows != oracle.rows {
        return Err(format!("the rows are\n{rows:#?}\ninstead of\n{:#?}", oracle.rows));
    }
    if (history.tested, early) != (oracle.tested, oracle.early) {
        return Err(format!("tested {:?} instead of {:?}", history.tested, oracle.tested));
    }
    let end = oracle.snapshots.values().next_back().map(|snapshot| snapshot.position).unwrap_or_default();
    if history.position() != end {
        return Err(format!("the last checkpoint is of {:?} instead of {end:?}", history.position()));
    }
    for step in history.checkpoints.keys() {
        // What was stored was checked then; this is what is there now.
        if let Some(found) = world.disk.whole(*step)
            && oracle.snapshots.get(step) != Some(found)
        {
            return Err(format!("the checkpoint of step {step} holds {found:?}"));
        }
    }
    world.lineage.is_complete(end.step.0, world.case.spec.shards)
}

fn result(row: &EpochRow) -> Expected {
    Expected {
        epoch: row.epoch,
        step: row.step,
        learning_rate: row.learning_rate,
        train: row.train,
        eval: row.eval,
        ema: row.ema,
        improved: row.improved,
        restored: row.restored,
        ledger: row.ledger.clone(),
        weights_digest: row.weights_digest.clone(),
    }
}
