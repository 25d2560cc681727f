//! A run's way: into the queue, out of it, prepared, driven, over.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::Context;
use lockstep_core::{FailureKind, PoolEvent, RunName, Term, WorkerName};
use tokio::sync::{OwnedSemaphorePermit, broadcast, watch};
use tracing::Instrument;

use super::begin::{self, Order};
use super::follow::Follower;
use super::record::{End, Record, Stage};
use super::seats::Place;
use super::summary::{RunState, RunSummary};
use super::{Cluster, Live, LiveStage};
use crate::driver::{Conclusion, Driver, Notice, now};
use crate::prepare::{Begun, Fault, PrepareError};
use crate::run_folder::{Announcement, RunFolder, Serving, WorkerLogs};
use crate::services::Services;

/// What came of a preparation.
#[derive(Debug)]
pub(super) struct Prepared {
    run: RunName,
    begun: Result<Begun, PrepareError>,
}

/// What came of a run.
#[derive(Debug)]
pub(super) struct Finished {
    run: RunName,
    driven: Conclusion,
}

impl Cluster {
    /// A run that is in the register waits from here on.
    pub(super) fn queue(&mut self, record: Record, place: OwnedSemaphorePermit) -> anyhow::Result<()> {
        tracing::info!(run = %record.run, priority = record.priority, "a run is queued");
        let (run, priority, requirements) = (record.run.clone(), record.priority, record.requirements);
        self.enter(record, LiveStage::Waiting { _place: Some(place) });
        self.decide(PoolEvent::Submitted { run, priority, requirements })
    }

    pub(super) fn enter(&mut self, record: Record, stage: LiveStage) {
        let summary = Arc::new(watch::Sender::new(RunSummary::of(&record)));
        self.runs.insert(record.run.clone(), Live { record, summary, stage });
    }

    /// It has been given workers.
    pub(super) fn start(&mut self, run: &RunName, workers: usize) -> anyhow::Result<()> {
        // One that a former coordinator had started has begun already.
        if self.is_under_way(run) {
            self.summon(run);
            return Ok(());
        }
        let Some(live) = self.runs.get_mut(run) else { return Ok(()) };
        live.record.stage = Stage::Running;
        live.record.started_at_ms = now();
        live.stage = LiveStage::Preparing;
        let (state, started_at_ms) = (RunState::Preparing, live.record.started_at_ms);
        live.summary.send_modify(|summary| {
            (summary.state, summary.started_at_ms) = (state, started_at_ms);
            (summary.queue_position, summary.lacks) = (0, String::new());
        });
        let record = live.record.clone();
        self.write(&record)?;
        self.prepare(record, workers as u32, BTreeSet::new());
        Ok(())
    }

    /// Finds what it needs, beside the loop.
    pub(super) fn prepare(&mut self, record: Record, workers: u32, expected: BTreeSet<WorkerName>) {
        let run = record.run.clone();
        let first = self.pool.workers_of(&run).find_map(|worker| self.seats.get(worker));
        let libtorch_version = first.map(|seat| seat.info.libtorch_version.clone()).unwrap_or_default();
        let order = Order { record, workers, libtorch_version, expected };
        let (home, turns) = (self.home.clone(), Arc::clone(&self.prepared_together));
        let span = tracing::info_span!("run", run = %run);
        let work = async move {
            let _turn = turns.acquire_owned().await;
            let inside = tracing::Span::current();
            let begun = tokio::task::spawn_blocking(move || inside.in_scope(|| begin::begin(&home, order)));
            let begun = begun.await.unwrap_or_else(|error| Err(PrepareError::Write(error.into())));
            Prepared { run, begun }
        };
        self.preparing.spawn(work.instrument(span));
    }

    /// Drives it from here on, and calls its workers.
    pub(super) fn prepared(&mut self, Prepared { run, begun }: Prepared) -> anyhow::Result<()> {
        let Some(live) = self.runs.get(&run) else { return Ok(()) };
        let begun = match begun {
            Ok(begun) if live.record.stopping && begun.run.history().members.is_empty() => {
                drop(begun);
                return self.end(&run, Stage::Stopped, End::early("stopped before it began", None));
            }
            Ok(begun) => begun,
            Err(error) => {
                let (reason, kind) = (with_hint(&error), failure_kind(&error));
                return self.end(&run, Stage::Failed, End::early(reason, Some(kind)));
            }
        };
        drop(self.drive(&run, begun)?);
        self.summon(&run);
        self.reclaim_all(&run);
        self.settle()
    }

