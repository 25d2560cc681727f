//! A bench on which a run is driven by hand: it keeps what the run recorded and sent, and checks after every event
//! that the journal's fold is the live history, that generations only rise, and that a refused event changed nothing.

mod blame;
mod checkpoints;
mod ending;
mod epochs;
mod forming;
mod joining;
mod leaving;
mod losses;
mod orders;
mod receipts;
mod returning;
mod stopping;
mod stragglers;
mod stuck;
mod workers;

use self::workers::dealt;
use super::*;
use crate::{
    Activity, Attached, Broken, Epoch, LedgerRow, Metrics, Restore, SelectSpec, Split, Start, StartTimings,
    Term, WorkerBounds,
};

/// Two workers and at most four, three epochs of ten steps, no restoring, twenty samples to validate on and ten to test
/// on.
fn spec() -> RunSpec {
    RunSpec {
        workers: WorkerBounds { min: 1, start: 2, max: 4 },
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
        lease_ms: 3000,
    }
}

fn with(change: impl FnOnce(&mut RunSpec)) -> RunSpec {
    let mut spec = spec();
    change(&mut spec);
    spec
}

fn workers(min: u32, start: u32, max: u32) -> RunSpec {
    with(|spec| spec.workers = WorkerBounds { min, start, max })
}

struct Bench {
    run: Run,
    now: Time,
    /// All that was recorded.
    entries: Vec<Entry>,
    /// What the last event led to, or all events of the last `pass`.
    effects: Vec<Effect>,
    /// What each worker last said of itself.
    heartbeats: BTreeMap<WorkerName, Heartbeat>,
    /// Each process has its own number.
    processes: u32,
}

impl Bench {
    fn new(spec: RunSpec) -> Self {
        let (run, effects) = Run::create(Time(1000), spec, Origin::default());
        Self::of(run, effects, Vec::new())
    }

    fn of(run: Run, effects: Vec<Effect>, entries: Vec<Entry>) -> Self {
        let (effects_before, heartbeats) = (Vec::new(), BTreeMap::new());
        let now = Time(1000);
        let mut bench = Self { run, now, entries, effects: effects_before, heartbeats, processes: 0 };
        bench.take(effects);
        bench
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
        for effect in &effects {
            match effect {
                Effect::Record(entry) => {
                    if let Entry::GenerationBegan { generation, .. } = entry {
                        let former = self.begun_generations().last().copied().unwrap_or_default();
                        assert!(former < *generation, "{generation} began after {former}");
                    }
                    self.entries.push(entry.clone());
                }
                Effect::Send { to, message: Message::Begin(begin) } => {
                    assert_eq!(begin.peers[begin.rank as usize].worker, *to, "ranks follow the peers");
                    let last = self.begun_generations().last().copied();
                    assert_eq!(last, Some(begin.generation), "a generation began that is not recorded");
                }
                _ => {}
            }
        }
        self.effects = effects;
        let folded = History::from_entries(self.entries.clone()).unwrap();
        assert_eq!(&folded, self.run.history(), "the journal tells another story");
    }

    fn begun_generations(&self) -> Vec<Generation> {
        let begun = |entry: &Entry| match entry {
            Entry::GenerationBegan { generation, .. } => Some(*generation),
            _ => None,
        };
        self.entries.iter().filter_map(begun).collect()
    }

    /// What the last event made the run tell `worker`.
    fn told(&self, worker: &str) -> Vec<&Message> {
        let to_worker = self.effects.iter().filter_map(|effect| match effect {
            Effect::Send { to, message } if to.0 == worker => Some(message),
            _ => None,
        });
        to_worker.collect()
    }

    /// Who was told to pause: for which generation, and whether at once.
    fn asked_to_pause(&self) -> Vec<(&str, u64, bool)> {
        let asked = self.effects.iter().filter_map(|effect| match effect {
            Effect::Send { to, message: Message::Prepare { generation, now } } => {
                Some((&*to.0, generation.0, *now))
            }
            _ => None,
        });
        asked.collect()
    }

