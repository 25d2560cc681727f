//! A bench on which a run is driven by hand: it keeps what the run recorded and sent, and checks after every event
//! that the journal's fold is the live history and that a refused event changed nothing.

mod checkpoints;
mod ending;
mod epochs;
mod forming;

use super::*;
use crate::{Begin, Epoch, LedgerRow, Metrics, Restore, SelectSpec, Split, Verdict};

/// Two workers, three epochs of ten steps, no restoring, twenty samples to validate on and ten to test on.
fn spec() -> RunSpec {
    RunSpec {
        workers: 2,
        shards: 4,
        epochs: 3,
        steps_per_epoch: 10,
        eval_samples: 20,
        test_samples: 10,
        eval_block: 8,
        select: SelectSpec { split: Split::Val, restore: Restore::Never, patience: 0 },
        ema: false,
        keep: 2,
        join_timeout_ms: 60_000,
    }
}

struct Bench {
    run: Run,
    now: Time,
    /// All that was recorded.
    entries: Vec<Entry>,
    /// What the last event led to.
    effects: Vec<Effect>,
}

impl Bench {
    fn new(spec: RunSpec) -> Self {
        let (run, effects) = Run::create(Time(1000), spec, Origin::default());
        let mut bench = Self { run, now: Time(1000), entries: Vec::new(), effects: Vec::new() };
        bench.take(effects);
        bench
    }

    /// All workers have joined and are told to prepare.
    fn forming(spec: RunSpec) -> Self {
        let mut bench = Self::new(spec);
        bench.names().iter().for_each(|name| bench.ok(joined(name)));
        bench
    }

    /// All members step.
    fn training(spec: RunSpec) -> Self {
        let mut bench = Self::forming(spec);
        bench.prepare();
        bench
    }

    /// A new life of the run as the journal tells of it.
    fn resumed(entries: Vec<Entry>, verified: &[u64], workers: u32) -> Self {
        let history = History::from_entries(entries.clone()).unwrap();
        let verified = verified.iter().copied().map(Step).collect();
        let position = history.resume_point(&verified).unwrap_or_default();
        let damaged = history.checkpoints.keys().copied().filter(|step| !verified.contains(step)).collect();
        let epochs = history.spec.epochs;
        let (run, effects) = Run::resume(Time(1000), history, position, damaged, workers, epochs);
        let mut bench = Self { run, now: Time(1000), entries, effects: Vec::new() };
        bench.take(effects);
        bench
    }

    fn names(&self) -> Vec<WorkerName> {
        (0..self.run.history.spec.workers).map(|index| WorkerName(format!("w{index}"))).collect()
    }

    fn prepare(&mut self) {
        let generation = self.run.generation();
        for worker in self.names() {
            self.ok(Event::Prepared { address: format!("{worker}:1"), worker, generation });
        }
    }

    fn apply(&mut self, event: Event) -> Result<(), Reject> {
        let before = self.run.clone();
        match self.run.apply(self.now, event) {
            Ok(effects) => {
                self.take(effects);
                Ok(())
            }
            Err(reject) => {
                assert_eq!(self.run, before, "a refused event changed the run");
                Err(reject)
            }
        }
    }

    fn ok(&mut self, event: Event) {
        assert_eq!(self.apply(event), Ok(()));
    }

    fn take(&mut self, effects: Vec<Effect>) {
        self.entries.extend(effects.iter().filter_map(|effect| match effect {
            Effect::Record(entry) => Some(entry.clone()),
            _ => None,
        }));
        self.effects = effects;
        let folded = History::from_entries(self.entries.clone()).unwrap();
        assert_eq!(&folded, self.run.history(), "the journal tells another story");
    }

    /// What the last event made the run tell `worker`.
    fn told(&self, worker: &str) -> Vec<&Message> {
        let to_worker = self.effects.iter().filter_map(|effect| match effect {
            Effect::Send { to, message } if to.0 == worker => Some(message),
            _ => None,
        });
        to_worker.collect()
    }

