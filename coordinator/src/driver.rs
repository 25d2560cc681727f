//! The one owner of a run.
//!
//! Everything that happens to a run passes through one loop: take a command, let the core decide, make its records
//! durable, then carry out the rest. So only one thing happens at a time, no lock guards the run, and nobody hears
//! of a decision that a crash could undo.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use lockstep_core::{
    Effect, Entry, Event, Generation, Message, Outcome, Position, Progress, Reject, Run, Status, Time,
    WorkerInfo, WorkerName,
};
use tokio::sync::{broadcast, mpsc, oneshot};
use tracing::Instrument;

use crate::journal::Journal;
use crate::run_folder::{RunFacts, RunFolder};
use crate::store::ManifestMetric;

/// Commands that may wait for the driver. Senders beyond it wait themselves.
const COMMANDS_MAX: usize = 256;

/// Messages that may wait for one worker. They are few; a worker that lets so many lie is as good as lost.
const OUTBOX_MAX: usize = 64;

/// Notices that a slow listener may fall behind before it misses some.
const NOTICES_MAX: usize = 1024;

/// Owns a run until it ends.
#[derive(Debug)]
pub struct Driver {
    run: Run,
    folder: RunFolder,
    journal: Journal,
    facts: RunFacts,
    outboxes: BTreeMap<WorkerName, mpsc::Sender<Message>>,
    notices: broadcast::Sender<Notice>,
    commands: mpsc::Receiver<Command>,
    outcome: Option<Outcome>,
}

/// How the rest of the program speaks to the driver.
#[derive(Debug, Clone)]
pub struct DriverHandle {
    commands: mpsc::Sender<Command>,
}

/// What listeners are told.
#[derive(Debug, Clone)]
pub enum Notice {
    Entry(Entry),
    Progress { worker: WorkerName, progress: Progress },
}

#[derive(Debug)]
enum Command {
    Join {
        worker: WorkerName,
        info: WorkerInfo,
        reply: oneshot::Sender<Result<mpsc::Receiver<Message>, Reject>>,
    },
    Event {
        event: Event,
        reply: oneshot::Sender<Result<(), Reject>>,
    },
    AdmitUpload {
        generation: Generation,
        position: Position,
        reply: oneshot::Sender<Result<Option<ManifestMetric>, Reject>>,
    },
    Status {
        reply: oneshot::Sender<Status>,
    },
}

impl Driver {
    /// A driver of `run`, whose first effects, from its creation or its resume, are carried out by [`Self::drive`].
    pub fn new(run: Run, folder: RunFolder, journal: Journal, facts: RunFacts) -> (Self, DriverHandle) {
        let (sender, commands) = mpsc::channel(COMMANDS_MAX);
        let (notices, _) = broadcast::channel(NOTICES_MAX);
        let outboxes = BTreeMap::new();
        let driver = Self { run, folder, journal, facts, outboxes, notices, commands, outcome: None };
        (driver, DriverHandle { commands: sender })
    }

