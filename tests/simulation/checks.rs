//! What must hold: after every decision, entry and event, and when all is over.

use lockstep_core::{Entry, Epoch, EpochRow, Generation, History, Outcome, Position, Step, WorkerName};

use crate::coordinator::Coordinator;
use crate::disk::Disk;
use crate::network::{CoordinatorId, Pair, ProcessId};
use crate::oracle::{Expected, Oracle};
use crate::replica::State;
use crate::world::{Going, Interruption, World};

/// A worker whose state was heard of later than this may have been too late for a decision.
const LATE_MS: u64 = 300;

pub(crate) fn ensure(holds: bool, what: impl FnOnce() -> String) -> Going {
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

/// The checkpoints that the history knows exist, unless the weather had them, and belong to what it knows.
pub(crate) fn stored(history: &History, disk: &Disk) -> Going {
    for (step, checkpoint) in &history.checkpoints {
        ensure(disk.has(*step) || disk.is_damaged(*step), || {
            format!("the checkpoint of step {step} is gone")
        })?;
        ensure(checkpoint.position.epoch.0 as usize <= history.rows.len(), || {
            format!("{:?} is stored, and {} epochs are done", checkpoint.position, history.rows.len())
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

/// What becomes durable is true.
pub(crate) fn entry(world: &mut World, by: CoordinatorId, entry: &Entry) -> Going {
    match entry {
        Entry::GenerationBegan { generation, members, position } => {
            ensure(position.step.0 == 0 || *position <= world.oracle.end(), || {
                format!("generation {generation} begins beyond the end, at {position:?}")
            })?;
            goes_on_from(world, by, *generation, *position)?;
            let members = members.iter().map(|member| member.worker.clone()).collect();
            world.lineage.record(*generation, *position, members)
        }
        Entry::Resumed { position, damaged } => goes_back_to(world, by, *position, damaged),
        Entry::EpochEnded(row) => {
            let expected = world.oracle.rows.get(row.epoch.0 as usize);
            let found = Expected::from(row);
            ensure(expected == Some(&found), || format!("{found:#?} instead of {expected:#?}"))
        }
        Entry::CheckpointStored(checkpoint) => {
            world.ever_stored.insert(checkpoint.position.step);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Entries that became durable though the coordinator died over them.
pub(crate) fn take_in(world: &mut World) -> Going {
    let entries = world.disk.journal();
    let unchecked = entries.get(world.checked.min(entries.len())..).unwrap_or_default().to_vec();
    world.checked = entries.len();
    for entry in &unchecked {
        match entry {
            Entry::GenerationBegan { generation, members, position } => {
                let members = members.iter().map(|member| member.worker.clone()).collect();
                world.lineage.record(*generation, *position, members)?;
            }
            Entry::CheckpointStored(checkpoint) => {
                world.ever_stored.insert(checkpoint.position.step);
            }
            _ => {}
        }
    }
    Ok(())
}

/// A worker that a coordinator can count on, and where it stands.
struct Survivor<'a> {
    name: &'a WorkerName,
    /// It has paused for a generation that has not begun.
    paused: bool,
    position: Option<Position>,
    since_ms: u64,
}

/// Workers that live, are connected, and were heard of just now. Where they stand in fact, if they have paused;
/// otherwise where they said.
fn survivors(world: &World, by: CoordinatorId) -> Vec<Survivor<'_>> {
    let Some(coordinator) = world.coordinators.get(&by) else { return Vec::new() };
    let history = coordinator.run.history();
    let (now_ms, lease_ms) = (world.network.now_ms(), history.spec.lease_ms);
    let known = |position: &Position| position.epoch.0 as usize <= history.rows.len();
    coordinator
        .heard
        .iter()
        .filter_map(|(name, heard)| {
            let (id, _) = coordinator.sessions.get(name)?;
            let process = world.processes.get(id).filter(|process| process.frozen.is_none())?;
            let reachable = now_ms - heard.at_ms <= lease_ms / 3 && !world.network.is_cut(Pair::Control(*id));
            let paused = heard.prepared > coordinator.folded.generation;
            let position = if paused { process.worker.position() } else { heard.position };
            let (position, since_ms) = (position.filter(known), heard.since_ms);
            reachable.then_some(Survivor { name, paused, position, since_ms })
        })
        .collect()
}

/// Positions never go back while somebody who has one survives.
fn goes_on_from(world: &World, by: CoordinatorId, generation: Generation, position: Position) -> Going {
    for Survivor { name, paused, position: stands, .. } in survivors(world, by) {
        let counts = paused || world.lineage.members.contains(name);
        ensure(!counts || stands.is_none_or(|stands| stands <= position), || {
            format!("generation {generation} begins at {position:?}, and {name} stands at {stands:?}")
        })?;
    }
    Ok(())
}

/// Nobody has a newer state. With all checkpoints whole, nothing but what came after the newest useful one is lost. Damage to the
/// newest alone costs no more than the way back to the one before it.
fn goes_back_to(world: &World, by: CoordinatorId, position: Position, damaged: &[Step]) -> Going {
    for Survivor { name, paused, position: stands, since_ms } in survivors(world, by) {
        let in_time = paused || since_ms + LATE_MS <= world.network.now_ms();
        ensure(!in_time || stands.is_none_or(|stands| stands <= position), || {
            format!("the run goes back to {position:?}, and {name} stands at {stands:?}")
        })?;
    }
    let Some(history) = world.coordinators.get(&by).map(|coordinator| &coordinator.folded) else {
        return Ok(());
    };
    let newest = history.position();
    // A checkpoint is of use only together with the best model up to it.
    let is_useful = |position: &Position| {
        let best = world.oracle.best_before(position.epoch);
        best.is_none_or(|best| history.checkpoints.contains_key(&best))
    };
    let stored = history.checkpoints.values().map(|checkpoint| checkpoint.position);
    let useful = stored.filter(is_useful).max().unwrap_or_default();
    ensure(!damaged.is_empty() || position >= useful, || {
        format!("goes on from step {} though that of step {} is whole", position.step, useful.step)
    })?;
    let before = history.checkpoints.keys().rev().nth(1).copied().unwrap_or_default();
    ensure(damaged != [newest.step] || world.disk.blows() > 1 || position.step >= before, || {
        format!("goes on from step {} though that of step {before} is whole", position.step)
    })
}

/// What a worker holds between its steps is what the undisturbed run had there, and with it the best model's checkpoint
/// until that is stored.
pub(crate) fn worker(world: &mut World, id: ProcessId) -> Going {
    let Some(process) = world.processes.get_mut(&id) else { return Ok(()) };
    let changed = std::mem::take(&mut process.worker.changed);
    let worker = &process.worker;
    let Some(held) = worker.held.as_ref().filter(|_| changed || worker.is_idle()) else { return Ok(()) };
    bits(held, &world.oracle)?;
    if let Some(best) = world.oracle.best_before(held.position.epoch).filter(|_| changed) {
        let keeps = worker.kept.as_ref().is_some_and(|kept| kept.position.step == best);
        ensure(keeps || world.ever_stored.contains(&best), || {
            format!("{} stands at {:?} without the best model of step {best}", worker.name, held.position)
        })?;
    }
    Ok(())
}

/// A state is that of the undisturbed run at its position.
pub(crate) fn bits(state: &State, oracle: &Oracle) -> Going {
    let expected = oracle.states.get(&state.position);
    ensure(expected.is_some_and(|expected| expected.is_identical(state)), || {
        format!("{state:?} instead of {expected:?}")
    })
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

/// All is over and done: the results are those of a run that nothing disturbed.
pub(crate) fn done(world: &World, early: bool) -> Result<(), String> {
    let Some(history) = History::from_entries(world.disk.journal().to_vec()) else {
        return Err("a run is done without a journal".to_owned());
    };
    let oracle = &world.oracle;
    let rows: Vec<Expected> = history.rows.iter().map(Expected::from).collect();
    if rows != oracle.rows {
        return Err(format!("the rows are\n{rows:#?}\ninstead of\n{:#?}", oracle.rows));
    }
    if (history.tested, early) != (oracle.tested, oracle.early) {
        return Err(format!("tested {:?} instead of {:?}", history.tested, oracle.tested));
    }
    let end = oracle.end();
    if history.position() != end {
        return Err(format!("the last checkpoint is of {:?} instead of {end:?}", history.position()));
    }
    for step in history.checkpoints.keys() {
        // What was stored was checked then; this is what is there now.
        if let Some(found) = world.disk.whole(*step) {
            told(bits(found, oracle))?;
            if found.position == end {
                told(world.lineage.is_complete(found))?;
            }
        }
    }
    Ok(())
}

fn told(checked: Going) -> Result<(), String> {
    checked.map_err(|interruption| format!("{interruption:?}"))
}
