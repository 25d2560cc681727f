//! A run's story as it goes: what its driver tells becomes its summary, a few times a second at the most.
//!
//! Also the cluster hears from here who the run has: not as news, of which one might be missed, but as a list each time
//! that it has changed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lockstep_core::{Entry, RunName, Status, WorkerName};
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;

use super::commands::Command;
use super::summary::RunSummary;
use super::tally::{Pedometer, Tally};
use crate::driver::{DriverHandle, Notice};

/// Between two looks at a run that has something to tell.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Looks after which a run is looked at that has told nothing: what it waits for may have changed.
const LOOKS_QUIET: u32 = 4;

#[derive(Debug)]
pub(super) struct Follower {
    run: RunName,
    steps_total: u64,
    summary: Arc<watch::Sender<RunSummary>>,
    ear: mpsc::Sender<Command>,
    /// As it was told last.
    present: BTreeSet<WorkerName>,
    /// When and at which step the generation under way began, to tell the time left.
    start: Option<(Instant, u64)>,
    tally: Tally,
    pedometer: Pedometer,
}

impl Follower {
    pub(super) fn new(
        run: RunName,
        steps_total: u64,
        summary: Arc<watch::Sender<RunSummary>>,
        ear: mpsc::Sender<Command>,
    ) -> Self {
        let (tally, pedometer) = (Tally::default(), Pedometer::default());
        Self { run, steps_total, summary, ear, present: BTreeSet::new(), start: None, tally, pedometer }
    }

    /// What happens is counted in `tally` too.
    pub(super) fn counting(self, tally: Tally) -> Self {
        Self { tally, ..self }
    }

    /// Until the run is over.
    pub(super) async fn follow(mut self, mut notices: Receiver<Notice>, driver: DriverHandle) {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut quiet = 0;
        loop {
            tokio::select! {
                notice = notices.recv() => match notice {
                    Ok(notice) => {
                        if let Notice::Entry(entry) = notice {
                            self.note(&entry);
                            if matches!(entry, Entry::Ended { .. }) {
                                // Soon its workers are back, and it wants no others.
                                self.tell(Command::Ending { run: self.run.clone() }).await;
                            }
                        }
                        quiet = LOOKS_QUIET;
                    }
                    Err(RecvError::Lagged(missed)) => {
                        self.tally.missed.inc_by(missed);
                        quiet = LOOKS_QUIET;
                    }
                    Err(RecvError::Closed) => return,
                },
                _ = looks.tick() => {
                    quiet += 1;
                    if quiet < LOOKS_QUIET {
                        continue;
                    }
                    quiet = 0;
                    match driver.status().await {
                        Some(status) => self.look(status).await,
                        None => return,
                    }
                }
            }
        }
    }

    fn note(&mut self, entry: &Entry) {
        self.tally.note(entry);
        match entry {
            Entry::GenerationBegan { position, .. } => {
                self.start = Some((Instant::now(), position.step.0));
                self.pedometer.begin(position.step.0);
            }
            // The last ones of a run are heard of in no other way.
            Entry::EpochEnded(row) => self.walk(row.step.0),
            _ => {}
        }
    }

    fn walk(&mut self, step: u64) {
        self.tally.steps.inc_by(self.pedometer.reach(step));
    }

    async fn look(&mut self, status: Status) {
        self.walk(status.position.step.0);
        let left_ms = self.left_ms(status.position.step.0);
        let workers: Vec<WorkerName> = status.workers.iter().map(|worker| worker.worker.clone()).collect();
        let present: BTreeSet<WorkerName> = workers.iter().cloned().collect();
        let is_training = status.phase == "training";
        self.summary.send_if_modified(|summary| {
            // What comes after its end is its end's word.
            if summary.state.is_over() {
                return false;
            }
            let before = summary.clone();
            summary.phase = status.phase.to_owned();
            summary.halt = if is_training { String::new() } else { status.reason };
            summary.position = status.position;
            summary.best_accuracy = status.best_accuracy;
            summary.left_ms = left_ms;
            summary.workers = workers;
            *summary != before
        });
        if present != self.present {
            self.present.clone_from(&present);
            self.tell(Command::Present { run: self.run.clone(), workers: present }).await;
        }
    }

    async fn tell(&self, command: Command) {
        // A cluster that ends does not mind.
        drop(self.ear.send(command).await);
    }

    /// Time to the last step, by the pace of this generation.
    fn left_ms(&self, step: u64) -> Option<u64> {
        let (began, first) = self.start?;
        let done = step.checked_sub(first).filter(|done| *done > 0)?;
        let todo = self.steps_total.saturating_sub(step);
        let left = began.elapsed().mul_f64(todo as f64 / done as f64);
        u64::try_from(left.as_millis()).ok()
    }
}
