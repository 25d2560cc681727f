//! The one owner of a run.
//!
//! Everything that happens to a run passes through one loop: take a command, let the core decide, make its records
//! durable, then carry out the rest. So only one thing happens at a time, no lock guards the run, and nobody hears
//! of a decision that a crash could undo.
//!
//! The loop may be held up: a disk takes its time. Workers must not pass for silent because of that, so whatever they
//! have said meanwhile is heard before the next look at the clock. What people read is written beside the loop
//! (`pages`), and so are looks at all checkpoints.

mod clock;
mod commands;
mod effects;
mod last_words;
mod pages;

#[cfg(test)]
pub(crate) mod fixtures;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use anyhow::Context;
use lockstep_core::{
    Admission, Effect, Entry, Event, Message, Outcome, Progress, Reject, Run, Step, WorkerName,
};
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinSet;
use tracing::Instrument;

use self::clock::{Ticks, until};
use self::commands::Command;
use self::pages::Pages;
use crate::journal::Pen;
use crate::run_folder::{RunFacts, RunFolder};
use crate::store::Survey;

pub use clock::now;
pub use commands::{DriverHandle, Joined, Upload};

/// Commands that may wait for the driver; senders beyond it wait themselves. A session has one under way at a time, so
/// that this many workers are all heard after a hold-up before the clock is looked at.
const COMMANDS_MAX: usize = 4096;

/// Notices that a slow listener may fall behind before it misses some.
const NOTICES_MAX: usize = 1024;

/// What a driven run came to.
pub type Conclusion = anyhow::Result<(Outcome, RunFolder, Run)>;

/// Owns a run until it ends.
#[derive(Debug)]
pub struct Driver {
    run: Run,
    folder: Arc<RunFolder>,
    journal: Pen,
    pages: Pages,
    outboxes: BTreeMap<WorkerName, Outbox>,
    /// How many sessions there have been.
    sessions: u64,
    notices: broadcast::Sender<Notice>,
    commands: mpsc::Receiver<Command>,
    /// Looks at all checkpoints that are under way, with the steps that were known when they began.
    surveys: JoinSet<(BTreeSet<Step>, Survey)>,
    /// What carrying out a decision has led to, for the run to hear of next.
    consequences: VecDeque<Event>,
    outcome: Option<Outcome>,
}

/// The way to a worker, as long as its newest session lasts.
#[derive(Debug)]
struct Outbox {
    session: u64,
    messages: mpsc::Sender<Message>,
}

/// What listeners are told.
#[derive(Debug, Clone)]
pub enum Notice {
    Entry(Entry),
    Progress {
        worker: WorkerName,
        progress: Progress,
    },
    /// A worker was shown the door. Its process may live.
    Disconnected {
        worker: WorkerName,
    },
}

impl Driver {
    /// A driver of `run`, whose first effects, from its creation or its take-over, are carried out by [`Self::drive`].
    pub fn new(
        run: Run,
        folder: RunFolder,
        journal: impl Into<Pen>,
        facts: RunFacts,
    ) -> (Self, DriverHandle) {
        let (sender, commands) = mpsc::channel(COMMANDS_MAX);
        let (notices, _) = broadcast::channel(NOTICES_MAX);
        let folder = Arc::new(folder);
        let driver = Self {
            run,
            pages: Pages::new(Arc::clone(&folder), facts),
            folder,
            journal: journal.into(),
            outboxes: BTreeMap::new(),
            sessions: 0,
            notices,
            commands,
            surveys: JoinSet::new(),
            consequences: VecDeque::new(),
            outcome: None,
        };
        (driver, DriverHandle::new(sender))
    }

    /// Hears everything from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Notice> {
        self.notices.subscribe()
    }

    /// Drives the run to its end.
    ///
    /// # Errors
    /// When what must be durable cannot be written: the run then stands where the journal says. [`Reject::Fenced`] when
    /// another coordinator has taken the run over.
    pub async fn drive(self, first: Vec<Effect>) -> Conclusion {
        let span = tracing::info_span!("run", run = self.folder.name());
        self.drive_inside(first).instrument(span).await
    }

    async fn drive_inside(mut self, first: Vec<Effect>) -> Conclusion {
        self.carry_out(first)?;
        let mut ticks = Ticks::default();
        let outcome = loop {
            if let Some(outcome) = self.outcome.take() {
                break outcome;
            }
            let mut wait = None;
            if let Some(deadline) = self.run.next_deadline() {
                let commands_wait = !self.commands.is_empty();
                wait = ticks.wait(deadline, now(), commands_wait, COMMANDS_MAX);
                if wait.is_none() {
                    self.tick()?;
                    continue;
                }
            }
            let tick = async move {
                match wait {
                    Some(time) => tokio::time::sleep(until(time)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                command = self.commands.recv() => match command {
                    Some(command) => self.obey(command)?,
                    None => anyhow::bail!("everybody who could speak to the run is gone"),
                },
                Some(surveyed) = self.surveys.join_next() => {
                    let (known, survey) = surveyed.context("looking at the checkpoints")?;
                    self.take_stock(&known, survey)?;
                }
                () = tick => {} // looked at above
            }
        };
        self.pages.finish(&self.run).await.context("writing the run's folder")?;
        drop(self.pages);
        let folder = Arc::into_inner(self.folder).context("the run's folder is still in use")?;
        Ok((outcome, folder, self.run))
    }

    fn tick(&mut self) -> anyhow::Result<()> {
        // Nobody is there to be told of a refusal.
        drop(self.decide(Event::Tick)?);
        self.pages.look(&self.run).context("writing the run's folder")
    }

    /// Has the run decide on an event, and carries it out.
    fn decide(&mut self, event: Event) -> anyhow::Result<Result<(), Reject>> {
        match self.run.apply(now(), event) {
            Ok(effects) => self.carry_out(effects).map(Ok),
            Err(reject) => Ok(Err(reject)),
        }
    }

    /// All checkpoints were looked at, because no worker has the run's state any more: the damaged ones are set aside,
    /// and what a crash left unknown is made known.
    fn take_stock(&mut self, known: &BTreeSet<Step>, survey: Survey) -> anyhow::Result<()> {
        let Survey { mut whole, damaged, unknown } = survey;
        for (step, damage) in &damaged {
            tracing::warn!("the checkpoint of step {step} is not used: {damage}");
            if let Err(error) = self.folder.checkpoints().set_aside(*step) {
                tracing::warn!(%step, %error, "a damaged checkpoint could not be set aside");
            }
        }
        // With a damaged one among them, what is superseded by a newcomer may be all that is left.
        for manifest in unknown.into_iter().filter(|_| damaged.is_empty()) {
            let position = manifest.position;
            let admitted = self.run.admit_upload(position);
            if manifest.run == self.folder.name()
                && matches!(admitted, Ok(Admission::Wanted | Admission::Superseded))
            {
                tracing::info!(step = %position.step, "a checkpoint is whole that the journal did not know");
                let size_bytes = manifest.size_bytes();
                drop(self.decide(Event::CheckpointStored { position, size_bytes })?);
            }
        }
        // Whatever came in meanwhile was verified as it came.
        whole.extend(self.run.history().checkpoints.keys().filter(|step| !known.contains(step)));
        drop(self.decide(Event::CheckpointsVerified { verified: whole })?);
        Ok(())
    }
}
