//! What the run has decided is carried out here: records first, in one transaction, then the rest in order.

use std::collections::BTreeSet;

use anyhow::Context;
use lockstep_core::{Effect, Entry, Event, Message, Outcome, Step, WorkerName};
use tokio::sync::mpsc;

use super::last_words::last_words;
use super::{Driver, Notice, now};

impl Driver {
    /// Carries out a decision, and what comes of that.
    pub(super) fn carry_out(&mut self, effects: Vec<Effect>) -> anyhow::Result<()> {
        self.carry_out_one(effects)?;
        while let Some(event) = self.consequences.pop_front() {
            // What the run does not want to hear any more changes nothing.
            let effects = self.run.apply(now(), event).unwrap_or_default();
            self.carry_out_one(effects)?;
        }
        Ok(())
    }

    fn carry_out_one(&mut self, effects: Vec<Effect>) -> anyhow::Result<()> {
        let (records, rest): (Vec<Effect>, Vec<Effect>) =
            effects.into_iter().partition(|effect| matches!(effect, Effect::Record(_)));
        if !records.is_empty() {
            let entries = records.into_iter().filter_map(|effect| match effect {
                Effect::Record(entry) => Some(self.with_last_words(entry)),
                _ => None,
            });
            let entries: Vec<Entry> = entries.collect();
            tokio::task::block_in_place(|| self.persist(&entries))?;
            entries.iter().for_each(log);
            entries.into_iter().for_each(|entry| self.announce(Notice::Entry(entry)));
        }
        for effect in rest {
            match effect {
                Effect::Record(_) => {}
                Effect::Send { to, message } => self.send(to, message),
                Effect::Publish { last, best } => self.publish(last, best),
                Effect::DeleteCheckpoint(step) => {
                    let deleted = tokio::task::block_in_place(|| self.folder.checkpoints().delete(step));
                    if let Err(error) = deleted {
                        tracing::warn!(%step, %error, "an old checkpoint could not be deleted");
                    }
                }
                Effect::VerifyCheckpoints => self.survey(),
                Effect::Disconnect { worker } => self.disconnect(worker),
                Effect::Conclude(outcome) => self.outcome = Some(outcome),
            }
        }
        Ok(())
    }

    fn persist(&mut self, entries: &[Entry]) -> anyhow::Result<()> {
        let now = now();
        self.journal.append(self.folder.name(), now, entries)?;
        self.folder.append_events(now, entries).context("writing the run's folder")?;
        self.pages.note(entries);
        self.pages.look(&self.run).context("writing the run's folder")
    }

    fn send(&mut self, to: WorkerName, message: Message) {
        tracing::debug!(worker = %to, ?message, "send");
        let Some(outbox) = self.outboxes.get(&to) else { return };
        match outbox.messages.try_send(message) {
            // A closed one is about to be reported by its session.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {}
            Err(mpsc::error::TrySendError::Full(_)) => {
                tracing::debug!(worker = %to, "it does not take its messages");
                self.outboxes.remove(&to);
                self.consequences.push_back(Event::Detached { worker: to });
            }
        }
    }

    /// The newest checkpoint is stored, and when it cannot be made known under its name, the run must not go on as if it
    /// could.
    fn publish(&mut self, last: Step, best: Option<Step>) {
        let best_weights = self.folder.best_weights();
        let published =
            tokio::task::block_in_place(|| self.folder.checkpoints().publish(last, best, &best_weights));
        if let Err(error) = published {
            let reason = format!("the best model could not be written: {error}");
            let position = self.run.history().position();
            self.consequences.push_back(Event::CheckpointFailed { position, reason });
        }
    }

    /// Looks at all checkpoints, beside the loop: every byte of them is read.
    fn survey(&mut self) {
        let store = self.folder.checkpoints().clone();
        let known: BTreeSet<Step> = self.run.history().checkpoints.keys().copied().collect();
        self.surveys.spawn_blocking(move || {
            let survey = store.survey(known.iter().copied());
            (known, survey)
        });
    }

    /// What lies in the outbox is still told; then the session ends.
    fn disconnect(&mut self, worker: WorkerName) {
        if self.outboxes.remove(&worker).is_some() {
            tracing::debug!(%worker, "disconnected");
        }
        self.announce(Notice::Disconnected { worker });
    }

    fn with_last_words(&self, mut entry: Entry) -> Entry {
        if let Entry::WorkerLost { worker, log, .. } = &mut entry
            && log.is_empty()
        {
            *log = last_words(&self.folder, worker);
        }
        entry
    }

    pub(super) fn announce(&self, notice: Notice) {
        // Nobody need listen.
        drop(self.notices.send(notice));
    }
}

/// One line per entry in the coordinator's log, inside the span of the run. Warnings would be told on the console twice.
fn log(entry: &Entry) {
    match entry {
        Entry::Created { .. } => tracing::info!("created"),
        Entry::TakenOver { term, .. } => tracing::info!(%term, "taken over"),
        Entry::Resumed { position, damaged } => {
            tracing::info!(step = %position.step, damaged = damaged.len(), "resumed");
        }
        Entry::GenerationBegan { generation, members, position } => {
            tracing::info!(%generation, world_size = members.len(), step = %position.step, "generation began");
        }
        Entry::GenerationStarted(receipt) => {
            let (cause, reason, total_ms) = (receipt.cause, &receipt.reason, receipt.total_ms);
            tracing::info!(generation = %receipt.generation, ?cause, %reason, total_ms, "generation started");
        }
        Entry::EpochEnded(row) => {
            let (loss, accuracy) = (row.eval.loss(), row.eval.accuracy());
            let split = row.split.as_str();
            tracing::info!(epoch = %row.epoch, step = %row.step, split, loss, accuracy, best = row.improved, "epoch ended");
        }
        Entry::CheckpointStored(stored) => {
            tracing::info!(step = %stored.position.step, bytes = stored.size_bytes, "checkpoint stored");
        }
        Entry::CheckpointDeleted { step } => tracing::info!(%step, "checkpoint deleted"),
        Entry::WorkerLost { worker, generation, reason, .. } => {
            tracing::info!(%worker, %generation, %reason, "lost a worker");
        }
        Entry::WorkerLeft { worker, generation } => tracing::info!(%worker, %generation, "a worker left"),
        Entry::Straggler { worker, generation, shard_ms, others_ms } => {
            tracing::info!(%worker, %generation, shard_ms, others_ms, "a worker is slow");
        }
        Entry::PrefixTold { line } => tracing::info!("{line}"),
        Entry::StopRequested => tracing::info!("stop requested"),
        Entry::Tested { step, metrics } => {
            tracing::info!(%step, loss = metrics.loss(), accuracy = metrics.accuracy(), "tested");
        }
        Entry::Ended { outcome: Outcome::Failed { reason, .. } } => tracing::info!(%reason, "failed"),
        Entry::Ended { outcome } => tracing::info!(?outcome, "ended"),
    }
}
