//! The cluster as its register tells of it: what waited waits again, in its order; what went on is taken over, and its
//! workers, who went on without a coordinator, find it by the run's name.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use lockstep_core::{
    DeviceKind, History, MemberEntry, Outcome, Pool, PoolEvent, Resources, RunName, Time, WorkerName,
};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use super::alone::Only;
use super::commands::{ClusterHandle, QUEUE_MAX, Shared};
use super::record::{End, Record, Stage};
use super::register::{Archive, Register};
use super::seats::{Seat, Seats};
use super::tally::Tally;
use super::{COMMANDS_MAX, Cluster, LiveStage, PREPARED_TOGETHER};
use crate::driver::now;
use crate::home::Home;
use crate::prepare::{self, PrepareError};

impl Cluster {
    /// The cluster of a home, which no other coordinator may serve; `address` is where this one listens. This blocks.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn open(home: Home, address: SocketAddr) -> anyhow::Result<(Self, ClusterHandle)> {
        let (mut cluster, handle) = Self::new(home, address, None)?;
        cluster.recall()?;
        Ok((cluster, handle))
    }

    /// Nobody is in it yet.
    pub(super) fn new(
        home: Home,
        address: SocketAddr,
        only: Option<Only>,
    ) -> anyhow::Result<(Self, ClusterHandle)> {
        let path = home.path.join("journal.db");
        let journal = super::journal(&home)?;
        let register = Register::open(journal.clone())?;
        let archive = Archive::open(&path)?;
        let queue = Arc::new(Semaphore::new(QUEUE_MAX));
        let shared = Arc::new(Shared {
            home: home.path.clone(),
            register,
            archive,
            queue,
            tally: Tally::default(),
            only: only.as_ref().map(|only| only.run.clone()),
        });
        let (ear, commands) = mpsc::channel(COMMANDS_MAX);
        let handle = ClusterHandle { commands: ear.clone(), shared: Arc::clone(&shared) };
        let cluster = Self {
            home,
            journal,
            shared,
            address,
            only,
            pool: Pool::default(),
            runs: BTreeMap::new(),
            seats: Seats::default(),
            consequences: VecDeque::new(),
            preparing: JoinSet::new(),
            prepared_together: Arc::new(Semaphore::new(PREPARED_TOGETHER)),
            driving: JoinSet::new(),
            following: JoinSet::new(),
            commands,
            ear,
            stirred: false,
        };
        Ok((cluster, handle))
    }

    fn recall(&mut self) -> anyhow::Result<()> {
        let journal = self.home.journal()?;
        for record in self.shared.archive.active()? {
            if record.stage == Stage::Queued {
                self.wait_again(record);
                continue;
            }
            match prepare::history(&journal, &record.run.0) {
                Ok(history) if history.term > record.term => match history.outcome.clone() {
                    // It ended, and the coordinator died before it noted that.
                    Some(outcome) => self.note_end(record, &outcome, &history)?,
                    None => self.expect(record, &history),
                },
                // It had been given workers, and had not begun.
                Ok(_) | Err(PrepareError::Unknown { .. }) => {
                    let record = Record { stage: Stage::Queued, started_at_ms: Time(0), ..record };
                    self.shared.register.update(&[&record])?;
                    self.wait_again(record);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn wait_again(&mut self, record: Record) {
        let (run, priority, requirements) = (record.run.clone(), record.priority, record.requirements);
        let place = Arc::clone(&self.shared.queue).try_acquire_owned().ok();
        self.enter(record, LiveStage::Waiting { _place: place });
        self.consequences.push_back(PoolEvent::Submitted { run, priority, requirements });
    }

    /// Its members may be at work.
    fn expect(&mut self, record: Record, history: &History) {
        let (run, priority, requirements) = (record.run.clone(), record.priority, record.requirements);
        let workers = self.expect_back(&run, history.members.iter());
        self.enter(record, LiveStage::Preparing);
        self.consequences.push_back(PoolEvent::TakenOver { run, priority, requirements, workers });
    }

    /// Keeps a place for each member that may come back to a run.
    pub(super) fn expect_back<'a>(
        &mut self,
        run: &RunName,
        members: impl Iterator<Item = &'a MemberEntry>,
    ) -> BTreeMap<WorkerName, Resources> {
        let mut workers = BTreeMap::new();
        for member in members {
            let Some(resources) = resources_of(member) else { continue };
            let seat = Seat::expected(member, resources, run.clone(), now());
            self.seats.put(member.worker.clone(), seat);
            workers.insert(member.worker.clone(), resources);
        }
        workers
    }

    fn note_end(&mut self, mut record: Record, outcome: &Outcome, history: &History) -> anyhow::Result<()> {
        let (stage, end) = End::of(outcome, history);
        record.stage = stage;
        record.ended_at_ms = now();
        record.end = Some(end);
        self.shared.tally.run_ended(stage);
        Ok(self.shared.register.update(&[&record])?)
    }

    /// Begins to take over what went on.
    pub(super) fn take_over(&mut self) {
        let going_on = self.runs.iter().filter(|(_, live)| matches!(live.stage, LiveStage::Preparing));
        let going_on: Vec<RunName> = going_on.map(|(run, _)| run.clone()).collect();
        for run in going_on {
            let expected: BTreeSet<WorkerName> = self.seats.at(&run);
            let Some(record) = self.runs.get(&run).map(|live| live.record.clone()) else { continue };
            tracing::info!(%run, workers = expected.len(), "a run is taken over");
            self.prepare(record, expected.len() as u32, expected);
        }
    }
}

fn resources_of(member: &MemberEntry) -> Option<Resources> {
    // How much memory it has is known when it comes.
    Some(Resources { device: DeviceKind::of(&member.device)?, memory_bytes: 0 })
}
