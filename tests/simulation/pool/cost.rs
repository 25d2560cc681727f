//! What it costs to decide for as many runs and workers as a coordinator is made for.

use std::time::{Duration, Instant};

use lockstep_core::{DeviceKind, Pool, PoolEvent, Requirements, Resources, RunName, Time, WorkerName};

const WORKERS: u32 = 200;
const RUNS: u32 = 500;
const ATTEMPTS: u32 = 3;
/// Whoever submits a run waits for it, and may wait 50 ms for all that this takes.
const DECISION_MAX: Duration = Duration::from_millis(3);

/// A pool, and what it was at.
#[derive(Default)]
struct Crowd {
    pool: Pool,
    spent: Duration,
    decisions: u32,
}

impl Crowd {
    fn decide(&mut self, event: PoolEvent) {
        let started = Instant::now();
        self.pool.apply(Time(0), event);
        self.spent += started.elapsed();
        self.decisions += 1;
    }

    fn running(&self) -> Option<RunName> {
        self.pool.workers().find_map(|(_, worker)| worker.place.run().cloned())
    }
}

/// A decision on the average, while all workers come, all runs are submitted, and each in turn ends.
fn measure() -> Duration {
    let mut crowd = Crowd::default();
    for index in 0..WORKERS {
        let device = if index % 2 == 0 { DeviceKind::Cpu } else { DeviceKind::Cuda };
        let resources = Resources { device, memory_bytes: u64::from(index % 5) };
        let worker = WorkerName(format!("worker-{index}"));
        crowd.decide(PoolEvent::WorkerCame { worker, resources, at: None });
    }
    for index in 0..RUNS {
        let requirements = Requirements {
            min_workers: 1 + index % 4,
            max_workers: 4 + index % 16,
            device: None,
            memory_bytes: u64::from(index % 3),
        };
        let run = RunName(format!("run-{index}"));
        crowd.decide(PoolEvent::Submitted { run, priority: 0, requirements });
    }
    let mut ended = 0;
    while let Some(run) = crowd.running() {
        let workers: Vec<WorkerName> = crowd.pool.workers_of(&run).cloned().collect();
        crowd.decide(PoolEvent::Ended { run });
        workers.into_iter().for_each(|worker| crowd.decide(PoolEvent::Freed { worker }));
        ended += 1;
    }
    assert_eq!((ended, crowd.pool.queue().count()), (RUNS, 0), "every run has its turn");
    crowd.spent / crowd.decisions
}

/// The least of some attempts is taken: what else the machine does at the time is not the pool's cost.
#[test]
fn a_pool_of_two_hundred_workers_decides_for_five_hundred_runs_in_three_milliseconds() {
    let decision = (0..ATTEMPTS).map(|_| measure()).min().unwrap_or_default();
    println!("{WORKERS} workers and {RUNS} runs: a decision takes {decision:?}");
    assert!(decision < DECISION_MAX, "a decision takes {decision:?}");
}