    /// Drives it, and tells what happens from its beginning on.
    pub(super) fn drive(
        &mut self,
        run: &RunName,
        begun: Begun,
    ) -> anyhow::Result<broadcast::Receiver<Notice>> {
        let Begun { run: core, effects, folder, plan, facts } = begun;
        let is_only = self.is_only(run);
        // Workers that a command starts write files of their own.
        let logs = (!is_only).then(|| WorkerLogs::open(folder.path()).map(Arc::new)).transpose();
        let logs = logs.context("opening the run's logs")?;
        let announcement = self.announce(&folder, core.history().term);
        let live = self.runs.get_mut(run).context("a run that nobody knows")?;
        let (checkpoints, spec) = (folder.checkpoints().clone(), core.history().spec.clone());
        let (driver, handle) = Driver::new(core, folder, self.journal.clone(), facts);
        let (notices, told) = (driver.subscribe(), driver.subscribe());
        let services = Arc::new(Services {
            driver: handle.clone(),
            plan,
            checkpoints,
            secret: Services::draw_secret()?,
            logs,
            stand_by: !is_only,
        });
        live.stage = LiveStage::Running {
            services,
            lease_ms: spec.lease_ms,
            present: BTreeSet::new(),
            _announcement: announcement,
        };
        let state = if live.record.stopping { RunState::Stopping } else { RunState::Running };
        let steps_total = u64::from(spec.epochs) * spec.steps_per_epoch;
        live.summary.send_modify(|summary| {
            (summary.state, summary.steps_total, summary.epochs) = (state, steps_total, spec.epochs);
        });
        let follower = Follower::new(run.clone(), steps_total, live.summary.clone(), self.ear.clone())
            .counting(self.shared.tally.clone());
        self.following.spawn(follower.follow(notices, handle.clone()));
        if live.record.stopping {
            tokio::spawn(async move { drop(handle.stop().await) });
        }
        let run = run.clone();
        self.driving.spawn(async move { Finished { run, driven: driver.drive(effects).await } });
        Ok(told)
    }

    pub(super) fn finished(&mut self, Finished { run, driven }: Finished) -> anyhow::Result<()> {
        let (stage, end) = match &driven {
            Ok((outcome, _folder, core)) => End::of(outcome, core.history()),
            Err(error) => {
                tracing::error!(%run, error = format!("{error:#}"), "a run cannot go on here");
                (Stage::Failed, End::early(format!("{error:#}"), Some(FailureKind::Cluster)))
            }
        };
        match self.conclusion(&run) {
            Some(conclude) => {
                if driven.is_ok() {
                    self.end(&run, stage, end)?;
                } else {
                    // It may go on elsewhere: nobody is told that it is over, and workers look for it again.
                    self.commands.close();
                }
                // Whoever waited for it may be gone.
                drop(conclude.send(driven));
                Ok(())
            }
            None => {
                drop(driven);
                self.end(&run, stage, end)
            }
        }
    }

    /// It is over: that is durable first, then its workers are others'.
    pub(super) fn end(&mut self, run: &RunName, stage: Stage, end: End) -> anyhow::Result<()> {
        let Some(mut live) = self.runs.remove(run) else { return Ok(()) };
        tracing::info!(%run, stage = stage.as_str(), reason = %end.reason, "a run is over");
        live.record.stage = stage;
        live.record.ended_at_ms = now();
        live.record.end = Some(end);
        self.write(&live.record)?;
        self.shared.tally.run_ended(stage);
        live.summary.send_replace(RunSummary::of(&live.record));
        self.release(run);
        self.settle()?;
        self.send_home(run);
        self.reconcile()
    }

    /// It wants no workers any more. Those that were not called yet are free at once; the others come back.
    pub(super) fn release(&mut self, run: &RunName) {
        let promised: Vec<WorkerName> = self.pool.workers_of(run).cloned().collect();
        let run = run.clone();
        self.consequences.push_back(match self.pool.is_running(&run) {
            true => PoolEvent::Ended { run },
            false => PoolEvent::Cancelled { run },
        });
        for worker in promised {
            let waits_here =
                self.seats.get(&worker).is_some_and(|seat| matches!(seat.place, Place::Pool { .. }));
            if waits_here {
                self.consequences.push_back(PoolEvent::Freed { worker });
            }
        }
    }

    /// Asks it to stop; false when it is not here any more, or is over by this.
    pub(super) fn stop(&mut self, run: &RunName) -> anyhow::Result<bool> {
        let Some(live) = self.runs.get_mut(run) else { return Ok(false) };
        if matches!(live.stage, LiveStage::Waiting { .. }) {
            self.end(run, Stage::Stopped, End::early("stopped before it began", None))?;
            return Ok(false);
        }
        if live.record.stopping {
            return Ok(true);
        }
        live.record.stopping = true;
        let (record, services) = (live.record.clone(), live.services().cloned());
        self.write(&record)?;
        if let Some(live) = self.runs.get(run) {
            live.summary.send_modify(|summary| summary.state = RunState::Stopping);
        }
        if let Some(services) = services {
            tokio::spawn(async move { drop(services.driver.stop().await) });
        }
        Ok(true)
    }

    /// For whoever looks into the folder; without it nothing is lost.
    fn announce(&self, folder: &RunFolder, term: Term) -> Option<Announcement> {
        let address = self.address;
        let worker_url = match &self.only {
            Some(only) => only.worker_url.clone(),
            None => format!("http://{address}"),
        };
        let serving = Serving { address, worker_url, pid: std::process::id(), term, started_at_ms: now() };
        let announced = serving.announce(folder.path());
        announced.inspect_err(|error| tracing::warn!(%error, "coordinator.json cannot be written")).ok()
    }

    pub(super) fn write(&self, record: &Record) -> anyhow::Result<()> {
        let register = &self.shared.register;
        tokio::task::block_in_place(|| register.update(&[record])).context("writing the register")
    }
}

fn with_hint(error: &PrepareError) -> String {
    error.hint().map_or_else(|| error.to_string(), |hint| format!("{error}; hint: {hint}"))
}

fn failure_kind(error: &PrepareError) -> FailureKind {
    match error.fault() {
        Fault::Usage | Fault::System => FailureKind::Run,
        Fault::Data => FailureKind::Data,
    }
}
