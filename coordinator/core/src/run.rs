//! A run as a state machine.
//!
//! ```text
//!  Gathering ──all workers joined──► Forming ──all prepared──► Training ──trained and stored──► Ended
//!      │                                │                      │  Stepping ⇄ Collecting (an epoch's end)
//!      └────────── stop, loss ──────────┴──────────────────────┤  Halting   (a stop, at a step boundary)
//!                                                              │  Holding   (trained; the last checkpoint is under way)
//!                                                              └─ Testing   (the test split, with the best weights)
//! ```
//!
//! Steps are not gated here: members step by themselves, and the run only hears of it. It speaks at the forming of
//! a generation, at an epoch's end, and when somebody wants to stop.

mod ending;
mod forming;
mod training;

use std::collections::BTreeMap;

use crate::{
    BlockMetrics, Disagreement, Effect, Entry, EpochReport, Event, FailureKind, Generation, History, Message,
    Origin, Outcome, Position, Progress, Reject, RunSpec, Step, Time, WorkerInfo, WorkerName,
};

/// One run: what is durable of it, who works on it, and where it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    history: History,
    /// Where this life of the run starts.
    start: Position,
    workers: BTreeMap<WorkerName, Worker>,
    phase: Phase,
    /// A stop was asked for; it happens at the next boundary.
    stopping: bool,
    /// Filled by one `apply`, handed out at its end.
    effects: Vec<Effect>,
}

#[derive(Debug, Clone, PartialEq)]
struct Worker {
    info: WorkerInfo,
    progress: Progress,
}

#[derive(Debug, Clone, PartialEq)]
enum Phase {
    Gathering { deadline: Time },
    Forming(Forming),
    Training(Training),
    Ended(Outcome),
}

/// A generation on its way: who has answered `Prepare`, and with what address.
#[derive(Debug, Clone, PartialEq)]
struct Forming {
    generation: Generation,
    addresses: BTreeMap<WorkerName, String>,
    deadline: Time,
}

#[derive(Debug, Clone, PartialEq)]
struct Training {
    generation: Generation,
    /// By rank.
    members: Vec<WorkerName>,
    stage: Stage,
}

#[derive(Debug, Clone, PartialEq)]
enum Stage {
    Stepping,
    /// Some members have reported the epoch's end.
    Collecting(BTreeMap<WorkerName, EpochReport>),
    /// The verdict waits until the checkpoint to restore from is stored.
    AwaitingBest {
        verdict: crate::Verdict,
    },
    /// Some members have halted; it ends when all have and their checkpoint is stored.
    Halting(BTreeMap<WorkerName, Position>),
    /// Training is over; the run waits for the checkpoint of this step.
    Holding {
        step: Step,
    },
    Testing(BTreeMap<WorkerName, Vec<BlockMetrics>>),
}

impl Run {
    /// A new run. The returned effects record its creation.
    pub fn create(now: Time, spec: RunSpec, origin: Origin) -> (Self, Vec<Effect>) {
        let history = History::new(spec.clone(), origin.clone());
        let mut run = Self::gathering(now, history, Position::default());
        run.record(Entry::Created { spec, origin });
        let effects = std::mem::take(&mut run.effects);
        (run, effects)
    }

    /// A run that goes on from `position`, which [`History::resume_point`] gave.
    pub fn resume(
        now: Time,
        history: History,
        position: Position,
        damaged: Vec<Step>,
        workers: u32,
        epochs: u32,
    ) -> (Self, Vec<Effect>) {
        let undone = |step: &Step| *step > position.step && !damaged.contains(step);
        let undone: Vec<Step> = history.checkpoints.keys().copied().filter(undone).collect();
        let mut run = Self::gathering(now, history, position);
        run.record(Entry::Resumed { position, workers, epochs, damaged });
        run.publish();
        run.effects.extend(undone.into_iter().map(Effect::DeleteCheckpoint));
        let effects = std::mem::take(&mut run.effects);
        (run, effects)
    }

    fn gathering(now: Time, history: History, start: Position) -> Self {
        let deadline = Time(now.0 + history.spec.join_timeout_ms);
        Self {
            history,
            start,
            workers: BTreeMap::new(),
            phase: Phase::Gathering { deadline },
            stopping: false,
            effects: Vec::new(),
        }
    }

