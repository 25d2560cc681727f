//! A run as a state machine.
//!
//! ```text
//!  Gathering ──enough are ready──► Forming ──all have paused──► Training ──trained and stored──► Ended
//!      ▲                             │ ▲                         │  Stepping ⇄ Collecting (an epoch's end)
//!      ├─────── too few are left ────┘ └── loss, join, leave, ───┤  Holding   (nothing to train; a checkpoint is under way)
//!      │                                       stop              └─ Testing   (the test split, with the best weights)
//!  Returning (a coordinator that comes back waits for the members that went on without it)
//! ```
//!
//! There is one way from one membership to the next, whatever the reason: all pause (`forming`), the most advanced
//! replica is the next generation's start, all begin. Steps are not gated here: members step by themselves, and the run
//! only hears of it. What is told may get lost, and is told again as long as a worker's heartbeats do not show that it
//! has followed (`watch`).

mod ending;
mod forming;
mod losses;
mod members;
mod pace;
mod receipt;
mod returning;
mod training;
mod view;
mod watch;

use std::collections::{BTreeMap, BTreeSet};

use self::pace::Pace;
use self::receipt::OpenReceipt;
use crate::retention::would_be_superseded;
use crate::{
    Admission, Begin, BlockMetrics, Disagreement, Effect, Entry, EpochReport, Event, FailureKind, Generation,
    Heartbeat, History, Message, Origin, Outcome, Position, Progress, Reject, RunSpec, Step, Time, Verdict,
    WorkerInfo, WorkerName,
};

/// Between two looks at leases, stalls and unanswered orders.
const TICK_MS: u64 = 100;

/// One run: what is durable of it, who works on it, and where it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    history: History,
    workers: BTreeMap<WorkerName, Worker>,
    phase: Phase,
    /// The newest number that was given to a generation, begun or not.
    numbered: Generation,
    /// A stop was asked for; it happens at the next boundary.
    stopping: bool,
    /// The furthest position that any worker was heard of at.
    furthest: Position,
    pace: Pace,
    /// What the change that is under way costs so far.
    receipt: Option<OpenReceipt>,
    next_tick: Time,
    /// Filled by one `apply`, handed out at its end.
    effects: Vec<Effect>,
}

#[derive(Debug, Clone, PartialEq)]
struct Worker {
    info: WorkerInfo,
    heartbeat: Heartbeat,
    progress: Progress,
    /// When it was last heard of.
    heard: Time,
    /// Since when its session is broken.
    detached: Option<Time>,
    /// When it was last told what it has not followed yet.
    told: Time,
    /// Somebody else needs it: it leaves, whatever its heartbeats say.
    asked_back: bool,
    /// Generations in a row that made no step, for which others blamed it.
    blamed: u32,
    /// Progress reports in a row that showed it slower than the others.
    slow: u32,
}

#[derive(Debug, Clone, PartialEq)]
enum Phase {
    Returning { deadline: Time, missing: BTreeSet<WorkerName> },
    Gathering(Gathering),
    Forming(Forming),
    Training(Training),
    Ended(Outcome),
}

/// Too few workers for a generation.
#[derive(Debug, Clone, PartialEq)]
struct Gathering {
    /// At the start of a life: until then all that are to start with are waited for.
    patience: Option<Time>,
    /// At the start of a life: the run fails when there are too few then.
    deadline: Option<Time>,
}

/// A generation on its way.
#[derive(Debug, Clone, PartialEq)]
struct Forming {
    generation: Generation,
    /// The former generation cannot go on.
    now: bool,
    /// Who has not paused yet.
    waiting: BTreeSet<WorkerName>,
    /// Blamed by others for the end of the former generation.
    blamed: BTreeSet<WorkerName>,
    since: Time,
    verification: Verification,
}

/// Whether the stored checkpoints were looked at, which is needed only when no worker has the run's state.
#[derive(Debug, Clone, PartialEq)]
enum Verification {
    NotAsked,
    Asked,
    Done(BTreeSet<Step>),
}

#[derive(Debug, Clone, PartialEq)]
struct Training {
    generation: Generation,
    /// Ranks follow the names.
    members: BTreeSet<WorkerName>,
    /// What each was told, but for the rank; none when this coordinator did not begin the generation.
    begin: Option<Begin>,
    /// Its only purpose is that leaving members do not take the run's state with them.
    parting: bool,
    /// Who has made its first step.
    started: BTreeSet<WorkerName>,
    stage: Stage,
}

#[derive(Debug, Clone, PartialEq)]
enum Stage {
    Stepping,
    /// Some members have reported the epoch's end.
    Collecting(BTreeMap<WorkerName, EpochReport>),
    /// The verdict waits until the checkpoint to restore from is stored.
    AwaitingBest(Verdict),
    /// Nothing is left to train; the run waits for the checkpoint of this step.
    Holding {
        step: Step,
    },
    Testing(BTreeMap<WorkerName, Vec<BlockMetrics>>),
}

impl Run {
    /// A new run. The returned effects record its creation.
    pub fn create(now: Time, spec: RunSpec, origin: Origin) -> (Self, Vec<Effect>) {
        let history = History::new(spec.clone(), origin.clone());
        let mut run = Self::new(now, history);
        run.record(Entry::Created { spec, origin });
        let effects = std::mem::take(&mut run.effects);
        (run, effects)
    }

    fn new(now: Time, history: History) -> Self {
        let gathering = Gathering::at_start(now, &history.spec);
        Self {
            numbered: history.generation,
            history,
            workers: BTreeMap::new(),
            phase: Phase::Gathering(gathering),
            stopping: false,
            furthest: Position::default(),
            pace: Pace::default(),
            receipt: None,
            next_tick: Time(now.0 + TICK_MS),
            effects: Vec::new(),
        }
    }

