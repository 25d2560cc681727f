//! What ten thousand workers cost the core: to form a generation of them, and to hear of each.

use std::time::{Duration, Instant};

use lockstep_core::{
    Activity, Effect, Event, Generation, Heartbeat, Message, Origin, Restore, Run, RunSpec, SelectSpec,
    Split, Time, WorkerBounds, WorkerInfo, WorkerName,
};

const WORKERS: u32 = 10_000;
const ROUNDS: u32 = 10;
const ATTEMPTS: u32 = 3;
const FORMING_MAX: Duration = Duration::from_secs(1);
const HEARTBEAT_MAX: Duration = Duration::from_micros(10);

fn spec() -> RunSpec {
    RunSpec {
        workers: WorkerBounds::fixed(WORKERS),
        shards: WORKERS,
        epochs: 1,
        steps_per_epoch: 1000,
        eval_samples: 10_000,
        test_samples: 10_000,
        eval_block: 100,
        select: SelectSpec { split: Split::Val, restore: Restore::Never, patience: 0 },
        ema: false,
        keep: 1,
        join_timeout_ms: 60_000,
        lease_ms: 3000,
    }
}

/// The run, its time, and what it was spent on.
struct Crowd {
    run: Run,
    now_ms: u64,
    spent: Duration,
    sequence: u64,
    names: Vec<WorkerName>,
}

impl Crowd {
    fn new() -> Self {
        let (run, _) = Run::create(Time(0), spec(), Origin::default());
        let names = (0..WORKERS).map(|index| WorkerName(format!("worker-{index}"))).collect();
        Self { run, now_ms: 0, spent: Duration::ZERO, sequence: 0, names }
    }

    /// One event of each worker, within a second.
    fn all(&mut self, event: impl Fn(u64, u32, &WorkerName) -> Event) -> Vec<Effect> {
        self.sequence += 1;
        let mut effects = Vec::new();
        for (index, name) in (0..).zip(&self.names) {
            let event = event(self.sequence, index, name);
            let now = Time(self.now_ms + u64::from(index) / 20);
            let started = Instant::now();
            while let Some(deadline) = self.run.next_deadline().filter(|deadline| *deadline <= now) {
                effects.extend(self.run.apply(deadline, Event::Tick).expect("a tick is taken"));
            }
            let decided = self.run.apply(now, event).expect("a worker's word is taken");
            self.spent += started.elapsed();
            effects.extend(decided);
        }
        self.now_ms += u64::from(WORKERS) / 20;
        effects
    }

    fn heartbeats(&mut self, generation: Generation, prepared: Generation) -> Vec<Effect> {
        self.all(|sequence, index, worker| {
            let heartbeat = Heartbeat {
                sequence,
                address: format!("10.0.0.1:{index}"),
                generation,
                prepared,
                position: (generation.0 > 0).then_some(Default::default()),
                activity: if generation.0 > 0 { Activity::Computing } else { Activity::Idle },
                ..Heartbeat::default()
            };
            Event::Heartbeat { worker: worker.clone(), heartbeat }
        })
    }
}

fn told(effects: &[Effect], wanted: impl Fn(&Message) -> bool) -> usize {
    effects.iter().filter(|effect| matches!(effect, Effect::Send { message, .. } if wanted(message))).count()
}

/// What it costs to form a generation of all, and a heartbeat on the average.
fn measure() -> (Duration, Duration) {
    let mut crowd = Crowd::new();
    crowd.all(|_, index, worker| {
        let info = WorkerInfo { incarnation: u64::from(index), ..WorkerInfo::default() };
        Event::Joined { worker: worker.clone(), info, attached: None }
    });
    let (none, first) = (Generation(0), Generation(1));
    let mut effects = crowd.heartbeats(none, none);
    effects.extend(crowd.heartbeats(none, none));
    assert!(told(&effects, |message| matches!(message, Message::Prepare { .. })) >= WORKERS as usize);
    let effects = crowd.heartbeats(none, first);
    assert_eq!(told(&effects, |message| matches!(message, Message::Begin(_))), WORKERS as usize);
    let forming = std::mem::take(&mut crowd.spent);
    let rounds = (0..ROUNDS).map(|_| {
        drop(crowd.heartbeats(first, first));
        std::mem::take(&mut crowd.spent) / WORKERS
    });
    (forming, rounds.min().unwrap_or_default())
}

/// The least of some rounds and attempts is taken: what else the machine does at the time is not the core's cost.
#[test]
fn ten_thousand_workers_form_a_generation_in_a_second_and_are_heard_of_in_microseconds() {
    let attempts: Vec<(Duration, Duration)> = (0..ATTEMPTS).map(|_| measure()).collect();
    let forming = attempts.iter().map(|(forming, _)| *forming).min().unwrap_or_default();
    let heartbeat = attempts.iter().map(|(_, heartbeat)| *heartbeat).min().unwrap_or_default();
    println!("{WORKERS} workers: forming takes {forming:?}, a heartbeat {heartbeat:?}");
    assert!(forming < FORMING_MAX, "forming takes {forming:?}");
    assert!(heartbeat < HEARTBEAT_MAX, "a heartbeat takes {heartbeat:?}");
}
