//! A standing coordinator's many runs, and the workers that they share.
//!
//! As a run has one owner (`driver`), so has the cluster: everything that happens to the queue and to the pool of workers
//! passes through one loop. The pool (`lockstep_core::Pool`) decides who gets which workers; what a restart must know is
//! written to the register before anybody hears of it; then the decision is carried out (`effects`). A run that goes on
//! has its own driver and task: the cluster gives it workers and hears of its end, and is never in the way of its steps.
//! `lockstep train` is a cluster too, of one run (`alone`).
//!
//! Reading order: `record` and `register` (what is durable), `summary` (what people see), `commands` (the ear), `seats`
//! (the workers' sessions), `arrivals` (who comes and goes), `effects` (what the pool wants), `runs` (begin and end of
//! one), `begin` (what that takes of disk and processor), `follow` (its story), `restart`, `alone`.
//!
//! Nothing here waits: neither for a run's driver nor for a worker's session, so that no run holds up another. Memory holds
//! what waits and what goes on; runs that are over are rows of a table.

mod alone;
mod arrivals;
mod begin;
mod census;
mod commands;
mod effects;
mod follow;
mod past;
mod record;
mod refusal;
mod register;
mod restart;
mod resume;
mod runs;
mod seats;
mod submission;
mod summary;
mod tally;
mod view;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lockstep_core::{Pool, PoolEvent, RunName, WorkerName};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use self::alone::Only;
use self::commands::{Command, Shared};
use self::record::Record;
use self::runs::{Finished, Prepared};
use self::seats::Seats;
use crate::driver::now;
use crate::home::Home;
use crate::journal::SharedJournal;
use crate::run_folder::Announcement;
use crate::services::Services;

pub use self::alone::{Alone, Driven};
pub use self::census::Census;
pub use self::commands::{Arrival, ClusterHandle, Resume, Submitted};
pub use self::past::{Account, ForgetError, Past, PastRun};
pub use self::record::{End, Stage};
pub use self::refusal::Refusal;
pub use self::register::{Page, journal};
pub use self::seats::{Newcomer, Pass, Summons};
pub use self::submission::Submission;
pub use self::summary::{RunState, RunSummary};
pub use self::tally::{Label, Tally};
pub use self::view::{PoolWorker, WorkerState};

/// Commands that may wait; senders beyond it wait themselves.
const COMMANDS_MAX: usize = 4096;

/// Between two looks at what nobody tells of: sessions that stay away, summaries that are watched.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Runs that are prepared at a time: each reads and hashes whole data sets.
const PREPARED_TOGETHER: usize = 2;

/// The queue, the pool and the runs that go on.
#[derive(Debug)]
pub struct Cluster {
    home: Home,
    journal: SharedJournal,
    shared: Arc<Shared>,
    /// Where workers reach this coordinator, for whoever looks into a run's folder.
    address: SocketAddr,
    /// None: it has a queue.
    only: Option<Only>,
    pool: Pool,
    /// All that are not over.
    runs: BTreeMap<RunName, Live>,
    seats: Seats,
    /// What the pool is to hear of next, for what was done at its bidding.
    consequences: VecDeque<PoolEvent>,
    preparing: JoinSet<Prepared>,
    prepared_together: Arc<Semaphore>,
    driving: JoinSet<Finished>,
    following: JoinSet<()>,
    commands: mpsc::Receiver<Command>,
    /// For those who follow a run.
    ear: mpsc::Sender<Command>,
    /// Waiting runs' summaries may be out of date.
    stirred: bool,
}

/// A run that is not over.
#[derive(Debug)]
struct Live {
    record: Record,
    summary: Arc<watch::Sender<RunSummary>>,
    stage: LiveStage,
}

#[derive(Debug)]
enum LiveStage {
    /// It gives its place in the queue back when it leaves it; none when it had one before a restart.
    Waiting {
        _place: Option<OwnedSemaphorePermit>,
    },
    Preparing,
    Running {
        services: Arc<Services>,
        /// How long one of its workers may be away.
        lease_ms: u64,
        /// Who it has, as far as was heard.
        present: BTreeSet<WorkerName>,
        _announcement: Option<Announcement>,
    },
}

