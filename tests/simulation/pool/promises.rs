//! What must hold of everything that the pool asks for, and of how it leaves things.

use std::collections::BTreeMap;

use lockstep_core::{DeviceKind, PoolEffect, Resources, RunName, WorkerName};

use super::mirror::{At, Mirror};

/// A run at a halt that nobody can end keeps its workers for so long.
const STUCK_MS: u64 = 60_000;

pub(super) fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}

/// What was asked for in answer to one event.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// So many workers each run would go on with, but for what is asked for.
    held: BTreeMap<RunName, usize>,
    granted: Vec<Granted>,
    /// Because others lack them: not those that leave.
    reclaimed: Vec<(RunName, WorkerName)>,
}

#[derive(Debug)]
struct Granted {
    run: RunName,
    workers: Vec<WorkerName>,
    /// So many of them it needed.
    needed: usize,
    /// It was at a halt, so nobody who waits comes before it.
    halted: bool,
}

impl Asked {
    /// Follows what is asked for on the mirror. Each single thing must make sense where it stands.
    pub(super) fn follow(mirror: &mut Mirror, effects: &[PoolEffect]) -> Result<Self, String> {
        let stay = |run| mirror.held(run).filter(|(_, worker)| !worker.draining).count();
        let held = mirror.runs.keys().map(|run| (run.clone(), stay(run)));
        let mut asked = Self { held: held.collect(), ..Self::default() };
        for effect in effects {
            match effect {
                PoolEffect::Start { run, workers } => asked.start(mirror, run, workers)?,
                PoolEffect::Assign { run, worker } => asked.assign(mirror, run, worker)?,
                PoolEffect::Reclaim { run, worker } => asked.reclaim(mirror, run, worker)?,
                PoolEffect::Dismiss { worker } => {
                    let known = mirror.worker(worker)?;
                    ensure(known.draining && known.at == At::Free, || format!("{worker} is dismissed"))?;
                    mirror.put(worker, At::Dismissed);
                }
            }
        }
        Ok(asked)
    }

    /// A gang: at least the minimum at once.
    fn start(&mut self, mirror: &mut Mirror, run: &RunName, workers: &[WorkerName]) -> Result<(), String> {
        let known = mirror.runs.get(run).filter(|known| !known.running);
        let known = known.ok_or_else(|| format!("{run} is started and does not wait"))?;
        let needed = known.least();
        let sizes = needed..=known.most();
        ensure(sizes.contains(&workers.len()), || {
            format!("{run} starts with {} workers instead of {sizes:?}", workers.len())
        })?;
        if let Some(known) = mirror.runs.get_mut(run) {
            known.running = true;
        }
        workers.iter().try_for_each(|worker| give(mirror, run, worker))?;
        self.granted.push(Granted { run: run.clone(), workers: workers.to_vec(), needed, halted: false });
        Ok(())
    }

    fn assign(&mut self, mirror: &mut Mirror, run: &RunName, worker: &WorkerName) -> Result<(), String> {
        let known = mirror.runs.get(run).filter(|known| known.running);
        let known = known.ok_or_else(|| format!("{run} gets {worker} and does not run"))?;
        ensure(mirror.present(run) < known.most(), || format!("{run} gets more than it has room for"))?;
        let needed = mirror.lacks(run).min(1);
        give(mirror, run, worker)?;
        self.granted.push(Granted {
            run: run.clone(),
            workers: vec![worker.clone()],
            needed,
            halted: needed > 0,
        });
        Ok(())
    }

    fn reclaim(&mut self, mirror: &mut Mirror, run: &RunName, worker: &WorkerName) -> Result<(), String> {
        let known = mirror.worker(worker)?;
        let held = At::In { run: run.clone(), reclaimed: false };
        ensure(known.at == held, || format!("{run} is to give back {worker}, which is {:?}", known.at))?;
        if !known.draining {
            self.reclaimed.push((run.clone(), worker.clone()));
        }
        mirror.put(worker, At::In { run: run.clone(), reclaimed: true });
        Ok(())
    }

