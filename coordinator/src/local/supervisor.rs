//! Keeps the slots of a run filled: starts workers, hears of their ends, starts them again, kills those that the run
//! has given up.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use lockstep_core::{Entry, Event, FailureKind, WorkerName};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::binary::BinaryError;
use super::exit::WorkerExit;
use super::process::{Process, WorkerOrders, WorkerPlace};
use super::slots::{Decision, Slots};
use super::{Local, LocalEnd, LocalNews};
use crate::driver::{DriverHandle, Notice};

/// Between the run's giving a worker up and the end of its process: a worker that failed by itself writes down why.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// At the run's end, for those that had not become members: nobody may have told them.
const NEWCOMERS_GRACE: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct Supervisor {
    orders: WorkerOrders,
    places: Vec<WorkerPlace>,
    slots: Slots,
    max_restarts: u32,
    /// Of each slot: who runs in it, if anybody.
    running: Vec<Option<Occupant>>,
    watching: JoinSet<(usize, WorkerExit)>,
    exits: BTreeMap<usize, WorkerExit>,
    driver: DriverHandle,
    notices: broadcast::Receiver<Notice>,
    news: mpsc::Sender<LocalNews>,
    ending: CancellationToken,
    kill: CancellationToken,
    all_left: bool,
}

/// A process in its slot.
#[derive(Debug, Clone)]
struct Occupant {
    kill: CancellationToken,
    /// It was part of a generation.
    member: bool,
}

impl Supervisor {
    /// Fills the slots: with the survivors, the others with processes of their own.
    pub(super) fn start(
        local: Local,
        driver: DriverHandle,
        notices: broadcast::Receiver<Notice>,
        news: mpsc::Sender<LocalNews>,
        (ending, kill): (CancellationToken, CancellationToken),
    ) -> Result<Self, BinaryError> {
        let Local { orders, places, survivors, max_restarts, needs } = local;
        let mut supervisor = Self {
            slots: Slots::new(places.len(), max_restarts, needs),
            running: vec![None; places.len()],
            orders,
            places,
            max_restarts,
            watching: JoinSet::new(),
            exits: BTreeMap::new(),
            driver,
            notices,
            news,
            ending,
            kill,
            all_left: false,
        };
        for survivor in survivors {
            if let Some(slot) = supervisor.slot_of(&survivor.name) {
                supervisor.watch(slot, Process::adopt(survivor), true);
            }
        }
        for slot in 0..supervisor.places.len() {
            if supervisor.running[slot].is_none() {
                let process = Process::start(&supervisor.orders, &supervisor.places[slot])?;
                supervisor.watch(slot, process, false);
            }
        }
        Ok(supervisor)
    }

