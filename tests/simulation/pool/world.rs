//! A pool, its mirror, and what happens to both, drawn from a seed.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_core::{
    DeviceKind, Pool, PoolEffect, PoolEvent, Requirements, Resources, RunName, Time, WorkerName,
};

use super::mirror::{At, Mirror};
use super::planted::Planted;
use super::promises::{Asked, ensure, nothing_is_left_undone};
use super::reasons;
use crate::random::Random;

/// Things that somebody does in a world, before it is left to itself.
const ACTIONS_MAX: u32 = 120;

const WORKERS_MAX: u32 = 14;
const RUNS_MAX: usize = 12;

/// Bits of the virtual milliseconds between two things: some come together, and some after all patience is over.
const PAUSE_BITS: (u32, u32) = (0, 16);

/// Bits of the virtual milliseconds until a worker is let go.
const LEAVING_BITS: (u32, u32) = (0, 13);

/// More runs do not end once the world is left to itself.
const ENDS_MAX: u32 = 1000;

const GIB: u64 = 1 << 30;

#[derive(Debug)]
pub(super) struct World {
    random: Random,
    planted: Option<Planted>,
    pool: Pool,
    mirror: Mirror,
    now_ms: u64,
    /// Who is let go, or ends, and when.
    agenda: BTreeMap<(u64, u64), WorkerName>,
    /// Those on the agenda.
    leaving: BTreeSet<WorkerName>,
    numbered: u64,
    over: Vec<RunName>,
    /// What happened, when somebody wants to know.
    pub(super) told: Option<Vec<String>>,
}

impl World {
    pub(super) fn new(seed: u64, planted: Option<Planted>, told: Option<Vec<String>>) -> Self {
        Self {
            random: Random::new(seed),
            planted,
            pool: Pool::default(),
            mirror: Mirror::default(),
            now_ms: 1000,
            agenda: BTreeMap::new(),
            leaving: BTreeSet::new(),
            numbered: 0,
            over: Vec::new(),
            told,
        }
    }

    /// All that is drawn, and then what follows from it: every run that can be placed has its turn and ends.
    pub(super) fn live(&mut self) -> Result<(), String> {
        for _ in 0..self.random.between(1, ACTIONS_MAX) {
            let until_ms = self.now_ms + self.random.magnitude(PAUSE_BITS.0, PAUSE_BITS.1);
            self.pass(until_ms)?;
            self.act()?;
        }
        for _ in 0..ENDS_MAX {
            while let Some(due_ms) = self.due_ms() {
                self.pass(due_ms)?;
            }
            let going =
                self.mirror.runs.iter().filter(|(run, known)| known.running && self.mirror.lacks(run) == 0);
            let going: Vec<RunName> = going.map(|(run, _)| run.clone()).collect();
            let Some(run) = self.random.pick(&going).cloned() else { break };
            self.end(run)?;
        }
        for run in self.mirror.runs.keys() {
            ensure(self.mirror.possible(run).is_empty(), || format!("{run} never has its turn"))?;
        }
        let idle =
            |worker: &&super::mirror::Worker| matches!(worker.at, At::Free | At::In { reclaimed: false, .. });
        let all_idle = self.mirror.workers.values().all(|worker| idle(&worker));
        ensure(all_idle, || "somebody is on the way for ever".to_owned())
    }

    /// When the next thing happens by itself.
    fn due_ms(&self) -> Option<u64> {
        let agenda = self.agenda.keys().next().map(|(due_ms, _)| *due_ms);
        // A bug in what the pool is told of time shall not stop it.
        let deadline =
            self.pool.next_deadline().map(|deadline| deadline.0).filter(|due_ms| *due_ms > self.now_ms);
        agenda.into_iter().chain(deadline).min()
    }

    fn pass(&mut self, until_ms: u64) -> Result<(), String> {
        while let Some(due_ms) = self.due_ms().filter(|due_ms| *due_ms <= until_ms) {
            self.now_ms = self.now_ms.max(due_ms);
            match self.agenda.first_entry().filter(|entry| entry.key().0 <= due_ms) {
                Some(entry) => {
                    let worker = entry.remove();
                    self.let_go(worker)?;
                }
                None => self.tell(PoolEvent::Tick)?,
            }
        }
        self.now_ms = self.now_ms.max(until_ms);
        Ok(())
    }

    /// A worker comes back from its run, or ends on the way.
    fn let_go(&mut self, worker: WorkerName) -> Result<(), String> {
        if !self.leaving.remove(&worker) {
            return Ok(());
        }
        let Some(known) = self.mirror.workers.get(&worker) else { return Ok(()) };
        let resources = known.resources;
        let dismissed = known.at == At::Dismissed;
        let event = match self.random.below(20) {
            _ if dismissed => PoolEvent::Gone { worker },
            0..3 => PoolEvent::Gone { worker },
            3..10 => PoolEvent::WorkerCame { worker, resources, at: None },
            _ => PoolEvent::Freed { worker },
        };
        self.tell(event)
    }

