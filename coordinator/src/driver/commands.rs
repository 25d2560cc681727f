//! How the rest of the program speaks to the driver, and what the driver answers.

use lockstep_core::{
    Admission, Attached, Effect, Event, Message, Position, Reject, Status, WorkerInfo, WorkerName,
};
use tokio::sync::{mpsc, oneshot};

use super::{Driver, Notice, Outbox, now};
use crate::store::ManifestMetric;

/// Messages that may wait for one worker. They are few; a worker that lets so many lie does not listen.
const OUTBOX_MAX: usize = 32;

/// The driver's ear.
#[derive(Debug, Clone)]
pub struct DriverHandle {
    commands: mpsc::Sender<Command>,
}

/// A session of an admitted worker.
#[derive(Debug)]
pub struct Joined {
    /// Tells this session from others of the same worker.
    pub session: u64,
    /// What the worker is to be told; ends when the run lets go of this session.
    pub inbox: mpsc::Receiver<Message>,
}

/// What to do with a checkpoint that somebody wants to hand over.
#[derive(Debug, Clone, PartialEq)]
pub enum Upload {
    /// It is stored already, or newer ones are.
    Stored,
    /// Take it; its manifest says this of the model's quality.
    Wanted { metric: Option<ManifestMetric> },
}

#[derive(Debug)]
pub(super) enum Command {
    Join {
        worker: WorkerName,
        info: WorkerInfo,
        attached: Option<Attached>,
        reply: oneshot::Sender<Result<Joined, Reject>>,
    },
    Event {
        event: Event,
        reply: oneshot::Sender<Result<(), Reject>>,
    },
    /// An event whose sender does not wait.
    Tell(Event),
    /// A session ended.
    Detached {
        worker: WorkerName,
        session: u64,
    },
    AdmitUpload {
        position: Position,
        reply: oneshot::Sender<Result<Upload, Reject>>,
    },
    Status {
        reply: oneshot::Sender<Status>,
    },
}

impl DriverHandle {
    pub(super) fn new(commands: mpsc::Sender<Command>) -> Self {
        Self { commands }
    }

    /// Admits a worker, or takes one back that had lost its session.
    pub async fn join(
        &self,
        worker: WorkerName,
        info: WorkerInfo,
        attached: Option<Attached>,
    ) -> Result<Joined, Reject> {
        let answer = self.ask(|reply| Command::Join { worker, info, attached, reply }).await;
        answer.unwrap_or(Err(Reject::RunOver))
    }

    /// Tells the run what happened.
    pub async fn event(&self, event: Event) -> Result<(), Reject> {
        self.ask(|reply| Command::Event { event, reply }).await.unwrap_or(Err(Reject::RunOver))
    }

    /// Tells the run what happened, without waiting for what it says. A run that is over does not mind.
    pub async fn tell(&self, event: Event) {
        drop(self.commands.send(Command::Tell(event)).await);
    }

    /// Asks for a stop at the next step boundary.
    pub async fn stop(&self) -> Result<(), Reject> {
        self.event(Event::StopRequested).await
    }

    /// A session ended. Nothing comes of it when the worker has another one by now.
    pub async fn detached(&self, worker: WorkerName, session: u64) {
        drop(self.commands.send(Command::Detached { worker, session }).await);
    }

    /// Asks whether a checkpoint of `position` may be stored.
    pub async fn admit_upload(&self, position: Position) -> Result<Upload, Reject> {
        self.ask(|reply| Command::AdmitUpload { position, reply }).await.unwrap_or(Err(Reject::RunOver))
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

impl Driver {
    pub(super) fn obey(&mut self, command: Command) -> anyhow::Result<()> {
        // A reply that nobody waits for any more is no error.
        match command {
            Command::Join { worker, info, attached, reply } => self.join(worker, info, attached, reply)?,
            Command::Event { event, reply } => drop(reply.send(self.hear(event)?)),
            Command::Tell(event) => {
                if let Err(reject) = self.hear(event)? {
                    tracing::debug!(%reject, "refused");
                }
            }
            Command::Detached { worker, session } => self.detach(worker, session)?,
            Command::AdmitUpload { position, reply } => drop(reply.send(self.admit_upload(position))),
            Command::Status { reply } => drop(reply.send(self.run.status())),
        }
        Ok(())
    }

    /// The answer goes out once all that it depends on is durable.
    fn join(
        &mut self,
        worker: WorkerName,
        info: WorkerInfo,
        attached: Option<Attached>,
        reply: oneshot::Sender<Result<Joined, Reject>>,
    ) -> anyhow::Result<()> {
        let event = Event::Joined { worker: worker.clone(), info, attached };
        let mut effects = match self.run.apply(now(), event) {
            Ok(effects) => effects,
            Err(reject) => {
                drop(reply.send(Err(reject.clone())));
                // This one must not act any more.
                return if matches!(reject, Reject::Fenced { .. }) { Err(reject.into()) } else { Ok(()) };
            }
        };
        // It is the former session that is to be closed, and the new one takes its place.
        effects.retain(|effect| !matches!(effect, Effect::Disconnect { worker: gone } if *gone == worker));
        self.sessions += 1;
        let session = self.sessions;
        let (messages, inbox) = mpsc::channel(OUTBOX_MAX);
        self.outboxes.insert(worker.clone(), Outbox { session, messages });
        self.carry_out(effects)?;
        match reply.send(Ok(Joined { session, inbox })) {
            Ok(()) => Ok(()),
            // It has gone while it waited.
            Err(_) => self.detach(worker, session),
        }
    }

    fn hear(&mut self, event: Event) -> anyhow::Result<Result<(), Reject>> {
        let progress = match &event {
            Event::Progressed { worker, progress, .. } => Some((worker.clone(), *progress)),
            _ => None,
        };
        let answer = self.decide(event)?;
        if let (Ok(()), Some((worker, progress))) = (&answer, progress) {
            self.announce(Notice::Progress { worker, progress });
        }
        Ok(answer)
    }

    fn detach(&mut self, worker: WorkerName, session: u64) -> anyhow::Result<()> {
        if self.outboxes.get(&worker).is_none_or(|outbox| outbox.session != session) {
            return Ok(());
        }
        self.outboxes.remove(&worker);
        tracing::debug!(%worker, session, "detached");
        // A run that is over does not mind.
        drop(self.decide(Event::Detached { worker })?);
        Ok(())
    }

    fn admit_upload(&self, position: Position) -> Result<Upload, Reject> {
        let is_stored = match self.run.admit_upload(position)? {
            // Somebody may have removed it.
            Admission::Stored => self.folder.checkpoints().is_complete(position.step),
            Admission::Superseded => true,
            Admission::Wanted => false,
        };
        Ok(if is_stored { Upload::Stored } else { Upload::Wanted { metric: self.metric_at(position) } })
    }

    /// The metric of the epoch that ended at `position`.
    fn metric_at(&self, position: Position) -> Option<ManifestMetric> {
        let row = self.run.history().rows.iter().find(|row| row.step == position.step)?;
        let (name, value) = (format!("{}/acc_top1", row.split.as_str()), row.eval.accuracy());
        // JSON has no other numbers.
        value.is_finite().then_some(ManifestMetric { name, value, epoch: row.epoch.0 })
    }
}
