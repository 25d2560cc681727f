//! A bench on which a pool is driven by hand. Effects are told as lines, so that a test reads as what happened; after every
//! event it is checked that nothing is left to be decided.

mod coming;
mod giving_back;
mod growing;
mod halted;
mod leaving;
mod queueing;
mod reasons;

use super::*;

const GIB: u64 = 1 << 30;

#[derive(Default)]
struct Bench {
    pool: Pool,
    now: Time,
}

impl Bench {
    /// With so many cpu workers, `w0` and so on, all of them free.
    fn with(workers: u32) -> Self {
        let mut bench = Self { now: Time(1000), ..Self::default() };
        for index in 0..workers {
            assert_eq!(bench.come(&format!("w{index}")), NOTHING);
        }
        bench
    }

    fn apply(&mut self, event: PoolEvent) -> Vec<String> {
        let effects = self.pool.apply(self.now, event);
        let mut again = self.pool.clone();
        assert_eq!(again.apply(self.now, PoolEvent::Tick), [], "something was left to be decided");
        assert_eq!(again, self.pool, "a look changed something");
        effects.iter().map(told).collect()
    }

    fn submit(&mut self, run: &str, min_workers: u32, max_workers: u32) -> Vec<String> {
        self.submit_with(run, 0, needs(min_workers, max_workers))
    }

    fn submit_with(&mut self, run: &str, priority: i32, requirements: Requirements) -> Vec<String> {
        self.apply(PoolEvent::Submitted { run: run.into(), priority, requirements })
    }

    fn come(&mut self, worker: &str) -> Vec<String> {
        self.come_with(worker, DeviceKind::Cpu, 8)
    }

    fn come_with(&mut self, worker: &str, device: DeviceKind, memory_gib: u64) -> Vec<String> {
        let resources = Resources { device, memory_bytes: memory_gib * GIB };
        self.apply(PoolEvent::WorkerCame { worker: worker.into(), resources, at: None })
    }

    fn come_back_to(&mut self, run: &str, worker: &str) -> Vec<String> {
        let resources = Resources { device: DeviceKind::Cpu, memory_bytes: 8 * GIB };
        self.apply(PoolEvent::WorkerCame { worker: worker.into(), resources, at: Some(run.into()) })
    }

    fn free(&mut self, worker: &str) -> Vec<String> {
        self.apply(PoolEvent::Freed { worker: worker.into() })
    }

    fn gone(&mut self, worker: &str) -> Vec<String> {
        self.apply(PoolEvent::Gone { worker: worker.into() })
    }

    fn drain(&mut self, worker: &str) -> Vec<String> {
        self.apply(PoolEvent::Draining { worker: worker.into() })
    }

    fn end(&mut self, run: &str) -> Vec<String> {
        self.apply(PoolEvent::Ended { run: run.into() })
    }

    fn cancel(&mut self, run: &str) -> Vec<String> {
        self.apply(PoolEvent::Cancelled { run: run.into() })
    }

    /// Time goes by as far as the pool asked for.
    fn pass(&mut self) -> Vec<String> {
        self.now = self.pool.next_deadline().expect("the pool waits for a deadline");
        self.apply(PoolEvent::Tick)
    }

    fn waits(&self, run: &str) -> String {
        self.pool.waits_for(&run.into()).map(ToString::to_string).unwrap_or_default()
    }

    fn queue(&self) -> Vec<&str> {
        self.pool.queue().map(|run| run.0.as_str()).collect()
    }

    fn workers_of(&self, run: &str) -> Vec<&str> {
        self.pool.workers_of(&run.into()).map(|worker| worker.0.as_str()).collect()
    }
}

const NOTHING: [&str; 0] = [];

fn needs(min_workers: u32, max_workers: u32) -> Requirements {
    Requirements { min_workers, max_workers, device: None, memory_bytes: 0 }
}

fn told(effect: &PoolEffect) -> String {
    match effect {
        PoolEffect::Start { run, workers } => {
            let workers: Vec<&str> = workers.iter().map(|worker| worker.0.as_str()).collect();
            format!("start {run}: {}", workers.join(" "))
        }
        PoolEffect::Assign { run, worker } => format!("assign {run}: {worker}"),
        PoolEffect::Reclaim { run, worker } => format!("reclaim {run}: {worker}"),
        PoolEffect::Dismiss { worker } => format!("dismiss {worker}"),
    }
}
