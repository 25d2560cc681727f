//! Epochs' ends and checkpoints.

use std::collections::BTreeMap;

use super::{Phase, Run, Stage};
use crate::epoch::{check_agreement, combine_blocks};
use crate::retention::superseded;
use crate::{
    BlockMetrics, CheckpointEntry, Disagreement, Effect, Entry, Epoch, EpochReport, EpochRow, Generation,
    Message, Position, Reject, Restore, Step, Verdict, WorkerName,
};

impl Run {
    pub(super) fn on_epoch_reported(
        &mut self,
        worker: WorkerName,
        generation: Generation,
        report: EpochReport,
    ) -> Result<(), Reject> {
        self.member_of(&worker, generation)?;
        let Phase::Training(training) = &mut self.phase else {
            return Err(self.refuse(worker, "EpochReport"));
        };
        match &mut training.stage {
            Stage::Stepping => training.stage = Stage::Collecting(BTreeMap::from([(worker, report)])),
            Stage::Collecting(reports) => {
                reports.insert(worker, report);
            }
            _ => return Err(self.refuse(worker, "EpochReport")),
        }
        let Stage::Collecting(reports) = &mut training.stage else { return Ok(()) };
        if reports.len() == training.members.len() {
            let reports = std::mem::take(reports);
            match self.row(&reports) {
                Ok(row) => self.end_epoch(generation, row),
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

    fn end_epoch(&mut self, generation: Generation, mut row: EpochRow) {
        let (epoch, step) = (row.epoch, row.step);
        let mut after = self.history.clone();
        after.rows.push(row.clone());
        let trained = after.is_trained();
        let best = after.best().map(|best| best.step).filter(|_| !row.improved);
        row.restored = match self.history.spec.select.restore {
            Restore::Never => None,
            Restore::End => best.filter(|_| trained),
            Restore::Epoch => best,
        };
        let verdict =
            Verdict { generation, epoch, restore: row.restored, save: true, hold: trained || self.stopping };
        self.record(Entry::EpochEnded(row));
        match verdict.restore {
            Some(best) if !self.history.checkpoints.contains_key(&best) => {
                self.enter(Stage::AwaitingBest { verdict });
            }
            _ => self.pronounce(verdict, step),
        }
    }

    fn pronounce(&mut self, verdict: Verdict, step: Step) {
        self.send_all(&Message::Verdict(verdict));
        self.enter(if verdict.hold { Stage::Holding { step } } else { Stage::Stepping });
    }

    pub(super) fn enter(&mut self, stage: Stage) {
        if let Phase::Training(training) = &mut self.phase {
            training.stage = stage;
        }
    }

    pub(super) fn on_checkpoint_stored(
        &mut self,
        generation: Generation,
        position: Position,
        size_bytes: u64,
    ) -> Result<(), Reject> {
        self.admit_upload(generation)?;
        self.record(Entry::CheckpointStored(CheckpointEntry { position, size_bytes }));
        self.publish();
        for step in superseded(&self.history) {
            self.record(Entry::CheckpointDeleted { step });
            self.effects.push(Effect::DeleteCheckpoint(step));
        }
        let Phase::Training(training) = &self.phase else { return Ok(()) };
        match &training.stage {
            Stage::AwaitingBest { verdict } if verdict.restore == Some(position.step) => {
                // A stop may have been asked for meanwhile.
                let verdict = Verdict { hold: verdict.hold || self.stopping, ..*verdict };
                let step = self.history.spec.start_of(Epoch(verdict.epoch.0 + 1)).step;
                self.pronounce(verdict, step);
            }
            Stage::Holding { step } if *step == position.step => self.hold_or_conclude(position.step),
            Stage::Halting(_) => self.conclude_when_halted(),
            _ => {}
        }
        Ok(())
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