    /// Hears everything from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Notice> {
        self.notices.subscribe()
    }

    /// Drives the run to its end.
    ///
    /// # Errors
    /// When what must be durable cannot be written. The run then stands where the journal says.
    pub async fn drive(self, first: Vec<Effect>) -> anyhow::Result<(Outcome, RunFolder, Run)> {
        let span = tracing::info_span!("run", run = self.folder.name());
        self.drive_inside(first).instrument(span).await
    }

    async fn drive_inside(mut self, first: Vec<Effect>) -> anyhow::Result<(Outcome, RunFolder, Run)> {
        self.carry_out(first)?;
        loop {
            if let Some(outcome) = self.outcome.take() {
                return Ok((outcome, self.folder, self.run));
            }
            let deadline = self.run.next_deadline();
            let tick = async move {
                match deadline {
                    Some(deadline) => tokio::time::sleep(until(deadline)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(command) => self.obey(command)?,
                    None => anyhow::bail!("everybody who could speak to the run is gone"),
                },
                () = tick => {
                    let effects = self.run.apply(now(), Event::Tick).unwrap_or_default();
                    self.carry_out(effects)?;
                }
            }
        }
    }

    fn obey(&mut self, command: Command) -> anyhow::Result<()> {
        // A reply that nobody waits for any more is no error.
        match command {
            Command::Join { worker, info, reply } => {
                let (outbox, inbox) = mpsc::channel(OUTBOX_MAX);
                match self.run.apply(now(), Event::Joined { worker: worker.clone(), info }) {
                    Ok(effects) => {
                        self.outboxes.insert(worker, outbox);
                        self.carry_out(effects)?;
                        drop(reply.send(Ok(inbox)));
                    }
                    Err(reject) => drop(reply.send(Err(reject))),
                }
            }
            Command::Event { event, reply } => {
                let progress = match &event {
                    Event::Progressed { worker, progress, .. } => Some((worker.clone(), *progress)),
                    _ => None,
                };
                let answer = match self.run.apply(now(), event) {
                    Ok(effects) => {
                        self.carry_out(effects)?;
                        if let Some((worker, progress)) = progress {
                            self.tell(Notice::Progress { worker, progress });
                        }
                        Ok(())
                    }
                    Err(reject) => Err(reject),
                };
                drop(reply.send(answer));
            }
            Command::AdmitUpload { generation, position, reply } => {
                drop(reply.send(self.run.admit_upload(generation).map(|()| self.metric_at(position))));
            }
            Command::Status { reply } => drop(reply.send(self.run.status())),
        }
        Ok(())
    }

    /// Records first, in one transaction, then the rest in order.
    fn carry_out(&mut self, effects: Vec<Effect>) -> anyhow::Result<()> {
        let records: Vec<Entry> = effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Record(entry) => Some(entry.clone()),
                _ => None,
            })
            .collect();
        if !records.is_empty() {
            tokio::task::block_in_place(|| self.persist(&records))?;
            records.iter().for_each(log);
            records.into_iter().for_each(|entry| self.tell(Notice::Entry(entry)));
        }
        for effect in effects {
            match effect {
                Effect::Record(_) => {}
                Effect::Send { to, message } => self.send(&to, message)?,
                Effect::Publish { last, best } => {
                    let best_weights = self.folder.best_weights();
                    let published = tokio::task::block_in_place(|| {
                        self.folder.checkpoints().publish(last, best, &best_weights)
                    });
                    if let Err(error) = published {
                        self.fail(format!("the best model could not be written: {error}"))?;
                    }
                }
                Effect::DeleteCheckpoint(step) => {
                    if let Err(error) = self.folder.checkpoints().delete(step) {
                        tracing::warn!(%step, %error, "an old checkpoint could not be deleted");
                    }
                }
                Effect::Conclude(outcome) => self.outcome = Some(outcome),
            }
        }
        Ok(())
    }

    fn persist(&mut self, records: &[Entry]) -> anyhow::Result<()> {
        let now = now();
        self.journal.append(self.folder.name(), now, records)?;
        let history = self.run.history();
        let files = || -> std::io::Result<()> {
            self.folder.append_events(now, records)?;
            let rows = |entry: &Entry| matches!(entry, Entry::EpochEnded(_) | Entry::Resumed { .. });
            if records.iter().any(rows) {
                self.folder.write_tables(history)?;
            }
            self.folder.write_status(now, history, &self.run.status(), &self.facts)
        };
        files().context("writing the run's folder")?;
        if records.iter().any(|entry| matches!(entry, Entry::EpochEnded(_)))
            && let Err(error) = self.folder.write_plots(history)
        {
            tracing::warn!(%error, "the plots could not be drawn");
        }
        Ok(())
    }

    fn send(&mut self, to: &WorkerName, message: Message) -> anyhow::Result<()> {
        tracing::debug!(worker = %to, ?message, "send");
        let Some(outbox) = self.outboxes.get(to) else { return Ok(()) };
        match outbox.try_send(message) {
            // A closed one is about to be reported by its session.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.outboxes.remove(to);
                let reason = "it does not take its messages".to_owned();
                let effects = self
                    .run
                    .apply(now(), Event::WorkerLost { worker: to.clone(), reason })
                    .unwrap_or_default();
                self.carry_out(effects)
            }
        }
    }

    /// The newest checkpoint is stored but could not be made known under its name.
    fn fail(&mut self, reason: String) -> anyhow::Result<()> {
        let history = self.run.history();
        let event =
            Event::CheckpointFailed { generation: history.generation, position: history.position(), reason };
        let effects = self.run.apply(now(), event).unwrap_or_default();
        self.carry_out(effects)
    }

    /// The metric of the epoch that ended at `position`.
    fn metric_at(&self, position: Position) -> Option<ManifestMetric> {
        let row = self.run.history().rows.iter().find(|row| row.step == position.step)?;
        let name = format!("{}/acc_top1", row.split.as_str());
        Some(ManifestMetric { name, value: row.eval.accuracy(), epoch: row.epoch.0 })
    }

    fn tell(&self, notice: Notice) {
        // Nobody need listen.
        drop(self.notices.send(notice));
    }
}

