//! The workers' sessions as the cluster sees them. Who gets which worker is the pool's to say; here is how each can be
//! reached, and whether it is there.
//!
//! A worker's process waits in one session, goes to a run in it, and is let go by the end of it; then it begins again as a
//! new process, in another session. What tells sessions apart is their pass.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lockstep_core::{DeviceKind, MemberEntry, Resources, RunName, Time, WorkerInfo, WorkerName};
use tokio::sync::mpsc;

use super::Refusal;
use crate::services::Services;

/// More workers than any cluster has, so that names alone cannot fill the memory.
const SEATS_MAX: usize = 10_000;

/// A worker that its run has let go begins again and comes back; how long that may take.
pub(super) const RETURN_MS: u64 = 60_000;

/// One session, from its beginning to its end.
#[derive(Debug)]
pub struct Pass {
    number: u64,
    /// Its run has said the last word.
    let_go: AtomicBool,
    /// It is to end for good when its run lets it go.
    dismissed: AtomicBool,
}

impl Pass {
    pub(crate) fn let_go(&self) {
        self.let_go.store(true, Ordering::Relaxed);
    }

    pub(super) fn was_let_go(&self) -> bool {
        self.let_go.load(Ordering::Relaxed)
    }

    pub(super) fn dismiss(&self) {
        self.dismissed.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_dismissed(&self) -> bool {
        self.dismissed.load(Ordering::Relaxed)
    }
}

/// A worker that comes.
#[derive(Debug, Clone)]
pub struct Newcomer {
    pub worker: WorkerName,
    pub info: WorkerInfo,
    /// Of its device; 0: not known.
    pub memory_bytes: u64,
    /// Where it was, when it comes back.
    pub run: Option<RunName>,
}

/// What a worker that waits is called for.
#[derive(Debug)]
pub enum Summons {
    Run(Arc<Services>),
    /// To end.
    Leave {
        reason: String,
    },
}

/// A worker that is here, or expected back.
#[derive(Debug)]
pub(super) struct Seat {
    /// Of its newest session; none before the first one of this coordinator's life.
    pub(super) pass: Option<Arc<Pass>>,
    pub(super) open: bool,
    pub(super) info: WorkerInfo,
    pub(super) resources: Resources,
    pub(super) place: Place,
    /// Of a worker that was called to a run and may be turned away there.
    pub(super) summons: Option<mpsc::Sender<Summons>>,
    pub(super) joined_at_ms: Time,
    /// Of the last change of `open` or `place`.
    pub(super) since: Time,
}

#[derive(Debug)]
pub(super) enum Place {
    /// Waits in its session; `turned_away` by the run that it was for, so that it waits a moment longer.
    Pool {
        summons: mpsc::Sender<Summons>,
        turned_away: bool,
    },
    At(RunName),
    /// Its run has let it go, and its process begins again.
    Between,
}

impl Seat {
    /// Of a member that a run is known to have had before this coordinator's life.
    pub(super) fn expected(member: &MemberEntry, resources: Resources, run: RunName, now: Time) -> Self {
        let MemberEntry { device, host, pid, .. } = member.clone();
        let info = WorkerInfo { device, host, pid, ..WorkerInfo::default() };
        let (pass, place, summons, joined_at_ms) = (None, Place::At(run), None, now);
        Self { pass, open: false, info, resources, place, summons, joined_at_ms, since: now }
    }

    pub(super) fn has_pass(&self, pass: &Pass) -> bool {
        self.pass.as_ref().is_some_and(|own| own.number == pass.number)
    }

    /// Whether this is the process that sat here last, as far as that is known.
    pub(super) fn is_of(&self, info: &WorkerInfo) -> bool {
        self.pass.is_some() && self.info.incarnation == info.incarnation
    }
}

/// All of them, and the passes that were given out.
#[derive(Debug, Default)]
pub(super) struct Seats {
    by_worker: BTreeMap<WorkerName, Seat>,
    passes: u64,
}

impl Seats {
    pub(super) fn pass(&mut self) -> Arc<Pass> {
        self.passes += 1;
        Arc::new(Pass {
            number: self.passes,
            let_go: AtomicBool::new(false),
            dismissed: AtomicBool::new(false),
        })
    }

    pub(super) fn get(&self, worker: &WorkerName) -> Option<&Seat> {
        self.by_worker.get(worker)
    }

    pub(super) fn get_mut(&mut self, worker: &WorkerName) -> Option<&mut Seat> {
        self.by_worker.get_mut(worker)
    }

    pub(super) fn has_room_for(&self, worker: &WorkerName) -> Result<(), Refusal> {
        if self.by_worker.len() < SEATS_MAX || self.by_worker.contains_key(worker) {
            return Ok(());
        }
        Err(Refusal::Crowded { most: SEATS_MAX })
    }

    pub(super) fn put(&mut self, worker: WorkerName, seat: Seat) {
        self.by_worker.insert(worker, seat);
    }

    pub(super) fn remove(&mut self, worker: &WorkerName) {
        self.by_worker.remove(worker);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&WorkerName, &Seat)> {
        self.by_worker.iter()
    }

    /// Those at a run, by name.
    pub(super) fn at(&self, run: &RunName) -> BTreeSet<WorkerName> {
        let at = self.by_worker.iter().filter(|(_, seat)| matches!(&seat.place, Place::At(at) if at == run));
        at.map(|(name, _)| name.clone()).collect()
    }
}

/// What a newcomer has to offer, if it can be a worker here at all. Its log is a file of its name.
pub(super) fn resources(newcomer: &Newcomer) -> Result<Resources, Refusal> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let name = &newcomer.worker.0;
    if name.starts_with('.') || !name.chars().all(plain) || name == "coordinator" {
        return Err(Refusal::invalid(format!(
            "`{name}` cannot be a worker's name here: use letters, digits, `.`, `_` and `-`"
        )));
    }
    let device = DeviceKind::of(&newcomer.info.device)
        .ok_or_else(|| Refusal::invalid(format!("`{}` is no kind of device", newcomer.info.device)))?;
    Ok(Resources { device, memory_bytes: newcomer.memory_bytes })
}
