//! Workers come, come back, and go.

use std::sync::Arc;

use lockstep_core::{Event, PoolEvent, Resources, RunName, WorkerName, WorkerPlace};
use tokio::sync::mpsc;

use super::commands::Arrival;
use super::seats::{Newcomer, Pass, Place, RETURN_MS, Seat, resources};
use super::view::PoolWorker;
use super::{Cluster, LiveStage, Refusal};
use crate::driver::now;

/// Beyond a run's lease: how long a member that a former coordinator knew may take to come back.
const EXPECTED_MS: u64 = 2_000;

impl Cluster {
    /// Where the worker belongs. One that comes back to a run is that run's to admit, and is noted once it is
    /// ([`Self::seated`]).
    pub(super) fn arrive(&mut self, newcomer: Newcomer) -> anyhow::Result<Result<Arrival, Refusal>> {
        let (resources, run) = match self.destination(&newcomer) {
            Ok(destination) => destination,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let Some(run) = run.or_else(|| self.only_if_over()) else {
            return self.take_in(newcomer, resources).map(Ok);
        };
        Ok(match self.runs.get(&run) {
            Some(live) => match live.services() {
                Some(services) => {
                    let services = Arc::clone(services);
                    Ok(Arrival::Run { services, pass: self.seats.pass() })
                }
                None if matches!(live.stage, LiveStage::Preparing) => {
                    Err(Refusal::NotNow(format!("run {run} is being prepared")))
                }
                None => Ok(self.over(format!("run {run} waits in the queue again"))),
            },
            None => Ok(self.over(format!("run {run} is over"))),
        })
    }

    /// The run that it comes back to, if it may come at all.
    fn destination(&self, newcomer: &Newcomer) -> Result<(Resources, Option<RunName>), Refusal> {
        let resources = resources(newcomer)?;
        self.seats.has_room_for(&newcomer.worker)?;
        let Some(seat) = self.seats.get(&newcomer.worker) else {
            return Ok((resources, newcomer.run.clone()));
        };
        if seat.open && !seat.is_of(&newcomer.info) {
            return Err(Refusal::NameTaken { worker: newcomer.worker.to_string() });
        }
        // It may not have heard yet that it was given to a run.
        let given = match &seat.place {
            Place::At(run) if seat.is_of(&newcomer.info) && self.runs.contains_key(run) => Some(run.clone()),
            _ => None,
        };
        Ok((resources, newcomer.run.clone().or(given)))
    }

    /// The worker is not needed where it comes back to; where there are other runs it may wait for one.
    fn over(&self, reason: String) -> Arrival {
        Arrival::Over { reason, stand_by: self.only.is_none() }
    }

    /// The run that all workers are for, once it is over.
    fn only_if_over(&self) -> Option<RunName> {
        self.only.as_ref().map(|only| only.run.clone()).filter(|run| !self.runs.contains_key(run))
    }

    /// Into the pool.
    fn take_in(&mut self, newcomer: Newcomer, resources: Resources) -> anyhow::Result<Arrival> {
        let Newcomer { worker, info, .. } = newcomer;
        // A run that waits for the process of this name to come back waits in vain.
        if let Some(Seat { place: Place::At(run), .. }) = self.seats.get(&worker) {
            self.tell_lost(run, &worker, "another process took its name");
        }
        let before = self.seats.get(&worker);
        // It was free, or promised to a run that is being prepared, and only its session is another one.
        let goes_on =
            before.is_some_and(|seat| matches!(seat.place, Place::Pool { .. }) && seat.is_of(&info));
        let now = now();
        let joined_at_ms = before.map_or(now, |seat| seat.joined_at_ms);
        let (summons, called) = mpsc::channel(1);
        let pass = self.seats.pass();
        let seat = Seat {
            pass: Some(Arc::clone(&pass)),
            open: true,
            info,
            resources,
            place: Place::Pool { summons, turned_away: false },
            summons: None,
            joined_at_ms,
            since: now,
        };
        self.seats.put(worker.clone(), seat);
        if !goes_on {
            self.decide(PoolEvent::WorkerCame { worker, resources, at: None })?;
        }
        Ok(Arrival::Pool { summons: called, pass, of_many: self.only.is_none() })
    }

    /// Its run has taken a worker back.
    pub(super) fn seated(&mut self, newcomer: Newcomer, run: RunName, pass: Arc<Pass>) -> anyhow::Result<()> {
        let Ok(resources) = resources(&newcomer) else { return Ok(()) };
        let Newcomer { worker, info, .. } = newcomer;
        let now = now();
        let joined_at_ms = self.seats.get(&worker).map_or(now, |seat| seat.joined_at_ms);
        let (pass, place, summons) = (Some(pass), Place::At(run.clone()), None);
        let seat = Seat { pass, open: true, info, resources, place, summons, joined_at_ms, since: now };
        self.seats.put(worker.clone(), seat);
        self.decide(PoolEvent::WorkerCame { worker, resources, at: Some(run) })
    }

    /// It waits on where it is; but it is free only at the next look, so that a run that is about to end is not asked again
    /// at once.
    pub(super) fn turned_away(&mut self, worker: &WorkerName, pass: &Pass) {
        let Some(seat) = self.seats.get_mut(worker).filter(|seat| seat.has_pass(pass)) else { return };
        let Place::At(_) = &seat.place else { return };
        if let Some(summons) = seat.summons.take() {
            seat.place = Place::Pool { summons, turned_away: true };
        }
    }

    /// A session has ended: because its run let the worker go, or because its connection broke.
    pub(super) fn left(&mut self, worker: &WorkerName, pass: &Pass) -> anyhow::Result<()> {
        let Some(seat) = self.seats.get_mut(worker).filter(|seat| seat.has_pass(pass)) else {
            return Ok(());
        };
        (seat.open, seat.since) = (false, now());
        let goes_on = match &seat.place {
            Place::At(run) => self.runs.contains_key(run),
            _ => false,
        };
        let (let_go, was_at) = (pass.was_let_go(), matches!(seat.place, Place::At(_)));
        let pooled = self.pool.worker(worker);
        let comes_back = pooled.is_some_and(|pooled| {
            // One that left by itself is not waited for.
            let asked = matches!(
                pooled.place,
                WorkerPlace::In { reclaimed: true, .. } | WorkerPlace::Returning { .. }
            );
            asked && !pooled.draining
        });
        match (was_at, let_go) {
            (true, true) if comes_back => {
                seat.place = Place::Between;
                Ok(())
            }
            // Its run waits for it.
            (true, false) if goes_on => Ok(()),
            _ => self.gone(worker),
        }
    }

    /// A worker is here no more.
    pub(super) fn gone(&mut self, worker: &WorkerName) -> anyhow::Result<()> {
        self.seats.remove(worker);
        self.decide(PoolEvent::Gone { worker: worker.clone() })
    }

    /// Who stays away too long, and who is free again after it was turned away.
    pub(super) fn reconcile(&mut self) -> anyhow::Result<()> {
        let now = now();
        let mut gone = Vec::new();
        let mut freed = Vec::new();
        for (worker, seat) in self.seats.iter() {
            let late = |most: u64| now.0 >= seat.since.0 + most;
            match &seat.place {
                Place::Pool { summons, .. } if summons.is_closed() => gone.push(worker.clone()),
                Place::Pool { turned_away: true, .. } => freed.push(worker.clone()),
                Place::Pool { .. } => {}
                Place::Between if late(RETURN_MS) => gone.push(worker.clone()),
                Place::Between => {}
                Place::At(run) if !seat.open && self.is_lost(worker, seat, run, late) => {
                    gone.push(worker.clone());
                }
                Place::At(_) => {}
            }
        }
        for worker in freed {
            if let Some(seat) = self.seats.get_mut(&worker)
                && let Place::Pool { turned_away, .. } = &mut seat.place
            {
                *turned_away = false;
            }
            self.decide(PoolEvent::Freed { worker })?;
        }
        gone.iter().try_for_each(|worker| self.gone(worker))
    }

    /// Whether the run of a worker that is away has given it up.
    fn is_lost(&self, worker: &WorkerName, seat: &Seat, run: &RunName, late: impl Fn(u64) -> bool) -> bool {
        match self.runs.get(run).map(|live| &live.stage) {
            // Before it has come for the first time the run does not count it, and waits for it all the same.
            Some(LiveStage::Running { present, lease_ms, .. }) => {
                !present.contains(worker) && (seat.pass.is_some() || late(lease_ms + EXPECTED_MS))
            }
            Some(LiveStage::Preparing) => false,
            Some(LiveStage::Waiting { .. }) | None => true,
        }
    }

    pub(super) fn drain(&mut self, worker: &WorkerName) -> anyhow::Result<Result<PoolWorker, Refusal>> {
        let Some(seat) = self.seats.get(worker) else {
            return Ok(Err(Refusal::UnknownWorker { worker: worker.to_string() }));
        };
        if let Some(pass) = &seat.pass {
            pass.dismiss();
        }
        let before = self.worker(worker, seat);
        self.decide(PoolEvent::Draining { worker: worker.clone() })?;
        let after = self.seats.get(worker).map(|seat| self.worker(worker, seat));
        Ok(Ok(after.unwrap_or(before)))
    }

    /// Tells a run that a process is gone for certain.
    fn tell_lost(&self, run: &RunName, worker: &WorkerName, reason: &str) {
        if let Some(services) = self.runs.get(run).and_then(super::Live::services) {
            let (driver, worker, reason) = (services.driver.clone(), worker.clone(), reason.to_owned());
            tokio::spawn(async move { driver.tell(Event::WorkerLost { worker, reason }).await });
        }
    }
}