    /// The verdict of the last event, which all members must have been told alike.
    fn verdict(&self) -> Option<Verdict> {
        let of = |worker: &WorkerName| {
            self.told(&worker.0).into_iter().find_map(|message| match message {
                Message::Verdict(verdict) => Some(*verdict),
                _ => None,
            })
        };
        let names = self.members();
        assert!(names.iter().all(|name| of(name) == of(&names[0])));
        names.first().and_then(of)
    }

    fn begin(&self, worker: &str) -> &Begin {
        let told = self.told(worker);
        let begin = told.iter().find_map(|message| match message {
            Message::Begin(begin) => Some(begin),
            _ => None,
        });
        begin.unwrap_or_else(|| panic!("{worker} was told {told:?}"))
    }

    /// The newest generation's members.
    fn members(&self) -> Vec<WorkerName> {
        self.run.history.members.iter().map(|member| member.worker.clone()).collect()
    }

    fn member_names(&self) -> Vec<&str> {
        self.run.history.members.iter().map(|member| &*member.worker.0).collect()
    }

    fn generation(&self) -> u64 {
        self.run.generation().0
    }

    fn epoch(&self) -> u32 {
        self.run.history.rows.len() as u32
    }

    /// Where a run stands after `step` steps, verdicts followed.
    fn at(&self, step: u64) -> Position {
        Position { epoch: Epoch((step / self.run.history.spec.steps_per_epoch) as u32), step: Step(step) }
    }

    /// After an epoch's last step, until the verdict is followed.
    fn unjudged(&self, step: u64) -> Position {
        let Position { epoch, step } = self.at(step);
        Position { epoch: Epoch(epoch.0 - 1), step }
    }

    fn outcome(&self) -> Option<&Outcome> {
        let concluded = self.effects.iter().find_map(|effect| match effect {
            Effect::Conclude(outcome) => Some(outcome),
            _ => None,
        });
        assert!(concluded.is_none() || concluded == self.run.history.outcome.as_ref());
        concluded
    }

    fn stopped_at(&self) -> Option<u64> {
        match self.outcome() {
            Some(Outcome::Stopped { position }) => Some(position.step.0),
            Some(other) => panic!("not stopped but {other:?}"),
            None => None,
        }
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

    /// Who was recorded as lost, and why, oldest first.
    fn losses(&self) -> Vec<(&str, &str)> {
        let lost = self.entries.iter().filter_map(|entry| match entry {
            Entry::WorkerLost { worker, reason, .. } => Some((&*worker.0, reason.as_str())),
            _ => None,
        });
        lost.collect()
    }

    fn departures(&self) -> Vec<&str> {
        let left = self.entries.iter().filter_map(|entry| match entry {
            Entry::WorkerLeft { worker, .. } => Some(&*worker.0),
            _ => None,
        });
        left.collect()
    }

    /// The newest one.
    fn receipt(&self) -> &crate::Receipt {
        let receipts = self.entries.iter().rev().find_map(|entry| match entry {
            Entry::GenerationStarted(receipt) => Some(receipt),
            _ => None,
        });
        receipts.expect("no change is over yet")
    }

    fn phase(&self) -> &'static str {
        self.run.phase_name()
    }
}

/// A bench in every phase of a run's life, with w0 and w1 in it.
fn phases() -> Vec<Bench> {
    let one_epoch = || with(|spec| spec.epochs = 1);
    let mut gathering = Bench::new(spec());
    gathering.join("w0");
    gathering.join("w1");
    let forming = Bench::forming(spec());
    let mut collecting = Bench::training(spec());
    collecting.all_step(9);
    let report = collecting.reports(5).remove(0);
    collecting.report(vec![report]);
    let mut awaiting = Bench::training(with(|spec| spec.select.restore = Restore::Epoch));
    awaiting.end_epoch(5);
    awaiting.follow_verdict();
    awaiting.end_epoch(4);
    let mut holding = Bench::training(one_epoch());
    holding.end_epoch(5);
    holding.follow_verdict();
    let mut testing = Bench::training(one_epoch());
    testing.finish_epoch(5);
    let mut changing = Bench::training(spec());
    changing.come("w2");
    vec![gathering, forming, Bench::training(spec()), collecting, awaiting, holding, testing, changing]
}