    /// What holds of all of it together, once everything is asked for.
    pub(super) fn check(&self, mirror: &Mirror, now_ms: u64) -> Result<(), String> {
        for granted in &self.granted {
            let Granted { run, .. } = granted;
            ensure(mirror.lacks(run) == 0, || format!("{run} gets workers that do not bring it on"))?;
            overtakes_nobody(granted, mirror)?;
        }
        for (run, worker) in &self.reclaimed {
            self.may_be_reclaimed(run, worker, mirror, now_ms)?;
        }
        self.as_few_as_needed(mirror)
    }

    /// Somebody lacks it, and the run can do without it.
    fn may_be_reclaimed(
        &self,
        run: &RunName,
        worker: &WorkerName,
        mirror: &Mirror,
        now_ms: u64,
    ) -> Result<(), String> {
        let resources = mirror.worker(worker)?.resources;
        let wanting = mirror.wanting();
        let mut takers = wanting.iter().filter(|taker| **taker != run && mirror.could_use(taker, resources));
        ensure(takers.clone().next().is_some(), || format!("{worker} is asked back from {run} for nobody"))?;
        let known = &mirror.runs[run];
        if mirror.held(run).count() >= known.least() {
            return Ok(());
        }
        ensure(self.held[run] < known.least(), || format!("{run} is pushed below its minimum"))?;
        let given_up = known.stuck_ms.is_some_and(|since| now_ms >= since + STUCK_MS);
        let given_up = given_up && mirror.possible(run).is_empty();
        let gives_way = takers.any(|taker| mirror.is_halted(taker) && mirror.runs[*taker].turn < known.turn);
        ensure(given_up || gives_way, || format!("{run} is at a halt and has to give {worker} back"))
    }

    /// With one run that lacks workers it is plain how many are to be asked back, and from whom.
    fn as_few_as_needed(&self, mirror: &Mirror) -> Result<(), String> {
        let wanting = mirror.wanting();
        let [taker] = wanting[..] else { return Ok(()) };
        for (run, worker) in &self.reclaimed {
            let Resources { device, memory_bytes } = mirror.worker(worker)?.resources;
            let (free, coming) = mirror.soon(taker, device);
            ensure(free + coming == mirror.lacks(taker), || {
                let lacks = mirror.lacks(taker);
                format!("{taker} lacks {lacks}, {free} are free, and {coming} are asked back")
            })?;
            // Idle ones cost nothing, so they are asked for first, and their order is of no weight.
            if self.held[run] < mirror.runs[run].least() {
                continue;
            }
            let younger = mirror.runs.iter().filter(|(name, known)| {
                known.running && *name != taker && known.turn > mirror.runs[run].turn
            });
            for (other, known) in younger {
                let same = mirror.held(other).any(|(_, worker)| {
                    worker.resources.device == device && worker.resources.memory_bytes >= memory_bytes
                });
                let spare = mirror.held(other).count() > known.least() && same;
                ensure(!spare, || format!("{run} gives {worker} back, and {other} is younger"))?;
            }
        }
        Ok(())
    }
}

/// It is there, of use, and of the kind that the run has.
fn give(mirror: &mut Mirror, run: &RunName, worker: &WorkerName) -> Result<(), String> {
    let given = mirror.worker(worker)?;
    ensure(given.at == At::Free && !given.draining, || {
        format!("{run} gets {worker}, which is {:?}", given.at)
    })?;
    let resources = given.resources;
    mirror.put(worker, At::In { run: run.clone(), reclaimed: false });
    let Some(known) = mirror.runs.get_mut(run) else { return Err(format!("nobody knows of {run}")) };
    ensure(known.suits(resources), || format!("{run} gets {worker}, which does not suit it: {resources:?}"))?;
    known.device = Some(resources.device);
    Ok(())
}