    /// Takes one event in. Refused events leave the run as it was.
    pub fn apply(&mut self, now: Time, event: Event) -> Result<Vec<Effect>, Reject> {
        match event {
            Event::Joined { worker, info, attached } => self.on_joined(now, worker, info, attached)?,
            Event::Heartbeat { worker, heartbeat } => self.on_heartbeat(now, worker, heartbeat)?,
            Event::Progressed { worker, generation, progress } => {
                self.on_progressed(now, worker, generation, progress)?;
            }
            Event::Started { worker, generation, timings } => {
                self.on_started(now, worker, generation, timings)?;
            }
            Event::PrefixTold { worker, generation, line } => {
                self.on_prefix_told(now, &worker, generation, line)?;
            }
            Event::EpochReported { worker, generation, report } => {
                self.on_epoch_reported(now, worker, generation, report)?;
            }
            Event::EvalReported { worker, generation, split, blocks } => {
                self.on_eval_reported(worker, generation, split, blocks)?;
            }
            Event::CheckpointStored { position, size_bytes } => {
                self.on_checkpoint_stored(now, position, size_bytes)?;
            }
            Event::CheckpointFailed { position, reason } => {
                // Of one that is stored already this was a second copy.
                if self.admit_upload(position)? == Admission::Wanted {
                    let reason =
                        format!("the checkpoint of step {} could not be stored: {reason}", position.step);
                    self.fail(reason, FailureKind::Run);
                }
            }
            Event::CheckpointsVerified { verified } => self.on_verified(now, verified),
            Event::WorkerFailed { worker, reason, kind } => self.on_worker_failed(now, worker, reason, kind),
            Event::Detached { worker } => self.on_detached(now, &worker),
            Event::WorkerLost { worker, reason } => self.lose(now, &worker, reason, now),
            Event::Abandoned { reason, kind } => self.fail(reason, kind),
            Event::LeaveRequested { worker } => self.on_leave_requested(now, worker)?,
            Event::StopRequested => self.on_stop_requested(now),
            Event::Tick => self.on_tick(now),
        }
        Ok(std::mem::take(&mut self.effects))
    }

    /// When to send the next [`Event::Tick`].
    pub fn next_deadline(&self) -> Option<Time> {
        match &self.phase {
            Phase::Ended(_) => None,
            _ => Some(self.next_tick),
        }
    }

    /// Whether a checkpoint of `position` may be stored now. It does not matter who has it: replicas at one position are
    /// the same.
    pub fn admit_upload(&self, position: Position) -> Result<Admission, Reject> {
        if matches!(self.phase, Phase::Ended(_)) {
            return Err(Reject::RunOver);
        }
        if !self.is_known(position) || self.is_unjudged(position) {
            return Err(Reject::Beyond { position });
        }
        Ok(if self.history.checkpoints.contains_key(&position.step) {
            Admission::Stored
        } else if would_be_superseded(&self.history, position) {
            Admission::Superseded
        } else {
            Admission::Wanted
        })
    }

    /// The durable part.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Whether the rows of all epochs before `position` are recorded, so that the run can be there.
    fn is_known(&self, position: Position) -> bool {
        let spec = &self.history.spec;
        let within = spec.start_of(position.epoch).step..=spec.start_of(position.epoch.next()).step;
        position.epoch.0 as usize <= self.history.rows.len() && within.contains(&position.step)
    }

    /// All steps of the epoch are made, and its verdict is not followed yet.
    fn is_unjudged(&self, position: Position) -> bool {
        position.step == self.history.spec.start_of(position.epoch.next()).step
    }

    /// Folds an entry into the history and asks for it to be made durable: the only way state becomes durable.
    fn record(&mut self, entry: Entry) {
        self.history.fold(&entry);
        self.effects.push(Effect::Record(entry));
    }

    fn send(&mut self, to: WorkerName, message: Message) {
        self.effects.push(Effect::Send { to, message });
    }

    fn send_all(&mut self, message: &Message) {
        let all: Vec<WorkerName> = self.workers.keys().cloned().collect();
        all.into_iter().for_each(|worker| self.send(worker, message.clone()));
    }

    fn refuse(&self, worker: WorkerName, message: &'static str) -> Reject {
        match self.phase {
            Phase::Ended(_) => Reject::RunOver,
            _ => Reject::OutOfPlace { worker, message, phase: self.phase_name() },
        }
    }

    /// Checks that `worker` speaks for the current generation of a training run.
    fn member_of(&self, worker: &WorkerName, generation: Generation) -> Result<&Training, Reject> {
        if !self.workers.contains_key(worker) {
            return Err(Reject::UnknownWorker { worker: worker.clone() });
        }
        match &self.phase {
            Phase::Training(training) if training.generation == generation => Ok(training),
            Phase::Ended(_) => Err(Reject::RunOver),
            _ => Err(Reject::StaleGeneration { given: generation, current: self.numbered }),
        }
    }

    fn fail_on(&mut self, disagreement: &Disagreement) {
        self.fail(disagreement.to_string(), FailureKind::Run);
    }
}

impl Gathering {
    /// How long the first workers of a life may take.
    fn at_start(now: Time, spec: &RunSpec) -> Self {
        /// With fewer than it is to start with, a run does not wait longer: the others join when they come.
        const PATIENCE_MS: u64 = 20_000;
        let after = |ms: u64| Some(Time(now.0 + ms));
        Self { patience: after(PATIENCE_MS.min(spec.join_timeout_ms)), deadline: after(spec.join_timeout_ms) }
    }

    /// As long as it takes, once a run has had workers.
    fn patient() -> Self {
        Self { patience: None, deadline: None }
    }
}

#[cfg(test)]
mod tests;