impl Live {
    fn services(&self) -> Option<&Arc<Services>> {
        match &self.stage {
            LiveStage::Running { services, .. } => Some(services),
            LiveStage::Waiting { .. } | LiveStage::Preparing => None,
        }
    }
}

impl Cluster {
    /// Serves everything until `shutdown`. Runs that go on do so at their workers, and are taken over by the next
    /// coordinator.
    ///
    /// # Errors
    /// When what must be durable cannot be written.
    pub async fn serve(mut self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.take_over();
        self.settle()?;
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(finished) = self.driving.join_next() => self.finished(finished?)?,
                Some(prepared) = self.preparing.join_next() => self.prepared(prepared?)?,
                Some(followed) = self.following.join_next() => followed?,
                command = self.commands.recv() => match command {
                    Some(command) => self.obey(command)?,
                    None => break,
                },
                _ = looks.tick() => self.look()?,
            }
        }
        Ok(())
    }

    fn obey(&mut self, command: Command) -> anyhow::Result<()> {
        // A reply that nobody waits for any more is no error.
        match command {
            Command::Queued { record, place, reply } => {
                let run = record.run.clone();
                self.queue(record, place)?;
                if let Some(summary) = self.summary(&run) {
                    drop(reply.send(summary));
                }
            }
            Command::Summary { run, reply } => drop(reply.send(self.summary(&run))),
            Command::List { reply } => drop(reply.send(self.list())),
            Command::Watch { run, reply } => {
                self.refresh(&run);
                drop(reply.send(self.runs.get(&run).map(|live| live.summary.subscribe())));
            }
            Command::Stop { run, reply } => {
                let known = self.stop(&run)?;
                // One that has left the queue is in the register.
                drop(reply.send(if known { self.summary(&run) } else { None }));
            }
            Command::Census { reply } => drop(reply.send(self.census())),
            Command::Workers { reply } => drop(reply.send(self.workers())),
            Command::Drain { worker, reply } => {
                let drained = self.drain(&worker)?;
                drop(reply.send(drained));
            }
            Command::Services { run, reply } => {
                drop(reply.send(self.runs.get(&run).and_then(Live::services).cloned()));
            }
            Command::Arrive { newcomer, reply } => {
                let arrival = self.arrive(newcomer)?;
                drop(reply.send(arrival));
            }
            Command::Seated { newcomer, run, pass } => self.seated(newcomer, run, pass)?,
            Command::TurnedAway { worker, pass } => self.turned_away(&worker, &pass),
            Command::Left { worker, pass } => self.left(&worker, &pass)?,
            Command::Ending { run } => {
                self.release(&run);
                self.settle()?;
            }
            Command::Present { run, workers } => {
                if let Some(Live { stage: LiveStage::Running { present, .. }, .. }) = self.runs.get_mut(&run)
                {
                    *present = workers;
                    self.reconcile()?;
                }
            }
        }
        Ok(())
    }

    /// Tells the pool what happened, and does what it wants.
    fn decide(&mut self, event: PoolEvent) -> anyhow::Result<()> {
        self.consequences.push_back(event);
        self.settle()
    }

    fn settle(&mut self) -> anyhow::Result<()> {
        while let Some(event) = self.consequences.pop_front() {
            tracing::debug!(?event, "pool");
            self.stirred = true;
            let effects = self.pool.apply(now(), event);
            self.carry_out(effects)?;
        }
        Ok(())
    }

    /// What comes about without anybody's word.
    fn look(&mut self) -> anyhow::Result<()> {
        self.reconcile()?;
        if self.pool.next_deadline().is_some_and(|deadline| deadline <= now()) {
            self.decide(PoolEvent::Tick)?;
        }
        if std::mem::take(&mut self.stirred) {
            let watched = self.runs.iter().filter(|(_, live)| live.summary.receiver_count() > 0);
            let watched: Vec<RunName> = watched.map(|(run, _)| run.clone()).collect();
            watched.iter().for_each(|run| self.refresh(run));
        }
        Ok(())
    }
}
