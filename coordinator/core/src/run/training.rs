//! Epochs' ends and checkpoints.

use std::collections::BTreeMap;

use super::{Phase, Run, Stage, Training};
use crate::epoch::{check_agreement, combine_blocks};
use crate::retention::superseded;
use crate::{
    Admission, BlockMetrics, CheckpointEntry, Disagreement, Effect, Entry, Epoch, EpochReport, EpochRow,
    Generation, Message, Position, Reject, Restore, Start, Step, Time, Verdict, WorkerName,
};

impl Run {
    pub(super) fn on_epoch_reported(
        &mut self,
        now: Time,
        worker: WorkerName,
        generation: Generation,
        report: EpochReport,
    ) -> Result<(), Reject> {
        let training = self.member_of(&worker, generation)?;
        if !training.members.contains(&worker) {
            return Err(self.refuse(worker, "EpochReport"));
        }
        let judged = (report.epoch.0 as usize) < self.history.rows.len();
        if !judged && !matches!(training.stage, Stage::Stepping | Stage::Collecting(_)) {
            return Err(self.refuse(worker, "EpochReport"));
        }
        self.hear(now, &worker);
        if judged {
            // It has not heard the verdict; it is told again.
            self.tell_verdict(now, &worker);
            return Ok(());
        }
        let Phase::Training(training) = &mut self.phase else { return Ok(()) };
        if training.stage == Stage::Stepping {
            training.stage = Stage::Collecting(BTreeMap::new());
        }
        let Stage::Collecting(reports) = &mut training.stage else { return Ok(()) };
        reports.insert(worker, report);
        if reports.len() == training.members.len() {
            let reports = std::mem::take(reports);
            match self.row(&reports) {
                Ok(row) => self.end_epoch(now, row),
                Err(disagreement) => self.fail_on(&disagreement),
            }
        }
        Ok(())
    }

    /// One row of what the members reported.
    fn row(&self, reports: &BTreeMap<WorkerName, EpochReport>) -> Result<EpochRow, Disagreement> {
        check_agreement(reports)?;
        let first =
            reports.values().next().expect("an epoch's row is made when all of at least one member reported");
        let spec = &self.history.spec;
        let expected = self.history.rows.len() as u32;
        if first.epoch.0 != expected || first.position != spec.start_of(Epoch(expected + 1)) {
            let (found, step) = (first.epoch.0, first.position.step);
            return Err(Disagreement::Epoch { found, expected, step });
        }
        let split = spec.select.split;
        let combined = |blocks: fn(&EpochReport) -> &Vec<BlockMetrics>| {
            let blocks = reports.values().flat_map(blocks);
            let metrics = combine_blocks(split, spec.eval_samples, spec.eval_block, blocks)?;
            let finite = metrics.loss_sum.is_finite().then_some(metrics);
            finite.ok_or(Disagreement::NotFinite { split, epoch: first.epoch.0 })
        };
        let eval = combined(|report| &report.blocks)?;
        let ema = if spec.ema { Some(combined(|report| &report.ema_blocks)?) } else { None };
        let slowest = |ms: fn(&EpochReport) -> u64| reports.values().map(ms).max().unwrap_or_default();
        Ok(EpochRow {
            epoch: first.epoch,
            step: first.position.step,
            learning_rate: first.learning_rate,
            train: first.train,
            split,
            eval,
            ema,
            improved: self.history.best().is_none_or(|best| eval.accuracy() > best.eval.accuracy()),
            restored: None,
            ledger: first.ledger.clone(),
            weights_digest: first.weights_digest.clone(),
            train_ms: slowest(|report| report.train_ms),
            eval_ms: slowest(|report| report.eval_ms),
            peak_memory_bytes: reports.iter().map(|(name, r)| (name.clone(), r.peak_memory_bytes)).collect(),
        })
    }

    fn end_epoch(&mut self, now: Time, mut row: EpochRow) {
        let mut after = self.history.clone();
        after.rows.push(row.clone());
        let best = after.best().map(|best| best.step).filter(|_| !row.improved);
        row.restored = match self.history.spec.select.restore {
            Restore::Never => None,
            Restore::End => best.filter(|_| after.is_trained()),
            Restore::Epoch => best,
        };
        self.record(Entry::EpochEnded(row));
        self.pronounce_last(now);
    }

