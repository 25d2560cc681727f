//! The cluster of one run: what `lockstep train` and `lockstep resume` are on one machine.
//!
//! It is the same queue, pool and sessions as those of a standing coordinator, with one run in them that has begun already.
//! All workers are for it; who comes beyond its maximum waits for a place to become free. It takes no other run, and when
//! its run is over it sends everybody home.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use anyhow::Context;
use lockstep_core::{PoolEvent, Requirements, RunName, Term, Time, WorkerName};
use tokio::sync::{broadcast, oneshot};

use super::commands::ClusterHandle;
use super::record::{Record, Stage};
use super::seats::{Place, Summons};
use super::{Cluster, Live, LiveStage};
use crate::driver::{Conclusion, DriverHandle, Notice, now};
use crate::home::Home;
use crate::prepare::Begun;

/// The run that a cluster is for.
#[derive(Debug)]
pub(super) struct Only {
    pub(super) run: RunName,
    /// Where its workers were told to look for the coordinator.
    pub(super) worker_url: String,
    concluded: Option<oneshot::Sender<Conclusion>>,
}

/// A run that has the cluster to itself.
#[derive(Debug)]
pub struct Alone {
    pub begun: Begun,
    /// Members that an earlier coordinator has left, and that may come back.
    pub expected: BTreeSet<WorkerName>,
    /// Where workers are told to look for the coordinator.
    pub worker_url: String,
}

/// What there is to follow such a run by.
#[derive(Debug)]
pub struct Driven {
    pub driver: DriverHandle,
    /// All that happens from its beginning on.
    pub notices: broadcast::Receiver<Notice>,
    pub concluded: oneshot::Receiver<Conclusion>,
}

impl Cluster {
    /// The cluster of a run in `home`, which is driven from here on; `address` is where the coordinator listens. This
    /// blocks, inside a runtime.
    ///
    /// # Errors
    /// When the journal cannot be used.
    pub fn alone(
        home: Home,
        address: SocketAddr,
        alone: Alone,
    ) -> anyhow::Result<(Self, ClusterHandle, Driven)> {
        let Alone { begun, expected, worker_url } = alone;
        let run = RunName(begun.folder.name().to_owned());
        let (conclude, concluded) = oneshot::channel();
        let only = Only { run: run.clone(), worker_url, concluded: Some(conclude) };
        let (mut cluster, handle) = Self::new(home, address, Some(only))?;
        cluster.adopt(&begun, &expected)?;
        let notices = cluster.drive(&run, begun)?;
        let services = cluster.runs.get(&run).and_then(Live::services).context("a run that is driven")?;
        let driver = services.driver.clone();
        Ok((cluster, handle, Driven { driver, notices, concluded }))
    }

    fn adopt(&mut self, begun: &Begun, expected: &BTreeSet<WorkerName>) -> anyhow::Result<()> {
        let history = begun.run.history();
        let run = RunName(begun.folder.name().to_owned());
        // One of a standing coordinator's may be resumed by hand: its register is to know.
        let record = match self.shared.archive.get(&run)? {
            Some(known) => Record { stage: Stage::Running, stopping: false, end: None, ..known },
            None => Record {
                run: run.clone(),
                stage: Stage::Running,
                recipe: history.origin.recipe.clone(),
                priority: 0,
                requirements: requirements(begun),
                submitter: String::new(),
                epochs: 0,
                term: Term(0),
                stopping: false,
                submitted_at_ms: now(),
                started_at_ms: Time(0),
                ended_at_ms: Time(0),
                end: None,
            },
        };
        let record = Record {
            epochs: history.spec.epochs,
            term: Term(history.term.0.saturating_sub(1)),
            started_at_ms: now(),
            ended_at_ms: Time(0),
            ..record
        };
        self.write(&record)?;
        self.enter(record, LiveStage::Preparing);
        let members = history.members.iter().filter(|member| expected.contains(&member.worker));
        let workers = self.expect_back(&run, members);
        // It takes each worker as it comes, and decides itself when there are enough.
        let requirements = Requirements { min_workers: 1, ..requirements(begun) };
        self.consequences.push_back(PoolEvent::TakenOver { run, priority: 0, requirements, workers });
        Ok(())
    }

    /// Where the conclusion of a run goes beside the register.
    pub(super) fn conclusion(&mut self, run: &RunName) -> Option<oneshot::Sender<Conclusion>> {
        self.only.as_mut().filter(|only| only.run == *run)?.concluded.take()
    }

    /// Its one run is over: nobody else will call those that wait.
    pub(super) fn send_home(&self, run: &RunName) {
        if !self.is_only(run) {
            return;
        }
        for (_, seat) in self.seats.iter() {
            if let Place::Pool { summons, .. } = &seat.place {
                // One that does not listen is gone in a moment.
                drop(summons.try_send(Summons::Leave { reason: format!("run {run} is over") }));
            }
        }
    }

    pub(super) fn is_only(&self, run: &RunName) -> bool {
        self.only.as_ref().is_some_and(|only| only.run == *run)
    }
}

fn requirements(begun: &Begun) -> Requirements {
    let workers = begun.run.history().spec.workers;
    Requirements { min_workers: workers.min, max_workers: workers.max, device: None, memory_bytes: 0 }
}