    /// Until the run's end, and then until all processes have ended.
    pub(super) async fn supervise(mut self) -> LocalEnd {
        loop {
            let next_start = self.slots.next_start();
            let due = async {
                match next_start {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // What the run says of a process comes before its end, and long before the next one in its slot.
                biased;
                () = self.ending.cancelled() => break,
                notice = self.notices.recv() => match notice {
                    Ok(notice) => self.heard(&notice).await,
                    // At worst a worker that was given up lives, and joins again.
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => self.ending.cancelled().await,
                },
                Some(Ok((slot, exit))) = self.watching.join_next() => self.ended(slot, exit).await,
                () = due => self.start_due().await,
            }
        }
        self.outwait().await;
        LocalEnd { exits: self.exits.into_values().collect(), all_left: self.all_left }
    }

    async fn outwait(&mut self) {
        self.slots.stop();
        for occupant in self.running.iter().flatten().filter(|occupant| !occupant.member) {
            kill_after(NEWCOMERS_GRACE, &occupant.kill);
        }
        while let Some(ended) = self.watching.join_next().await {
            if let Ok((slot, exit)) = ended {
                tracing::info!(worker = %exit.name, "its process ended ({})", exit.describe());
                self.exits.insert(slot, exit);
            }
        }
    }

    fn slot_of(&self, worker: &WorkerName) -> Option<usize> {
        self.places.iter().position(|place| place.name == *worker)
    }

    fn watch(&mut self, slot: usize, mut process: Process, member: bool) {
        let kill = self.kill.child_token();
        self.running[slot] = Some(Occupant { kill: kill.clone(), member });
        let WorkerPlace { name, log, .. } = self.places[slot].clone();
        self.watching.spawn(async move {
            let (status, killed) = tokio::select! {
                status = process.ended() => (status, false),
                () = kill.cancelled() => {
                    process.kill();
                    (process.ended().await, true)
                }
            };
            (slot, WorkerExit { name, status, killed, log })
        });
    }

    async fn heard(&mut self, notice: &Notice) {
        match notice {
            Notice::Entry(Entry::StopRequested | Entry::Ended { .. }) => self.slots.stop(),
            Notice::Entry(Entry::GenerationBegan { members, .. }) => {
                for slot in
                    members.iter().filter_map(|member| self.slot_of(&member.worker)).collect::<Vec<_>>()
                {
                    if let Some(occupant) = &mut self.running[slot] {
                        occupant.member = true;
                    }
                }
            }
            Notice::Entry(Entry::WorkerLeft { worker, .. }) => match self.slot_of(worker) {
                Some(slot) => self.slots.leaves(slot),
                None => self.stop_if_deserted().await,
            },
            Notice::Entry(Entry::WorkerLost { worker, .. }) | Notice::Disconnected { worker } => {
                match self.slot_of(worker) {
                    Some(slot) if self.slots.is_running(slot) => {
                        if let Some(occupant) = &self.running[slot] {
                            kill_after(LAST_WORDS, &occupant.kill);
                        }
                    }
                    Some(_) => {}
                    None => self.stop_if_deserted().await,
                }
            }
            Notice::Entry(_) | Notice::Progress { .. } => {}
        }
    }

    async fn ended(&mut self, slot: usize, exit: WorkerExit) {
        self.running[slot] = None;
        let how = format!("its process ended ({})", exit.describe());
        let name = exit.name.clone();
        let told_to_go = exit.was_told_to_go();
        self.exits.insert(slot, exit);
        let others = self.others().await;
        let decision = self.slots.ended(slot, told_to_go, others, Instant::now());
        tracing::info!(worker = %name, ?decision, "{how}");
        // Before anybody else gets its name. The run may know already, or be over.
        drop(self.driver.event(Event::WorkerLost { worker: name.clone(), reason: how.clone() }).await);
        match decision {
            Decision::Restart { after, restart } => {
                let of = self.max_restarts;
                self.tell(LocalNews::Restarting { worker: name, how, after, restart, of });
            }
            Decision::GivenUp => {
                self.tell(LocalNews::GivenUp { worker: name, how, restarts: self.max_restarts });
                self.stop_if_deserted().await;
            }
            Decision::Fail => {
                let reason = match self.max_restarts {
                    0 => format!("{name}: {how}, and max_restarts = 0 allows no other"),
                    most => format!(
                        "{name}: {how}, after it was started again {most} times, all that max_restarts allows"
                    ),
                };
                self.slots.stop();
                let event = Event::Abandoned { reason, kind: FailureKind::Cluster };
                drop(self.driver.event(event).await);
            }
            Decision::Left => self.stop_if_deserted().await,
            Decision::Nothing => {}
        }
    }

    async fn start_due(&mut self) {
        while let Some(slot) = self.slots.start_due(Instant::now()) {
            match Process::start(&self.orders, &self.places[slot]) {
                Ok(process) => {
                    self.exits.remove(&slot);
                    self.watch(slot, process, false);
                }
                Err(error) => {
                    tracing::warn!(%error, worker = %self.places[slot].name, "a worker cannot be started again");
                    let WorkerPlace { name, log, .. } = self.places[slot].clone();
                    self.ended(slot, WorkerExit { name, status: None, killed: false, log }).await;
                }
            }
        }
    }

    /// With no worker left and none to come, nothing is left to do but to store what there is.
    async fn stop_if_deserted(&mut self) {
        if self.slots.are_deserted() && !self.slots.is_stopping() && self.others().await == 0 {
            self.slots.stop();
            self.all_left = true;
            drop(self.driver.event(Event::StopRequested).await);
        }
    }

    /// Workers of the run that were not started here.
    async fn others(&self) -> u32 {
        let workers = self.driver.status().await.map(|status| status.workers).unwrap_or_default();
        workers.iter().filter(|worker| self.slot_of(&worker.worker).is_none()).count() as u32
    }

    fn tell(&self, news: LocalNews) {
        // The console may be behind or gone; the log has it.
        drop(self.news.try_send(news));
    }
}

fn kill_after(pause: Duration, kill: &CancellationToken) {
    let kill = kill.clone();
    tokio::spawn(async move {
        tokio::time::sleep(pause).await;
        kill.cancel();
    });
}
