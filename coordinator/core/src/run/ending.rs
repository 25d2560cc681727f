//! How a run ends: trained and tested, stopped at a boundary, or failed.

use std::collections::BTreeMap;

use super::{Phase, Run, Stage};
use crate::{
    BlockMetrics, Disagreement, Effect, Entry, FailureKind, Generation, Message, Outcome, Position, Reject,
    Split, Step, WorkerName, combine_blocks,
};

impl Run {
    pub(super) fn on_stop_requested(&mut self) {
        if self.stopping || matches!(self.phase, Phase::Ended(_)) {
            return;
        }
        self.stopping = true;
        self.record(Entry::StopRequested);
        match &self.phase {
            Phase::Gathering { .. } | Phase::Forming(_) => {
                self.end(Outcome::Stopped { position: self.start });
            }
            Phase::Training(training) => {
                let generation = training.generation;
                // At an epoch's end the verdict says hold instead; a test that is under way is simply left.
                match training.stage {
                    Stage::Testing(_) => self.end(Outcome::Stopped { position: self.history.position() }),
                    _ => self.send_all(&Message::Halt { generation }),
                }
            }
            Phase::Ended(_) => {}
        }
    }

    pub(super) fn on_halted(
        &mut self,
        worker: WorkerName,
        generation: Generation,
        position: Position,
    ) -> Result<(), Reject> {
        self.member_of(&worker, generation)?;
        let Phase::Training(training) = &mut self.phase else { return Err(self.refuse(worker, "Halted")) };
        match &mut training.stage {
            Stage::Stepping => training.stage = Stage::Halting(BTreeMap::from([(worker, position)])),
            Stage::Halting(positions) => {
                positions.insert(worker, position);
            }
            _ => return Err(self.refuse(worker, "Halted")),
        }
        self.conclude_when_halted();
        Ok(())
    }

    pub(super) fn conclude_when_halted(&mut self) {
        let Phase::Training(training) = &self.phase else { return };
        let Stage::Halting(positions) = &training.stage else { return };
        let all = positions.len() == training.members.len();
        let mut each = positions.values();
        let Some(position) = each.next().copied() else { return };
        if all && each.any(|other| *other != position) {
            self.fail("members halted at different steps".into(), FailureKind::Run);
        } else if all && self.history.checkpoints.contains_key(&position.step) {
            self.end(Outcome::Stopped { position });
        }
    }

    /// Training is over and `step` is the position. Once its checkpoint is stored: stop, test or be done.
    pub(super) fn hold_or_conclude(&mut self, step: Step) {
        self.enter(Stage::Holding { step });
        let spec = &self.history.spec;
        let best = self.history.best().map(|row| row.step);
        match best {
            _ if !self.history.is_trained() => {
                self.end(Outcome::Stopped { position: self.history.position() })
            }
            Some(weights_step) if spec.test_samples > 0 && spec.select.split != Split::Test => {
                let generation = self.generation();
                self.send_all(&Message::Evaluate { generation, split: Split::Test, weights_step });
                self.enter(Stage::Testing(BTreeMap::new()));
            }
            _ => self.done(),
        }
    }

    pub(super) fn on_eval_reported(
        &mut self,
        worker: WorkerName,
        generation: Generation,
        split: Split,
        blocks: Vec<BlockMetrics>,
    ) -> Result<(), Reject> {
        self.member_of(&worker, generation)?;
        let refusal = self.refuse(worker.clone(), "EvalReport");
        let Phase::Training(training) = &mut self.phase else { return Err(refusal) };
        let Stage::Testing(reports) = &mut training.stage else { return Err(refusal) };
        if split != Split::Test {
            return Err(refusal);
        }
        reports.insert(worker, blocks);
        if reports.len() < training.members.len() {
            return Ok(());
        }
        let blocks: Vec<BlockMetrics> = reports.values().flatten().copied().collect();
        let spec = &self.history.spec;
        let (epoch, step) = self.history.best().map(|row| (row.epoch.0, row.step)).unwrap_or_default();
        match combine_blocks(split, spec.test_samples, spec.eval_block, &blocks) {
            // A journal in JSON could not hold such a number.
            Ok(metrics) if !metrics.loss_sum.is_finite() => {
                self.fail_on(&Disagreement::NotFinite { split, epoch });
            }
            Ok(metrics) => {
                self.record(Entry::Tested { step, metrics });
                self.done();
            }
            Err(disagreement) => self.fail_on(&disagreement),
        }
        Ok(())
    }

    fn done(&mut self) {
        let early = self.history.rows.len() < self.history.spec.epochs as usize;
        self.end(Outcome::Done { early });
    }

    pub(super) fn fail(&mut self, reason: String, kind: FailureKind) {
        self.end(Outcome::Failed { reason, kind });
    }

    fn end(&mut self, outcome: Outcome) {
        if matches!(self.phase, Phase::Ended(_)) {
            return;
        }
        self.record(Entry::Ended { outcome: outcome.clone() });
        let reason = match &outcome {
            Outcome::Done { .. } => "done".to_owned(),
            Outcome::Stopped { position } => format!("stopped at step {}", position.step),
            Outcome::Failed { reason, .. } => format!("failed: {reason}"),
        };
        self.send_all(&Message::Finish { reason });
        self.phase = Phase::Ended(outcome.clone());
        self.effects.push(Effect::Conclude(outcome));
    }
}