/// Nobody who waits, and comes before it, could have used what a run needed; nor could anybody who waits at all have
/// used what it got on top of that.
fn overtakes_nobody(granted: &Granted, mirror: &Mirror) -> Result<(), String> {
    let Granted { run, workers, needed, halted } = granted;
    let turn = &mirror.runs[run].turn;
    let mut of_use = 0;
    for worker in workers {
        let resources = mirror.worker(worker)?.resources;
        let wanting = mirror.wanting();
        let mut wants = wanting.into_iter().filter(|other| mirror.could_use(other, resources));
        of_use += usize::from(wants.clone().next().is_some());
        let comes_before = |other: &&RunName| match mirror.is_halted(other) {
            true => !halted || mirror.runs[*other].turn < *turn,
            false => !halted && mirror.runs[*other].turn < *turn,
        };
        let overtaken = wants.find(comes_before);
        ensure(overtaken.is_none(), || format!("{run} gets {worker}, for which {overtaken:?} waits"))?;
    }
    ensure(of_use <= *needed, || format!("{run} gets more than it needs, and others wait"))
}

/// Nothing is left undone that could be done.
pub(super) fn nothing_is_left_undone(mirror: &Mirror) -> Result<(), String> {
    for (name, worker) in mirror.workers.iter().filter(|(_, worker)| worker.draining) {
        let stays = matches!(worker.at, At::Free | At::In { reclaimed: false, .. });
        ensure(!stays, || format!("{name} is drained and stays"))?;
    }
    let wanting = mirror.wanting();
    let mut free: Vec<(&WorkerName, Resources)> = mirror
        .workers
        .iter()
        .filter(|(_, worker)| worker.at == At::Free && !worker.draining)
        .map(|(name, worker)| (name, worker.resources))
        .collect();
    for run in &wanting {
        let known = &mirror.runs[*run];
        let lacks = mirror.lacks(run);
        let room = mirror.present(run) + lacks <= known.most();
        for device in mirror.possible(run) {
            let of_use = free.iter().filter(|(_, it)| it.device == device && known.suits(*it)).count();
            ensure(of_use < lacks || !room, || format!("{run} waits, and {of_use} workers are free for it"))?;
        }
        // It keeps them from all behind it.
        free.retain(|(_, resources)| !mirror.could_use(run, *resources));
    }
    if let Some(first) = wanting.first() {
        gets_what_can_be_spared(first, mirror)?;
    }
    for (run, known) in mirror.runs.iter().filter(|(run, known)| known.running && mirror.lacks(run) == 0) {
        let of_use = free.iter().find(|(_, resources)| known.suits(*resources));
        ensure(of_use.is_none() || mirror.present(run) >= known.most(), || {
            format!("{run} could do with {of_use:?}, which nobody waits for")
        })?;
    }
    Ok(())
}

/// If others can spare what the first one lacks, it is on its way.
fn gets_what_can_be_spared(first: &RunName, mirror: &Mirror) -> Result<(), String> {
    let (known, lacks) = (&mirror.runs[first], mirror.lacks(first));
    let spare = |device: DeviceKind| -> usize {
        let others = mirror.runs.iter().filter(|(name, other)| other.running && *name != first);
        let spare = others.map(|(name, other)| {
            let held = mirror.held(name);
            let of_use = held.filter(|(_, it)| it.resources.device == device && known.suits(it.resources));
            let above = mirror.held(name).count().saturating_sub(other.least());
            let gives_way = mirror.is_halted(first) && mirror.is_halted(name) && known.turn < other.turn;
            of_use.count().min(if gives_way { usize::MAX } else { above })
        });
        spare.sum()
    };
    let soon = |device: DeviceKind| {
        let (free, coming) = mirror.soon(first, device);
        free + coming
    };
    let possible = mirror.possible(first);
    let settled = possible.iter().any(|device| soon(*device) >= lacks);
    let enough = possible.iter().find(|device| soon(**device) + spare(**device) >= lacks);
    ensure(settled || enough.is_none(), || format!("{first} waits, and others can spare what it lacks"))
}