impl DriverHandle {
    /// Admits a worker; what it is to be told comes out of the receiver.
    pub async fn join(
        &self,
        worker: WorkerName,
        info: WorkerInfo,
    ) -> Result<mpsc::Receiver<Message>, Reject> {
        self.ask(|reply| Command::Join { worker, info, reply }).await.unwrap_or(Err(Reject::RunOver))
    }

    /// Tells the run what happened.
    pub async fn event(&self, event: Event) -> Result<(), Reject> {
        self.ask(|reply| Command::Event { event, reply }).await.unwrap_or(Err(Reject::RunOver))
    }

    /// Asks whether a checkpoint may be stored, and what its manifest should say of the model's quality.
    pub async fn admit_upload(
        &self,
        generation: Generation,
        position: Position,
    ) -> Result<Option<ManifestMetric>, Reject> {
        let answer = self.ask(|reply| Command::AdmitUpload { generation, position, reply }).await;
        answer.unwrap_or(Err(Reject::RunOver))
    }

    /// The run as it is now; none when it is over.
    pub async fn status(&self) -> Option<Status> {
        self.ask(|reply| Command::Status { reply }).await
    }

    /// None when the driver is gone, which it is once the run has ended.
    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.ok()?;
        answer.await.ok()
    }
}

/// One line per entry in the coordinator's log, inside the span of the run.
fn log(entry: &Entry) {
    match entry {
        Entry::Created { .. } => tracing::info!("created"),
        Entry::Resumed { position, .. } => tracing::info!(step = %position.step, "resumed"),
        Entry::GenerationBegan { generation, members, position } => {
            tracing::info!(%generation, world_size = members.len(), step = %position.step, "generation began");
        }
        Entry::EpochEnded(row) => {
            let (loss, accuracy) = (row.eval.loss(), row.eval.accuracy());
            let split = row.split.as_str();
            tracing::info!(epoch = %row.epoch, step = %row.step, split, loss, accuracy, best = row.improved, "epoch ended");
        }
        Entry::CheckpointStored(stored) => {
            tracing::info!(step = %stored.position.step, bytes = stored.size_bytes, "checkpoint stored");
        }
        Entry::CheckpointDeleted { step } => tracing::info!(%step, "checkpoint deleted"),
        Entry::WorkerLost { worker, generation, reason } => {
            // The console tells of it; a warning would be told there twice.
            tracing::info!(%worker, %generation, %reason, "lost a worker");
        }
        Entry::StopRequested => tracing::info!("stop requested"),
        Entry::Tested { step, metrics } => {
            tracing::info!(%step, loss = metrics.loss(), accuracy = metrics.accuracy(), "tested");
        }
        Entry::Ended { outcome: Outcome::Failed { reason, .. } } => tracing::info!(%reason, "failed"),
        Entry::Ended { outcome } => tracing::info!(?outcome, "ended"),
    }
}

/// The time by this machine's clock.
pub fn now() -> Time {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
}

fn until(deadline: Time) -> Duration {
    Duration::from_millis(deadline.0.saturating_sub(now().0))
}
