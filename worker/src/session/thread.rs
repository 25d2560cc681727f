//! The trainer's thread as the session holds it: a channel in, a closure out, two flags, and word of its end.

use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use tokio::sync::{mpsc, oneshot};

use super::SessionError;
use crate::client::{Outgoing, ReportError};
use crate::collective::Cancel;
use crate::trainer::{
    self, Command, FailureKind, Report, Reporter, SessionGone, Setup, Snapshot, TrainerError,
};

/// Commands that wait for the trainer. It answers each before the next is due, so more are a fault of the coordinator's.
const COMMANDS_WAITING: usize = 8;

/// How the session reaches into a generation that computes.
#[derive(Debug, Clone, Default)]
pub(super) struct Controls {
    pub(super) halt: Arc<AtomicBool>,
    pub(super) cancel: Cancel,
}

/// Dropping it cancels what the trainer computes; the thread ends as soon as it notices.
#[derive(Debug)]
pub(super) struct TrainerThread {
    commands: SyncSender<Command>,
    ended: oneshot::Receiver<Result<(), SessionError>>,
    generation: u64,
    controls: Controls,
}

impl TrainerThread {
    /// Starts it. Reports leave by `outgoing`, snapshots by `snapshots`.
    pub(super) fn spawn(
        setup: Setup,
        outgoing: Outgoing,
        snapshots: mpsc::Sender<Snapshot>,
    ) -> Result<Self, SessionError> {
        let (commands, received) = sync_channel(COMMANDS_WAITING);
        let (end, ended) = oneshot::channel();
        let reporter = Reporter::new(move |report| send(&outgoing, &snapshots, report));
        let body = move || {
            let run = || trainer::run(&setup, &received, &reporter);
            let result = match panic::catch_unwind(AssertUnwindSafe(run)) {
                Ok(result) => result.map_err(|error| SessionError::from(&error)),
                Err(panic) => Err(SessionError::Trainer {
                    reason: format!("the trainer broke down: {}", trainer::panic_line(&*panic)),
                    kind: FailureKind::Run,
                }),
            };
            // The session may have ended first.
            let _ = end.send(result);
        };
        let spawned = thread::Builder::new().name("trainer".to_owned()).spawn(body);
        spawned.map_err(SessionError::Thread)?;
        Ok(Self { commands, ended, generation: 0, controls: Controls::default() })
    }

    pub(super) fn commands(&self) -> SyncSender<Command> {
        self.commands.clone()
    }

    /// Fresh controls for a generation that begins; the former ones are of no use any more.
    pub(super) fn begin(&mut self, generation: u64) -> Controls {
        self.generation = generation;
        self.controls = Controls::default();
        self.controls.clone()
    }

    /// Asks all members of the current generation to halt.
    pub(super) fn halt(&self, generation: u64) {
        if generation == self.generation {
            self.controls.halt.store(true, Ordering::Relaxed);
        }
    }

    /// Completes when the thread has ended; not to be called again then.
    pub(super) async fn ended(&mut self) -> Result<(), SessionError> {
        (&mut self.ended).await.unwrap_or(Ok(()))
    }
}

impl Drop for TrainerThread {
    fn drop(&mut self) {
        self.controls.cancel.cancel();
    }
}

fn send(outgoing: &Outgoing, snapshots: &mpsc::Sender<Snapshot>, report: Report) -> Result<(), SessionGone> {
    match outgoing.report(report) {
        Ok(()) => Ok(()),
        Err(ReportError::Bulk(snapshot)) => snapshots.blocking_send(snapshot).map_err(|_| SessionGone),
        Err(ReportError::Lost) => Err(SessionGone),
    }
}

impl From<&TrainerError> for SessionError {
    fn from(error: &TrainerError) -> Self {
        Self::Trainer { reason: error.to_string(), kind: error.kind() }
    }
}