    fn act(&mut self) -> Result<(), String> {
        match self.random.below(100) {
            0..28 => self.submit(),
            28..50 => self.come(),
            50..60 => match self.pick_worker(|_| true) {
                Some(worker) => self.tell(PoolEvent::Gone { worker }),
                None => Ok(()),
            },
            60..75 => match self.pick_run(true) {
                Some(run) => self.end(run),
                None => Ok(()),
            },
            75..80 => match self.pick_run(false) {
                Some(run) => self.tell(PoolEvent::Cancelled { run }),
                None => Ok(()),
            },
            80..86 => match self.pick_worker(|_| true) {
                Some(worker) => self.tell(PoolEvent::Draining { worker }),
                None => Ok(()),
            },
            86..90 => match self.pick_worker(|at| matches!(at, At::In { reclaimed: false, .. })) {
                // By its own wish, and it comes again.
                Some(worker) => self.tell(PoolEvent::Freed { worker }),
                None => Ok(()),
            },
            90..96 => self.tell_again(),
            _ => self.restart(),
        }
    }

    fn submit(&mut self) -> Result<(), String> {
        if self.mirror.runs.len() >= RUNS_MAX {
            return Ok(());
        }
        let again = self.random.percent(20);
        let run = match self.random.pick(&self.over).filter(|_| again).cloned() {
            Some(run) => run,
            None => {
                self.numbered += 1;
                RunName(format!("run-{}", self.numbered))
            }
        };
        self.over.retain(|over| *over != run);
        let random = &mut self.random;
        let min_workers = random.between(0, 4);
        let requirements = Requirements {
            min_workers,
            max_workers: random.between(min_workers.saturating_sub(1), 7),
            device: *random
                .pick(&[None, None, Some(DeviceKind::Cpu), Some(DeviceKind::Cuda)])
                .unwrap_or(&None),
            memory_bytes: *random.pick(&[0, 0, 0, 8, 16]).unwrap_or(&0) * GIB,
        };
        let priority = *random.pick(&[0, 0, 0, 1, -1]).unwrap_or(&0);
        self.tell(PoolEvent::Submitted { run, priority, requirements })
    }

    fn come(&mut self) -> Result<(), String> {
        let worker = WorkerName(format!("worker-{}", self.random.below(u64::from(WORKERS_MAX))));
        if self.mirror.workers.contains_key(&worker) {
            return Ok(());
        }
        let resources = Resources {
            device: if self.random.percent(60) { DeviceKind::Cpu } else { DeviceKind::Cuda },
            memory_bytes: *self.random.pick(&[0, 8, 8, 16, 32]).unwrap_or(&0) * GIB,
        };
        self.tell(PoolEvent::WorkerCame { worker, resources, at: None })
    }

    fn end(&mut self, run: RunName) -> Result<(), String> {
        self.over.push(run.clone());
        self.tell(PoolEvent::Ended { run })
    }

    /// What is known already.
    fn tell_again(&mut self) -> Result<(), String> {
        let before = self.pool.clone();
        let running = self.random.percent(50);
        if let Some(run) = self.pick_run(running) {
            let requirements = Requirements { min_workers: 9, max_workers: 9, device: None, memory_bytes: 1 };
            self.tell(PoolEvent::Submitted { run: run.clone(), priority: 9, requirements })?;
            if self.mirror.runs[&run].running {
                // It does not wait.
                self.apply(PoolEvent::Cancelled { run });
            }
        }
        let at = self.pick_worker(|at| matches!(at, At::In { .. }));
        if let Some((worker, known)) = at.and_then(|name| self.mirror.workers.get_key_value(&name)) {
            let at = match &known.at {
                At::In { run, .. } => Some(run.clone()),
                _ => None,
            };
            let event = PoolEvent::WorkerCame { worker: worker.clone(), resources: known.resources, at };
            self.tell(event)?;
        }
        if let Some(worker) = self.mirror.workers.iter().find(|(_, worker)| worker.draining) {
            let worker = worker.0.clone();
            self.tell(PoolEvent::Draining { worker })?;
        }
        ensure(self.planted.is_some() || self.pool == before, || {
            "what was known already changed something".to_owned()
        })
    }

    /// Another coordinator takes over: it knows of the runs and of who was where, and all come again, or have died.
    fn restart(&mut self) -> Result<(), String> {
        self.trace(|| "another coordinator takes over".to_owned());
        let former = std::mem::take(&mut self.mirror);
        self.pool = Pool::default();
        let mut runs: Vec<_> = former.runs.iter().collect();
        runs.sort_by_key(|(_, known)| known.turn.1);
        for (run, known) in runs {
            let (run, priority, requirements) = (run.clone(), known.turn.0.0, known.needs);
            let mut workers = BTreeMap::new();
            for (name, worker) in former.workers.iter().filter(|(_, worker)| worker.is_in(&run)) {
                let unknown = Resources { memory_bytes: 0, ..worker.resources };
                workers
                    .insert(name.clone(), if self.random.percent(50) { unknown } else { worker.resources });
            }
            let event = match known.running {
                true => PoolEvent::TakenOver { run, priority, requirements, workers },
                false => PoolEvent::Submitted { run, priority, requirements },
            };
            self.tell(event)?;
        }
        for (worker, known) in former.workers {
            let (resources, gone) = (known.resources, self.random.percent(10) || known.at == At::Dismissed);
            let at = match known.at {
                At::In { run, .. } => Some(run),
                At::Free | At::Returning { .. } | At::Dismissed => None,
            };
            if !gone {
                self.tell(PoolEvent::WorkerCame { worker, resources, at })?;
            } else if at.is_some() {
                self.tell(PoolEvent::Gone { worker })?;
            }
        }
        Ok(())
    }