    /// The word on the newest epoch that ended. It follows from what is recorded, so that it can be given again.
    fn last_verdict(&self) -> Option<Verdict> {
        let Phase::Training(training) = &self.phase else { return None };
        let row = self.history.rows.last()?;
        Some(Verdict {
            generation: training.generation,
            epoch: row.epoch,
            restore: row.restored,
            save: true,
            keep: row.improved,
            hold: self.history.is_trained() || self.stopping || training.parting,
        })
    }

    /// Gives the word on the newest epoch, as soon as what it speaks of is stored.
    pub(super) fn pronounce_last(&mut self, now: Time) {
        let Some(verdict) = self.last_verdict() else { return };
        if verdict.restore.is_some_and(|best| !self.history.checkpoints.contains_key(&best)) {
            return self.enter(Stage::AwaitingBest(verdict));
        }
        let Phase::Training(training) = &self.phase else { return };
        for worker in training.members.clone() {
            self.tell(now, worker, Message::Verdict(verdict));
        }
        if verdict.hold {
            self.hold(now, self.history.spec.start_of(Epoch(verdict.epoch.0 + 1)).step);
        } else {
            self.enter(Stage::Stepping);
        }
    }

    /// After a return: gives the word again to members that may not have heard it.
    pub(super) fn pronounce_owed(&mut self, now: Time) {
        let Some(epoch) = self.history.rows.last().map(|row| row.epoch) else { return };
        let owed = |worker: &super::Worker| {
            worker.heartbeat.position.is_some_and(|position| position.epoch == epoch)
        };
        if self.workers.values().any(owed) {
            self.pronounce_last(now);
        }
    }

    /// Gives the word on the newest epoch to one member again.
    pub(super) fn tell_verdict(&mut self, now: Time, worker: &WorkerName) {
        let Phase::Training(training) = &self.phase else { return };
        let waits = matches!(training.stage, Stage::AwaitingBest(_));
        if let Some(verdict) = self.last_verdict()
            && !waits
        {
            self.tell(now, worker.clone(), Message::Verdict(verdict));
        }
    }

    /// Sends what is sent again until it is followed.
    pub(super) fn tell(&mut self, now: Time, worker: WorkerName, message: Message) {
        if let Some(known) = self.workers.get_mut(&worker) {
            known.told = now;
        }
        self.send(worker, message);
    }

    pub(super) fn enter(&mut self, stage: Stage) {
        if let Phase::Training(training) = &mut self.phase {
            training.stage = stage;
        }
    }

    pub(super) fn on_checkpoint_stored(
        &mut self,
        now: Time,
        position: Position,
        size_bytes: u64,
    ) -> Result<(), Reject> {
        let admission = self.admit_upload(position)?;
        // Also those that have missed it before.
        self.send_all(&Message::Stored { step: position.step });
        match admission {
            Admission::Wanted => {
                self.record(Entry::CheckpointStored(CheckpointEntry { position, size_bytes }));
                self.publish();
                let wanted = self.being_loaded();
                for step in superseded(&self.history).into_iter().filter(|step| Some(*step) != wanted) {
                    self.record(Entry::CheckpointDeleted { step });
                    self.effects.push(Effect::DeleteCheckpoint(step));
                }
            }
            // It was on its way for long, or a crash came between the record of its deletion and the deletion.
            Admission::Superseded => self.effects.push(Effect::DeleteCheckpoint(position.step)),
            Admission::Stored => {}
        }
        let Phase::Training(training) = &self.phase else { return Ok(()) };
        match &training.stage {
            Stage::AwaitingBest(verdict) if verdict.restore == Some(position.step) => {
                self.pronounce_last(now)
            }
            Stage::Holding { step } => self.hold(now, *step),
            _ => {}
        }
        Ok(())
    }

    /// The checkpoint that members of the generation under way may have yet to load.
    fn being_loaded(&self) -> Option<Step> {
        let Phase::Training(Training { begin: Some(begin), members, started, .. }) = &self.phase else {
            return None;
        };
        match begin.start {
            Start::Checkpoint(step) if started.len() < members.len() => Some(step),
            _ => None,
        }
    }

    /// Points `last` and `best` at what is stored. The best epoch's own checkpoint may still be on its way; it is
    /// published when it arrives.
    pub(super) fn publish(&mut self) {
        let checkpoints = &self.history.checkpoints;
        let Some(last) = checkpoints.keys().next_back().copied() else { return };
        let best = self.history.best().map(|row| row.step).filter(|step| checkpoints.contains_key(step));
        self.effects.push(Effect::Publish { last, best });
    }
}
