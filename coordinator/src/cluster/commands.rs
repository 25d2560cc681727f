//! How the rest of the program speaks to the cluster.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use lockstep_core::{Requirements, RunName, WorkerName};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use super::census::Census;
use super::record::{Record, Stage};
use super::register::{Archive, Page, Register};
use super::seats::{Newcomer, Pass, Summons};
use super::submission::{Checked, Submission};
use super::summary::RunSummary;
use super::tally::Tally;
use super::view::PoolWorker;
use super::{Refusal, resume};
use crate::journal::{JournalError, SharedJournal};
use crate::run_folder::RunFolder;
use crate::services::Services;

/// Runs that may wait. Each takes a few kilobytes, and nobody's cluster gets through so many.
pub(super) const QUEUE_MAX: usize = 10_000;

/// The cluster's ear.
#[derive(Debug, Clone)]
pub struct ClusterHandle {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) shared: Arc<Shared>,
}

/// What needs no decision of the cluster's.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) home: PathBuf,
    pub(super) register: Register,
    pub(super) archive: Archive,
    /// Places in the queue.
    pub(super) queue: Arc<Semaphore>,
    pub(super) tally: Tally,
    /// The run that this coordinator is for; none: it has a queue.
    pub(super) only: Option<RunName>,
}

/// Where a worker that comes belongs.
#[derive(Debug)]
pub enum Arrival {
    /// With the run that it comes back to.
    Run { services: Arc<Services>, pass: Arc<Pass> },
    /// In the pool, until it is called; `of_many`: by any of many runs.
    Pool { summons: mpsc::Receiver<Summons>, pass: Arc<Pass>, of_many: bool },
    /// The run that it comes back to is over; `stand_by`: it may begin again, and wait for another.
    Over { reason: String, stand_by: bool },
}

/// What came of a submission.
#[derive(Debug)]
pub struct Submitted {
    pub summary: RunSummary,
    pub warnings: Vec<String>,
}

/// A run that is to go on.
#[derive(Debug, Clone)]
pub struct Resume {
    pub run: RunName,
    /// None: as many as before.
    pub epochs: Option<u32>,
    pub priority: i32,
    /// None: as before.
    pub requirements: Option<Requirements>,
}

#[derive(Debug)]
pub(super) enum Command {
    /// It is in the register.
    Queued {
        record: Record,
        place: OwnedSemaphorePermit,
        reply: oneshot::Sender<RunSummary>,
    },
    Summary {
        run: RunName,
        reply: oneshot::Sender<Option<RunSummary>>,
    },
    List {
        reply: oneshot::Sender<Vec<RunSummary>>,
    },
    Watch {
        run: RunName,
        reply: oneshot::Sender<Option<watch::Receiver<RunSummary>>>,
    },
    Stop {
        run: RunName,
        reply: oneshot::Sender<Option<RunSummary>>,
    },
    Census {
        reply: oneshot::Sender<Census>,
    },
    Workers {
        reply: oneshot::Sender<Vec<PoolWorker>>,
    },
    Drain {
        worker: WorkerName,
        reply: oneshot::Sender<Result<PoolWorker, Refusal>>,
    },
    Services {
        run: RunName,
        reply: oneshot::Sender<Option<Arc<Services>>>,
    },
    Arrive {
        newcomer: Newcomer,
        reply: oneshot::Sender<Result<Arrival, Refusal>>,
    },
    /// A worker is back with its run.
    Seated {
        newcomer: Newcomer,
        run: RunName,
        pass: Arc<Pass>,
    },
    /// Its run did not take it.
    TurnedAway {
        worker: WorkerName,
        pass: Arc<Pass>,
    },
    /// A session ended.
    Left {
        worker: WorkerName,
        pass: Arc<Pass>,
    },
    /// A run has concluded, and writes its last.
    Ending {
        run: RunName,
    },
    /// Who a run has now.
    Present {
        run: RunName,
        workers: BTreeSet<WorkerName>,
    },
}

impl ClusterHandle {
    /// Puts a run into the queue. It is durable when this returns, and so it is when nobody waits for that any more.
    pub async fn submit(&self, submission: Submission) -> Result<Submitted, Refusal> {
        let (cluster, came) = (self.clone(), Instant::now());
        in_task(async move {
            let place = cluster.place()?;
            let shared = cluster.shared.clone();
            let checked = blocking(move || shared.insert(Checked::new(submission)?)).await?;
            let Checked { record, warnings, .. } = checked;
            let summary = cluster.queued(record, place).await?;
            cluster.shared.tally.submitted(came.elapsed());
            Ok(Submitted { summary, warnings })
        })
        .await
    }

    /// Puts a run that is over back into the queue.
    pub async fn resume(&self, resume: Resume) -> Result<RunSummary, Refusal> {
        let cluster = self.clone();
        in_task(async move {
            let place = cluster.place()?;
            let shared = cluster.shared.clone();
            let record = blocking(move || resume::requeue(&shared, resume)).await?;
            cluster.queued(record, place).await
        })
        .await
    }

    /// A run as it is now, over or not.
    pub async fn summary(&self, run: &RunName) -> Result<RunSummary, Refusal> {
        let ask = |reply| Command::Summary { run: run.clone(), reply };
        match self.ask(ask).await? {
            Some(summary) => Ok(summary),
            None => self.record(run).await.map(|record| RunSummary::of(&record)),
        }
    }

    /// Those that are not over: waiting ones in the queue's order, then the others.
    pub async fn active(&self) -> Result<Vec<RunSummary>, Refusal> {
        self.ask(|reply| Command::List { reply }).await
    }

