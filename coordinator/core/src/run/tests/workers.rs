//! What workers do on the bench: each says of itself what a worker would, with heartbeats that rise.

use super::*;

impl Bench {
    /// All that the run starts with have come and are told to pause.
    pub(super) fn forming(spec: RunSpec) -> Self {
        let start = spec.workers.start;
        let mut bench = Self::new(spec);
        let names: Vec<String> = (0..start).map(|index| format!("w{index}")).collect();
        names.iter().for_each(|name| bench.join(name));
        names.iter().for_each(|name| bench.ready(name));
        bench
    }

    /// All members step.
    pub(super) fn training(spec: RunSpec) -> Self {
        let mut bench = Self::forming(spec);
        bench.all_pause();
        bench.all_begin();
        bench
    }

    /// A new process joins.
    pub(super) fn join(&mut self, worker: &str) {
        let event = self.joined(worker);
        self.ok(event);
        self.heartbeats.insert(worker.into(), Heartbeat::default());
    }

    /// The event of a new process that joins.
    pub(super) fn joined(&mut self, worker: &str) -> Event {
        self.processes += 1;
        Event::Joined { worker: worker.into(), info: info(self.processes), attached: None }
    }

    /// The same process comes back, having heard of this term.
    pub(super) fn come_back(&mut self, worker: &str, process: u32, term: u64) -> Result<(), Reject> {
        let attached = Some(Attached { term: Term(term) });
        self.apply(Event::Joined { worker: worker.into(), info: info(process), attached })
    }

    pub(super) fn beat(&mut self, worker: &str, change: impl FnOnce(&mut Heartbeat)) {
        let heartbeat = self.heartbeats.entry(worker.into()).or_default();
        change(heartbeat);
        heartbeat.sequence += 1;
        let heartbeat = heartbeat.clone();
        self.ok(Event::Heartbeat { worker: worker.into(), heartbeat });
    }

    /// Data and weights are at hand.
    pub(super) fn ready(&mut self, worker: &str) {
        self.beat(worker, |heartbeat| heartbeat.address = format!("{worker}:1"));
    }

    pub(super) fn come(&mut self, worker: &str) {
        self.join(worker);
        self.ready(worker);
    }

    /// It has paused for the newest generation, where it stands.
    pub(super) fn pause(&mut self, worker: &str) {
        let generation = self.run.numbered;
        self.beat(worker, |heartbeat| {
            (heartbeat.prepared, heartbeat.activity) = (generation, Activity::Idle);
        });
    }

    /// It has paused for this generation at this position.
    pub(super) fn paused(&mut self, worker: &str, generation: u64, position: Position) {
        self.beat(worker, |heartbeat| {
            heartbeat.prepared = Generation(generation);
            (heartbeat.position, heartbeat.activity) = (Some(position), Activity::Idle);
        });
    }

    /// All that are waited for have paused.
    pub(super) fn all_pause(&mut self) {
        let Phase::Forming(Forming { waiting, .. }) = &self.run.phase else { panic!("{}", self.phase()) };
        waiting.clone().iter().for_each(|worker| self.pause(&worker.0));
    }

    /// A member follows its Begin.
    pub(super) fn follow(&mut self, worker: &str) {
        let Phase::Training(Training { begin: Some(begin), .. }) = &self.run.phase else {
            panic!("{}", self.phase())
        };
        let (generation, position, judged, hold) =
            (begin.generation, begin.position, begin.judged, begin.hold);
        self.beat(worker, |heartbeat| {
            (heartbeat.generation, heartbeat.position, heartbeat.broken) = (generation, Some(position), None);
            heartbeat.activity = match (judged, hold) {
                (true, _) => Activity::AwaitingVerdict,
                (false, true) => Activity::Holding,
                (false, false) => Activity::Computing,
            };
        });
    }

    pub(super) fn started(&mut self, worker: &str, timings: StartTimings) {
        let generation = self.run.generation();
        self.ok(Event::Started { worker: worker.into(), generation, timings });
    }

    /// All members follow their Begin and make a first step.
    pub(super) fn all_begin(&mut self) {
        let members = self.members();
        members.iter().for_each(|worker| self.follow(&worker.0));
        members.iter().for_each(|worker| self.started(&worker.0, StartTimings::default()));
    }

    pub(super) fn stepping(&mut self, worker: &str, step: u64) {
        let position = self.at(step);
        self.beat(worker, |heartbeat| {
            (heartbeat.position, heartbeat.since_ms) = (Some(position), 0);
            heartbeat.activity = Activity::Computing;
        });
    }

    pub(super) fn all_step(&mut self, step: u64) {
        self.members().iter().for_each(|worker| self.stepping(&worker.0, step));
    }

    pub(super) fn waits(&mut self, worker: &str, on: &str) {
        self.beat(worker, |heartbeat| {
            heartbeat.activity = Activity::Exchanging { waiting_on: on.into() };
            heartbeat.since_ms = 0;
        });
    }

    /// Its generation broke.
    pub(super) fn broken(&mut self, worker: &str, blames: &[&str]) {
        let blames = blames.iter().map(|name| WorkerName::from(*name)).collect();
        self.beat(worker, |heartbeat| {
            heartbeat.activity = Activity::Idle;
            heartbeat.broken = Some(Broken { blames, reason: "connection reset".into() });
        });
    }

