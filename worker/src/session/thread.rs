//! The trainer's thread as the session holds it: a channel in, a closure out, two flags, and word of its end.

use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;

use tokio::sync::oneshot;

use super::SessionError;
use super::reports::Reports;
use super::uploads::Uploads;
use crate::collective::Cancel;
use crate::trainer::{self, Command, FailureKind, Report, Reporter, Setup, TrainerError};

/// Commands that wait for the trainer. It answers most before the next is due; only calls to prepare may come faster than it
/// looks, one for each time that the coordinator gave it up.
const COMMANDS_WAITING: usize = 64;

/// What the thread runs: [`trainer::run`], or a stand-in for it.
pub(super) type Body =
    Box<dyn FnOnce(&Setup, &Receiver<Command>, &Reporter) -> Result<(), TrainerError> + Send>;

/// How the session reaches into a generation that computes.
#[derive(Debug, Clone, Default)]
pub(super) struct Controls {
    pub(super) pause: Arc<AtomicBool>,
    pub(super) cancel: Cancel,
}

/// Dropping it cancels what the trainer computes; the thread ends as soon as it notices.
#[derive(Debug)]
pub(super) struct TrainerThread {
    commands: SyncSender<Command>,
    ended: oneshot::Receiver<SessionError>,
    /// Of the newest generation.
    controls: Controls,
    uploads: Uploads,
}

impl TrainerThread {
    /// Starts it. Snapshots leave by `uploads`, all other reports by `reports`.
    pub(super) fn spawn(
        body: Body,
        setup: Setup,
        reports: Reports,
        uploads: Uploads,
    ) -> Result<Self, SessionError> {
        let (commands, received) = sync_channel(COMMANDS_WAITING);
        let (end, ended) = oneshot::channel();
        let reporter = reporter(reports, uploads.clone());
        let thread = move || {
            let run = || body(&setup, &received, &reporter);
            let why = match panic::catch_unwind(AssertUnwindSafe(run)) {
                Ok(Ok(())) => of_this_process("the trainer ended too early".to_owned()),
                Ok(Err(error)) => SessionError::Trainer { reason: error.to_string(), kind: error.kind() },
                Err(panic) => {
                    of_this_process(format!("the trainer broke down: {}", trainer::panic_line(&*panic)))
                }
            };
            // The session may have ended first.
            let _ = end.send(why);
        };
        let spawned = thread::Builder::new().name("trainer".to_owned()).spawn(thread);
        spawned.map_err(SessionError::Thread)?;
        Ok(Self { commands, ended, controls: Controls::default(), uploads })
    }

    /// # Errors
    /// [`SessionError::Flooded`].
    pub(super) fn command(&self, command: Command) -> Result<(), SessionError> {
        match self.commands.try_send(command) {
            Err(TrySendError::Full(_)) => Err(SessionError::Flooded),
            // A closed channel means that the trainer has ended; that is told elsewhere, with the reason.
            Ok(()) | Err(TrySendError::Disconnected(_)) => Ok(()),
        }
    }

    /// Fresh controls for a generation that begins; the former ones are of no use any more.
    pub(super) fn begin(&mut self) -> Controls {
        self.controls = Controls::default();
        self.controls.clone()
    }

    /// Asks all members of the generation under way to pause after the step under way.
    pub(super) fn pause(&self) {
        self.controls.pause.store(true, Ordering::Relaxed);
        self.uploads.recall_trainer();
    }

    /// Ends the generation under way at once.
    pub(super) fn cancel(&self) {
        self.controls.cancel.cancel();
        self.uploads.recall_trainer();
    }

    /// Asks the thread to end, and waits until it has.
    pub(super) async fn end(mut self) {
        self.cancel();
        // The former channel closes, which is what the thread waits for.
        self.commands = sync_channel(0).0;
        if !self.ended.is_terminated() {
            self.ended().await;
        }
    }

    /// Completes when the thread has ended; not to be called again then.
    pub(super) async fn ended(&mut self) -> SessionError {
        let ended = (&mut self.ended).await;
        ended.unwrap_or_else(|_| of_this_process("the trainer's thread is gone".to_owned()))
    }
}

impl Drop for TrainerThread {
    fn drop(&mut self) {
        self.cancel();
    }
}

fn of_this_process(reason: String) -> SessionError {
    SessionError::Trainer { reason, kind: FailureKind::Worker }
}

/// It never fails: there is always somebody to take a report, if not to send it.
fn reporter(reports: Reports, uploads: Uploads) -> Reporter {
    Reporter::new(move |report| {
        match report {
            Report::Progress(progress) => reports.progress(progress),
            Report::Started(started) => reports.started(started),
            Report::Prefix(told) => reports.prefix(told),
            Report::Epoch(report) => reports.epoch(report),
            Report::Eval(report) => reports.eval(report),
            Report::Snapshot(snapshot) => uploads.push(snapshot),
        }
        Ok(())
    })
}