    fn pick_run(&mut self, running: bool) -> Option<RunName> {
        let runs = self.mirror.runs.iter().filter(|(_, known)| known.running == running);
        let runs: Vec<RunName> = runs.map(|(run, _)| run.clone()).collect();
        self.random.pick(&runs).cloned()
    }

    fn pick_worker(&mut self, wanted: fn(&At) -> bool) -> Option<WorkerName> {
        let workers = self.mirror.workers.iter().filter(|(_, worker)| wanted(&worker.at));
        let workers: Vec<WorkerName> = workers.map(|(worker, _)| worker.clone()).collect();
        self.random.pick(&workers).cloned()
    }

    /// Something happens, and everything that must hold does.
    fn tell(&mut self, event: PoolEvent) -> Result<(), String> {
        self.trace(|| format!("{event:?}"));
        self.mirror.hear(&event);
        match &event {
            PoolEvent::Gone { worker } | PoolEvent::Freed { worker } => {
                self.leaving.remove(worker);
            }
            PoolEvent::WorkerCame { worker, at: None, .. } => {
                self.leaving.remove(worker);
            }
            _ => {}
        }
        let before = self.pool.clone();
        let effects = self.apply(event);
        self.trace(|| format!("    {effects:?}"));
        let asked = Asked::follow(&mut self.mirror, &effects)?;
        self.follow(&effects);
        asked.check(&self.mirror, self.now_ms)?;
        nothing_is_left_undone(&self.mirror)?;
        match self.planted {
            None => {
                reasons::places_are_true(&self.pool, &self.mirror)?;
                reasons::all_are_true(&self.pool, &self.mirror)?;
            }
            Some(Planted::OldReasons) => reasons::all_are_true(&before, &self.mirror)?,
            // The reasons would give each of them away at once, and it is the other checks that are to find them.
            Some(_) => {}
        }
        let mut again = self.pool.clone();
        let more = again.apply(self.time(), PoolEvent::Tick);
        ensure(more.is_empty() && again == self.pool, || format!("left to be decided: {more:?}"))?;
        self.note_who_is_stuck();
        Ok(())
    }

    fn apply(&mut self, event: PoolEvent) -> Vec<PoolEffect> {
        let now = self.time();
        let Some(planted) = self.planted else { return self.pool.apply(now, event) };
        let effects = planted.told(event).map(|event| self.pool.apply(now, event));
        planted.done(effects.unwrap_or_default())
    }

    fn time(&self) -> Time {
        Time(self.planted.map_or(self.now_ms, |planted| planted.now_ms(self.now_ms)))
    }

    /// Whoever is to leave does so in the end.
    fn follow(&mut self, effects: &[PoolEffect]) {
        for effect in effects {
            match effect {
                PoolEffect::Reclaim { worker, .. } | PoolEffect::Dismiss { worker } => {
                    self.schedule(worker.clone());
                }
                PoolEffect::Start { .. } | PoolEffect::Assign { .. } => {}
            }
        }
        let returning = |worker: &super::mirror::Worker| matches!(worker.at, At::Returning { .. });
        let returning = self.mirror.workers.iter().filter(|(_, worker)| returning(worker));
        let returning: Vec<WorkerName> = returning.map(|(name, _)| name.clone()).collect();
        returning.into_iter().for_each(|worker| self.schedule(worker));
    }

    fn schedule(&mut self, worker: WorkerName) {
        if self.leaving.insert(worker.clone()) {
            let after_ms = self.random.magnitude(LEAVING_BITS.0, LEAVING_BITS.1);
            self.numbered += 1;
            self.agenda.retain(|_, other| *other != worker);
            self.agenda.insert((self.now_ms + after_ms, self.numbered), worker);
        }
    }

    fn note_who_is_stuck(&mut self) {
        let stuck = |run: &RunName| self.mirror.is_halted(run) && self.mirror.possible(run).is_empty();
        let stuck: BTreeSet<RunName> = self.mirror.runs.keys().filter(|run| stuck(run)).cloned().collect();
        for (run, known) in &mut self.mirror.runs {
            let since_ms = known.stuck_ms.unwrap_or(self.now_ms);
            known.stuck_ms = stuck.contains(run).then_some(since_ms);
        }
    }

    fn trace(&mut self, line: impl FnOnce() -> String) {
        if let Some(told) = &mut self.told {
            told.push(format!("{:>7} ms  {}", self.now_ms, line()));
        }
    }
}
