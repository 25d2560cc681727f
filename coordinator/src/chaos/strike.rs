//! Carries faults out: signals, connections, processes.

use std::time::Duration;

use rustix::process::Signal;

use super::ChaosError;
use super::cluster::send;
use super::disturbed::{Disturbed, Waited};
use super::follow::{Mark, Seen};
use super::proxy::Gate;
use super::schedule::{Fault, Kind, Lasting};

/// A fault that was carried out.
#[derive(Debug)]
pub(super) struct Strike {
    pub(super) target: String,
    pub(super) pid: Option<u32>,
    pub(super) sign: Sign,
}

/// What the run must show before the fault can be over.
#[derive(Debug, Clone)]
pub(super) enum Sign {
    /// Nobody need have noticed.
    None,
    /// Other members, or the same ones anew.
    Generation,
    /// Another coordinator.
    Term,
    Both,
    /// This worker takes part.
    Member(String),
}

impl Sign {
    pub(super) fn shows(&self, mark: &Mark, seen: &Seen) -> bool {
        let (generation, term) = (seen.generation > mark.generation, seen.term > mark.term);
        match self {
            Self::None => true,
            Self::Generation => generation,
            Self::Term => term,
            Self::Both => generation && term,
            Self::Member(name) => seen.members.contains_key(name),
        }
    }
}

/// A member with a living process.
#[derive(Debug, Clone)]
struct Victim {
    name: String,
    pid: u32,
}

impl Disturbed<'_> {
    /// Does it, and returns when it lasts no longer; none when the run was done before.
    pub(super) async fn strike(&mut self, fault: Fault, mark: Mark) -> Result<Option<Strike>, ChaosError> {
        let strike = |target: String, pid, sign| Some(Strike { target, pid, sign });
        match fault.kind {
            Kind::Coordinator => {
                self.cluster.kill_coordinator().await;
                let resumed = self.resume()?;
                return Ok(resumed.then_some(Strike {
                    target: "coordinator".into(),
                    pid: None,
                    sign: Sign::Term,
                }));
            }
            Kind::Everything => {
                let workers = self.cluster.workers().len();
                self.cluster.kill_everything().await;
                let target = format!("coordinator and {workers} workers");
                return Ok(self.resume()?.then_some(Strike { target, pid: None, sign: Sign::Both }));
            }
            _ => {}
        }
        let Some(Victim { name, pid }) = self.victim(fault.pick).await? else { return Ok(None) };
        Ok(match fault.kind {
            Kind::Kill | Kind::Drain => {
                send(pid, if fault.kind == Kind::Kill { Signal::KILL } else { Signal::TERM });
                strike(name, Some(pid), Sign::Generation)
            }
            Kind::Join => match self.relieve(&name, pid, mark).await? {
                Some((guest, target)) => strike(target, None, Sign::Member(guest)),
                None => None,
            },
            _ => {
                let sign = self.hold(fault, pid, mark).await?;
                strike(name, Some(pid), sign)
            }
        })
    }

    /// Keeps a worker from running or from the coordinator for the fault's time.
    async fn hold(&mut self, fault: Fault, pid: u32, mark: Mark) -> Result<Sign, ChaosError> {
        match fault.kind {
            Kind::Cut => drop(self.proxy.close(pid, Gate::Cut)),
            Kind::Mute => drop(self.proxy.close(pid, Gate::Mute)),
            _ => send(pid, Signal::STOP),
        }
        let sign = match fault.lasting {
            Lasting::Briefly { ms } => {
                self.until(Some(Duration::from_millis(u64::from(ms))), |_| false).await?;
                Sign::None
            }
            Lasting::TooLong => {
                let patience = self.patience;
                self.until(Some(patience), |seen| seen.generation > mark.generation).await?;
                Sign::Generation
            }
        };
        if fault.kind == Kind::Freeze {
            send(pid, Signal::CONT);
        } else {
            self.proxy.open();
        }
        Ok(sign)
    }

    /// A guest joins; one worker leaves first where the run may have no more. Tells the guest's name, and what happened.
    async fn relieve(
        &mut self,
        name: &str,
        pid: u32,
        mark: Mark,
    ) -> Result<Option<(String, String)>, ChaosError> {
        let is_full = self.seen().members.len() >= self.workers_max as usize;
        if is_full {
            send(pid, Signal::TERM);
            let patience = self.patience;
            let left = |seen: &Seen| seen.generation > mark.generation && !seen.members.contains_key(name);
            if self.until(Some(patience), left).await? == Waited::Ended {
                return Ok(None);
            }
        }
        let guest = self.cluster.join()?;
        let target = if is_full { format!("{guest} for {name}") } else { guest.clone() };
        Ok(Some((guest, target)))
    }

    /// Another coordinator, unless the last one was done.
    fn resume(&mut self) -> Result<bool, ChaosError> {
        if self.follower.look().outcome.is_some() {
            self.is_done();
            return Ok(false);
        }
        self.cluster.resume()?;
        Ok(true)
    }

    /// Whom a fault hits, counted around the living members; none when the run is done.
    async fn victim(&mut self, pick: u32) -> Result<Option<Victim>, ChaosError> {
        loop {
            let living = self.cluster.workers();
            let members = &self.seen().members;
            let living: Vec<_> =
                living.iter().filter(|worker| members.get(&worker.name.0) == Some(&worker.pid)).collect();
            if let Some(worker) = living.get(pick as usize % living.len().max(1)) {
                return Ok(Some(Victim { name: worker.name.0.clone(), pid: worker.pid }));
            }
            if self.until(Some(super::POLL), |_| false).await? == Waited::Ended {
                return Ok(None);
            }
        }
    }
}