    /// The newest of those that are over.
    pub async fn over(&self, stages: Vec<Stage>, limit: usize) -> Result<Page, Refusal> {
        let shared = self.shared.clone();
        blocking(move || Ok(shared.archive.over(&stages, limit)?)).await
    }

    /// A run as it is and will be; none when it is over.
    pub async fn watch(&self, run: &RunName) -> Result<Option<watch::Receiver<RunSummary>>, Refusal> {
        self.ask(|reply| Command::Watch { run: run.clone(), reply }).await
    }

    /// Asks a run to stop. That it was asked is durable when this returns.
    pub async fn stop(&self, run: &RunName) -> Result<RunSummary, Refusal> {
        match self.ask(|reply| Command::Stop { run: run.clone(), reply }).await? {
            Some(summary) => Ok(summary),
            None => self.record(run).await.map(|record| RunSummary::of(&record)),
        }
    }

    /// All workers, by name.
    pub async fn workers(&self) -> Result<Vec<PoolWorker>, Refusal> {
        self.ask(|reply| Command::Workers { reply }).await
    }

    /// How many there are of each kind.
    pub async fn census(&self) -> Result<Census, Refusal> {
        self.ask(|reply| Command::Census { reply }).await
    }

    /// What has happened since this coordinator's start.
    pub fn tally(&self) -> Tally {
        self.shared.tally.clone()
    }

    /// Where everything that must be durable is written.
    pub fn journal(&self) -> SharedJournal {
        self.shared.register.journal()
    }

    /// Writes to the journal as everything does that must be durable, and changes nothing. This blocks.
    pub fn try_journal(&self) -> Result<(), JournalError> {
        self.shared.register.touch()
    }

    /// Has a worker leave.
    pub async fn drain(&self, worker: WorkerName) -> Result<PoolWorker, Refusal> {
        self.ask(|reply| Command::Drain { worker, reply }).await?
    }

    /// The folder of a run that the cluster knows; it need not be there yet.
    pub async fn folder(&self, run: &RunName) -> Result<PathBuf, Refusal> {
        self.summary(run).await?;
        RunFolder::path_of(&self.shared.home, &run.0).map_err(|error| Refusal::invalid(error.to_string()))
    }

    /// What the workers of a run are served with; none unless it goes on.
    pub async fn services(&self, run: &RunName) -> Option<Arc<Services>> {
        self.ask(|reply| Command::Services { run: run.clone(), reply }).await.ok().flatten()
    }

    /// A worker has come.
    pub async fn arrive(&self, newcomer: Newcomer) -> Result<Arrival, Refusal> {
        self.ask(|reply| Command::Arrive { newcomer, reply }).await?
    }

    /// A worker is back with its run.
    pub async fn seated(&self, newcomer: Newcomer, run: RunName, pass: Arc<Pass>) {
        self.tell(Command::Seated { newcomer, run, pass }).await;
    }

    /// The run that a worker was called for does not take it: it waits on, in the same session.
    pub async fn turned_away(&self, worker: WorkerName, pass: Arc<Pass>) {
        self.tell(Command::TurnedAway { worker, pass }).await;
    }

    /// A session has ended. Nothing comes of it when the worker has another one by now.
    pub async fn left(&self, worker: WorkerName, pass: Arc<Pass>) {
        self.tell(Command::Left { worker, pass }).await;
    }

    async fn record(&self, run: &RunName) -> Result<Record, Refusal> {
        let (shared, run) = (self.shared.clone(), run.clone());
        blocking(move || {
            shared.archive.get(&run)?.ok_or_else(|| Refusal::UnknownRun { run: run.to_string() })
        })
        .await
    }

    fn place(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        if let Some(run) = &self.shared.only {
            return Err(Refusal::NoQueue { run: run.to_string() });
        }
        let place = Arc::clone(&self.shared.queue).try_acquire_owned();
        place.map_err(|_| Refusal::QueueFull { most: QUEUE_MAX })
    }

    async fn queued(&self, record: Record, place: OwnedSemaphorePermit) -> Result<RunSummary, Refusal> {
        self.ask(|reply| Command::Queued { record, place, reply }).await
    }

    pub(super) async fn tell(&self, command: Command) {
        // A cluster that ends does not mind.
        drop(self.commands.send(command).await);
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Refusal> {
        let gone = || Refusal::NotNow("the coordinator is about to end".to_owned());
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())
    }
}

impl Shared {
    /// Takes the first name that nobody has.
    fn insert(&self, mut checked: Checked) -> Result<Checked, Refusal> {
        for run in checked.names() {
            let folder = RunFolder::path_of(Path::new(&self.home), &run.0);
            let taken = folder.map_err(|error| Refusal::invalid(error.to_string()))?.exists();
            checked.record.run = run;
            if !taken && self.register.insert(&checked.record)? {
                return Ok(checked);
            }
        }
        Err(Refusal::Exists { run: checked.record.run.to_string() })
    }
}

/// To its end, whether the caller stays for it or not.
async fn in_task<T: Send + 'static>(
    work: impl Future<Output = Result<T, Refusal>> + Send + 'static,
) -> Result<T, Refusal> {
    tokio::spawn(work).await.unwrap_or_else(|error| Err(Refusal::Failed(error.to_string())))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Refusal::Failed(error.to_string())))
}

impl From<JournalError> for Refusal {
    fn from(error: JournalError) -> Self {
        tracing::error!(%error, "the register");
        Self::Failed(error.to_string())
    }
}