    /// Takes one event in. Refused events leave the run as it was.
    pub fn apply(&mut self, now: Time, event: Event) -> Result<Vec<Effect>, Reject> {
        match event {
            Event::Joined { worker, info } => self.on_joined(now, worker, info)?,
            Event::Prepared { worker, generation, address } => {
                self.on_prepared(worker, generation, address)?
            }
            Event::Progressed { worker, generation, progress } => {
                self.member_of(&worker, generation)?;
                if let Some(worker) = self.workers.get_mut(&worker) {
                    worker.progress = progress;
                }
            }
            Event::EpochReported { worker, generation, report } => {
                self.on_epoch_reported(worker, generation, report)?;
            }
            Event::EvalReported { worker, generation, split, blocks } => {
                self.on_eval_reported(worker, generation, split, blocks)?;
            }
            Event::Halted { worker, generation, position } => self.on_halted(worker, generation, position)?,
            Event::CheckpointStored { generation, position, size_bytes } => {
                self.on_checkpoint_stored(generation, position, size_bytes)?;
            }
            Event::CheckpointFailed { generation, position, reason } => {
                self.admit_upload(generation)?;
                let reason =
                    format!("the checkpoint of step {} could not be stored: {reason}", position.step);
                self.fail(reason, FailureKind::Run);
            }
            Event::WorkerFailed { worker, reason, kind } => self.on_worker_gone(worker, reason, kind)?,
            Event::WorkerLost { worker, reason } => {
                self.on_worker_gone(worker, reason, FailureKind::Cluster)?;
            }
            Event::StopRequested => self.on_stop_requested(),
            Event::Tick => self.on_tick(now),
        }
        Ok(std::mem::take(&mut self.effects))
    }

    /// When to send the next [`Event::Tick`].
    pub fn next_deadline(&self) -> Option<Time> {
        match &self.phase {
            Phase::Gathering { deadline } | Phase::Forming(Forming { deadline, .. }) => Some(*deadline),
            Phase::Training(_) | Phase::Ended(_) => None,
        }
    }

    /// Whether a checkpoint of `generation` may be stored now.
    pub fn admit_upload(&self, generation: Generation) -> Result<(), Reject> {
        match &self.phase {
            Phase::Training(training) if training.generation == generation => Ok(()),
            Phase::Ended(_) => Err(Reject::RunOver),
            _ => Err(Reject::StaleGeneration { given: generation, current: self.generation() }),
        }
    }

    /// The durable part.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// The current generation, or the one being formed.
    pub(crate) fn generation(&self) -> Generation {
        match &self.phase {
            Phase::Forming(forming) => forming.generation,
            Phase::Training(training) => training.generation,
            Phase::Gathering { .. } | Phase::Ended(_) => self.history.generation,
        }
    }

    /// Workers by name: name, device, last progress.
    pub(crate) fn worker_views(&self) -> impl Iterator<Item = (&WorkerName, &str, &Progress)> {
        self.workers.iter().map(|(name, worker)| (name, worker.info.device.as_str(), &worker.progress))
    }

    /// What the run waits for, in words; empty when it steps.
    pub(crate) fn waits_for(&self) -> String {
        let wanted = self.history.spec.workers;
        match &self.phase {
            Phase::Gathering { .. } => format!("{} of {wanted} workers have joined", self.workers.len()),
            Phase::Forming(forming) => format!("{} of {wanted} workers are ready", forming.addresses.len()),
            Phase::Training(training) => match &training.stage {
                Stage::Stepping => String::new(),
                Stage::Collecting(reports) => {
                    format!("{} of {wanted} members ended the epoch", reports.len())
                }
                Stage::AwaitingBest { .. } => "the best model's checkpoint is being stored".into(),
                Stage::Halting(positions) => format!("{} of {wanted} members halted", positions.len()),
                Stage::Holding { step } => format!("the checkpoint of step {step} is being stored"),
                Stage::Testing(reports) => format!("{} of {wanted} members tested", reports.len()),
            },
            Phase::Ended(outcome) => match outcome {
                Outcome::Failed { reason, .. } => reason.clone(),
                Outcome::Done { .. } | Outcome::Stopped { .. } => String::new(),
            },
        }
    }

    pub(crate) fn phase_name(&self) -> &'static str {
        match &self.phase {
            Phase::Gathering { .. } => "gathering workers",
            Phase::Forming(_) => "forming a generation",
            Phase::Training(Training { stage, .. }) => match stage {
                Stage::Stepping => "training",
                Stage::Collecting(_) | Stage::AwaitingBest { .. } => "ending an epoch",
                Stage::Halting(_) => "halting",
                Stage::Holding { .. } => "storing the last checkpoint",
                Stage::Testing(_) => "testing",
            },
            Phase::Ended(_) => "over",
        }
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
            _ => Err(Reject::StaleGeneration { given: generation, current: self.generation() }),
        }
    }

    fn fail_on(&mut self, disagreement: &Disagreement) {
        self.fail(disagreement.to_string(), FailureKind::Run);
    }
}

#[cfg(test)]
mod tests;