    /// The verdict of the last event, which all members must have been told alike.
    fn verdict(&self) -> Option<Verdict> {
        let of = |worker: &WorkerName| {
            self.told(&worker.0).into_iter().find_map(|message| match message {
                Message::Verdict(verdict) => Some(*verdict),
                _ => None,
            })
        };
        let names = self.names();
        assert!(names.iter().all(|name| of(name) == of(&names[0])));
        of(&names[0])
    }

    fn begin(&self, worker: &str) -> &Begin {
        match self.told(worker)[..] {
            [Message::Begin(begin), ..] => begin,
            ref other => panic!("{worker} was told {other:?}"),
        }
    }

    fn epoch(&self) -> u32 {
        self.run.history.rows.len() as u32
    }

    /// The reports of an epoch in which `correct` of the validation samples are right, by worker.
    fn reports(&self, correct: u64) -> Vec<(WorkerName, EpochReport)> {
        let spec = &self.run.history.spec;
        let names = self.names();
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

    fn report(&mut self, reports: Vec<(WorkerName, EpochReport)>) {
        let generation = self.run.generation();
        for (worker, report) in reports {
            self.ok(Event::EpochReported { worker, generation, report });
        }
    }

    /// Ends an epoch, without its checkpoint.
    fn end_epoch(&mut self, correct: u64) -> Option<Verdict> {
        self.report(self.reports(correct));
        self.verdict()
    }

    /// A checkpoint of `step` arrives.
    fn store(&mut self, step: u64) {
        let position = self.at(step);
        self.ok(Event::CheckpointStored { generation: self.run.generation(), position, size_bytes: 5 });
    }

    /// Ends an epoch and stores its checkpoint.
    fn finish_epoch(&mut self, correct: u64) {
        let step = u64::from(self.epoch() + 1) * self.run.history.spec.steps_per_epoch;
        self.end_epoch(correct);
        self.store(step);
    }

    fn at(&self, step: u64) -> Position {
        Position { epoch: Epoch((step / self.run.history.spec.steps_per_epoch) as u32), step: Step(step) }
    }

    /// A member halts at `step`.
    fn halt(&mut self, worker: &str, step: u64) {
        let (generation, position) = (self.run.generation(), self.at(step));
        self.ok(Event::Halted { worker: worker.into(), generation, position });
    }

    /// All members answer the test.
    fn test(&mut self, correct: u64) {
        let (generation, names) = (self.run.generation(), self.names());
        for (rank, worker) in names.iter().enumerate() {
            let blocks = dealt(self.run.history.spec.test_samples, correct, rank, names.len());
            self.ok(Event::EvalReported { worker: worker.clone(), generation, split: Split::Test, blocks });
        }
    }

    fn outcome(&self) -> Option<&Outcome> {
        let concluded = self.effects.iter().find_map(|effect| match effect {
            Effect::Conclude(outcome) => Some(outcome),
            _ => None,
        });
        assert!(concluded.is_none() || concluded == self.run.history.outcome.as_ref());
        concluded
    }

    /// The reason of a failure that all workers in the run were told.
    fn failure(&self) -> &str {
        match self.outcome() {
            Some(Outcome::Failed { reason, .. }) => reason,
            other => panic!("no failure but {other:?}"),
        }
    }

    fn stored(&self) -> Vec<u64> {
        self.run.history.checkpoints.keys().map(|step| step.0).collect()
    }
}

/// A member's blocks of eight samples; the first block holds all the hits.
fn dealt(samples: u64, correct: u64, rank: usize, world_size: usize) -> Vec<BlockMetrics> {
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

fn joined(worker: &WorkerName) -> Event {
    let info = WorkerInfo { device: "cpu".into(), host: "here".into(), pid: 7, libtorch_version: "2".into() };
    Event::Joined { worker: worker.clone(), info }
}

fn with(change: impl FnOnce(&mut RunSpec)) -> RunSpec {
    let mut spec = spec();
    change(&mut spec);
    spec
}