    pub(super) fn leave(&mut self, worker: &str) {
        self.beat(worker, |heartbeat| heartbeat.leaving = true);
    }

    /// Somebody else needs it.
    pub(super) fn ask_back(&mut self, worker: &str) {
        self.ok(Event::LeaveRequested { worker: worker.into() });
    }

    pub(super) fn detach(&mut self, worker: &str) {
        self.ok(Event::Detached { worker: worker.into() });
    }

    /// Its process ended.
    pub(super) fn die(&mut self, worker: &str) {
        self.ok(Event::WorkerLost { worker: worker.into(), reason: "killed by SIGKILL".into() });
    }

    /// Time goes by while these workers are heard of at what they were at. All effects are kept.
    pub(super) fn pass(&mut self, ms: u64, heard: &[&str]) {
        let mut effects = Vec::new();
        for _ in 0..ms / TICK_MS {
            self.now.0 += TICK_MS;
            for worker in heard {
                self.beat(worker, |heartbeat| heartbeat.since_ms += TICK_MS);
                effects.append(&mut self.effects);
            }
            self.ok(Event::Tick);
            effects.append(&mut self.effects);
        }
        self.effects = effects;
    }

    /// The reports of an epoch in which `correct` of the validation samples are right, by member.
    pub(super) fn reports(&self, correct: u64) -> Vec<(WorkerName, EpochReport)> {
        let spec = &self.run.history.spec;
        let names = self.members();
        let report = |(rank, worker): (usize, &WorkerName)| {
            let report = EpochReport {
                epoch: Epoch(self.epoch()),
                position: spec.start_of(Epoch(self.epoch() + 1)),
                learning_rate: 0.1,
                train: Metrics { loss_sum: 4.5, correct: 7, count: 40 },
                ledger: LedgerRow { expected: 40, seen: 40, ..LedgerRow::default() },
                split: spec.select.split,
                blocks: dealt(spec.eval_samples, correct, rank, names.len()),
                ema_blocks: match spec.ema {
                    true => dealt(spec.eval_samples, correct + 1, rank, names.len()),
                    false => Vec::new(),
                },
                weights_digest: "ab".into(),
                train_ms: 100 + rank as u64,
                eval_ms: 10 + rank as u64,
                peak_memory_bytes: 1 << rank,
            };
            (worker.clone(), report)
        };
        names.iter().enumerate().map(report).collect()
    }

    /// Members stand at the epoch's end and report it.
    pub(super) fn report(&mut self, reports: Vec<(WorkerName, EpochReport)>) {
        let generation = self.run.generation();
        let end = self.unjudged(u64::from(self.epoch() + 1) * self.run.history.spec.steps_per_epoch);
        for (worker, _) in &reports {
            self.beat(&worker.0, |heartbeat| {
                (heartbeat.position, heartbeat.activity) = (Some(end), Activity::AwaitingVerdict);
            });
        }
        for (worker, report) in reports {
            self.ok(Event::EpochReported { worker, generation, report });
        }
    }

    /// Ends an epoch, without its checkpoint; the members have yet to follow the verdict.
    pub(super) fn end_epoch(&mut self, correct: u64) -> Option<Verdict> {
        self.report(self.reports(correct));
        self.verdict()
    }

    /// The members follow the newest verdict.
    pub(super) fn follow_verdict(&mut self) {
        let position = self.run.history.spec.start_of(Epoch(self.epoch()));
        let hold = matches!(&self.run.phase, Phase::Training(Training { stage: Stage::Holding { .. }, .. }));
        for worker in self.members() {
            self.beat(&worker.0, |heartbeat| {
                heartbeat.position = Some(position);
                heartbeat.activity = if hold { Activity::Holding } else { Activity::Computing };
            });
        }
    }

    /// A checkpoint of `step` arrives.
    pub(super) fn store(&mut self, step: u64) {
        let position = self.at(step);
        self.ok(Event::CheckpointStored { position, size_bytes: 5 });
    }

    /// Ends an epoch and stores its checkpoint.
    pub(super) fn finish_epoch(&mut self, correct: u64) {
        let step = u64::from(self.epoch() + 1) * self.run.history.spec.steps_per_epoch;
        self.end_epoch(correct);
        self.follow_verdict();
        self.store(step);
    }

    /// All members answer the test.
    pub(super) fn test(&mut self, correct: u64) {
        let (generation, names) = (self.run.generation(), self.members());
        for (rank, worker) in names.iter().enumerate() {
            let blocks = dealt(self.run.history.spec.test_samples, correct, rank, names.len());
            self.ok(Event::EvalReported { worker: worker.clone(), generation, split: Split::Test, blocks });
        }
    }
}

pub(super) fn info(process: u32) -> WorkerInfo {
    WorkerInfo {
        device: "cpu".into(),
        host: "here".into(),
        pid: process,
        libtorch_version: "2".into(),
        incarnation: u64::from(process),
    }
}

/// A member's blocks of eight samples; the first block holds all the hits.
pub(super) fn dealt(samples: u64, correct: u64, rank: usize, world_size: usize) -> Vec<BlockMetrics> {
    let block = |block: u64| BlockMetrics {
        block: block as u32,
        metrics: Metrics {
            loss_sum: 0.25,
            correct: if block == 0 { correct } else { 0 },
            count: (samples - block * 8).min(8),
        },
    };
    (0..samples.div_ceil(8)).filter(|block| *block as usize % world_size == rank).map(block).collect()
}
